package calc

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/api/selector"
)

// workloadPeering is a BGPPeer that selects workloads of this node as peers.
type workloadPeering struct {
	key      api.Key
	workload *selector.Selector
	// The session with an address of the family, but for the workload; nil: there is no session with such an address. If both are nil, the
	// BGPPeer asks for what is not possible. It still decides about its workloads, so no other BGPPeer opens a plainer session.
	v4, v6 *Peer
}

// defaultWorkloadPrefixes is the limit of routes of a workload. It is far less than that of a router: workloads are not trusted.
const defaultWorkloadPrefixes = 1000

// gatewayAddress stands for the host on every workload's interface (dataplane/routes).
var gatewayAddress = netip.AddrFrom4([4]byte{169, 254, 1, 1})

// IsWorkload says whether the peer is a workload of this node.
func (p Peer) IsWorkload() bool { return p.Workload != "" }

// OnInterface returns a next hop that is on the network of an interface. IPv4 addresses have no zone, so an IPv4 address becomes a mapped one
// with the interface as its zone. No peer can send such a next hop.
func OnInterface(next netip.Addr, name string) netip.Addr {
	return netip.AddrFrom16(next.As16()).WithZone(name)
}

// HopText is a next hop for operators.
func HopText(next netip.Addr) string {
	if next.Is4In6() && next.Zone() != "" {
		return next.WithZone("").Unmap().String() + "%" + next.Zone()
	}
	return next.String()
}

// readWorkloadPeering reads a BGPPeer with localWorkloadSelector that is for this node.
func (r *bgpReader) readWorkloadPeering(key api.Key, spec api.BGPPeerSpec) {
	s, err := selector.Parse(spec.LocalWorkloadSelector)
	if err != nil {
		r.note(key, "localWorkloadSelector: %v; there is no session by it: correct it", err)
		return
	}
	w := workloadPeering{key: key, workload: s}
	if why := r.noWorkloadPeering(spec); why != "" {
		r.note(key, "%s", why)
	} else {
		w.v4 = r.workloadPeer(key, spec, r.peeringAddress("localWorkloadPeeringIPV4", r.def.LocalWorkloadPeeringIPV4, 4))
		w.v6 = r.workloadPeer(key, spec, r.peeringAddress("localWorkloadPeeringIPV6", r.def.LocalWorkloadPeeringIPV6, 6))
		r.partly(key, spec)
	}
	r.workloads = append(r.workloads, w)
}

// noWorkloadPeering says why a BGPPeer gets no session with any workload. It is empty if it may have some.
func (r *bgpReader) noWorkloadPeering(spec api.BGPPeerSpec) string {
	switch {
	case impossible(spec) != "":
		return impossible(spec)
	case spec.ASNumber == 0:
		return "has no asNumber, so there is no session with the workloads: give theirs"
	case r.def.LocalWorkloadPeeringIPV4 == "" && r.def.LocalWorkloadPeeringIPV6 == "":
		return "workloads have no address of the node to peer with, so there is no session with them: set localWorkloadPeeringIPV4 or " +
			"localWorkloadPeeringIPV6 in BGPConfiguration default, to an address that nothing else has"
	case r.bgp.ClusterID.IsValid():
		return "this node is a route reflector and would pass on routes of workloads without itself as the next hop, so there is no session with them: " +
			"remove routeReflectorClusterID from the Node, or select other nodes with nodeSelector"
	case r.bgp.BindNodeIP:
		return "bindMode of BGPConfiguration is NodeIP, so nothing listens where workloads connect, and there is no session with them: remove bindMode"
	}
	return ""
}

// peeringAddress reads the address of the node at which workloads peer. It is invalid if there is none that can be used.
func (r *bgpReader) peeringAddress(field, text string, family int) netip.Addr {
	if text == "" {
		return netip.Addr{}
	}
	about := api.Key{Kind: api.KindBGPConfiguration, Name: "default"}
	a, err := api.ParseAddr(text)
	switch own := r.bgp.V4.Addr(); {
	case err != nil:
		r.note(about, "%s: %v: correct it; until then workloads cannot peer with it", field, err)
	case a.Is4() != (family == 4):
		r.note(about, "%s: %v is not an IPv%d address: correct it; until then workloads cannot peer with it", field, a, family)
	case a.IsLoopback(), a.IsUnspecified(), a.IsMulticast(), isLinkLocal6(a), a == gatewayAddress, a == own, a == r.bgp.V6.Addr():
		r.note(about, "%s: %v has another meaning, so workloads cannot peer with it: choose an address that nothing else has, "+
			"such as 169.254.0.179, or one of a network fd00::/8", field, a)
	default:
		return a
	}
	return netip.Addr{}
}

func isLinkLocal6(a netip.Addr) bool { return a.Is6() && a.IsLinkLocalUnicast() }

// workloadPeer returns the session with a workload at an address of this node, but for the workload. Without the address there is none.
func (r *bgpReader) workloadPeer(key api.Key, spec api.BGPPeerSpec, at netip.Addr) *Peer {
	if !at.IsValid() {
		return nil
	}
	p := Peer{
		Object: key.Name, Address: at, Port: defaultBGPPort, AS: uint32(spec.ASNumber), Passive: true, RestartTime: defaultRestartTime,
		MaxPrefixes: defaultWorkloadPrefixes,
	}
	r.applySpec(&p, spec)
	if spec.MaxPrefixes == nil {
		p.MaxPrefixes = defaultWorkloadPrefixes
	}
	p.Source = at
	r.applyPolicy(key, spec, &p)
	return &p
}

// peering returns the addresses of this node at which workloads peer.
func (r *bgpReader) peering() (list []netip.Addr) {
	for _, w := range r.workloads {
		for _, p := range []*Peer{w.v4, w.v6} {
			if p != nil {
				list = append(list, p.Source)
			}
		}
	}
	return list
}

// workloadPeers returns the sessions with a workload endpoint of this node, by name. The first BGPPeer that selects it decides. here says
// whether traffic to an address comes to this endpoint.
func (r *bgpReader) workloadPeers(e Endpoint, l selector.Labels, here func(netip.Addr) bool) (map[string]Peer, []Problem) {
	peers, problems := map[string]Peer{}, []Problem(nil)
	var by *workloadPeering
	for i, w := range r.workloads {
		switch {
		case !w.workload.Matches(l):
		case by == nil:
			by = &r.workloads[i]
		default:
			problems = append(problems, Problem{w.key, fmt.Sprintf("BGPPeer(%s) selects %v too and comes first, so this one is not used for it: "+
				"correct localWorkloadSelector of one of them", by.key.Name, e.ID.key())})
		}
	}
	if by == nil || e.Closed != "" || by.v4 == nil && by.v6 == nil {
		return nil, problems
	}
	some := false
	for _, like := range []*Peer{by.v4, by.v6} {
		if like == nil {
			continue
		}
		for _, a := range e.Addresses {
			if a.Is4() != like.Source.Is4() {
				continue
			}
			some = true
			if !here(a) {
				continue // a problem of the endpoint says where its traffic goes
			}
			p := *like
			p.Address, p.Interface, p.Workload = a, e.Interface, e.ID.Namespace+"/"+e.ID.Name
			peers["Local_Workload_"+dashed(a)] = p
			break
		}
	}
	if !some {
		problems = append(problems, Problem{e.ID.key(), by.unaddressed()})
	}
	return peers, problems
}

// unaddressed says that a workload has no address of a family in which the node could peer with it.
func (w *workloadPeering) unaddressed() string {
	var families []string
	for family, like := range map[string]*Peer{"IPv4": w.v4, "IPv6": w.v6} {
		if like != nil {
			families = append(families, family)
		}
	}
	family := strings.Join(families, " or ") // with both families, an endpoint with an address has one of them
	return fmt.Sprintf("BGPPeer(%s) selects it, and it has no %s address, so there is no session with it: give it one, or set the address of the "+
		"node of its family in BGPConfiguration default", w.key.Name, family)
}

// reachedBy says whether traffic by a route comes to an endpoint.
func (e Endpoint) reachedBy(r Route, there bool) bool {
	return there && r.Kind == LocalWorkload && r.Interface == e.Interface
}

// workloadPeers adds the sessions with workloads to those of the node.
func (c *computation) workloadPeers() {
	peers := maps.Clone(c.bgp.bgp.Peers)
	for _, e := range c.state.Endpoints {
		of, labelled := c.entities[e.ID.key()]
		if e.ID.Kind != api.KindWorkloadEndpoint || !labelled {
			continue
		}
		found, problems := c.bgp.workloadPeers(e, of.labels, func(a netip.Addr) bool {
			r, there := c.state.Routes[host(a)]
			return e.reachedBy(r, there)
		})
		maps.Copy(peers, found)
		for _, p := range problems {
			c.note(p.Object, p.Text)
		}
	}
	c.bgp.bgp.Peers = peers
}

// updateWorkloadPeers reads the sessions with workloads of this node again. A node has few enough of them to read all.
func (g *Graph) updateWorkloadPeers() {
	if !g.pending.workloadPeers {
		return
	}
	g.workloadPeers = map[string]Peer{}
	var all []Problem
	if len(g.bgp.workloads) > 0 {
		for id, n := range g.local.endpoints {
			e, there := g.local.sent.now[id]
			if !there || id.Kind != api.KindWorkloadEndpoint || !n.hasEntity {
				continue
			}
			found, problems := g.bgp.workloadPeers(e, g.entities.labelsOf(n.entity), func(a netip.Addr) bool {
				r, there := g.routes.now[host(a)]
				return e.reachedBy(r, there)
			})
			maps.Copy(g.workloadPeers, found)
			all = append(all, problems...)
		}
	}
	g.problems.setAll("workload peers", all)
}

// allPeers are the peers of the node with the workloads among them.
func (g *Graph) allPeers() map[string]Peer {
	if len(g.workloadPeers) == 0 {
		return g.bgp.bgp.Peers
	}
	peers := maps.Clone(g.bgp.bgp.Peers)
	maps.Copy(peers, g.workloadPeers)
	return peers
}

// noteLocal notes that traffic to an address of an endpoint of this node may go elsewhere now.
func (g *Graph) noteLocal(p netip.Prefix) {
	if _, local := g.marks.local[p.Addr()]; local && p.IsSingleIP() {
		g.pending.workloadPeers = true
	}
}
