package calc

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/margay-project/margay/api"
)

var seed = flag.Uint64("seed", 0, "seed of the random histories; 0: a new one each time")

// A history is any sequence of updates, in batches of any size, also with duplicates, deletions of objects that do not exist, and
// re-creations. After any history the deltas add up to the State that Compute returns, and a flush without updates changes nothing.
func TestDeltasAddUpToTheStateOfCompute(t *testing.T) {
	t.Parallel()
	first := *seed
	if first == 0 {
		first = uint64(time.Now().UnixNano())
	}
	histories, steps := 100, 60
	if *seed != 0 {
		histories = 1
	}
	flushes := 0
	for i := range histories {
		n, ok := playHistory(t, first+uint64(i), steps)
		if flushes += n; !ok {
			t.Fatalf("run again with -seed=%d", first+uint64(i))
		}
	}
	t.Logf("%d histories, %d flushes compared, seed %d", histories, flushes, first)
}

func playHistory(t *testing.T, seed uint64, steps int) (flushes int, ok bool) {
	w := world{rand.New(rand.NewPCG(seed, 1))}
	facts := w.facts()
	g, folded, history := New("n1", facts), &State{}, []api.Update(nil)
	for range steps {
		for range w.IntN(6) {
			u := w.update()
			history = append(history, u)
			g.Update(u)
		}
		if w.IntN(20) == 0 {
			facts = w.facts()
			g.SetFacts(facts)
		}
		if w.IntN(3) == 0 {
			continue
		}
		before, frozen := folded.Clone(), folded.Text()
		folded.Fold(g.Flush())
		flushes++
		if flushes%10 == 0 && before.Text() != frozen {
			t.Errorf("folding into a state changed its clone")
			return flushes, false
		}
		want := Compute("n1", facts, history)
		if diff := differences(want, folded, flushes%10 == 0); diff != "" {
			t.Errorf("after %d updates, the last of %v: the folded deltas (+) differ from Compute (-):\n%s",
				len(history), history[max(0, len(history)-1)].Key, diff)
			return flushes, false
		}
		if again := g.Flush(); !again.Empty() {
			t.Errorf("a flush without updates says %+v", again)
			return flushes, false
		}
	}
	rebuilt := &State{}
	rebuilt.Fold(Diff(nil, folded))
	if diff := differences(folded, rebuilt, true); diff != "" {
		t.Errorf("Diff and Fold do not agree:\n%s", diff)
		return flushes, false
	}
	return flushes, true
}

// differences compares by Diff, which is fast, or independently of this package.
func differences(want, got *State, independently bool) string {
	if !independently && Diff(want, got).Empty() && Diff(got, want).Empty() {
		return ""
	}
	return cmp.Diff(want, got, cmpopts.EquateEmpty(),
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }))
}

// world makes random objects with few names, labels and addresses, so that they refer to each other.
type world struct{ *rand.Rand }

func pick[T any](w world, from ...T) T { return from[w.IntN(len(from))] }

// some picks up to three.
func some[T any](w world, from ...T) (picked []T) {
	for range w.IntN(4) {
		picked = append(picked, pick(w, from...))
	}
	return picked
}

func (w world) maybe() bool { return w.IntN(2) == 0 }

func maybe[T any](w world, make func() T) (zero T) {
	if w.maybe() {
		return make()
	}
	return zero
}

func ptr[T any](v T) *T { return &v }

func (w world) facts() Facts {
	f := Facts{Addresses: some(w, netip.MustParseAddr("10.70.0.1"), netip.MustParseAddr("10.65.0.5")), Uplinks: map[string]string{}}
	for _, name := range some(w, "eth0", "cali3") {
		f.Uplinks[name] = "carries " + pick(w, "the host's default route", "the traffic to etcd")
	}
	if w.maybe() {
		f.Sessions = []Session{{Remote: netip.MustParseAddr("10.65.0.3"), Port: 2379, Outbound: true, Protocol: 6}}
	}
	if w.maybe() {
		f.Parameters = map[string]string{pick(w, "interfaceprefix", "bpfloglevel", "failsafeoutboundhostports"): pick(w, "tap", "debug", "none")}
	}
	return f
}

func (w world) labels() map[string]string {
	labels := map[string]string{}
	for range w.IntN(4) {
		labels[pick(w, "role", "zone", "env", "pcns.env")] = pick(w, "a", "b", "c")
	}
	return labels
}

func (w world) selector() string {
	term := func() string {
		label := pick(w, "role", "zone", "env", "pcns.env", "projectcalico.org/namespace")
		text := pick(w, "L == 'V'", "L != 'V'", "has(L)", "!has(L)", "L in {'V', 'a'}", "L not in {'V'}", "L starts with 'V'", "all()")
		return strings.NewReplacer("L", label, "V", pick(w, "a", "b", "c", "ns1")).Replace(text)
	}
	switch w.IntN(4) {
	case 0:
		return term() + " && " + term()
	case 1:
		return term() + " || " + term()
	case 2:
		return pick(w, "", "all()", "role ==")
	}
	return term()
}

func (w world) address() string {
	return pick(w, "10.65.0.1", "10.65.0.2", "10.65.0.3", "10.65.0.4/32", "10.65.0.5/32", "10.66.0.9", "fd00::1", "fd00::2/128")
}

// update is a change of any object, also a deletion, a duplicate or an invalid object.
func (w world) update() api.Update {
	o := w.object()
	u := api.Update{Key: api.KeyOf(o), Object: o}
	u.Key.Kind = typeName(o)
	switch b := o.(type) {
	case *api.IPAMBlock:
		u.Key.Name = pick(w, "10.65.0.0-30", "10.65.0.4-30", "10.65.0.5-32", "10.66.0.0-26", "fd00::-122")
		b.CIDR = map[string]string{
			"10.65.0.0-30": "10.65.0.0/30", "10.65.0.4-30": "10.65.0.4/30", "10.65.0.5-32": "10.65.0.5/32",
			"10.66.0.0-26": "10.66.0.0/26", "fd00::-122": "fd00::/122",
		}[u.Key.Name]
	case *api.BlockAffinity:
		u.Key.Namespace = pick(w, "n1", "n1", "n2")
		u.Key.Name = pick(w, "10.65.0.0-30", "10.65.0.4-30", "10.65.0.5-32", "10.66.0.0-26", "fd00::-122")
	}
	switch w.IntN(20) {
	case 0, 1, 2:
		u.Object = nil
	case 3:
		u.Invalid = "something is wrong"
	case 4:
		u.Object, u.Invalid = nil, "nothing can be read"
	}
	return u
}

func typeName(o api.Object) string { return fmt.Sprintf("%T", o)[len("*api."):] }

func (w world) object() api.Object {
	meta := func(names ...string) api.Metadata {
		return api.Metadata{Name: pick(w, names...), Labels: w.labels()}
	}
	switch w.IntN(20) {
	case 16, 17:
		m := meta("p1", "p2", "p3")
		m.Namespace = pick(w, "ns1", "ns2")
		return &api.NetworkPolicy{Metadata: m, Spec: w.namespacedPolicy()}
	case 18:
		m := meta("s1", "s2")
		m.Namespace = pick(w, "ns1", "ns2")
		return &api.NetworkSet{Metadata: m, Spec: api.NetworkSetSpec{Nets: some(w, "10.65.0.0/24", "10.65.0.1", "fd00::/64", "x")}}
	case 19:
		return w.stagedPolicy(meta)
	case 0:
		return &api.Tier{Metadata: meta("default", "t1", "t2"), Spec: api.TierSpec{
			Order: maybe(w, func() *float64 { return ptr(float64(w.IntN(3))) }), DefaultAction: pick(w, nil, new(api.Deny), new(api.Pass)),
		}}
	case 1, 2, 3:
		return &api.GlobalNetworkPolicy{Metadata: meta("p1", "p2", "p3", "p4", "p5", "p6"), Spec: w.policy()}
	case 4, 5:
		return &api.Profile{Metadata: meta("kns.ns1", "kns.ns2", "prof"), Spec: api.ProfileSpec{
			Ingress: w.rules(), Egress: w.rules(), LabelsToApply: w.labels(),
		}}
	case 6:
		return &api.GlobalNetworkSet{Metadata: meta("s1", "s2", "s3"), Spec: api.NetworkSetSpec{
			Nets: some(w, "10.65.0.0/24", "10.65.0.1", "192.0.2.7/24", "fd00::/64", "x"),
		}}
	case 7, 8, 9:
		m := meta("n1-vm-a-eth0", "n1-vm-b-eth0", "n1-vm-c-eth0", "n2-vm-d-eth0")
		m.Namespace = pick(w, "ns1", "ns2")
		return &api.WorkloadEndpoint{Metadata: m, Spec: api.WorkloadEndpointSpec{
			Orchestrator: "vm", Node: pick(w, "n1", "n1", "n1", "n2"), InterfaceName: pick(w, "cali1", "cali2", "cali3", "cali4", ""),
			IPNetworks: some(w, w.address(), w.address(), w.address(), pick(w, "10.65.0.0/24", "10.65.0.2")), MAC: "AA:BB:CC:00:00:01",
			ServiceAccountName: pick(w, "", "bot"), Ports: some(w, w.workloadPort(), w.workloadPort(), w.workloadPort()),
			Profiles: some(w, "kns.ns1", "kns.ns2", "prof", "missing", defaultAllow),
		}}
	case 10:
		return &api.HostEndpoint{Metadata: meta("n1-eth0", "n1-all", "n2-eth0"), Spec: api.HostEndpointSpec{
			Node: pick(w, "n1", "n1", "n2"), InterfaceName: pick(w, "eth0", "*", ""),
			ExpectedIPs: some(w, "10.70.0.1", "fd00:70::1", "?"), Profiles: some(w, "prof", defaultAllow),
			Ports: some(w, api.EndpointPort{Name: "http", Protocol: api.Protocol{Name: "TCP"}, Port: 8080},
				api.EndpointPort{Name: "dns", Protocol: api.Protocol{Number: 17}, Port: 53}),
		}}
	case 11:
		return &api.IPPool{Metadata: meta("pool1", "pool2", "pool3"), Spec: api.IPPoolSpec{
			CIDR: pick(w, "10.65.0.0/16", "10.66.0.0/16", "fd00::/64"), IPIPMode: pick(w, "", "", "", "Always"),
			Disabled: w.IntN(4) == 0, DisableBGPExport: w.IntN(4) == 0, NATOutgoing: w.maybe(),
		}}
	case 12:
		return &api.IPAMBlock{Affinity: pick(w, ptr("host:n1"), ptr("host:n1"), ptr("host:n2"), nil), Deleted: w.IntN(9) == 0}
	case 13:
		return &api.BlockAffinity{State: pick(w, "confirmed", "confirmed", "pending")}
	case 14:
		return w.bgpObject(meta)
	}
	return &api.FelixConfiguration{Metadata: meta("default", "node.n1", "node.n2", "chosen"), Spec: api.FelixConfigurationSpec{
		BPFLogLevel: pick(w, "", "Debug", "loud"), BPFEnabled: pick(w, nil, ptr(false)), NodeSelector: pick(w, "", "role == 'a'"),
		BPFMapSizeConntrack: pick(w, nil, ptr(1000)), FailsafeInboundHostPorts: pick(w, nil, &[]api.ProtoPort{{Protocol: "tcp", Port: 22}}),
	}}
}

func (w world) workloadPort() api.WorkloadPort {
	return api.WorkloadPort{Name: pick(w, "http", "http", "dns", ""), Port: pick[uint16](w, 80, 81, 53, 0),
		Protocol: pick(w, api.Protocol{Name: "TCP"}, api.Protocol{Number: 17}, api.Protocol{Name: "odd"})}
}

func (w world) bgpObject(meta func(...string) api.Metadata) api.Object {
	switch w.IntN(5) {
	case 4:
		return &api.BGPFilter{Metadata: meta("f", "g"), Spec: api.BGPFilterSpec{ImportV4: w.filterRules(), ExportV4: w.filterRules(), ImportV6: w.filterRules()}}
	case 0:
		return &api.Node{Metadata: meta("n1", "n1", "n2"), Spec: api.NodeSpec{BGP: pick(w, nil, &api.NodeBGPSpec{
			IPv4Address: pick(w, "", "10.70.0.1/24", "10.70.0.2"), RouteReflectorClusterID: pick(w, "", "", "1.0.0.1", "1.0.0.2", "x"), ASNumber: pick(w, nil, ptr(api.ASNumber(65001))),
		})}}
	case 1:
		return &api.BGPConfiguration{Metadata: meta("default", "node.n1"), Spec: api.BGPConfigurationSpec{
			ListenPort: pick[uint16](w, 0, 1179), NodeToNodeMeshEnabled: pick(w, nil, ptr(false)),
			Communities:          []api.Community{{Name: "c1", Value: "64512:7"}},
			PrefixAdvertisements: pick(w, nil, []api.PrefixAdvertisement{{CIDR: "10.65.0.0/16", Communities: []string{"c1", "1:2"}}}),
		}}
	case 2:
		return &api.ClusterInformation{Metadata: meta("default"), Spec: api.ClusterInformationSpec{DatastoreReady: pick(w, nil, ptr(false))}}
	}
	return &api.BGPPeer{Metadata: meta("peer1", "peer2", "peer3"), Spec: api.BGPPeerSpec{
		Node: pick(w, "", "", "n1", "n2"), PeerIP: pick(w, "10.70.0.2", "10.65.0.1:1179", "fd00::9", ""), ASNumber: pick[api.ASNumber](w, 0, 64512, 65001),
		Filters: pick(w, nil, nil, []string{"f"}, []string{"g", "f"}), LocalASNumber: pick(w, nil, nil, ptr(api.ASNumber(65001))),
	}}
}

func (w world) filterRules() []api.BGPFilterRule {
	rule := func() api.BGPFilterRule {
		return api.BGPFilterRule{CIDR: pick(w, "", "10.65.0.0/16", "?"), MatchOperator: pick(w, "In", "NotEqual"), PeerType: pick(w, "", "", "eBGP", "iBGP"),
			Interface: pick(w, "", "", "", "cali*"), Priority: pick(w, nil, nil, nil, ptr(1024)), Action: pick(w, "Accept", "Reject")}
	}
	return some(w, rule(), rule())
}

func (w world) policy() api.GlobalNetworkPolicySpec {
	return api.GlobalNetworkPolicySpec{
		Tier: pick(w, "", "t1", "t2"), Order: maybe(w, func() *float64 { return ptr(float64(w.IntN(3))) }),
		Selector: w.selector(), NamespaceSelector: pick(w, "", "", "", "all()", "env == 'a'"),
		ServiceAccountSelector: pick(w, "", "", "", "", "env == 'b'", "all()"),
		Ingress:                w.rules(), Egress: w.rules(), Types: some(w, api.Ingress, api.Egress),
		DoNotTrack: w.IntN(6) == 0, PreDNAT: w.IntN(6) == 0, ApplyOnForward: w.IntN(3) == 0,
	}
}

func (w world) namespacedPolicy() api.NetworkPolicySpec {
	p := w.policy()
	return api.NetworkPolicySpec{Tier: p.Tier, Order: p.Order, Selector: p.Selector, ServiceAccountSelector: p.ServiceAccountSelector,
		Ingress: p.Ingress, Egress: p.Egress, Types: p.Types}
}

func (w world) stagedPolicy(meta func(...string) api.Metadata) api.Object {
	m, action := meta("p1", "p2"), pick(w, api.StagedSet, api.StagedDelete, api.StagedLearn)
	if w.maybe() {
		return &api.StagedGlobalNetworkPolicy{Metadata: m, Spec: api.StagedGlobalNetworkPolicySpec{
			StagedAction: action, GlobalNetworkPolicySpec: w.policy()}}
	}
	m.Namespace = "ns1"
	return &api.StagedNetworkPolicy{Metadata: m, Spec: api.StagedNetworkPolicySpec{
		StagedAction: action, NetworkPolicySpec: w.namespacedPolicy()}}
}

func (w world) rules() (rules []api.Rule) {
	side := func() api.EntityRule {
		return api.EntityRule{
			Nets: some(w, "10.0.0.0/8", "fd00::/8"), Selector: maybe(w, w.selector), NotSelector: pick(w, "", "", w.selector()),
			NamespaceSelector: pick(w, "", "", "", "", "env == 'a'", "all()", "global()"),
			ServiceAccounts:   pick(w, nil, nil, nil, nil, &api.ServiceAccountMatch{Names: []string{"bot"}, Selector: pick(w, "", "env == 'a'")}),
			Ports:             pick(w, nil, nil, []api.Port{{First: 80, Last: 90}}, []api.Port{{Name: "http"}}, []api.Port{{First: 53, Last: 53}, {Name: "dns"}}),
			NotPorts:          pick(w, nil, nil, nil, []api.Port{{First: 80, Last: 80}, {Name: "http"}}),
		}
	}
	count := w.IntN(3)
	if w.IntN(12) == 0 {
		count = 12 // may be too many with Log
	}
	for range count {
		rules = append(rules, api.Rule{
			Action: pick(w, api.Allow, api.Deny, api.Pass, api.Log), Source: maybe(w, side), Destination: maybe(w, side),
			Protocol: pick(w, nil, &api.Protocol{Name: "TCP"}, &api.Protocol{Number: 17}),
		})
	}
	return rules
}
