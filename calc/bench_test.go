package calc

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"github.com/margay-project/margay/api"
)

// These benchmarks have the shapes by which the reference implementation measures its own calculation.

const benchNode = "localhost"

// taggedEndpoint is the n-th of many workload endpoints. It has a marker, and labels that one in 10, 11, 20, 30 and 40 shares.
func taggedEndpoint(node string, n int) api.Update {
	address := netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
	labels := map[string]string{markerOf(n): "true"}
	for _, k := range []int{10, 11, 20, 30, 40} {
		labels[fmt.Sprintf("one-in-%d", k)] = fmt.Sprintf("value-%d", n%k)
	}
	w := &api.WorkloadEndpoint{
		Metadata: api.Metadata{Name: fmt.Sprintf("%s-k8s-wep--%d-eth0", node, n), Namespace: "default", Labels: labels},
		Spec: api.WorkloadEndpointSpec{
			Orchestrator: "k8s", Node: node, InterfaceName: fmt.Sprintf("cali%d", n), IPNetworks: []string{address.String() + "/32"},
			Profiles: []string{fmt.Sprintf("kns.namespace-%d", n%100)},
		},
	}
	return unshared(w, "WorkloadEndpoint")
}

func markerOf(n int) string { return fmt.Sprintf("marker-%d", n%31) }

// unshared gives an object strings of its own, as if it had been decoded.
func unshared(o api.Object, kind string) api.Update {
	text, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	fresh, _ := api.New(kind)
	if err := json.Unmarshal(text, fresh); err != nil {
		panic(err)
	}
	fresh.Type().Kind = kind
	return api.Update{Key: api.KeyOf(fresh), Object: fresh}
}

func namespaces(n int) (updates []api.Update) {
	for i := range n {
		updates = append(updates, unshared(&api.Profile{
			Metadata: api.Metadata{Name: fmt.Sprintf("kns.namespace-%d", i)},
			Spec:     api.ProfileSpec{LabelsToApply: map[string]string{"pcns.projectcalico.org/name": fmt.Sprintf("namespace-%d", i)}},
		}, "Profile"))
	}
	return updates
}

func tagPolicy(n int) api.Update {
	p := &api.GlobalNetworkPolicy{
		Metadata: api.Metadata{Name: fmt.Sprintf("policy-%d", n)},
		Spec:     api.GlobalNetworkPolicySpec{Selector: "has(" + markerOf(n) + ")", Types: []api.PolicyType{api.Ingress}},
	}
	for j := range 5 {
		p.Spec.Ingress = append(p.Spec.Ingress, api.Rule{
			Action: api.Allow, Source: api.EntityRule{Selector: "has(" + markerOf(n+j) + ")"},
		})
	}
	return unshared(p, "GlobalNetworkPolicy")
}

// netset is the n-th network set, with 1 to 1,000 addresses from next on, and a policy about it.
func netset(n int, next *uint32) (updates []api.Update) {
	s := &api.GlobalNetworkSet{Metadata: api.Metadata{
		Name: fmt.Sprintf("network-set-%d", n), Labels: map[string]string{"network-set-name": fmt.Sprintf("network-set-%d", n)},
	}}
	for range []int{1, 1, 1, 1, 2, 3, 4, 5, 100, 1000}[n%10] {
		*next++
		a := netip.AddrFrom4([4]byte{11, byte(*next >> 16), byte(*next >> 8), byte(*next)})
		s.Spec.Nets = append(s.Spec.Nets, a.String()+"/32")
	}
	p := &api.GlobalNetworkPolicy{
		Metadata: api.Metadata{Name: fmt.Sprintf("policy-%d", n)},
		Spec: api.GlobalNetworkPolicySpec{Selector: "all()", Types: []api.PolicyType{api.Ingress}, Ingress: []api.Rule{{
			Action: api.Allow, Source: api.EntityRule{Selector: fmt.Sprintf("network-set-name == 'network-set-%d'", n)},
		}}},
	}
	return []api.Update{unshared(s, "GlobalNetworkSet"), unshared(p, "GlobalNetworkPolicy")}
}

func endpoints(remote, local int) (updates []api.Update) {
	for n := range remote {
		updates = append(updates, taggedEndpoint("remotehost", n))
	}
	for n := range local {
		updates = append(updates, taggedEndpoint(benchNode, remote+n))
	}
	return updates
}

func netsetWorld(remote, local, policies int) []api.Update {
	updates := append(namespaces(100), endpoints(remote, 0)...)
	var next uint32
	for n := range policies {
		updates = append(updates, netset(n, &next)...)
	}
	for n := range local {
		updates = append(updates, taggedEndpoint(benchNode, remote+n))
	}
	return updates
}

func tagWorld(remote, local, policies int) (updates []api.Update) {
	for n := range policies {
		updates = append(updates, tagPolicy(n))
	}
	return append(append(updates, namespaces(100)...), endpoints(remote, local)...)
}

func loaded(updates []api.Update) *Graph {
	g := New(benchNode, Facts{})
	for _, u := range updates {
		g.Update(u)
	}
	g.Flush()
	return g
}

func BenchmarkSnapshot(b *testing.B) {
	for _, shape := range []struct {
		name  string
		world func() []api.Update
	}{
		{"250kTagPolicies", func() []api.Update { return tagWorld(250_000, 200, 10_000) }},
		{"10kNetsetPolicies1000", func() []api.Update { return netsetWorld(10_000, 200, 1_000) }},
		{"10kNetsetPolicies10000", func() []api.Update { return netsetWorld(10_000, 200, 10_000) }},
	} {
		b.Run(shape.name, func(b *testing.B) {
			updates := shape.world()
			b.ReportAllocs()
			var g *Graph
			b.ResetTimer()
			for range b.N {
				g = loaded(updates)
			}
			b.StopTimer()
			reportHeap(b, updates, g)
		})
	}
}

// reportHeap reports the heap with the updates, and the heap of the graph alone.
func reportHeap(b *testing.B, updates []api.Update, g *Graph) {
	b.ReportMetric(float64(heap())/1e6, "MB-with-input")
	runtime.KeepAlive(updates)
	clear(updates)
	b.ReportMetric(float64(heap())/1e6, "MB-heap")
	runtime.KeepAlive(g)
}

// BenchmarkRemoteEndpoints reports the bytes of one endpoint of another node. It has six labels and is in one set.
func BenchmarkRemoteEndpoints(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			without := loaded(tagWorld(0, 200, 1000))
			base := heap()
			runtime.KeepAlive(without)
			var g *Graph
			for range b.N {
				without, g = nil, nil
				g = loaded(tagWorld(n, 200, 1000))
			}
			b.ReportMetric(float64(heap()-base)/float64(n), "B/endpoint")
			runtime.KeepAlive(g)
		})
	}
}

// heap returns the bytes that are alive after a collection.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkIsolatedCustomers has one endpoint and one policy for each customer; 100 endpoints are local.
func BenchmarkIsolatedCustomers(b *testing.B) {
	for _, c := range []struct {
		name string
		n    int
	}{{"1k", 1_000}, {"10k", 10_000}, {"100k", 100_000}} {
		b.Run(c.name, func(b *testing.B) {
			var updates []api.Update
			for n := range c.n {
				updates = append(updates, customer(n, c.n)...)
			}
			b.ReportAllocs()
			var g *Graph
			b.ResetTimer()
			for range b.N {
				g = loaded(updates)
			}
			b.StopTimer()
			reportHeap(b, updates, g)
		})
	}
}

func customer(n, of int) []api.Update {
	name := fmt.Sprintf("customer-%d", n)
	own := fmt.Sprintf("pcns.projectcalico.org/name == '%s'", name)
	labels := map[string]string{"managed-by": "operator", "tenant-id": fmt.Sprintf("t-%d", n%5000)}
	for i := range 5 {
		labels[fmt.Sprintf("unique-%d", i)] = fmt.Sprintf("%d-%020d", i, n)
	}
	for i := range 4 {
		labels[fmt.Sprintf("binary-%d", i)] = fmt.Sprint(n >> i & 1)
	}
	for i, values := range []int{3, 4, 4, 5} {
		labels[fmt.Sprintf("few-%d", i)] = fmt.Sprint(n % values)
	}
	node := "remotehost"
	if n%(of/100) == 0 {
		node = benchNode
	}
	address := netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
	return []api.Update{
		unshared(&api.GlobalNetworkPolicy{Metadata: api.Metadata{Name: name}, Spec: api.GlobalNetworkPolicySpec{
			Selector: own, Types: []api.PolicyType{api.Ingress, api.Egress},
			Ingress: []api.Rule{{Action: api.Allow, Source: api.EntityRule{Selector: own}}},
			Egress: []api.Rule{
				{Action: api.Allow, Destination: api.EntityRule{Selector: own}},
				{Action: api.Allow, Protocol: &api.Protocol{Name: "UDP"}, Destination: api.EntityRule{
					Nets: []string{"10.96.0.10/32"}, Ports: []api.Port{{First: 53, Last: 53}},
				}},
			},
		}}, "GlobalNetworkPolicy"),
		unshared(&api.Profile{Metadata: api.Metadata{Name: "kns." + name}, Spec: api.ProfileSpec{LabelsToApply: map[string]string{
			"pcns.projectcalico.org/name": name, "pcns.id": fmt.Sprintf("%020d", n), "pcns.production": fmt.Sprint(n%2 == 0),
		}}}, "Profile"),
		unshared(&api.WorkloadEndpoint{
			Metadata: api.Metadata{Name: fmt.Sprintf("%s-k8s-%s-eth0", node, name), Namespace: name, Labels: labels},
			Spec: api.WorkloadEndpointSpec{
				Orchestrator: "k8s", Node: node, InterfaceName: fmt.Sprintf("cali%d", n), IPNetworks: []string{address.String()},
				Profiles: []string{"kns." + name},
			},
		}, "WorkloadEndpoint"),
	}
}

// BenchmarkEndpointUpdate changes a label of an endpoint, so that another one of many selectors matches it. All selectors begin alike.
func BenchmarkEndpointUpdate(b *testing.B) {
	for _, selectors := range []int{1000, 10000, 100000} {
		b.Run(fmt.Sprintf("%dSelectors", selectors), func(b *testing.B) {
			updates := endpoints(0, 1)
			for n := range selectors {
				updates = append(updates, api.Update{
					Key: api.Key{Kind: "GlobalNetworkPolicy", Name: fmt.Sprint("p", n)},
					Object: &api.GlobalNetworkPolicy{Spec: api.GlobalNetworkPolicySpec{Ingress: []api.Rule{{Action: api.Allow,
						Source: api.EntityRule{Selector: fmt.Sprintf("alpha == 'beta' && has(ipset-%d)", n)}}}}},
				})
			}
			g := loaded(updates)
			changed := []api.Update{markedEndpoint(1), markedEndpoint(1)}
			for i := range changed {
				changed[i].Object.Meta().Labels = map[string]string{"alpha": "beta", fmt.Sprint("ipset-", i): "true"}
			}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n++
				g.Update(changed[n%2])
				if g.Flush().Empty() {
					b.Fatal("nothing changed")
				}
			}
		})
	}
}

// BenchmarkPolicyUpdate changes one rule of one of many policies, which all select 1,000 local endpoints.
func BenchmarkPolicyUpdate(b *testing.B) {
	for _, shape := range []struct {
		name            string
		policies, rules int
	}{{"10000Policies", 10_000, 1}, {"100000Policies", 100_000, 1}, {"10Policies1000Rules", 10, 1000}, {"100Policies1000Rules", 100, 1000}} {
		b.Run(shape.name, func(b *testing.B) {
			updates := endpoints(0, 1000)
			for n := range shape.policies {
				updates = append(updates, listPolicy(n, shape.rules, 0))
			}
			g := loaded(updates)
			changed := []api.Update{listPolicy(3, shape.rules, 1), listPolicy(3, shape.rules, 2)}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n++
				g.Update(changed[n%2])
				if g.Flush().Empty() {
					b.Fatal("nothing changed")
				}
			}
		})
	}
}

// listPolicy selects everything, and has rules with one net each. changed is part of one of these nets.
func listPolicy(n, rules, changed int) api.Update {
	p := &api.GlobalNetworkPolicy{Spec: api.GlobalNetworkPolicySpec{Selector: "all()"}}
	for i := range rules {
		p.Spec.Ingress = append(p.Spec.Ingress, api.Rule{Action: api.Allow, Source: api.EntityRule{
			Nets: []string{fmt.Sprintf("10.%d.%d.%d/32", n&255, i>>8, i&255)},
		}})
	}
	p.Spec.Ingress[rules/2].Source.Nets[0] = fmt.Sprintf("11.0.%d.%d/32", changed>>8&255, changed&255)
	return api.Update{Key: api.Key{Kind: "GlobalNetworkPolicy", Name: fmt.Sprint("p", n)}, Object: p}
}

// BenchmarkSetMember lets one endpoint join and leave a set.
func BenchmarkSetMember(b *testing.B) {
	for _, size := range []int{10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			var updates []api.Update
			for n := range size {
				updates = append(updates, markedEndpoint(n))
			}
			updates = append(updates, taggedEndpoint(benchNode, 0), tagPolicy(0))
			g := loaded(updates)
			updates = nil
			join := markedEndpoint(size)
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n++
				u := join
				if n%2 == 0 {
					u.Object = nil
				}
				g.Update(u)
				if g.Flush().Empty() {
					b.Fatal("nothing changed")
				}
			}
		})
	}
}

// markedEndpoint is a remote endpoint with the first marker.
func markedEndpoint(n int) api.Update {
	address := netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
	w := &api.WorkloadEndpoint{
		Metadata: api.Metadata{Name: fmt.Sprintf("remotehost-k8s-marked--%d-eth0", n), Namespace: "default",
			Labels: map[string]string{markerOf(0): "true"}},
		Spec: api.WorkloadEndpointSpec{Orchestrator: "k8s", Node: "remotehost", InterfaceName: "cali1", IPNetworks: []string{address.String()}},
	}
	return api.Update{Key: api.Key{Kind: "WorkloadEndpoint", Namespace: "default", Name: w.Name}, Object: w}
}
