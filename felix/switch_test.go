package main

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/margay-project/margay/api"
	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/dataplane/routes"
	"github.com/margay-project/margay/internal/lab"
)

// withoutBGP has nodes of one network reach each other without any session.
const withoutBGP = `
apiVersion: projectcalico.org/v3
kind: BGPConfiguration
metadata: {name: default}
spec: {nodeToNodeMeshEnabled: false}
---
apiVersion: projectcalico.org/v3
kind: FelixConfiguration
metadata: {name: default}
spec: {programClusterRoutes: Enabled}
---
`

// newSwitch is a rack without BGP. Both felixes run.
func newSwitch(t testing.TB) (one, two *site, f1, f2 *felix) {
	one, two = newRack(t)
	one.protocol, two.protocol = routes.NodeProtocol, routes.NodeProtocol
	one.apply(withoutBGP)
	return one, two, one.start("FELIX_IP=198.51.100.1/24"), two.start("FELIX_IP=198.51.100.2/24")
}

func quietWithoutSessions(s *agentv1.StatusResponse) error {
	if len(s.Peers) > 0 || len(s.Problems) > 0 || !s.Datastore.InSync {
		return errors.Join(errors.New("not quiet"), errors.New(s.String()))
	}
	return nil
}

func awaitReaches(t testing.TB, from *lab.VM, address string) {
	t.Helper()
	lab.Await(t, func() error {
		if !from.Reaches("udp", netip.MustParseAddr(address), port) {
			return errors.New(address + " is not reached")
		}
		return nil
	})
}

// VMs of two hosts on one network reach each other without BGP, also while either felix is killed and restarted. When a node is
// deleted, the routes to it go.
func TestHostsOnOneNetworkNeedNoBGP(t *testing.T) {
	one, two, f1, f2 := newSwitch(t)
	a, b := one.plug("a", "10.65.0.2"), two.plug("b", "10.65.0.66")
	f1.awaitEnforced("cali-a")
	f2.awaitEnforced("cali-b")
	one.awaitLearned("10.65.0.64/26 via 198.51.100.2\n")
	two.awaitLearned("10.65.0.0/26 via 198.51.100.1\n")
	awaitReaches(t, a, "10.65.0.66")
	awaitReaches(t, b, "10.65.0.2")
	f1.await(quietWithoutSessions)
	f2.await(quietWithoutSessions)

	changes := [2]func() []string{one.host.FollowRoutes(routes.NodeProtocol), two.host.FollowRoutes(routes.NodeProtocol)}
	stream := a.Stream(netip.MustParseAddr("10.65.0.66"), port, 2*time.Millisecond)
	for range 2 {
		f1.kill()
		f1 = one.start("FELIX_IP=198.51.100.1/24")
		f1.await(quietWithoutSessions)
		f2.kill()
		f2 = two.start("FELIX_IP=198.51.100.2/24")
		f2.await(quietWithoutSessions)
	}
	if sent := stream.End(); lab.Lost(sent) > 0 || len(sent) < 100 {
		t.Errorf("%d of %d packets were lost", lab.Lost(sent), len(sent))
	}
	for i, seen := range changes {
		if list := seen(); len(list) > 0 {
			t.Errorf("restarts change routes of host%d: %v", i+1, list)
		}
	}

	f2.kill()
	one.delete("Node", "", "host2")
	one.awaitLearned("")
}

// While a VM moves, both hosts have an endpoint with its address. The older one has the traffic until it is gone. Then the other
// host has it.
func TestAMovedVMIsReachedOnceItsFormerEndpointIsGone(t *testing.T) {
	one, two, f1, f2 := newSwitch(t)
	a, b, d := one.plug("a", "10.65.0.2"), two.plug("b", "10.65.0.66"), two.plug("d", "10.65.0.67")
	f2.awaitEnforced("cali-d")
	one.awaitLearned("10.65.0.64/26 via 198.51.100.2\n")
	awaitReaches(t, a, "10.65.0.66")

	c := one.vm("c", "10.65.0.66")
	c.Echo(port)
	two.age("shop", "host2-libvirt-b-eth0")
	one.place("c", "10.65.0.66")
	f1.awaitProblem("WorkloadEndpoint(shop/host1-libvirt-c-eth0)", "10.65.0.66", "Node(host2)", "traffic goes there")
	f2.awaitProblem("WorkloadEndpoint(shop/host2-libvirt-b-eth0)", "10.65.0.66", "Node(host1)", "traffic comes here")
	two.awaitLearned("10.65.0.0/26 via 198.51.100.1\n") // and no route to c
	if !a.Reaches("udp", netip.MustParseAddr("10.65.0.66"), port) {
		t.Error("the older endpoint is not reached")
	}

	two.delete("WorkloadEndpoint", "shop", "host2-libvirt-b-eth0")
	b.Unplug()
	two.awaitLearned("10.65.0.0/26 via 198.51.100.1\n10.65.0.66/32 via 198.51.100.1\n")
	awaitReaches(t, d, "10.65.0.66")
	awaitReaches(t, a, "10.65.0.66")
	awaitReaches(t, c, "10.65.0.67")
	f1.await(quietWithoutSessions)
	f2.await(quietWithoutSessions)
}

// age makes an endpoint a day older than it is.
func (l *site) age(namespace, name string) {
	l.Helper()
	key := api.Key{Kind: api.KindWorkloadEndpoint, Namespace: namespace, Name: name}
	stored, err := l.store.Get(context.Background(), key)
	must(l, err)
	w := stored.(*api.WorkloadEndpoint)
	w.CreationTimestamp.Time = w.CreationTimestamp.Add(-24 * time.Hour)
	_, err = l.store.Update(context.Background(), w)
	must(l, err)
}
