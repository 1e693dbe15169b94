package calc

import (
	"net/netip"
	"strings"

	"github.com/margay-project/margay/api"
)

// mesh adds the sessions with all other nodes, one for each family in which both nodes have an address. A BGPPeer for the same
// address wins, also one that cannot have a session: it may ask for a password that the mesh does not have. Nodes that reflect routes are
// left out: they have their peers by BGPPeer, as in Calico.
func (r *bgpReader) mesh() {
	own := named[api.Node](r.objects, api.KindNode, r.node)
	if enabled := r.def.NodeToNodeMeshEnabled; enabled != nil && !*enabled || own == nil || reflects(own) {
		return
	}
	password, err := readPassword(r.def.NodeMeshPassword)
	if err != nil {
		r.note(api.Key{Kind: api.KindBGPConfiguration, Name: "default"}, "nodeMeshPassword: %v; until then there is no session with another node", err)
		return
	}
	explicit := map[netip.Addr]bool{}
	for _, p := range r.bgp.Peers {
		explicit[p.Address] = true
	}
	nodes, keys := valid[api.Node](r.objects, api.KindNode)
	for i, n := range nodes {
		if keys[i].Name == r.node || n.Spec.BGP == nil || reflects(n) {
			continue
		}
		for _, ends := range r.sharedFamilies(n) {
			if explicit[ends.peer] || r.refused[ends.peer] != "" {
				continue
			}
			p := r.meshPeer(keys[i].Name, n, ends.own, ends.peer)
			p.Password = password
			r.bgp.Peers["Mesh_"+dashed(p.Address)] = p
		}
	}
}

// ends are the addresses of this node and of another one, of the same family.
type ends struct{ own, peer netip.Addr }

// sharedFamilies returns the ends for each family in which both nodes have an address.
func (r *bgpReader) sharedFamilies(n *api.Node) (list []ends) {
	if n.Spec.BGP == nil {
		return nil
	}
	for _, family := range [...]struct {
		own  netip.Prefix
		peer string
	}{{r.bgp.V4, n.Spec.BGP.IPv4Address}, {r.bgp.V6, n.Spec.BGP.IPv6Address}} {
		peer, err := api.ParseAddrNet(family.peer)
		if err == nil && family.own.IsValid() && peer.Addr() != family.own.Addr() {
			list = append(list, ends{family.own.Addr(), peer.Addr()})
		}
	}
	return list
}

func reflects(n *api.Node) bool { return n.Spec.BGP != nil && n.Spec.BGP.RouteReflectorClusterID != "" }

// nodePeer is the session with another node, between two addresses of one family.
func (r *bgpReader) nodePeer(name string, n *api.Node, own, peer netip.Addr) Peer {
	p := Peer{
		Node: name, Address: peer, Port: r.listenPort(name), AS: r.globalAS(), Source: own, RestartTime: defaultRestartTime,
		Passive: isPassive(own, peer), MaxPrefixes: defaultMaxPrefixes,
	}
	if as := n.Spec.BGP.ASNumber; as != nil {
		p.AS = uint32(*as)
	}
	return p
}

func (r *bgpReader) meshPeer(name string, n *api.Node, own, peer netip.Addr) Peer {
	p := r.nodePeer(name, n, own, peer)
	if t := r.def.NodeMeshMaxRestartTime; t != nil {
		p.RestartTime = t.Duration
	}
	return p
}

// isPassive says which of two nodes waits for the other to connect: the one with the smaller address, compared as text. Calico's
// nodes have this rule, and both ends must have the same one, otherwise both may wait. If both connected, GoBGP v3 could take a
// minute to settle on one connection after a restart.
func isPassive(own, peer netip.Addr) bool { return peer.String() > own.String() }

// dashed is an address as it stands in the name of a session.
func dashed(a netip.Addr) string { return strings.NewReplacer(".", "_", ":", "_").Replace(a.String()) }
