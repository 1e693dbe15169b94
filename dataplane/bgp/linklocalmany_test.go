package bgp_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/router"
)

// port configures BIRD for a session on one port. Each port has the same link-local address, as on many switches.
func port(dev string) string {
	return fmt.Sprintf(`
protocol bgp %[1]s {
	local %[2]s as %[3]d; neighbor %[4]s as %[5]d; interface "%[1]s"; direct;
	connect delay time 1; connect retry time 1; error wait time 1, 2; graceful restart on;
	ipv4 { import all; export where source = RTS_STATIC; extended next hop on; };
	ipv6 { import all; export where source = RTS_STATIC; };
}
`, dev, routerLL, routerAS, hostLL, hostAS)
}

func withPorts(id string, ports ...string) string {
	text := fmt.Sprintf(`
router id %s;
protocol device { }
protocol static four { ipv4; route 203.0.113.0/24 blackhole; }
protocol static six { ipv6; route 2001:db8:ff::/64 blackhole; }
`, id)
	for _, p := range ports {
		text += port(p)
	}
	return text
}

// twoPorts is the node with a peer on each of two interfaces, with the same link-local address.
func twoPorts() calc.BGP {
	n := linkLocalNode(routerAS)
	n.Peers = map[string]calc.Peer{}
	for _, dev := range []string{"eth0", "eth1"} {
		n.Peers[dev] = calc.Peer{Object: "on-" + dev, Address: addr(routerLL + "%" + dev), AS: routerAS}
	}
	return n
}

// Two leaves have the same link-local address. Routes are told apart by their interfaces, and each session lives on its own.
func TestTwoRoutersWithOneLinkLocalAddressAreTwoPeers(t *testing.T) {
	t.Parallel()
	host := lab.NewHost(t)
	var birds [2]*router.BIRD
	for i := range birds {
		leaf := lab.NewHost(t)
		dev := fmt.Sprint("eth", i)
		lab.Cable(host, dev, leaf, "swp")
		upWithOnly(host, dev, hostLL)
		upWithOnly(leaf, "swp", routerLL)
		birds[i] = router.StartBIRD(t, leaf, t.TempDir(), withPorts(fmt.Sprint("10.98.0.", i+1), "swp"))
	}
	s := run(t, host, "speaker")
	s.apply(t, twoPorts())
	s.waitUp(t)
	learned := routes{}
	s.awaitLearned(t, learned, true, "2001:db8:ff::/64 [fe80::2%eth0 fe80::2%eth1", "203.0.113.0/24 [fe80::2%eth0 fe80::2%eth1")
	for _, b := range birds {
		b.AwaitRoute(block4, hostLL)
		b.AwaitRoute(block6, hostLL)
	}
	for _, r := range s.ask(t, request{Received: true}).Received {
		if !r.Best || r.NextHop != r.Neighbour || r.Peer != "on-"+r.NextHop.Zone() {
			t.Errorf("received: %+v", r)
		}
	}
	since := s.status(t)[0].Since

	_, err := birds[1].Ask("disable four") // a route of one of them
	if err != nil {
		t.Fatal(err)
	}
	s.awaitLearned(t, learned, true, "2001:db8:ff::/64 [fe80::2%eth0 fe80::2%eth1", "203.0.113.0/24 [fe80::2%eth0")
	host.Down("eth1") // and the other one, by its carrier
	s.awaitLearned(t, learned, false, "2001:db8:ff::/64 [fe80::2%eth0", "203.0.113.0/24 [fe80::2%eth0")
	host.Up("eth1", hostLL+"/64")
	s.awaitLearned(t, learned, true, "2001:db8:ff::/64 [fe80::2%eth0 fe80::2%eth1", "203.0.113.0/24 [fe80::2%eth0")
	if st := s.status(t); st[0].Since != since || st[0].Flaps != 0 || st[1].Flaps != 1 {
		t.Errorf("status: %+v", st)
	}

	n := twoPorts()
	delete(n.Peers, "eth0")
	s.apply(t, n)
	birds[0].AwaitNoRoute(block4)
	s.awaitLearned(t, learned, true, "2001:db8:ff::/64 [fe80::2%eth1")
	birds[1].AwaitRoute(block4)
}

// One router has the same link-local address on two ports to this host. GoBGP takes the routes of both sessions for each other, so one of
// the sessions is closed; the routes of the other one stay. If that one goes down, the former takes over.
func TestOneRouterWithOneLinkLocalAddressOnTwoPortsIsOnePeer(t *testing.T) {
	t.Parallel()
	host, leaf := lab.NewHost(t), lab.NewHost(t)
	for _, dev := range []string{"eth0", "eth1"} {
		lab.Cable(host, dev, leaf, dev)
		upWithOnly(host, dev, hostLL)
		upWithOnly(leaf, dev, routerLL)
	}
	router.StartBIRD(t, leaf, t.TempDir(), withPorts("10.98.0.1", "eth0", "eth1"))
	s := run(t, host, "speaker")
	s.apply(t, twoPorts())
	open, closed := 0, 0
	lab.Await(t, func() error {
		open, closed = -1, -1
		st := s.status(t)
		for i := range st {
			if st[i].State == "Established" {
				open = i
			} else if st[i].State == "Failed" {
				closed = i
			}
		}
		if open < 0 || closed < 0 {
			return fmt.Errorf("status: %+v", st)
		}
		return nil
	})
	st := s.status(t)
	if want := "is also that of peer on-" + st[open].Name; !strings.Contains(st[closed].Why, want) {
		t.Errorf("why: %s, want %s", st[closed].Why, want)
	}
	hop := " [fe80::2%" + st[open].Name
	learned := routes{}
	s.awaitLearned(t, learned, true, "2001:db8:ff::/64"+hop, "203.0.113.0/24"+hop)

	s.apply(t, twoPorts()) // another Apply does not open it again
	if again := s.status(t); again[closed].State != "Failed" || again[open].Since != st[open].Since {
		t.Errorf("status: %+v", again)
	}

	host.Down(st[open].Name)
	hop = " [fe80::2%" + st[closed].Name
	s.awaitLearned(t, learned, false, "2001:db8:ff::/64"+hop, "203.0.113.0/24"+hop)
	host.Up(st[open].Name, hostLL+"/64")
	lab.Await(t, func() error { // it comes back, and is closed
		if now := s.status(t); now[open].State != "Failed" || now[closed].State != "Established" {
			return fmt.Errorf("status: %+v", now)
		}
		return nil
	})
	s.awaitLearned(t, learned, true, "2001:db8:ff::/64"+hop, "203.0.113.0/24"+hop)

	n := twoPorts()
	delete(n.Peers, st[closed].Name)
	s.apply(t, n)
	hop = " [fe80::2%" + st[open].Name
	s.awaitLearned(t, learned, true, "2001:db8:ff::/64"+hop, "203.0.113.0/24"+hop)
}

// Two routers change places. Each has its session on the other interface then.
func TestRoutersWithOneLinkLocalAddressChangePlaces(t *testing.T) {
	t.Parallel()
	host := lab.NewHost(t)
	var leaves [2]*lab.Host
	for i := range leaves {
		leaves[i] = lab.NewHost(t)
		router.StartBIRD(t, leaves[i], t.TempDir(), strings.Replace(withPorts(fmt.Sprint("10.98.0.", i+1), "swp"), "203.0.113.0/24", fmt.Sprintf("203.0.%d.0/24", i+1), 1))
	}
	connect := func(first, second *lab.Host) {
		for i, leaf := range []*lab.Host{first, second} {
			dev := fmt.Sprint("eth", i)
			lab.Cable(host, dev, leaf, "swp")
			upWithOnly(host, dev, hostLL)
			upWithOnly(leaf, "swp", routerLL)
		}
	}
	connect(leaves[0], leaves[1])
	s := run(t, host, "speaker")
	s.apply(t, twoPorts())
	learned := routes{}
	const both = "2001:db8:ff::/64 [fe80::2%eth0 fe80::2%eth1"
	s.awaitLearned(t, learned, true, both, "203.0.1.0/24 [fe80::2%eth0", "203.0.2.0/24 [fe80::2%eth1")
	host.MustRun("ip", "link", "delete", "eth0")
	host.MustRun("ip", "link", "delete", "eth1")
	connect(leaves[1], leaves[0])
	s.awaitLearned(t, learned, true, both, "203.0.1.0/24 [fe80::2%eth1", "203.0.2.0/24 [fe80::2%eth0")
}
