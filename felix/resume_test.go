package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/dataplane/routes"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/router"
)

// resumeRouter is a router on the client. Only a BGP route leads it to VMs.
const resumeRouter = `
router id 192.0.2.1;
protocol device { }
protocol kernel { ipv4 { import none; export all; }; }
protocol static nowhere { ipv4 { export none; }; route 10.65.0.0/16 unreachable; }
protocol static sent { ipv4; route 203.0.113.0/24 blackhole; }
protocol static more { disabled; ipv4; route 198.51.100.0/24 blackhole; }
protocol bgp host {
	local 192.0.2.1 as 65001; neighbor 192.0.2.10 as 64512;
	graceful restart on;
	ipv4 { import all; export where proto = "sent" || proto = "more"; };
}
`

const resumeObjects = openProfile + `
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: vms}
spec: {cidr: 10.65.0.0/16}
---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: tor}
spec: {peerIP: 192.0.2.1, asNumber: 65001}
`

// newAnnouncer starts felix on a host with a VM. The router has the route to the VM's block.
func newAnnouncer(t *testing.T) (l *site, bird *router.BIRD, f *felix) {
	t.Helper()
	l = newSite(t)
	l.startEtcd()
	l.apply(resumeObjects)
	bird = router.StartBIRD(t, l.client, t.TempDir(), resumeRouter)
	f = l.start()
	l.plug("a", "10.65.0.2")
	f.awaitEnforced("cali-a")
	bird.AwaitRoute("10.65.0.0/26")
	return l, bird, f
}

// felix is killed and starts again while etcd is away. The router sees no change of its routes, and packets to the VM go on; so they
// do when etcd is back.
func TestAStartWithoutEtcdKeepsTheAnnouncements(t *testing.T) {
	l, bird, f := newAnnouncer(t)
	f.await(established)
	l.awaitLearned("203.0.113.0/24 via 192.0.2.1\n")
	vm := netip.MustParseAddr("10.65.0.2")
	lab.Await(t, func() error {
		boot, err := bootID()
		must(t, err)
		saved, err := readSaved(savedFile(&settings{agentSocket: l.socket()}), "host1", boot)
		if err != nil || saved == nil || len(saved.Former.BGP.Paths) != 1 || saved.Former.BGP.Paths[netip.MustParsePrefix("10.65.0.0/26")].Reason != "block" {
			return fmt.Errorf("the last state is not saved yet: %+v, %v", saved, err)
		}
		if !l.client.Reaches("udp", vm, port) {
			return errors.New("the VM is not reached")
		}
		return nil
	})

	changes := l.client.FollowRoutes(unix.RTPROT_BIRD)
	stream := l.client.Stream(vm, port, 2*time.Millisecond)
	f.kill()
	l.stopEtcd()
	f = l.start()
	since := f.await(func(s *agentv1.StatusResponse) error {
		if len(s.Peers) != 1 || s.Peers[0].State != "established" || s.Peers[0].Announced != 1 || s.Datastore.Connected {
			return fmt.Errorf("connected is %v, peers %v", s.Datastore.Connected, s.Peers)
		}
		return nil
	}).Peers[0].Since
	f.awaitProblem("BGP", "announces what the former felix did")
	if _, err := bird.Ask("enable more"); err != nil {
		t.Fatal(err)
	}
	l.awaitLearned("198.51.100.0/24 via 192.0.2.1\n203.0.113.0/24 via 192.0.2.1\n")

	l.startEtcd()
	s := f.await(func(s *agentv1.StatusResponse) error {
		if !s.Datastore.InSync {
			return errors.New("felix is not in sync")
		}
		return established(s)
	})
	if s.Peers[0].Since != since || s.Peers[0].Flaps != 0 {
		t.Errorf("the session was reset when etcd came back: %v", s.Peers[0])
	}
	l.awaitLearned("198.51.100.0/24 via 192.0.2.1\n203.0.113.0/24 via 192.0.2.1\n")
	if sent := stream.End(); lab.Lost(sent) > 0 || len(sent) < 100 {
		t.Errorf("%d of %d packets were lost", lab.Lost(sent), len(sent))
	}
	var other []string
	for _, line := range changes() {
		if !strings.Contains(line, "198.51.100.0/24") { // of the router itself
			other = append(other, line)
		}
	}
	if len(other) > 0 {
		t.Errorf("the router's routes have changed: %s", strings.Join(other, ", "))
	}
}

// A start without etcd finds no route of the former felix, so it announces nothing. It tries again by itself, and announces when the route is there.
func TestAStartWithoutEtcdTriesAgainToResume(t *testing.T) {
	l, bird, f := newAnnouncer(t)
	lab.Await(t, func() error {
		boot, err := bootID()
		must(t, err)
		saved, err := readSaved(savedFile(&settings{agentSocket: l.socket()}), "host1", boot)
		if err != nil || saved == nil || saved.Former.BGP.Paths[netip.MustParsePrefix("10.65.0.0/26")].Reason != "block" {
			return fmt.Errorf("the last state is not saved yet: %+v, %v", saved, err)
		}
		return nil
	})
	f.kill()
	l.stopEtcd()
	hole := l.route("10.65.0.0/26")
	l.host.Must(func() error { return netlink.RouteDel(&hole) })

	f = l.start()
	f.awaitProblem("BGP", "felix announces nothing: no route of the former felix is in the kernel")
	if s, err := f.status(); err != nil || len(s.Peers) != 0 {
		t.Errorf("peers %v, %v", s.GetPeers(), err)
	}
	l.host.Must(func() error { return netlink.RouteAdd(&hole) })
	f.await(func(s *agentv1.StatusResponse) error {
		if len(s.Peers) != 1 || s.Peers[0].State != "established" || s.Peers[0].Announced != 1 || s.Datastore.Connected {
			return fmt.Errorf("connected is %v, peers %v", s.Datastore.Connected, s.Peers)
		}
		for _, p := range s.Problems {
			if strings.Contains(p.Text, "announces nothing") {
				return fmt.Errorf("still a problem: %v", p)
			}
		}
		return nil
	})
	bird.AwaitRoute("10.65.0.0/26")
}

// route returns the route of felix to a prefix in the kernel of the host.
func (l *site) route(prefix string) (found netlink.Route) {
	l.Helper()
	l.host.Must(func() error {
		all, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Protocol: netlink.RouteProtocol(routes.Protocol(0))}, netlink.RT_FILTER_PROTOCOL)
		for _, r := range all {
			if r.Dst.String() == prefix {
				found = r
				return err
			}
		}
		return errors.Join(err, errors.New("felix has no route to "+prefix))
	})
	return found
}
