package fib_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/dataplane/fib"
	"github.com/margay-project/margay/internal/lab"
)

// newHost puts the test into a network namespace of its own. Interfaces a and b are up and have addresses.
func newHost(t testing.TB) (a, b int, reader *fib.Reader) {
	t.Helper()
	h := lab.Enter(t)
	indexes := map[string]int{}
	for i, name := range []string{"a", "b"} {
		h.Veth(name, "p"+name)
		indexes[name] = h.Up(name, fmt.Sprintf("192.0.%d.1/24", i), fmt.Sprintf("fd00:%d::8/64", i)).Attrs().Index
	}
	reader, err := fib.NewReader()
	must(t, err)
	t.Cleanup(reader.Close)
	return indexes["a"], indexes["b"], reader
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func network(text string) *net.IPNet {
	_, n, err := net.ParseCIDR(text)
	if err != nil {
		panic(err)
	}
	return n
}

func TestDefaultRoutesOfEveryTableAreFound(t *testing.T) {
	a, b, reader := newHost(t)
	for _, route := range []*netlink.Route{
		{Dst: network("0.0.0.0/0"), Gw: net.ParseIP("192.0.0.9"), Priority: 50},
		{Dst: network("0.0.0.0/0"), LinkIndex: b, Table: 1000, Src: net.ParseIP("192.0.1.1"), Scope: netlink.SCOPE_LINK},
		{Dst: network("0.0.0.0/1"), LinkIndex: a, Table: 7, Scope: netlink.SCOPE_LINK},
		{Dst: network("128.0.0.0/1"), LinkIndex: a, Table: 7, Scope: netlink.SCOPE_LINK},
		{Dst: network("0.0.0.0/0"), Table: 8, MultiPath: []*netlink.NexthopInfo{{LinkIndex: a}, {LinkIndex: b, Gw: net.ParseIP("192.0.1.9")}}},
		{Dst: network("::/0"), LinkIndex: b, Priority: 2000},
		{Dst: network("2000::/3"), LinkIndex: a, Table: 9},
		{Dst: network("::/0"), Table: 10, MultiPath: []*netlink.NexthopInfo{{Gw: net.ParseIP("fd00:0::9")}, {Gw: net.ParseIP("fd00:1::9")}}},
		// These are not default routes:
		{Dst: network("0.0.0.0/0"), Table: 11, Type: unix.RTN_BLACKHOLE},
		{Dst: network("64.0.0.0/2"), LinkIndex: a, Scope: netlink.SCOPE_LINK},
		{Dst: network("10.0.0.0/8"), LinkIndex: a, Scope: netlink.SCOPE_LINK},
		{Dst: network("2001:db8::/32"), LinkIndex: a},
	} {
		if err := netlink.RouteAdd(route); err != nil {
			t.Fatal(route, err)
		}
	}
	found, err := reader.Defaults()
	must(t, err)
	var got []string
	for _, d := range found {
		var names []string
		for n, i := range d.Interfaces {
			name := map[int]string{a: "a", b: "b"}[i]
			if d.Gateways[n].IsValid() {
				name += " " + d.Gateways[n].String()
			}
			names = append(names, name)
		}
		line := fmt.Sprintf("%v table %d metric %d by %s", d.Prefix, d.Table, d.Metric, strings.Join(names, "+"))
		if d.Source.IsValid() {
			line += " from " + d.Source.String()
		}
		got = append(got, line)
	}
	slices.Sort(got)
	want := []string{
		"0.0.0.0/0 table 1000 metric 0 by b from 192.0.1.1",
		"0.0.0.0/0 table 254 metric 50 by a 192.0.0.9",
		"0.0.0.0/0 table 8 metric 0 by a+b 192.0.1.9",
		"0.0.0.0/1 table 7 metric 0 by a",
		"128.0.0.0/1 table 7 metric 0 by a",
		"2000::/3 table 9 metric 1024 by a",
		"::/0 table 10 metric 1024 by a fd00::9+b fd00:1::9",
		"::/0 table 254 metric 2000 by b",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// The expected routes come from a full listing that the test filters itself.
func TestRoutesOfAProtocolMatchAFullListing(t *testing.T) {
	a, b, reader := newHost(t)
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		route := &netlink.Route{
			LinkIndex: []int{a, b}[random.IntN(2)], Protocol: netlink.RouteProtocol(80 + random.IntN(8)),
			Table: []int{unix.RT_TABLE_MAIN, 77}[random.IntN(2)], Priority: 1 + random.IntN(2000),
		}
		if random.IntN(2) == 0 {
			route.Dst, route.Scope = network(fmt.Sprintf("10.%d.%d.0/24", random.IntN(4), random.IntN(8))), netlink.SCOPE_LINK
		} else {
			route.Dst = network(fmt.Sprintf("2001:db8:%d:%d::/64", random.IntN(4), random.IntN(8)))
		}
		if err := netlink.RouteAdd(route); err != nil && !errors.Is(err, unix.EEXIST) {
			t.Fatal(err)
		}
	}
	text := func(routes []netlink.Route) []string {
		var lines []string
		for _, r := range routes {
			lines = append(lines, r.String())
		}
		slices.Sort(lines)
		return lines
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		all, err := netlink.RouteList(nil, family)
		must(t, err)
		for protocol := 80; protocol < 89; protocol++ {
			want := slices.DeleteFunc(slices.Clone(all), func(r netlink.Route) bool { return int(r.Protocol) != protocol })
			got, err := reader.Of(protocol, family)
			must(t, err)
			if !slices.Equal(text(got), text(want)) {
				t.Errorf("protocol %d, family %d: got\n%v\nwant\n%v", protocol, family, text(got), text(want))
			}
		}
	}
}

func TestTheBestRouteHasThisPrefixAndIsInTheMainTable(t *testing.T) {
	a, b, reader := newHost(t)
	for _, route := range []*netlink.Route{
		{Dst: network("10.0.0.1/32"), LinkIndex: a, Scope: netlink.SCOPE_LINK, Protocol: 86},
		{Dst: network("10.0.0.1/32"), LinkIndex: b, Scope: netlink.SCOPE_LINK, Protocol: 4, Priority: 9},
		{Dst: network("10.1.0.0/24"), LinkIndex: a, Scope: netlink.SCOPE_LINK},
		{Dst: network("10.2.0.1/32"), Type: unix.RTN_BLACKHOLE},
		{Dst: network("fd00::1/128"), LinkIndex: b, Protocol: 86},
	} {
		must(t, netlink.RouteAdd(route))
	}
	for text, want := range map[string]int{"10.0.0.1/32": a, "fd00::1/128": b, "10.1.0.0/24": a, "10.1.0.0/32": 0, "10.2.0.1/32": 0, "10.9.9.9/32": 0, "192.0.0.1/32": 0} {
		best, found := reader.Best(netip.MustParsePrefix(text))
		if found != (want != 0) || best.LinkIndex != want && found {
			t.Errorf("%s: found %v, by interface %d, want %d", text, found, best.LinkIndex, want)
		}
	}
}

// A socket without a reader has room for some hundred notifications. The filter keeps a feed of thousands out of it, so the
// notification about the default route fits. Without the filter it is lost.
func TestAFeedOfRoutesDoesNotHideTheDefaultRoute(t *testing.T) {
	a, _, _ := newHost(t)
	listen := func(filtered bool) *nl.NetlinkSocket {
		socket, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
		must(t, err)
		t.Cleanup(socket.Close)
		must(t, socket.SetReceiveBufferSize(1<<16, false))
		if filtered {
			must(t, fib.OnlyDefaults(socket.GetFd()))
		}
		return socket
	}
	all, only := listen(false), listen(true)
	feed(t, a, 5000)
	must(t, netlink.RouteAdd(&netlink.Route{Dst: network("0.0.0.0/0"), LinkIndex: a, Scope: netlink.SCOPE_LINK}))
	must(t, netlink.RouteAdd(&netlink.Route{Dst: network("8000::/1"), LinkIndex: a}))
	must(t, netlink.RouteDel(&netlink.Route{Dst: network("0.0.0.0/0"), LinkIndex: a, Scope: netlink.SCOPE_LINK}))
	link, err := netlink.LinkByName("a")
	must(t, err)
	must(t, netlink.LinkSetDown(link))

	if _, _, err := all.Receive(); !errors.Is(err, unix.ENOBUFS) {
		t.Errorf("the feed is too small to show anything: %v", err)
	}
	var got []string
	for len(got) < 4 {
		messages, _, err := only.Receive()
		must(t, err)
		for _, m := range messages {
			kind := map[uint16]string{unix.RTM_NEWROUTE: "new", unix.RTM_DELROUTE: "gone", unix.RTM_NEWLINK: "link"}[m.Header.Type]
			if d, ok := fib.ParseDefault(m.Data); ok && kind != "link" {
				kind += " " + d.Prefix.String()
			}
			got = append(got, kind)
		}
	}
	if want := []string{"new 0.0.0.0/0", "new 8000::/1", "gone 0.0.0.0/0", "link"}; !slices.Equal(got[:4], want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// feed adds n routes, like a router that receives a full table.
func feed(t testing.TB, index, n int) {
	t.Helper()
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	must(t, err)
	defer handle.Close()
	for i := range n {
		to := net.IPNet{IP: binary.BigEndian.AppendUint32(nil, 20<<24+uint32(i)), Mask: net.CIDRMask(32, 32)}
		must(t, handle.RouteAdd(&netlink.Route{Dst: &to, LinkIndex: index, Scope: netlink.SCOPE_LINK, Protocol: unix.RTPROT_BGP}))
	}
}
