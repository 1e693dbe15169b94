package calc

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/margay-project/margay/api"
)

// routeWorld makes random objects that routes follow from. There are few addresses, so endpoints of several nodes compete for them.
type routeWorld struct{ world }

func (w routeWorld) update() api.Update {
	o := w.object()
	u := api.Update{Key: api.KeyOf(o), Object: o}
	u.Key.Kind = typeName(o)
	switch b := o.(type) {
	case *api.IPAMBlock:
		cidr := netip.MustParsePrefix(pick(w.world, "10.65.0.0/30", "10.65.0.4/30", "10.65.0.5/32", "10.65.0.0/26", "10.65.0.0/24", "fd00::/122"))
		u.Key.Name = fmt.Sprintf("%v-%d", cidr.Addr(), cidr.Bits())
		b.CIDR = pick(w.world, cidr.String(), cidr.String(), cidr.String(), "10.99.0.0/26")
	case *api.BlockAffinity:
		u.Key.Namespace, u.Key.Name = "n1", pick(w.world, "10.65.0.0-30", "10.65.0.4-30", "10.65.0.5-32", "10.65.0.0-26", "10.65.0.0-24", "fd00::-122")
	}
	switch w.IntN(20) {
	case 0, 1, 2:
		u.Object = nil
	case 3:
		u.Invalid = "something is wrong"
	}
	return u
}

func (w routeWorld) object() api.Object {
	meta := func(names ...string) api.Metadata { return api.Metadata{Name: pick(w.world, names...)} }
	switch w.IntN(13) {
	case 0, 1, 2, 3:
		m := meta("a", "b", "c", "d")
		m.Namespace, m.CreationTimestamp = "ns", pick(w.world, api.Time{}, api.Time{Time: time.Unix(1000, 0)}, api.Time{Time: time.Unix(2000, 0)})
		return &api.WorkloadEndpoint{Metadata: m, Spec: api.WorkloadEndpointSpec{
			Node: pick(w.world, "n1", "n1", "n2", "n3", "n4"), InterfaceName: pick(w.world, "cali1", "cali2", "cali3", ""),
			IPNetworks: some(w.world, "10.65.0.1", "10.65.0.5/32", "10.65.0.70", "10.70.0.3", "fd00::1", pick(w.world, "10.65.0.2", "10.65.0.0/24")),
		}}
	case 4, 5, 6:
		return &api.IPAMBlock{Affinity: pick(w.world, ptr("host:n1"), ptr("host:n2"), ptr("host:n3"), ptr("virtual:x"), nil), Deleted: w.IntN(9) == 0}
	case 7:
		return &api.BlockAffinity{State: pick(w.world, "confirmed", "confirmed", "pending")}
	case 8, 9:
		return &api.Node{Metadata: meta("n1", "n2", "n3"), Spec: api.NodeSpec{BGP: pick(w.world, nil, &api.NodeBGPSpec{
			IPv4Address: pick(w.world, "10.70.0.1/24", "10.70.0.2/24", "10.70.0.3/24", "10.71.0.4/24", "10.70.0.5"),
			IPv6Address: pick(w.world, "", "fd00:70::1/64", "fd00:70::2/64"),
		})}}
	case 10:
		return &api.IPPool{Metadata: meta("pool1", "pool2"), Spec: api.IPPoolSpec{
			CIDR: pick(w.world, "10.65.0.0/16", "fd00::/64"), IPIPMode: pick(w.world, "", "", "Always"), DisableBGPExport: w.IntN(4) == 0,
		}}
	case 11:
		return &api.BGPPeer{Metadata: meta("peer1", "peer2"), Spec: api.BGPPeerSpec{
			PeerIP: pick(w.world, "10.65.0.1", "10.65.0.5", "10.70.0.3:1179", "fd00::1"), ASNumber: 65001,
			ReachableBy: pick(w.world, "", "10.65.0.70", "10.70.0.2", "fd00:70::2"),
		}}
	}
	if w.IntN(4) == 0 {
		return &api.BGPConfiguration{Metadata: meta("default"), Spec: api.BGPConfigurationSpec{
			ProgramClusterRoutes: pick(w.world, nil, ptr("Enabled"), ptr("Disabled")), IPv4NormalRoutePriority: pick(w.world, nil, ptr(1024)),
		}}
	}
	return &api.FelixConfiguration{Metadata: meta("default"), Spec: api.FelixConfigurationSpec{
		ProgramClusterRoutes: pick(w.world, nil, ptr("Enabled"), ptr("EnabledNoEncapOnly"), ptr("Disabled")),
	}}
}

// The routes, paths and problems of Graph are those of Compute after any history of the objects that they follow from.
func TestRoutesAddUpToThoseOfCompute(t *testing.T) {
	t.Parallel()
	first := *seed
	if first == 0 {
		first = uint64(time.Now().UnixNano())
	}
	base := append(clusterWorld(0, 0, 0), node("n1", "10.70.0.1/24"), node("n2", "10.70.0.2/24"), node("n3", "10.70.0.3/24"))
	via, toPeers, contested := 0, 0, 0
	for i := range uint64(60) {
		w := routeWorld{world{rand.New(rand.NewPCG(first+i, 3))}}
		facts := w.facts()
		g, folded, history := New("n1", facts), &State{}, slices.Clone(base)
		for _, u := range base {
			g.Update(u)
		}
		for range 80 {
			for range 1 + w.IntN(4) {
				u := w.update()
				history = append(history, u)
				g.Update(u)
			}
			if w.IntN(20) == 0 {
				facts = w.facts()
				g.SetFacts(facts)
			}
			folded.Fold(g.Flush())
			if diff := differences(Compute("n1", facts, history), folded, false); diff != "" {
				t.Fatalf("run again with -seed=%d: after %d updates Compute (-) and Graph (+) differ:\n%s", first+i, len(history), diff)
			}
			for _, r := range folded.Routes {
				switch r.Kind {
				case ViaNode:
					via++
				case ToPeer:
					toPeers++
				}
			}
			contested += len(g.marks.contested)
		}
	}
	if via == 0 || toPeers == 0 || contested == 0 {
		t.Errorf("%d routes to other nodes, %d to peers and %d contested addresses: the histories test nothing", via, toPeers, contested)
	}
	t.Logf("%d routes to other nodes, %d to peers, %d contested addresses", via, toPeers, contested)
}

// Two nodes that see the same objects agree on the node that has an address.
func TestNodesAgreeOnWhoHasAnAddress(t *testing.T) {
	t.Parallel()
	objects := readObjects(t, "testdata/states/contest.yaml")
	one, two := Compute("n1", Facts{}, objects), Compute("n2", Facts{}, objects)
	for _, text := range []string{"10.65.0.1/32", "10.65.0.65/32", "10.65.0.3/32", "10.65.9.9/32"} {
		p := netip.MustParsePrefix(text)
		here, there := one.Routes[p].Interface != "", two.Routes[p].Interface != ""
		if here == there {
			t.Errorf("%s: route on n1 %+v, on n2 %+v", text, one.Routes[p], two.Routes[p])
		}
	}
}

// clusterWorld is a fleet of nodes with blocks each, and endpoints in blocks of other nodes.
func clusterWorld(nodes, blocks, borrowed int) (updates []api.Update) {
	enabled := "Enabled"
	updates = append(updates,
		unshared(&api.FelixConfiguration{Metadata: api.Metadata{Name: "default"}, Spec: api.FelixConfigurationSpec{ProgramClusterRoutes: &enabled}}, "FelixConfiguration"),
		unshared(&api.IPPool{Metadata: api.Metadata{Name: "vms"}, Spec: api.IPPoolSpec{CIDR: "10.0.0.0/8"}}, "IPPool"))
	for n := range nodes {
		updates = append(updates, node(nodeNamed(n), fmt.Sprintf("172.16.%d.%d/16", n>>8, n&255)))
		for b := range blocks {
			updates = append(updates, clusterBlock(nodes*b+n, nodeNamed(n)))
		}
	}
	for i := range borrowed {
		updates = append(updates, movedEndpoint(i, nodeNamed(1+(i+1)%(nodes-1))))
	}
	return updates
}

func node(name, address string) api.Update {
	return unshared(&api.Node{Metadata: api.Metadata{Name: name}, Spec: api.NodeSpec{BGP: &api.NodeBGPSpec{IPv4Address: address}}}, "Node")
}

func nodeNamed(n int) string {
	if n == 0 {
		return benchNode
	}
	return fmt.Sprintf("node%d", n)
}

func clusterBlock(i int, node string) api.Update {
	cidr := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 10), byte(i >> 2), byte(i << 6)}), 26)
	owner := "host:" + node
	return api.Update{
		Key:    api.Key{Kind: api.KindIPAMBlock, Name: fmt.Sprintf("%v-%d", cidr.Addr(), cidr.Bits())},
		Object: &api.IPAMBlock{CIDR: cidr.String(), Affinity: &owner},
	}
}

// movedEndpoint has an address of the block of another node.
func movedEndpoint(i int, node string) api.Update {
	a := netip.AddrFrom4([4]byte{10, byte(i >> 10), byte(i >> 2), byte(i<<6) | 7})
	return unshared(&api.WorkloadEndpoint{
		Metadata: api.Metadata{Name: fmt.Sprintf("moved-%d", i), Namespace: "ns"},
		Spec:     api.WorkloadEndpointSpec{Node: node, InterfaceName: "cali1", IPNetworks: []string{a.String() + "/32"}},
	}, "WorkloadEndpoint")
}

// 200 nodes with 50 blocks each, and 10,000 endpoints outside of the blocks of their nodes.
func BenchmarkClusterRoutes(b *testing.B) {
	updates := clusterWorld(200, 50, 10000)
	start := func(b *testing.B) *Graph {
		g := New(benchNode, Facts{})
		for _, u := range updates {
			g.Update(u)
		}
		if d := g.Flush(); len(d.Routes) < 19000 {
			b.Fatalf("%d routes", len(d.Routes))
		}
		return g
	}
	b.Run("all", func(b *testing.B) {
		for b.Loop() {
			start(b)
		}
	})
	changes := map[string]func(i int) api.Update{
		"an endpoint moves": func(i int) api.Update { return movedEndpoint(77, nodeNamed(2+i%2)) },
		"a block moves":     func(i int) api.Update { return clusterBlock(77, nodeNamed(2+i%2)) },
		"a node gets another address": func(i int) api.Update {
			return unshared(&api.Node{Metadata: api.Metadata{Name: "node5"}, Spec: api.NodeSpec{BGP: &api.NodeBGPSpec{IPv4Address: fmt.Sprintf("172.16.99.%d/16", 1+i%2)}}}, "Node")
		},
	}
	for name, change := range changes {
		b.Run(name, func(b *testing.B) {
			g := start(b)
			for i := 0; b.Loop(); i++ {
				g.Update(change(i))
				if d := g.Flush(); i > 0 && len(d.Routes) == 0 {
					b.Fatal("no route changes")
				}
			}
		})
	}
}
