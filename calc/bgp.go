package calc

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/margay-project/margay/api"
)

const (
	defaultAS          = 64512
	defaultBGPPort     = 179
	defaultRestartTime = 120 * time.Second

	// Each route of a peer takes about 2 kB of memory. A million of them is as many as the internet has, and as a machine without
	// other work for the memory can hold.
	defaultMaxPrefixes = 1_000_000
)

// bgpReader reads how this node's BGP speaker must be configured. routes.go makes its paths.
type bgpReader struct {
	node     string
	objects  objects
	def, own api.BGPConfigurationSpec // the configuration named default, and the node's
	bgp      BGP
	routes   map[netip.Prefix]Route // to peers, by their gateways
	problems []Problem

	draining bool // its routes must be the last choice of peers
	drained  bool // it announces no routes

	refused   map[netip.Addr]string // peers that get no session, by BGPPeers that ask for what is not possible: nobody may open a plainer one
	workloads []workloadPeering     // those that select workloads of this node, in the order in which they decide
	nodes     map[identity]string   // names of nodes; made when it is first needed
}

// readBGP reads the BGP settings of a node. Paths are not in it: they depend on the node's endpoints.
func readBGP(node string, o objects) *bgpReader {
	r := &bgpReader{node: node, objects: o, refused: map[netip.Addr]string{}}
	if c := named[api.BGPConfiguration](o, api.KindBGPConfiguration, "default"); c != nil {
		r.def = c.Spec
	}
	if c := named[api.BGPConfiguration](o, api.KindBGPConfiguration, "node."+node); c != nil {
		r.own = c.Spec
	}
	r.speaker()
	r.peers()
	r.mesh()
	r.routes = PeerRoutes(r.bgp.Peers)
	r.unsupported()
	return r
}

// sessions are the agent's own with its peers. Either end may open one.
func (r *bgpReader) sessions() (all []Session) {
	for _, name := range slices.Sorted(maps.Keys(r.bgp.Peers)) {
		p := r.bgp.Peers[name]
		all = append(all,
			Session{Remote: p.Address, Port: p.Port, Outbound: true, Protocol: protocolTCP},
			Session{Remote: p.Address, Port: r.bgp.ListenPort, Protocol: protocolTCP})
	}
	return all
}

func (r *bgpReader) note(about api.Key, format string, args ...any) {
	r.problems = append(r.problems, Problem{Object: about, Text: fmt.Sprintf(format, args...)})
}

// speaker reads the node's own settings.
func (r *bgpReader) speaker() {
	r.bgp = BGP{AS: r.globalAS(), ListenPort: r.listenPort(r.node), Peers: map[string]Peer{}, Paths: map[netip.Prefix]Path{}}
	r.kernelRoutes()
	about := api.Key{Kind: api.KindNode, Name: r.node}
	n := named[api.Node](r.objects, api.KindNode, r.node)
	if n != nil {
		r.readDrain(about, n)
	}
	if n != nil && n.Spec.BGP != nil {
		spec := n.Spec.BGP
		if spec.ASNumber != nil {
			r.bgp.AS = uint32(*spec.ASNumber)
		}
		r.bgp.V4 = r.nodeAddress(about, "ipv4Address", spec.IPv4Address)
		r.bgp.V6 = r.nodeAddress(about, "ipv6Address", spec.IPv6Address)
		r.reflector(about, n)
	}
	r.shared(about)
	bind := cmp.Or(r.own.BindMode, r.def.BindMode)
	r.bgp.BindNodeIP = bind != nil && *bind == "NodeIP"
	r.bgp.RouterID = routerID(r.node, r.bgp.V4)
}

// shared notes the other nodes that have an address of this one.
func (r *bgpReader) shared(about api.Key) {
	others := map[netip.Addr][]string{}
	for key, u := range r.objects[api.KindNode] {
		n, ok := u.Object.(*api.Node)
		if !ok || u.Invalid != "" || n.Spec.BGP == nil || key.Name == r.node {
			continue
		}
		for _, text := range []string{n.Spec.BGP.IPv4Address, n.Spec.BGP.IPv6Address} {
			if p, err := api.ParseAddrNet(text); err == nil && (p.Addr() == r.bgp.V4.Addr() || p.Addr() == r.bgp.V6.Addr()) {
				others[p.Addr()] = append(others[p.Addr()], key.String())
			}
		}
	}
	for address, names := range others {
		slices.Sort(names)
		r.note(about, "%s has the address %v too, so peers cannot tell the nodes apart: correct spec.bgp of one of them",
			strings.Join(names, " and "), address)
	}
}

func (r *bgpReader) nodeAddress(about api.Key, field, text string) netip.Prefix {
	if text == "" {
		return netip.Prefix{}
	}
	p, err := api.ParseAddrNet(text)
	if err != nil {
		r.note(about, "%s: %v: correct it; until then the node speaks BGP without it", field, err)
	}
	return p
}

// routerID is the node's IPv4 address, or a number made from a hash of its name. It must be a unicast address (RFC 4271, section 6.2).
func routerID(node string, v4 netip.Prefix) netip.Addr {
	if v4.IsValid() {
		return v4.Addr()
	}
	sum := sha256.Sum256([]byte(node))
	id := [4]byte(sum[:4])
	if id[0] > 223 {
		id[0] -= 32
	}
	return netip.AddrFrom4(id)
}

func (r *bgpReader) globalAS() uint32 {
	if as := r.def.ASNumber; as != nil && *as != 0 {
		return uint32(*as)
	}
	return defaultAS
}

// listenPort is the port on which a node's speaker listens.
func (r *bgpReader) listenPort(node string) uint16 {
	if c := named[api.BGPConfiguration](r.objects, api.KindBGPConfiguration, "node."+node); c != nil && c.Spec.ListenPort != 0 {
		return c.Spec.ListenPort
	}
	if r.def.ListenPort != 0 {
		return r.def.ListenPort
	}
	return defaultBGPPort
}

// unsupported notes the settings of BGPConfiguration that are not supported yet.
func (r *bgpReader) unsupported() {
	about := api.Key{Kind: api.KindBGPConfiguration, Name: "default"}
	if len(r.def.ServiceClusterIPs)+len(r.def.ServiceExternalIPs)+len(r.def.ServiceLoadBalancerIPs) > 0 {
		r.note(about, "ranges of service addresses are not announced yet: announce them from a router")
	}
}

// communities are those that prefixAdvertisements attach to a path: values as they are written, names replaced by their values.
func (r *bgpReader) communities(of netip.Prefix) (values []string) {
	config := r.def
	if len(r.own.PrefixAdvertisements) > 0 {
		config = r.own
	}
	for _, a := range config.PrefixAdvertisements {
		n, err := api.ParseNet(a.CIDR)
		if err != nil || n.Addr().Is4() != of.Addr().Is4() || n.Bits() > of.Bits() || !n.Contains(of.Addr()) {
			continue
		}
		for _, c := range a.Communities {
			if value := communityNamed(c, config, r.def); !slices.Contains(values, value) {
				values = append(values, value)
			}
		}
	}
	if r.draining && !slices.Contains(values, gracefulShutdown) {
		values = append(values, gracefulShutdown)
	}
	return values
}

func communityNamed(name string, configs ...api.BGPConfigurationSpec) string {
	for _, config := range configs {
		for _, c := range config.Communities {
			if c.Name == name {
				return c.Value
			}
		}
	}
	return name
}
