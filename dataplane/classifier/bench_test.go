package classifier

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/classifier/classifiertest"
)

// fleet is a state with some number of policies and rules in each, which are about nets, sets or ports of their own, and
// with endpoints that have all these policies.
func fleet(policies, rules, endpoints int) *calc.State {
	s := &calc.State{
		Tiers:     map[string]calc.Tier{"default": {Name: "default", Default: api.Deny}},
		Policies:  map[calc.PolicyID]calc.Policy{},
		Sets:      map[calc.SetID]calc.Members{},
		Endpoints: map[calc.EndpointID]calc.Endpoint{},
	}
	for i := range 100 {
		m := calc.Members{}
		for j := range 20 {
			m[netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 16, byte(i), byte(j)}), 32)] = struct{}{}
		}
		s.Sets[calc.SetID(fmt.Sprint("set-", i))] = m
	}
	var ids []calc.PolicyID
	for i := range policies {
		p := calc.Policy{
			ID:    calc.PolicyID{Kind: "GlobalNetworkPolicy", Name: fmt.Sprintf("policy-%05d", i)},
			Tier:  "default",
			Order: calc.Order{Value: float64(i), Set: true},
		}
		for j := range rules {
			p.Ingress = append(p.Ingress, fleetRule(i*rules+j))
		}
		s.Policies[p.ID] = p
		ids = append(ids, p.ID)
	}
	for i := range endpoints {
		e := calc.Endpoint{ID: calc.EndpointID{Kind: "WorkloadEndpoint", Name: fmt.Sprint("endpoint-", i)}}
		e.Policies[calc.Normal][calc.Ingress] = []calc.TierPolicies{{Tier: "default", Policies: ids}}
		s.Endpoints[e.ID] = e
	}
	return s
}

func fleetRule(n int) calc.Rule {
	r := calc.Rule{Action: api.Allow, V4: true, V6: true, Protocol: 6}
	switch n % 3 {
	case 0:
		r.V6 = false
		r.Source.Nets = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 8), byte(n), 0}), 24)}
	case 1:
		r.Source.Set = calc.SetID(fmt.Sprint("set-", n%100))
	case 2:
		r.Destination.Set = calc.SetID(fmt.Sprint("set-", n%100))
	}
	port := uint16(1024 + n%2000)
	r.Destination.Ports = []calc.PortRange{{First: port, Last: port}}
	return r
}

var large = Sizes{Blocks: 6, Vectors: 40000, Chunks: 60000, Hosts: 100000, Nets: 100000}

func benchNode(b *testing.B, s *calc.State) *node {
	n := newNode(b, large)
	n.become(b, s)
	return n
}

func BenchmarkBuild10000Rules(b *testing.B) {
	for _, shape := range []struct{ policies, rules int }{{10, 1000}, {10000, 1}} {
		b.Run(fmt.Sprintf("policies=%d", shape.policies), func(b *testing.B) {
			whole := classifiertest.Whole(fleet(shape.policies, shape.rules, 1000))
			for b.Loop() {
				b.StopTimer()
				n := newNode(b, large)
				b.StartTimer()
				if _, err := n.Apply(whole); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAllRulesNew(b *testing.B) {
	s := fleet(10, 1000, 1000)
	n := benchNode(b, s)
	deltas := [2]calc.Delta{{Policies: map[calc.PolicyID]calc.Policy{}}, {Policies: map[calc.PolicyID]calc.Policy{}}}
	for id, p := range s.Policies {
		deltas[1].Policies[id] = p
		q := p
		q.Ingress = nil
		for i := range p.Ingress {
			r := fleetRule(i*7 + 5)
			r.Action = api.Deny
			q.Ingress = append(q.Ingress, r)
		}
		deltas[0].Policies[id] = q
	}
	i := 0
	for b.Loop() {
		commit, err := n.Apply(&deltas[i%2])
		if err != nil {
			b.Fatal(err)
		}
		n.flip(commit)
		b.StopTimer()
		_ = n.Reuse(n.Sweep())
		b.StartTimer()
		i++
	}
}

// One rule of a policy of 1,000 changes; every endpoint gets another mask.
func BenchmarkOneRuleChanges(b *testing.B) {
	for _, policies := range []int{10, 50} {
		b.Run(fmt.Sprintf("rules=%d", policies*1000), func(b *testing.B) {
			s := fleet(policies, 1000, 1000)
			sizes, err := SizesFor(s)
			if err != nil {
				b.Fatal(err)
			}
			n := newNode(b, sizes)
			n.become(b, s)
			i := 0
			for b.Loop() {
				p := s.Policies[policyID("policy-00005")]
				p.Ingress = append([]calc.Rule(nil), p.Ingress...)
				p.Ingress[500].Destination.Ports = []calc.PortRange{{First: uint16(i), Last: uint16(i)}}
				i++
				commit, err := n.Apply(&calc.Delta{Policies: map[calc.PolicyID]calc.Policy{p.ID: p}})
				if err != nil {
					b.Fatal(err)
				}
				if len(commit.Endpoints) != 1000 {
					b.Fatal(len(commit.Endpoints))
				}
				b.StopTimer()
				_ = n.Reuse(n.Sweep())
				b.StartTimer()
			}
		})
	}
}

// All rules of a policy move by one place.
func BenchmarkRuleInsertedInFront(b *testing.B) {
	s := fleet(10, 1000, 1000)
	n := benchNode(b, s)
	id := calc.PolicyID{Kind: "GlobalNetworkPolicy", Name: "policy-00005"}
	with := s.Policies[id]
	with.Ingress = append([]calc.Rule{fleetRule(7)}, with.Ingress...)
	i := 0
	for b.Loop() {
		p := s.Policies[id]
		if i++; i%2 == 1 {
			p = with
		}
		if _, err := n.Apply(&calc.Delta{Policies: map[calc.PolicyID]calc.Policy{id: p}}); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		_ = n.Reuse(n.Sweep())
		b.StartTimer()
	}
}

// Each endpoint has policies of its own, and so a mask of its own that changes.
func BenchmarkOneRuleChangesWithMasksOfTheirOwn(b *testing.B) {
	s := fleet(1000, 10, 1000)
	all := slices.SortedFunc(maps.Keys(s.Policies), func(x, y calc.PolicyID) int { return strings.Compare(x.Name, y.Name) })
	i := 0
	for id, e := range s.Endpoints {
		e.Policies[calc.Normal][calc.Ingress] = []calc.TierPolicies{
			{Tier: "default", Policies: append([]calc.PolicyID{all[0]}, all[1+i%900:][:99]...)},
		}
		s.Endpoints[id] = e
		i++
	}
	n := benchNode(b, s)
	i = 0
	for b.Loop() {
		p := s.Policies[all[0]]
		p.Ingress = append([]calc.Rule(nil), p.Ingress...)
		p.Ingress[5].Destination.Ports = []calc.PortRange{{First: uint16(i), Last: uint16(i)}}
		i++
		commit, err := n.Apply(&calc.Delta{Policies: map[calc.PolicyID]calc.Policy{all[0]: p}})
		if err != nil {
			b.Fatal(err)
		}
		if len(commit.Endpoints) != 1000 {
			b.Fatal(len(commit.Endpoints))
		}
		b.StopTimer()
		_ = n.Reuse(n.Sweep())
		b.StartTimer()
	}
}

// Ranges that overlap everywhere are the worst case of the line of services.
func BenchmarkWideRanges(b *testing.B) {
	for _, rules := range []int{100, 1000, 2000} {
		b.Run(fmt.Sprintf("rules=%d", rules), func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 1))
			s := fleet(1, rules, 1)
			p := s.Policies[calc.PolicyID{Kind: "GlobalNetworkPolicy", Name: "policy-00000"}]
			for i := range p.Ingress {
				x, y := uint16(r.Uint32()), uint16(r.Uint32())
				p.Ingress[i].Destination.Ports = []calc.PortRange{{First: min(x, y), Last: max(x, y)}}
			}
			whole := classifiertest.Whole(s)
			for b.Loop() {
				b.StopTimer()
				n := newNode(b, large)
				b.StartTimer()
				if _, err := n.Apply(whole); err != nil {
					b.Fatal(err)
				}
				_, use := n.Use()
				b.ReportMetric(float64(use.Vectors), "vectors")
				b.ReportMetric(float64(use.Chunks), "chunks")
			}
		})
	}
}

func BenchmarkBuild50000Rules(b *testing.B) {
	s := fleet(50, 1000, 200)
	sizes, err := SizesFor(s)
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("%+v", sizes)
	whole := classifiertest.Whole(s)
	for b.Loop() {
		b.StopTimer()
		n := newNode(b, sizes)
		b.StartTimer()
		if _, err := n.Apply(whole); err != nil {
			b.Fatal(err)
		}
	}
}

// An endpoint comes and goes; it has the policies of others.
func BenchmarkEndpointAppears(b *testing.B) {
	s := fleet(100, 10, 1000)
	n := benchNode(b, s)
	e := s.Endpoints[calc.EndpointID{Kind: "WorkloadEndpoint", Name: "endpoint-1"}]
	e.ID.Name = "new"
	deltas := [2]*calc.Delta{
		{Endpoints: map[calc.EndpointID]calc.Endpoint{e.ID: e}},
		{EndpointsGone: []calc.EndpointID{e.ID}},
	}
	i := 0
	for b.Loop() {
		if _, err := n.Apply(deltas[i%2]); err != nil {
			b.Fatal(err)
		}
		n.Sweep()
		i++
	}
}

func BenchmarkMemberJoins(b *testing.B) {
	n := benchNode(b, fleet(10, 1000, 1))
	member := []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}
	deltas := [2]*calc.Delta{
		{Sets: map[calc.SetID]calc.SetDelta{"set-1": {Added: member}}},
		{Sets: map[calc.SetID]calc.SetDelta{"set-1": {Removed: member}}},
	}
	i := 0
	for b.Loop() {
		if _, err := n.Apply(deltas[i%2]); err != nil {
			b.Fatal(err)
		}
		n.Sweep()
		i++
	}
}

// An endpoint's labels change: its address joins a set that rules of all endpoints are about, and it gets other policies.
func BenchmarkEndpointJoinsASetAndChangesPolicies(b *testing.B) {
	for _, policies := range []int{10, 50} {
		b.Run(fmt.Sprintf("rules=%d", policies*1000), func(b *testing.B) {
			s := fleet(policies, 1000, 1000)
			sizes, err := SizesFor(s)
			if err != nil {
				b.Fatal(err)
			}
			n := newNode(b, sizes)
			n.become(b, s)
			member := []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}
			e := s.Endpoints[calc.EndpointID{Kind: "WorkloadEndpoint", Name: "endpoint-1"}]
			other := e
			other.Policies[calc.Normal][calc.Ingress] = []calc.TierPolicies{
				{Tier: "default", Policies: e.Policies[calc.Normal][calc.Ingress][0].Policies[1:]}}
			deltas := [2]*calc.Delta{
				{Sets: map[calc.SetID]calc.SetDelta{"set-1": {Added: member}},
					Endpoints: map[calc.EndpointID]calc.Endpoint{e.ID: other}},
				{Sets: map[calc.SetID]calc.SetDelta{"set-1": {Removed: member}},
					Endpoints: map[calc.EndpointID]calc.Endpoint{e.ID: e}},
			}
			i := 0
			for b.Loop() {
				commit, err := n.Apply(deltas[i%2])
				if err != nil || len(commit.Endpoints) != 1000 {
					b.Fatal(err, len(commit.Endpoints))
				}
				b.StopTimer()
				_ = n.Reuse(n.Sweep())
				b.StartTimer()
				i++
			}
		})
	}
}

func BenchmarkLookup(b *testing.B) {
	for _, rules := range []int{10, 100, 1000, 10000} {
		b.Run(fmt.Sprintf("rules=%d", rules), func(b *testing.B) {
			s := fleet(1, rules, 1)
			n := benchNode(b, s)
			v := n.view()
			var mask uint32
			for _, m := range n.entries {
				mask = m.Mask[0]
			}
			p := calc.Packet{
				Source: netip.MustParseAddr("203.0.113.1"), Destination: netip.MustParseAddr("203.0.113.2"),
				Protocol: 6, DestinationPort: 1024,
			}
			for b.Loop() {
				if _, ok := v.Lookup(mask, p); !ok {
					b.Fatal("nothing matched")
				}
			}
		})
	}
}

func BenchmarkSet250000Members(b *testing.B) {
	s := fleet(10, 100, 1)
	m := s.Sets["set-1"]
	for i := range 250000 {
		m[netip.PrefixFrom(netip.AddrFrom4([4]byte{100, byte(i >> 16), byte(i >> 8), byte(i)}), 32)] = struct{}{}
	}
	whole := classifiertest.Whole(s)
	sizes := large
	sizes.Hosts = 1 << 19
	for b.Loop() {
		n := newNode(b, sizes)
		if _, err := n.Apply(whole); err != nil {
			b.Fatal(err)
		}
	}
}
