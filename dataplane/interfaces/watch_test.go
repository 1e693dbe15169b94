package interfaces_test

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"

	"github.com/margay-project/margay/dataplane/interfaces"
	"github.com/margay-project/margay/internal/lab"
)

// newHost puts the test on a host of its own and watches the interfaces.
func newHost(t *testing.T) (*lab.Host, *interfaces.Watcher, chan struct{}) {
	t.Helper()
	h := lab.Enter(t)
	wake := make(chan struct{}, 1)
	watcher, err := interfaces.Watch(logrus.NewEntry(logrus.New()), func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(watcher.Close)
	return h, watcher, wake
}

// eventually waits until the watcher's links fulfil a condition.
func eventually(t *testing.T, w *interfaces.Watcher, wake chan struct{}, what string, is func(interfaces.Links) bool) interfaces.Links {
	t.Helper()
	deadline := time.After(lab.Patience)
	for !is(w.Links()) {
		select {
		case <-wake:
		case <-deadline:
			t.Fatalf("timeout: %s; links %+v", what, w.Links())
		}
	}
	return w.Links()
}

func TestTheWatcherFollowsInterfaces(t *testing.T) {
	h, w, wake := newHost(t)
	named := func(name string, is func(interfaces.Link) bool) func(interfaces.Links) bool {
		return func(l interfaces.Links) bool { link, there := l.Named(name); return there && is(link) }
	}
	link := h.Veth("cali1", "pcali1")
	links := eventually(t, w, wake, "a new interface", named("cali1", func(l interfaces.Link) bool { return l.Kind == "veth" && !l.Up && !l.Layer3 }))
	first, _ := links.Named("cali1")

	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(netlink.LinkSetUp(link))
	address := netip.MustParseAddr("192.0.2.1")
	check(netlink.AddrAdd(link, &netlink.Addr{IPNet: netlink.NewIPNet(address.AsSlice())}))
	eventually(t, w, wake, "up with its address", named("cali1", func(l interfaces.Link) bool {
		return l.Up && slices.Contains(l.Addresses, address)
	}))
	check(netlink.RouteAdd(&netlink.Route{Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK}))
	eventually(t, w, wake, "an uplink", named("cali1", func(l interfaces.Link) bool { return l.Uplink }))

	check(netlink.LinkSetDown(link))
	down := eventually(t, w, wake, "down, without the route", named("cali1", func(l interfaces.Link) bool { return !l.Up && !l.Uplink }))
	if second, _ := down.Named("cali1"); second.Life == first.Life {
		t.Error("an interface that was down counts as the same one")
	}
	check(netlink.LinkSetName(link, "cali2"))
	eventually(t, w, wake, "the new name", named("cali2", func(l interfaces.Link) bool { return l.Index == first.Index }))
	check(netlink.LinkDel(link))
	eventually(t, w, wake, "gone", func(l interfaces.Links) bool { return len(l) == 1 })
}

func TestTheWatcherSeesEveryInterfaceOfABurst(t *testing.T) {
	h, w, wake := newHost(t)
	const n = 100
	for i := range n {
		h.Veth(fmt.Sprintf("cali%d", i), fmt.Sprintf("pcali%d", i))
	}
	eventually(t, w, wake, "all of them", func(l interfaces.Links) bool { return len(l) == 2*n+1 })
	if err := w.Resync(); err != nil || len(w.Links()) != 2*n+1 {
		t.Error("links after a second listing:", len(w.Links()), err)
	}
}
