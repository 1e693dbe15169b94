package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/margay-project/margay/dataplane/routes"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/router"
)

// fabric is two racks with a host in each, as in a data centre: a host has a cable to each of the two leaves of its rack, a leaf has
// one to each of the two spines. All sessions are eBGP, and each host, rack and the spines have an AS number of their own.
//
//	        spine1 (FRR)   spine2 (FRR)
//	             |  each to each  |
//	leaf11   leaf12          leaf21   leaf22   (BIRD)
//	   \       /                \       /
//	    host1                    host2
type fabric struct {
	hosts  []*site
	leaves [2][2]*lab.Host
	birds  [2][2]*router.BIRD
}

const spineAS = 65000

func hostAS(rack int) int { return 64600 + rack }
func leafAS(rack int) int { return 65100 + rack }

// Of each cable, the end nearer to the host has the address .2, the other .1.
func rackNet(rack, leaf int) string         { return fmt.Sprintf("10.%d.%d", rack, leaf) }
func spineNet(rack, leaf, spine int) string { return fmt.Sprintf("10.1%d%d.%d", rack, leaf, spine) }

func newFabric(t *testing.T) *fabric {
	f := &fabric{hosts: newSites(t, 2)}
	var spines [2]*lab.Host
	for j := range spines {
		spines[j] = lab.NewHost(t)
		spines[j].Forward()
	}
	for i, h := range f.hosts {
		for k := range f.leaves[i] {
			leaf := lab.NewHost(t)
			leaf.Forward()
			connect(h.host, fmt.Sprint("leaf", k+1), leaf, "host", rackNet(i+1, k+1))
			for j, spine := range spines {
				connect(leaf, fmt.Sprint("spine", j+1), spine, fmt.Sprintf("leaf%d%d", i+1, k+1), spineNet(i+1, k+1, j+1))
			}
			f.leaves[i][k] = leaf
			f.birds[i][k] = router.StartBIRD(t, leaf, t.TempDir(), leafConfig(i+1, k+1))
		}
	}
	for j, spine := range spines {
		router.StartFRR(t, spine, spineConfig(j+1))
	}
	return f
}

func connect(lower *lab.Host, lowerDev string, upper *lab.Host, upperDev, net string) {
	lab.Cable(lower, lowerDev, upper, upperDev)
	lower.Up(lowerDev, net+".2/24")
	upper.Up(upperDev, net+".1/24")
}

// leafConfig makes a leaf pass on all routes that it learns, with several next hops where there are several.
func leafConfig(rack, leaf int) string {
	session := func(name, own, peer string, as int) string {
		return fmt.Sprintf(`
protocol bgp %s {
	local %s as %d; neighbor %s as %d;
	graceful restart on; connect delay time 1; connect retry time 1; error wait time 1, 2;
	ipv4 { import all; export where source = RTS_BGP; next hop self; };
}`, name, own, leafAS(rack), peer, as)
	}
	text := fmt.Sprintf(`
router id %s.1;
protocol device { }
protocol kernel { persist; graceful restart on; merge paths on; ipv4 { import none; export where source = RTS_BGP; }; }
`, rackNet(rack, leaf)) + session("host", rackNet(rack, leaf)+".1", rackNet(rack, leaf)+".2", hostAS(rack))
	for spine := 1; spine <= 2; spine++ {
		net := spineNet(rack, leaf, spine)
		text += session(fmt.Sprint("spine", spine), net+".2", net+".1", spineAS)
	}
	return text
}

func spineConfig(spine int) string {
	text := fmt.Sprintf(`
router bgp %d
 bgp router-id 10.0.0.%d
 no bgp ebgp-requires-policy
 bgp bestpath as-path multipath-relax
 bgp graceful-restart
`, spineAS, spine)
	for rack := 1; rack <= 2; rack++ {
		for leaf := 1; leaf <= 2; leaf++ {
			peer := spineNet(rack, leaf, spine) + ".2"
			text += fmt.Sprintf(" neighbor %s remote-as %d\n neighbor %[1]s timers connect 1\n neighbor %[1]s advertisement-interval 0\n", peer, leafAS(rack))
		}
	}
	return text
}

// peers are the objects that make felix speak with both leaves of its rack, and not with the other host.
func (f *fabric) peers() (text string) {
	text = `
apiVersion: projectcalico.org/v3
kind: BGPConfiguration
metadata: {name: default}
spec: {nodeToNodeMeshEnabled: false}
`
	for rack := 1; rack <= 2; rack++ {
		for leaf := 1; leaf <= 2; leaf++ {
			text += fmt.Sprintf(`---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: rack%d-leaf%d}
spec: {node: host%d, peerIP: %s.1, asNumber: %d, sourceAddress: None}
`, rack, leaf, rack, rackNet(rack, leaf), leafAS(rack))
		}
	}
	return text
}

// start runs felix on a host, with the host's AS number.
func (f *fabric) start(rack int) *felix {
	return f.hosts[rack-1].start(fmt.Sprintf("FELIX_IP=%s.2/24", rackNet(rack, 1)), fmt.Sprint("FELIX_ASNUMBER=", hostAS(rack)))
}

// awaitNextHops waits until the kernel of a host has the route of a block with these gateways.
func (l *site) awaitNextHops(block string, gateways ...string) {
	l.Helper()
	lab.Await(l, func() error {
		var found []string
		l.host.Must(func() error {
			all, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Protocol: routes.LearnedProtocol}, netlink.RT_FILTER_PROTOCOL)
			for _, r := range all {
				if r.Dst.String() != block {
					continue
				}
				if r.Gw != nil {
					found = append(found, r.Gw.String())
				}
				for _, hop := range r.MultiPath {
					found = append(found, hop.Gw.String())
				}
			}
			return err
		})
		if strings.Join(found, " ") != strings.Join(gateways, " ") {
			return fmt.Errorf("%s is routed by %v, not %v", block, found, gateways)
		}
		return nil
	})
}

// VMs in two racks reach each other by two leaves and two spines. Nothing is lost while an agent or a router is killed and restarted,
// and traffic goes on when a router withdraws its routes and when a cable is lost.
func TestVMsOfTwoRacksReachEachOther(t *testing.T) {
	f := newFabric(t)
	one, two := f.hosts[0], f.hosts[1]
	one.apply(f.peers())
	f1, f2 := f.start(1), f.start(2)
	a, b := one.plug("a", "10.65.0.2"), two.plug("b", "10.65.0.66")
	f1.awaitEnforced("cali-a")
	f2.awaitEnforced("cali-b")
	one.awaitNextHops("10.65.0.64/26", "10.1.1.1", "10.1.2.1")
	two.awaitNextHops("10.65.0.0/26", "10.2.1.1", "10.2.2.1")
	f1.await(sessions(2))
	f2.await(sessions(2))
	lab.Await(t, func() error {
		if !a.Reaches("udp", b.Addresses[0], port) || !b.Reaches("udp", a.Addresses[0], port) {
			return errors.New("the VMs do not reach each other")
		}
		return nil
	})

	stream := a.Stream(b.Addresses[0], port, 2*time.Millisecond)
	f1.kill()
	f1 = f.start(1)
	f1.await(sessions(2))
	f2.kill()
	f2 = f.start(2)
	f2.await(sessions(2))
	leaf := f.birds[1][0]
	leaf.Restart()
	f2.await(sessions(2))
	if sent := stream.End(); lab.Lost(sent) > 0 || len(sent) < 100 {
		t.Errorf("%d of %d packets were lost", lab.Lost(sent), len(sent))
	}

	_, err := leaf.Ask("disable host")
	must(t, err)
	two.awaitNextHops("10.65.0.0/26", "10.2.2.1")
	lab.Await(t, func() error {
		if !a.Reaches("udp", b.Addresses[0], port) {
			return errors.New("the VMs do not reach each other by the other leaf")
		}
		return nil
	})
	_, err = leaf.Ask("enable host")
	must(t, err)
	two.awaitNextHops("10.65.0.0/26", "10.2.1.1", "10.2.2.1")
	f.leaves[0][0].Down("host") // the cable between host1 and leaf11 is lost
	one.awaitNextHops("10.65.0.64/26", "10.1.2.1")
	lab.Await(t, func() error {
		if !a.Reaches("udp", b.Addresses[0], port) || !b.Reaches("udp", a.Addresses[0], port) {
			return errors.New("the VMs do not reach each other without the cable")
		}
		return nil
	})
	f.leaves[0][0].Up("host")
	one.awaitNextHops("10.65.0.64/26", "10.1.1.1", "10.1.2.1")
	f1.await(sessions(2))
}
