package bgp

import (
	"maps"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/margay-project/margay/calc"
)

// vmPeer is the session with a workload.
func vmPeer() map[string]calc.Peer {
	return map[string]calc.Peer{"Local_Workload_10_65_0_2": {
		Object: "vms", Workload: "shop/a", Interface: "cali1", Address: addr("10.65.0.2"), AS: 65010, Source: addr("169.254.0.179"), Passive: true,
	}}
}

// A workload is waited for until it has told its routes once. From then on its routes go with its session, also if no other session is up.
func TestAWorkloadHoldsUpTheSweepOnlyOnce(t *testing.T) {
	t.Parallel()
	s := newSpeaker(quiet(), Options{}, newFake())
	vm, want := addr("10.65.0.2"), node()
	want.Peers = vmPeer()
	apply := func() {
		t.Helper()
		if err := s.Apply(want); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(why string, want bool) {
		t.Helper()
		if _, complete := s.TakeLearned(); complete != want {
			t.Errorf("%s: complete is %v, want %v", why, complete, want)
		}
	}
	apply()
	expect("the workload has not connected", false)
	s.observe(event{Address: vm, Up: true})
	expect("it has connected", false)
	s.learned.end([]ending{{vm, true}})
	expect("it has told", true)
	s.observe(event{Address: vm, Up: false})
	expect("it has gone", true)

	routers := node().Peers
	want.Peers = maps.Clone(routers)
	maps.Copy(want.Peers, vmPeer())
	apply()
	expect("routers have told nothing", false)
	for _, p := range routers {
		s.observe(event{Address: p.Address, Up: true})
		s.learned.end([]ending{{p.Address, p.Address.Is4()}})
	}
	expect("the routers have told", true)
}

// A workload that never connects is waited for no longer than the longest restart time.
func TestAWorkloadThatNeverConnects(t *testing.T) {
	t.Parallel()
	s, want := newSpeaker(quiet(), Options{}, newFake()), node()
	want.Peers = vmPeer()
	if err := s.Apply(want); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	s.deadline = time.Now().Add(-time.Second)
	s.mu.Unlock()
	if _, complete := s.TakeLearned(); !complete {
		t.Error("not complete after the restart time")
	}
}

// Routes of workloads need a rule that accepts them, and lead to the workload. Only they are passed on by a node that reflects none.
func TestRoutesOfWorkloadsAreRejectedByDefault(t *testing.T) {
	t.Parallel()
	rule := calc.RouteRule{Within: prefix("10.123.0.0/16"), Shortest: 16, Longest: 32, Accept: true}
	peers := []filtered{{peer: addr("10.0.0.9")}, {peer: addr("10.65.0.2"), device: "cali1", filters: &calc.RouteFilters{Import: []calc.RouteRule{rule}}}}
	var got []string
	for _, s := range importPolicy(peers, 7, false, nil) {
		got = append(got, s.String())
	}
	want := []string{
		"own : accept", "marked : unmark", "peer [10.65.0.2] : set mark 7", "peer [10.65.0.2] : next hop Peer",
		"peer [10.65.0.2] 10.123.0.0/16 16-32 : accept", "peer [10.65.0.2] : reject",
		"0.0.0.0/0 0-0 : reject", "::/0 0-0 : reject", ": accept",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A rule about an interface or a metric accepts a route of a workload only if it is about every one, and rejects it if it may be about one.
func TestExportRulesAboutInterfacesOfWorkloads(t *testing.T) {
	t.Parallel()
	peers := []filtered{{peer: addr("10.0.0.9")}, {peer: addr("10.65.0.2"), device: "cali1"}, {peer: addr("10.65.0.3"), device: "tap2"}}
	for _, c := range []struct {
		rule calc.RouteRule
		want bool
	}{
		{calc.RouteRule{Accept: true}, true},
		{calc.RouteRule{}, true},
		{calc.RouteRule{Interface: "cali*", Accept: true}, false},
		{calc.RouteRule{Interface: "cali*"}, true},
		{calc.RouteRule{Interface: "*", Accept: true}, true},
		{calc.RouteRule{Interface: "eth0"}, false},
		{calc.RouteRule{Priority: 1024, Accept: true}, false},
		{calc.RouteRule{Priority: 1024}, true},
	} {
		if got := aboutWorkloads(c.rule, peers); got != c.want {
			t.Errorf("%v: %v, want %v", c.rule, got, c.want)
		}
	}
}

// A next hop on the interface of a workload is told from that of any other peer.
func TestNextHopsOfWorkloads(t *testing.T) {
	t.Parallel()
	var d devices
	for _, text := range []string{"10.65.0.2", "fd00:65::2"} {
		vm := netip.MustParseAddr(text)
		if hop, is := d.nextHop(vm); is {
			t.Errorf("%v is no workload yet, but has the next hop %v", vm, hop)
		}
		d.set(vm, "cali1")
		hop, is := d.nextHop(vm)
		if !is || hop == vm || hop.Zone() != "cali1" || calc.HopText(hop) != text+"%cali1" {
			t.Errorf("%v has the next hop %v", vm, hop)
		}
		d.set(vm, "")
		if _, is := d.nextHop(vm); is {
			t.Errorf("%v is no workload any more", vm)
		}
	}
}
