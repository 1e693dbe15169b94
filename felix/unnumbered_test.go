package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/router"
)

// unnumbered is two hosts and two leaves, one BIRD and one FRR, with a cable from each host to each leaf. No cable has a network of its own:
// the ends have only link-local addresses, each leaf the same one on all ports, as switches do.
//
//	leaf1 (BIRD)   leaf2 (FRR)
//	     |  each to each  |
//	   host1            host2
type unnumbered struct {
	hosts  []*site
	leaves [2]*lab.Host
	bird   *router.BIRD
	frr    *router.FRR
}

const leafLL = "fe80::1"

func hostLL(host int) string { return fmt.Sprint("fe80::1", host) }

func newUnnumbered(t *testing.T) *unnumbered {
	u := &unnumbered{hosts: newSites(t, 2)}
	for k := range u.leaves {
		u.leaves[k] = lab.NewHost(t)
		u.leaves[k].Forward()
		for i, h := range u.hosts {
			up, down := fmt.Sprint("leaf", k+1), fmt.Sprint("host", i+1)
			lab.Cable(h.host, up, u.leaves[k], down)
			upOnly(h.host, up, hostLL(i+1))
			upOnly(u.leaves[k], down, leafLL)
		}
	}
	for i, h := range u.hosts {
		h.host.Up("lo", fmt.Sprintf("10.255.0.%d/32", i+1))
	}
	u.bird = router.StartBIRD(t, u.leaves[0], t.TempDir(), unnumberedBIRD())
	u.frr = router.StartFRR(t, u.leaves[1], unnumberedFRR())
	return u
}

// upOnly brings an interface up with one link-local address.
func upOnly(h *lab.Host, dev, address string) {
	h.Sysctl("ipv6/conf/"+dev+"/addr_gen_mode", "1")
	h.Up(dev, address+"/64")
}

func unnumberedBIRD() string {
	text := `
router id 10.254.0.1;
protocol device { }
protocol kernel four { persist; graceful restart on; merge paths on; ipv4 { import none; export where source = RTS_BGP; }; }
protocol kernel six { persist; graceful restart on; merge paths on; ipv6 { import none; export where source = RTS_BGP; }; }
`
	for i := 1; i <= 2; i++ {
		text += fmt.Sprintf(`
protocol bgp host%[1]d {
	local %[2]s as %[3]d; neighbor %[4]s as %[5]d; interface "host%[1]d"; direct;
	graceful restart on; connect delay time 1; connect retry time 1; error wait time 1, 2;
	ipv4 { import all; export where source = RTS_BGP; extended next hop on; };
	ipv6 { import all; export where source = RTS_BGP; };
}
`, i, leafLL, leafAS(1), hostLL(i), hostAS(i))
	}
	return text
}

// unnumberedFRR names its neighbours by the ports. FRR finds their addresses by router advertisements.
func unnumberedFRR() string {
	text := fmt.Sprintf(`
router bgp %d
 bgp router-id 10.254.0.2
 no bgp ebgp-requires-policy
 bgp graceful-restart
`, leafAS(2))
	activate := ""
	for i := 1; i <= 2; i++ {
		text += fmt.Sprintf(" neighbor host%d interface remote-as %d\n neighbor host%[1]d timers connect 1\n neighbor host%[1]d advertisement-interval 0\n", i, hostAS(i))
		activate += fmt.Sprintf("  neighbor host%d activate\n", i)
	}
	return text + " address-family ipv6 unicast\n" + activate + " exit-address-family\n"
}

func (u *unnumbered) objects() (text string) {
	text = `
apiVersion: projectcalico.org/v3
kind: BGPConfiguration
metadata: {name: default}
spec: {nodeToNodeMeshEnabled: false}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: vms6}
spec: {cidr: "fd65::/64"}
`
	for host := 1; host <= 2; host++ {
		for leaf := 1; leaf <= 2; leaf++ {
			text += fmt.Sprintf(`---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: host%d-leaf%d}
spec: {node: host%[1]d, peerIP: "%[3]s%%leaf%[2]d", asNumber: %[4]d}
`, host, leaf, leafLL, leafAS(leaf))
		}
	}
	return text
}

func (u *unnumbered) start(host int) *felix {
	return u.hosts[host-1].start(fmt.Sprintf("FELIX_IP=10.255.0.%d/32", host), fmt.Sprint("FELIX_ASNUMBER=", hostAS(host)))
}

// awaitHops waits until the kernel of a host routes a prefix by these interfaces, with the leaves' link-local address.
func (l *site) awaitHops(prefix string, devices ...string) {
	l.Helper()
	family := "-4"
	if netip.MustParsePrefix(prefix).Addr().Is6() {
		family = "-6"
	}
	lab.Await(l, func() error {
		have := l.host.MustRun("ip", family, "route", "show", prefix, "proto", "87")
		for _, dev := range devices {
			if !strings.Contains(have, leafLL+" dev "+dev+" ") {
				return fmt.Errorf("no hop by %s: %s", dev, have)
			}
		}
		if strings.Count(have, " dev ") != len(devices) {
			return fmt.Errorf("want only %v: %s", devices, have)
		}
		return nil
	})
}

// VMs of two hosts reach each other by two leaves, with IPv4 and IPv6, although no cable has an address. Nothing is lost while an agent or a
// leaf is killed and restarted, and traffic goes on without one of the cables.
func TestVMsReachEachOtherOverCablesWithoutAddresses(t *testing.T) {
	u := newUnnumbered(t)
	one, two := u.hosts[0], u.hosts[1]
	one.apply(u.objects())
	f1, f2 := u.start(1), u.start(2)
	a, b := one.plug("a", "10.65.0.2"), two.plug("b", "10.65.0.66")
	a6, b6 := one.plug("a6", "fd65::2"), two.plug("b6", "fd65::42")
	one.awaitHops("10.65.0.64/26", "leaf1", "leaf2")
	two.awaitHops("10.65.0.0/26", "leaf1", "leaf2")
	one.awaitHops("fd65::40/122", "leaf1", "leaf2")
	two.awaitHops("fd65::/122", "leaf1", "leaf2")
	f1.await(sessions(2))
	f2.await(sessions(2))
	reach := func() error {
		if !a.Reaches("udp", b.Addresses[0], port) || !b.Reaches("udp", a.Addresses[0], port) {
			return errors.New("the VMs do not reach each other with IPv4")
		}
		if !a6.Reaches("udp", b6.Addresses[0], port) || !b6.Reaches("udp", a6.Addresses[0], port) {
			return errors.New("the VMs do not reach each other with IPv6")
		}
		return nil
	}
	lab.Await(t, reach)

	four, six := a.Stream(b.Addresses[0], port, 2*time.Millisecond), a6.Stream(b6.Addresses[0], port, 2*time.Millisecond)
	f1.kill()
	f1 = u.start(1)
	f1.await(sessions(2))
	f2.kill()
	f2 = u.start(2)
	f2.await(sessions(2))
	u.bird.Restart()
	f1.await(sessions(2))
	f2.await(sessions(2))
	u.frr.Kill()
	u.frr.StartBGP()
	f1.await(sessions(2))
	f2.await(sessions(2))
	for name, stream := range map[string]*lab.Stream{"IPv4": four, "IPv6": six} {
		if sent := stream.End(); lab.Lost(sent) > 0 || len(sent) < 100 {
			t.Errorf("%s: %d of %d packets were lost", name, lab.Lost(sent), len(sent))
		}
	}

	u.leaves[0].Down("host1") // the cable between host1 and leaf1 is lost
	one.awaitHops("10.65.0.64/26", "leaf2")
	one.awaitHops("fd65::40/122", "leaf2")
	two.awaitHops("10.65.0.0/26", "leaf2")
	lab.Await(t, reach)
	u.leaves[0].Up("host1", leafLL+"/64")
	one.awaitHops("10.65.0.64/26", "leaf1", "leaf2")
	one.awaitHops("fd65::40/122", "leaf1", "leaf2")
	f1.await(sessions(2))
}
