package peering

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/margay-project/margay/internal/lab"
)

// The same address may be on several interfaces. Those of other programs are neither listed nor changed.
func TestAddressesOfInterfaces(t *testing.T) {
	host := lab.Enter(t)
	first, second := host.Veth("cali1", "peer1"), host.Veth("cali2", "peer2")
	v4, v6 := netip.MustParseAddr("169.254.0.179"), netip.MustParseAddr("fd00:179::1")
	host.Up("peer1", v6.String()+"/128", "10.0.0.1/24")
	wanted := map[Place]struct{}{}
	for _, link := range []netlink.Link{first, second} {
		for _, a := range []netip.Addr{v4, v6} {
			wanted[Place{link.Attrs().Index, a}] = struct{}{}
		}
	}
	k := Kernel{}
	for range 2 {
		for p := range wanted {
			if err := k.Put(p, struct{}{}); err != nil {
				t.Fatal(p, err)
			}
		}
	}
	expect := func(want map[Place]struct{}) {
		t.Helper()
		got, err := k.List()
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); err != nil || diff != "" {
			t.Error(err, diff)
		}
	}
	expect(wanted)
	foreign := Place{host.Link("peer1").Attrs().Index, v6}
	if err := k.Put(foreign, struct{}{}); !errors.Is(err, ErrConflict) {
		t.Errorf("the address of another program is taken over: %v", err)
	}
	if err := k.Delete(foreign); err != nil {
		t.Error(err)
	}
	held, err := list()
	if _, there := held[foreign]; err != nil || !there {
		t.Errorf("%v, %v: the address of another program has gone", held, err)
	}
	for range 2 {
		for p := range wanted {
			if err := k.Delete(p); err != nil {
				t.Error(p, err)
			}
		}
	}
	expect(map[Place]struct{}{})
	if err := k.Delete(Place{1 << 20, v4}); err != nil {
		t.Error("an interface that has gone:", err)
	}
}

// The kernel does not choose the address as the source of packets that leave by the interface.
func TestTheAddressIsNoSource(t *testing.T) {
	host := lab.Enter(t)
	link := host.Veth("cali1", "peer1")
	host.Up("peer1")
	host.Up("cali1")
	host.Up("lo", "192.0.2.1/32", "2001:db8::1/128")
	host.Route("10.65.0.2/32", "cali1")
	host.Route("fd00:65::2/128", "cali1")
	for _, c := range []struct{ at, to, source string }{
		{"169.254.0.179", "10.65.0.2", "192.0.2.1"},
		{"fd00:179::1", "fd00:65::2", "2001:db8::1"},
	} {
		source := func() string {
			routes, err := netlink.RouteGet(netip.MustParseAddr(c.to).AsSlice())
			if err != nil || len(routes) != 1 {
				t.Fatal(routes, err)
			}
			return routes[0].Src.String()
		}
		lab.Await(t, func() error {
			if got := source(); got != c.source {
				return errors.New("without the address, the source is " + got)
			}
			return nil
		})
		if err := (Kernel{}).Put(Place{link.Attrs().Index, netip.MustParseAddr(c.at)}, struct{}{}); err != nil {
			t.Fatal(err)
		}
		if got := source(); got != c.source {
			t.Errorf("with %s on the interface, packets to %s come from %s, not %s", c.at, c.to, got, c.source)
		}
	}
}
