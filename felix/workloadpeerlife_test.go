package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/margay-project/margay/api"
	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/dataplane/routes"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/router"
)

// selects is the BGPPeer of routersInVMs with another selector.
func selects(selector string) string {
	return fmt.Sprintf(`
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: vms}
spec: {localWorkloadSelector: "%s", asNumber: 65010, filters: [nested]}
---
`, selector)
}

// newPeeringVM starts felix with a VM that peers, and its router. The fabric has no router.
func newPeeringVM(l *site) (f *felix, a *lab.VM, bird *router.BIRD) {
	l.Helper()
	l.startEtcd()
	l.apply(routersInVMs)
	l.delete(api.KindBGPPeer, "", "fabric")
	a = l.plug("a", "10.65.0.2")
	f = l.start()
	f.awaitEnforced("cali-a")
	bird = router.StartBIRD(l, a.Host, l.TempDir(), vmRouter("10.65.0.2", "10.123.1.0/24"))
	f.awaitPeers(withVMA + " established")
	l.awaitLearned("10.123.1.0/24 via 10.65.0.2\n")
	return f, a, bird
}

// Crashes of felix and starts without etcd change neither the address nor the routes. Other programs cannot take the address away for long.
func TestASessionWithAVMOutlivesFelix(t *testing.T) {
	l := newSite(t)
	f, _, _ := newPeeringVM(l)
	changes := l.host.FollowRoutes(routes.LearnedProtocol)
	lab.Await(t, func() error {
		boot, err := bootID()
		must(t, err)
		saved, err := readSaved(savedFile(&settings{agentSocket: l.socket()}), l.node, boot)
		if err != nil || saved == nil || len(saved.Former.BGP.Peers) != 1 {
			return fmt.Errorf("the last state is not saved yet: %+v, %v", saved, err)
		}
		return nil
	})
	f.kill()
	l.awaitAddresses("cali-a", peeringAddress)
	f = l.start()
	f.awaitPeers(withVMA + " established")
	f.kill()
	l.stopEtcd()
	f = l.start()
	f.awaitProblem("BGP", "announces what the former felix did")
	f.awaitPeers(withVMA + " established")
	l.awaitLearned("10.123.1.0/24 via 10.65.0.2\n")
	l.startEtcd()
	f.await(func(s *agentv1.StatusResponse) error {
		if !s.Datastore.InSync || len(s.Problems) > 0 {
			return fmt.Errorf("problems %v", s.Problems)
		}
		return nil
	})
	f.awaitPeers(withVMA + " established")
	if seen := changes(); len(seen) > 0 {
		t.Errorf("routes have changed: %s", strings.Join(seen, ", "))
	}

	l.host.RemoveAddress("cali-a", peeringAddress+"/32")
	l.awaitAddresses("cali-a", peeringAddress)
	f.log.AwaitText(t, "peering addresses: another program had changed entries of felix")
	f.terminate()
	if out := l.uninstall(); len(l.addressesOf("cali-a")) > 0 {
		t.Errorf("the address is left: %s", out)
	}
}

// A VM that stops loses its session at once, and gets it back when it starts. A VM that is not selected any more loses address, session and
// routes, and another address moves the session there.
func TestAPeeringVMStopsAndIsSelectedAnew(t *testing.T) {
	l := newSite(t)
	f, a, bird := newPeeringVM(l)
	a.Unplug()
	l.awaitLearned("")
	a.Replug()
	l.awaitAddresses("cali-a", peeringAddress)
	f.awaitPeers(withVMA + " established")
	l.awaitLearned("10.123.1.0/24 via 10.65.0.2\n")

	l.apply(selects("role == 'b'"))
	l.awaitLearned("")
	l.awaitAddresses("cali-a")
	f.awaitPeers()
	if connects(a.Host, peeringAddress) {
		t.Error("a VM that is not selected any more connects")
	}
	l.apply(selects("all()"))
	f.awaitPeers(withVMA + " established")
	l.awaitLearned("10.123.1.0/24 via 10.65.0.2\n")

	const other = "169.254.0.180"
	l.apply(strings.ReplaceAll(routersInVMs, peeringAddress, other))
	l.delete(api.KindBGPPeer, "", "fabric")
	l.awaitAddresses("cali-a", other)
	bird.Configure(strings.ReplaceAll(vmRouter("10.65.0.2", "10.123.1.0/24"), peeringAddress, other))
	f.awaitPeers(withVMA + " established")
	l.awaitLearned("10.123.1.0/24 via 10.65.0.2\n")
	if connects(a.Host, peeringAddress) {
		t.Error("the former address answers")
	}
}

// The routes of a VM whose router ends go after its restart time, although no other session is up.
func TestTheRouterInAVMEnds(t *testing.T) {
	l := newSite(t)
	f, _, bird := newPeeringVM(l)
	bird.Configure(strings.ReplaceAll(vmRouter("10.65.0.2", "10.123.1.0/24"), "graceful restart on", "graceful restart on; graceful restart time 1"))
	f.await(func(s *agentv1.StatusResponse) error {
		if len(s.Peers) != 1 || s.Peers[0].Flaps == 0 || s.Peers[0].State != "established" {
			return fmt.Errorf("peers %v", s.Peers)
		}
		return nil
	})
	l.awaitLearned("10.123.1.0/24 via 10.65.0.2\n")
	bird.Kill()
	l.awaitLearned("")
}

// A VM that sends more routes than it may loses its session, and with it all its routes. The status says why. The other VM keeps its session.
func TestAVMSendsTooManyRoutes(t *testing.T) {
	l := newSite(t)
	f, _, bird := newPeeringVM(l)
	l.apply(selects("all()"))
	b := l.plug("b", "10.65.0.3")
	f.awaitEnforced("cali-b")
	const withVMB = "vms with shop/host1-libvirt-b-eth0"
	router.StartBIRD(t, b.Host, t.TempDir(), vmRouter("10.65.0.3", "10.123.2.0/24"))
	f.awaitPeers(withVMA+" established", withVMB+" established")
	var many []string
	for i := range defaultWorkloadLimit + 1 {
		many = append(many, fmt.Sprintf("10.123.%d.%d/32", 8+i/256, i%256))
	}
	bird.Configure(vmRouter("10.65.0.2", many...))
	f.awaitPeers(withVMA+" failed", withVMB+" established")
	f.await(func(s *agentv1.StatusResponse) error {
		for _, p := range s.Peers {
			if p.Name == withVMA && !strings.Contains(p.Error, "the peer sent more than 1000 routes, so the session is closed") {
				return fmt.Errorf("peer %v", p)
			}
		}
		return nil
	})
	l.awaitLearned("10.123.2.0/24 via 10.65.0.3\n")
}

const defaultWorkloadLimit = 1000

// The same over IPv6, with a VM that sends a link-local next hop too.
func TestAVMPeersOverIPv6(t *testing.T) {
	l := newSite(t)
	l.startEtcd()
	l.apply(routersInVMs)
	l.delete(api.KindBGPPeer, "", "fabric")
	a := l.plug("a", "fd00:65::2")
	f := l.start()
	f.awaitEnforced("cali-a")
	router.StartBIRD(t, a.Host, t.TempDir(), fmt.Sprintf(`
router id 10.0.0.1;
protocol device { }
protocol static sent { ipv6; route fd00:123:1::/64 blackhole; route fd00:124::/64 blackhole; route ::/0 blackhole; }
protocol bgp host {
	local fd00:65::2 as 65010; neighbor %s as 64512; multihop 2; connect delay time 1; connect retry time 1; error wait time 1, 2;
	ipv6 { import all; export where proto = "sent"; };
}
`, peeringAddress6))
	f.awaitPeers(withVMA + " established")
	l.awaitAddresses("cali-a", peeringAddress6)
	l.awaitRoutesOf(routes.LearnedProtocol, "fd00:123:1::/64 via fd00:65::2")
	l.host.Must(func() error {
		link, err := netlink.LinkByName("cali-a")
		if err != nil {
			return err
		}
		return netlink.LinkSetDown(link)
	})
	l.host.Up("cali-a") // the kernel has taken the address away
	l.awaitAddresses("cali-a", peeringAddress6)
	f.awaitPeers(withVMA + " established")
	if connectsTo6(a.Host, l.host) {
		t.Error("the VM reaches another address of the host")
	}
}

// connectsTo6 says whether a VM connects to the BGP port of another IPv6 address of its host.
func connectsTo6(vm, host *lab.Host) bool {
	host.Up("lo", "2001:db8::1/128")
	c, err := vm.DialTimeout("tcp", "[2001:db8::1]:179", time.Second)
	if err != nil {
		return false
	}
	c.Close()
	return true
}
