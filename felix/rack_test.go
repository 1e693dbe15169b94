package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/dataplane/routes"
	"github.com/margay-project/margay/internal/lab"
)

// newRack makes two hosts, a cable between them, and one etcd. Each host runs felix as its own node.
func newRack(t testing.TB) (one, two *site) {
	sites := newSites(t, 2)
	one, two = sites[0], sites[1]
	lab.Cable(one.host, "rack", two.host, "rack")
	one.host.Up("rack", "198.51.100.1/24")
	two.host.Up("rack", "198.51.100.2/24")
	return one, two
}

// newSites makes hosts, host1 and so on, that share an etcd. Nothing connects them. The store has a pool and a profile.
func newSites(t testing.TB, n int) (sites []*site) {
	one := newSite(t)
	one.startEtcd()
	sites = append(sites, one)
	for i := 2; i <= n; i++ {
		l := &site{
			TB: t, host: lab.NewHost(t), client: lab.NewHost(t), binary: one.binary, dir: fmt.Sprint(one.dir, "-", i), node: fmt.Sprint("host", i),
			cluster: []string{one.endpoint()}, store: one.store,
		}
		t.Cleanup(l.leaveNothing)
		l.host.Forward()
		sites = append(sites, l)
	}
	one.apply(openProfile + `
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: vms}
spec: {cidr: 10.65.0.0/16}
`)
	return sites
}

// plug adds a VM with its endpoint to the host.
func (l *site) plug(name, address string) *lab.VM {
	l.Helper()
	vm := l.vm(name, address)
	vm.Echo(port)
	l.place(name, address)
	return vm
}

// place writes the endpoint of a VM on this host.
func (l *site) place(name, address string) {
	l.Helper()
	l.apply(strings.ReplaceAll(workload(name, "cali-"+name, address), "host1", l.node))
}

// learned returns the routes by other hosts in the kernel of the host.
func (l *site) learned() (list string) {
	l.Helper()
	l.host.Must(func() error {
		all, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Protocol: netlink.RouteProtocol(cmp.Or(l.protocol, routes.LearnedProtocol))}, netlink.RT_FILTER_PROTOCOL)
		for _, r := range all {
			list += fmt.Sprintf("%v via %v\n", r.Dst, r.Gw)
		}
		return err
	})
	return list
}

func (l *site) awaitLearned(want string) {
	l.Helper()
	lab.Await(l, func() error {
		if got := l.learned(); got != want {
			return fmt.Errorf("%s has learned %q, not %q", l.node, got, want)
		}
		return nil
	})
}

func established(s *agentv1.StatusResponse) error {
	if len(s.Peers) != 1 || s.Peers[0].State != "established" {
		return fmt.Errorf("peers %v", s.Peers)
	}
	if len(s.Problems) > 0 {
		return fmt.Errorf("problems %v", s.Problems)
	}
	return nil
}

// uses says that the only peer is established, and that as many routes of it are in the kernel.
func uses(routes uint64) func(*agentv1.StatusResponse) error {
	return func(s *agentv1.StatusResponse) error {
		if err := established(s); err != nil {
			return err
		}
		if p := s.Peers[0]; p.Used != routes || p.Received != routes || p.Type != "node-to-node mesh" {
			return fmt.Errorf("peer %v", p)
		}
		return nil
	}
}

// Only a cable connects two hosts. Their VMs reach each other, also while either felix is killed and restarted, and after a
// VM has moved.
func TestVMsOfTwoHostsReachEachOther(t *testing.T) {
	one, two := newRack(t)
	f1, f2 := one.start("FELIX_IP=198.51.100.1/24"), two.start("FELIX_IP=198.51.100.2/24")
	a, b := one.plug("a", "10.65.0.2"), two.plug("b", "10.65.0.66")
	f1.awaitEnforced("cali-a")
	f2.awaitEnforced("cali-b")
	one.awaitLearned("10.65.0.64/26 via 198.51.100.2\n")
	two.awaitLearned("10.65.0.0/26 via 198.51.100.1\n")
	f1.await(uses(1))
	f2.await(uses(1))
	f1.awaitReceived("10.65.0.64/26 from mesh with host2: programmed ")
	addressA, addressB := netip.MustParseAddr("10.65.0.2"), netip.MustParseAddr("10.65.0.66")
	lab.Await(t, func() error {
		if !a.Reaches("udp", addressB, port) || !b.Reaches("udp", addressA, port) {
			return errors.New("the VMs do not reach each other")
		}
		return nil
	})

	changes := [2]func() []string{one.host.FollowRoutes(routes.LearnedProtocol), two.host.FollowRoutes(routes.LearnedProtocol)}
	stream := a.Stream(addressB, port, 2*time.Millisecond)
	f1.killBGP()
	f1.await(uses(1))
	for range 2 {
		f1.kill()
		f1 = one.start("FELIX_IP=198.51.100.1/24")
		f1.await(established)
		f2.kill()
		f2 = two.start("FELIX_IP=198.51.100.2/24")
		f2.await(established)
		f1.await(established)
	}
	if sent := stream.End(); lab.Lost(sent) > 0 || len(sent) < 100 {
		t.Errorf("%d of %d packets were lost", lab.Lost(sent), len(sent))
	}
	for i, seen := range changes {
		if list := seen(); len(list) > 0 {
			t.Errorf("restarts change routes of host%d: %s", i+1, strings.Join(list, ", "))
		}
	}

	// VM a moves to the other host and keeps its address. The address is in the block of the first host.
	one.delete("WorkloadEndpoint", "shop", "host1-libvirt-a-eth0")
	a.Unplug()
	c := two.plug("c", "10.65.0.2")
	one.awaitLearned("10.65.0.2/32 via 198.51.100.2\n10.65.0.64/26 via 198.51.100.2\n")
	d := one.plug("d", "10.65.0.3")
	lab.Await(t, func() error {
		if !d.Reaches("udp", addressA, port) || !c.Reaches("udp", netip.MustParseAddr("10.65.0.3"), port) {
			return errors.New("the VM that has moved is not reached")
		}
		return nil
	})
	f1.await(established)
	f2.await(established)
}

// A connection outlives the move of either end: the host that the VM moves to has not seen its first packets.
func TestConnectionsSurviveAMove(t *testing.T) {
	one, two := newRack(t)
	f1, f2 := one.start("FELIX_IP=198.51.100.1/24"), two.start("FELIX_IP=198.51.100.2/24")
	a, b := one.plug("a", "10.65.0.2"), one.plug("b", "10.65.0.3")
	two.plug("c", "10.65.0.66")
	f1.awaitEnforced("cali-b")
	f2.awaitEnforced("cali-c")
	f1.await(established)

	conn, err := a.DialTimeout("tcp", netip.AddrPortFrom(b.Addresses[0], port).String(), lab.Patience)
	must(t, err)
	defer conn.Close()
	if !lab.Answered(conn) {
		t.Fatal("the connection does not work")
	}
	for _, move := range []struct {
		vm       *lab.VM
		name     string
		from, to *site
	}{{b, "b", one, two}, {a, "a", one, two}, {b, "b", two, one}} {
		move.from.delete("WorkloadEndpoint", "shop", move.from.node+"-libvirt-"+move.name+"-eth0")
		move.vm.Move(move.to.host, "cali-"+move.name)
		move.to.place(move.name, move.vm.Addresses[0].String())
		if !lab.Answered(conn) {
			t.Fatalf("the connection is broken after %s has moved to %s", move.name, move.to.node)
		}
	}
}
