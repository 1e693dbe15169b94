package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/api"
	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/dataplane/routes"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/router"
)

// leafBehindAGateway has its addresses on its loopback interface, and announces also these: a host that took such a route for the way to the
// leaf would lose the leaf with it.
const leafBehindAGateway = `
router id 10.255.0.1;
protocol device { }
protocol kernel { ipv4 { import none; export filter { if source != RTS_BGP then reject; krt_prefsrc = 10.255.0.1; accept; }; }; }
protocol kernel { ipv6 { import none; export where source = RTS_BGP; }; }
protocol static way4 { ipv4; route 198.51.100.0/24 via 203.0.113.1; }
protocol static way6 { ipv6; route fd00:100::/64 via fd00:203::1; }
protocol static sent4 { ipv4; route 10.255.0.1/32 blackhole; route 10.255.0.0/16 blackhole; route 10.99.0.0/24 blackhole; }
protocol static sent6 { ipv6; route fd00:255::1/128 blackhole; route fd00:99::/64 blackhole; }
protocol bgp host4 {
	local 10.255.0.1 as 65001; neighbor 198.51.100.2 as 64512; multihop;
	graceful restart on; connect delay time 1; connect retry time 1; error wait time 1, 2;
	ipv4 { import all; export where proto = "sent4"; };
}
protocol bgp host6 {
	local fd00:255::1 as 65001; neighbor fd00:100::2 as 64512; multihop;
	graceful restart on; connect delay time 1; connect retry time 1; error wait time 1, 2;
	ipv6 { import all; export where proto = "sent6"; };
}
`

const leafByAGateway = openProfile + `
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: vms}
spec: {cidr: 10.65.0.0/16}
---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: leaf}
spec: {peerIP: 10.255.0.1, asNumber: 65001, reachableBy: 198.51.100.1, sourceAddress: None}
---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: leaf6}
spec: {peerIP: "fd00:255::1", asNumber: 65001, reachableBy: "fd00:100::1", sourceAddress: None}
`

// newLeaf puts a gateway behind the host, and a leaf behind the gateway. Nothing else knows a way to the leaf.
func newLeaf(l *site) (gateway, leaf *lab.Host) {
	gateway, leaf = lab.NewHost(l), lab.NewHost(l)
	gateway.Forward()
	lab.Cable(l.host, "gw", gateway, "host")
	lab.Cable(gateway, "leaf", leaf, "gw")
	gateway.Up("host", "198.51.100.1/24", "fd00:100::1/64")
	gateway.Up("leaf", "203.0.113.1/24", "fd00:203::1/64")
	leaf.Up("gw", "203.0.113.2/24", "fd00:203::2/64")
	leaf.Up("lo", "10.255.0.1/32", "fd00:255::1/128")
	leaf.RouteVia("198.51.100.0/24", "203.0.113.1")
	leaf.RouteVia("fd00:100::/64", "fd00:203::1")
	for _, prefix := range []string{"10.255.0.0/16", "10.99.0.0/24"} {
		gateway.RouteVia(prefix, "203.0.113.2")
	}
	gateway.RouteVia("fd00:255::1/128", "fd00:203::2")
	gateway.RouteVia("10.65.0.0/16", "198.51.100.2")
	return gateway, leaf
}

// routesOf returns the routes of a protocol in the kernel of the host, sorted.
func (l *site) routesOf(protocol int) (list []string) {
	l.Helper()
	l.host.Must(func() error {
		for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
			all, err := netlink.RouteListFiltered(family, &netlink.Route{Protocol: netlink.RouteProtocol(protocol)}, netlink.RT_FILTER_PROTOCOL)
			if err != nil {
				return err
			}
			for _, r := range all {
				list = append(list, fmt.Sprintf("%v via %v", r.Dst, r.Gw))
			}
		}
		return nil
	})
	slices.Sort(list)
	return list
}

func (l *site) awaitRoutesOf(protocol int, want ...string) {
	l.Helper()
	lab.Await(l, func() error {
		if got := l.routesOf(protocol); !slices.Equal(got, want) {
			return fmt.Errorf("routes of protocol %d: %q, want %q", protocol, got, want)
		}
		return nil
	})
}

// bothLeaves says that both sessions with the leaf are established.
func bothLeaves(s *agentv1.StatusResponse) error {
	if len(s.Peers) != 2 || s.Peers[0].State != "established" || s.Peers[1].State != "established" {
		return fmt.Errorf("peers %v", s.Peers)
	}
	return nil
}

// The only way to a router is the route that its BGPPeer asks for. The session begins when the gateway is there. It and its routes outlive a crash of
// felix, also while etcd is away. The route goes with the BGPPeer.
func TestARouterBehindAGateway(t *testing.T) {
	l := newSite(t)
	_, leaf := newLeaf(l)
	bird := router.StartBIRD(t, leaf, t.TempDir(), leafBehindAGateway)
	l.startEtcd()
	l.apply(leafByAGateway)
	l.plug("a", "10.65.0.2")
	f := l.start()
	f.awaitProblem("routes", "the route to a BGP peer to 10.255.0.1/32 is not in the kernel: the gateway 198.51.100.1 is on no network")
	f.await(func(s *agentv1.StatusResponse) error {
		if len(s.Peers) != 2 || s.Peers[0].State != "failed" || !strings.Contains(s.Peers[0].Error, "the route to it by the gateway 198.51.100.1 is not in the kernel") {
			return fmt.Errorf("peers %v", s.Peers)
		}
		return nil
	})
	l.host.Up("gw", "198.51.100.2/24", "fd00:100::2/64")
	f.awaitEnforced("cali-a")
	f.await(bothLeaves)
	toLeaf := []string{"10.255.0.1/32 via 198.51.100.1", "fd00:255::1/128 via fd00:100::1"}
	l.awaitRoutesOf(routes.PeerProtocol, toLeaf...)
	learned := []string{"10.255.0.0/16 via 198.51.100.1", "10.99.0.0/24 via 198.51.100.1", "fd00:99::/64 via fd00:100::1"}
	l.awaitRoutesOf(routes.LearnedProtocol, learned...)
	bird.AwaitRoute("10.65.0.0/26")
	awaitQuiet := func() {
		t.Helper()
		f.await(func(s *agentv1.StatusResponse) error {
			if err := bothLeaves(s); err != nil || len(s.Problems) > 0 || !s.Datastore.InSync {
				return fmt.Errorf("problems %v, %w", s.Problems, err)
			}
			// A router drops the routes of a peer that restarts again before it has sent them.
			if s.Peers[0].Announced != 1 {
				return errors.New("the block is not announced")
			}
			return nil
		})
	}
	awaitQuiet()

	vm := netip.MustParseAddr("10.65.0.2")
	lab.Await(t, func() error {
		if !leaf.Reaches("udp", vm, port) {
			return errors.New("the VM is not reached")
		}
		return nil
	})
	ours, theirs := l.host.FollowRoutes(routes.PeerProtocol), leaf.FollowRoutes(unix.RTPROT_BIRD)
	stream := leaf.Stream(vm, port, 2*time.Millisecond)
	f.kill()
	f = l.start()
	awaitQuiet()
	l.awaitSaved()
	f.kill()
	l.stopEtcd()
	f = l.start()
	f.awaitProblem("BGP", "announces what the former felix did")
	f.await(bothLeaves)
	l.awaitRoutesOf(routes.PeerProtocol, toLeaf...)
	l.startEtcd()
	awaitQuiet()
	l.awaitRoutesOf(routes.PeerProtocol, toLeaf...)
	l.awaitRoutesOf(routes.LearnedProtocol, learned...)
	if sent := stream.End(); lab.Lost(sent) > 0 || len(sent) < 100 {
		t.Errorf("%d of %d packets were lost", lab.Lost(sent), len(sent))
	}
	if changed := slices.Concat(ours(), theirs()); len(changed) > 0 {
		t.Errorf("routes have changed: %s", strings.Join(changed, ", "))
	}

	l.delete(api.KindBGPPeer, "", "leaf")
	l.awaitRoutesOf(routes.PeerProtocol, toLeaf[1])
	bird.AwaitNoRoute("10.65.0.0/26")
}

// awaitSaved waits until the saved BGP state has both peers and the block.
func (l *site) awaitSaved() {
	l.Helper()
	lab.Await(l, func() error {
		boot, err := bootID()
		must(l, err)
		saved, err := readSaved(savedFile(&settings{agentSocket: l.socket()}), l.node, boot)
		if err != nil || saved == nil || len(saved.Former.BGP.Peers) != 2 || len(saved.Former.BGP.Paths) != 1 {
			return fmt.Errorf("the last state is not saved yet: %+v, %v", saved, err)
		}
		return nil
	})
}
