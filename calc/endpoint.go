package calc

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/margay-project/margay/api"
)

// localEndpoint reads an endpoint, without policies. An invalid one is closed, as far as it can be told which interface it is about. ok is
// false if it is not this node's, is gone, or has no interface.
func localEndpoint(node string, u api.Update) (e Endpoint, problems []string, ok bool) {
	e.ID = EndpointID{Kind: u.Key.Kind, Namespace: u.Key.Namespace, Name: u.Key.Name}
	switch o := u.Object.(type) {
	case *api.WorkloadEndpoint:
		if o.Spec.Node != node {
			return e, nil, false
		}
		problems = e.readWorkload(o)
	case *api.HostEndpoint:
		if o.Spec.Node != node {
			return e, nil, false
		}
		problems = e.readHost(o.Spec)
	default:
		switch {
		case u.Invalid == "": // it was deleted
		case namedFor(node, u.Key):
			problems = []string{invalid(u.Invalid, "its interface has no endpoint, so nothing passes")}
		case u.Key.Kind == api.KindHostEndpoint:
			problems = []string{invalid(u.Invalid, "it governs no interface")}
		}
		return e, problems, false
	}
	if u.Invalid != "" {
		e.close(u.Invalid)
		problems = []string{invalid(u.Invalid, "it is closed")}
	}
	ok = e.ID.Kind == api.KindHostEndpoint || e.Interface != ""
	return e, problems, ok
}

// namedFor tells from its name whether an invalid workload endpoint is a node's: the name begins with the node's name, dashes doubled.
func namedFor(node string, key api.Key) bool {
	return key.Kind == api.KindWorkloadEndpoint && strings.HasPrefix(key.Name, strings.ReplaceAll(node, "-", "--")+"-")
}

// readWorkload reads the spec of a workload endpoint. An invalid address closes the endpoint, and so does no address at all.
func (e *Endpoint) readWorkload(w *api.WorkloadEndpoint) (problems []string) {
	spec := &w.Spec
	e.Interface, e.MAC, e.Profiles = spec.InterfaceName, strings.ToLower(spec.MAC), spec.Profiles
	e.Hostname, e.OwnDHCP = spec.Hostname(), givesAddresses(spec.Orchestrator)
	for _, text := range spec.IPNetworks {
		n, err := api.ParseNet(text)
		switch {
		case err != nil:
			e.close(err.Error())
		case !n.IsSingleIP():
			e.close(fmt.Sprintf("ipNetworks: %v is not one address", n))
		default:
			e.Addresses = append(e.Addresses, n.Addr())
		}
	}
	e.readSourceNets(spec.AllowSpoofedSourcePrefixes)
	switch {
	case e.Closed != "":
		problems = append(problems, invalid(e.Closed, "it is closed"))
	case e.Interface == "":
		problems = append(problems, "has no interfaceName, so it is not in force: name its interface")
	case len(e.Addresses) == 0:
		e.close("it has no ipNetworks")
		problems = append(problems, withoutAddresses(w))
	}
	if len(spec.IPNATs) > 0 {
		problems = append(problems, "ipNATs are not supported yet, so its external addresses do not reach it: translate them elsewhere")
	}
	if spec.QoSControls != nil {
		problems = append(problems, "qosControls are not enforced yet: limit the rate elsewhere")
	}
	return problems
}

// readSourceNets reads the networks that the workload may send from besides its addresses. An invalid one closes the endpoint. An empty
// text is none, as in Calico.
func (e *Endpoint) readSourceNets(networks []string) {
	for _, text := range networks {
		if text == "" {
			continue
		}
		n, err := api.ParseNet(text)
		if err != nil {
			e.close(err.Error())
			continue
		}
		e.SourceNets = append(e.SourceNets, n.Masked())
	}
	slices.SortFunc(e.SourceNets, netip.Prefix.Compare)
	e.SourceNets = slices.Compact(e.SourceNets)
}

// givesAddresses says whether workloads of an orchestrator get their addresses from it: OpenStack has a DHCP agent on each host, and
// container runtimes write into the container.
func givesAddresses(orchestrator string) bool {
	return slices.Contains([]string{"openstack", "k8s", "cni"}, orchestrator)
}

// withoutAddresses returns the problem of an endpoint without ipNetworks.
func withoutAddresses(w *api.WorkloadEndpoint) string {
	if _, asks, err := api.AddressRequestOf(w); asks && err == nil {
		return "has no ipNetworks yet, so it is closed: felix is to assign its addresses (annotation " + api.AddressAnnotation + ")"
	}
	return "has no ipNetworks, so it is closed: give its addresses, or let felix assign one with the annotation " + api.AddressAnnotation + ": '{}'"
}

// readHost reads the spec of a host endpoint. An invalid address is ignored: the others still tell which interface it governs.
func (e *Endpoint) readHost(spec api.HostEndpointSpec) (problems []string) {
	e.Interface, e.Profiles = spec.InterfaceName, spec.Profiles
	for _, text := range spec.ExpectedIPs {
		a, err := api.ParseAddr(text)
		if err != nil {
			problems = append(problems, fmt.Sprintf("expectedIPs: %v: correct it; until then this address is ignored", err))
			continue
		}
		e.Addresses = append(e.Addresses, a)
	}
	if e.Interface == "" && len(e.Addresses) == 0 {
		problems = append(problems, "has neither interfaceName nor expectedIPs, so it governs no interface: give one")
	}
	return problems
}

// close closes the endpoint for a reason, unless it is closed already. A closed endpoint makes no policy active.
func (e *Endpoint) close(why string) {
	if e.Closed == "" {
		e.Closed = why
	}
	e.Profiles = nil
	e.Policies = [Stages][2][]TierPolicies{}
	if e.ID.Kind == api.KindHostEndpoint {
		e.Policies = lists(api.KindHostEndpoint, nil)
	}
}

// compareEndpoints orders by name, then namespace. Of two endpoints that claim the same, the first one has it.
func compareEndpoints(a, b EndpointID) int {
	return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Kind, b.Kind))
}

// claimant is a workload endpoint that claims an interface and addresses. Valid ones come before invalid ones.
type claimant struct {
	id      EndpointID
	invalid bool
}

func (c claimant) before(d claimant) bool {
	if c.invalid != d.invalid {
		return d.invalid
	}
	return compareEndpoints(c.id, d.id) < 0
}

// claims says which of this node's workload endpoints claim an interface or an address.
type claims struct {
	interfaces map[string][]claimant
	addresses  map[netip.Addr][]claimant
}

func newClaims() claims {
	return claims{interfaces: map[string][]claimant{}, addresses: map[netip.Addr][]claimant{}}
}

func (c claims) add(e Endpoint) {
	me := claimant{id: e.ID, invalid: e.Closed != ""}
	c.interfaces[e.Interface] = append(c.interfaces[e.Interface], me)
	for _, a := range e.Addresses {
		c.addresses[a] = append(c.addresses[a], me)
	}
}

func (c claims) remove(e Endpoint) {
	mine := func(o claimant) bool { return o.id == e.ID }
	drop(c.interfaces, e.Interface, mine)
	for _, a := range e.Addresses {
		drop(c.addresses, a, mine)
	}
}

func drop[K comparable, V any](m map[K][]V, key K, gone func(V) bool) {
	if left := slices.DeleteFunc(m[key], gone); len(left) > 0 {
		m[key] = left
	} else {
		delete(m, key)
	}
}

// resolve closes a workload endpoint if another one comes before it in claiming its interface or one of its addresses. In the first case
// e loses its interface, because the other endpoint judges what happens there.
func (c claims) resolve(e *Endpoint) (problems []string) {
	me := claimant{id: e.ID, invalid: e.Closed != ""}
	for _, a := range e.Addresses {
		if other, yes := first(c.addresses[a], me); yes {
			e.close(fmt.Sprintf("address %v belongs to %s", a, other))
			problems = append(problems, fmt.Sprintf(
				"address %v also belongs to WorkloadEndpoint(%s), so this one is closed: remove one of them", a, other))
		}
	}
	if other, yes := first(c.interfaces[e.Interface], me); yes {
		e.close(fmt.Sprintf("interface %s belongs to %s", e.Interface, other))
		problems = append(problems, fmt.Sprintf(
			"interface %s also belongs to WorkloadEndpoint(%s), so this one is closed: remove one of them", e.Interface, other))
		e.Interface = ""
	}
	return problems
}

// first finds the first of some claimants. It reports false if that is me.
func first(claimants []claimant, me claimant) (name string, found bool) {
	best := me
	for _, c := range claimants {
		if c.before(best) {
			best = c
		}
	}
	return best.id.Namespace + "/" + best.id.Name, best != me
}

// guard refuses workload endpoints that would cut the host off: at such an endpoint's interface or address its policies would judge the
// host's own traffic.
type guard struct {
	interfaces map[string]string     // by name: why no workload gets it, in words that follow the name
	addresses  map[netip.Addr]string // whose the address is, in words that follow "is"
}

// newGuard collects the interfaces and addresses that the host itself needs.
func newGuard(facts Facts, bgp BGP, peering []netip.Addr) guard {
	g := guard{interfaces: map[string]string{"lo": "is the host's own"}, addresses: map[netip.Addr]string{}}
	for _, p := range bgp.Peers {
		g.addresses[p.Gateway] = "that of the gateway to a BGP peer"
	}
	for _, p := range bgp.Peers {
		g.addresses[p.Address] = "that of a BGP peer"
	}
	for _, s := range facts.Sessions {
		g.addresses[s.Remote.Unmap()] = "that of etcd"
	}
	for _, own := range []netip.Addr{bgp.V4.Addr(), bgp.V6.Addr()} {
		g.addresses[own] = "the node's own" // also while no interface has this address
	}
	for _, a := range facts.Addresses {
		g.addresses[a.Unmap().WithZone("")] = "the host's own"
	}
	for _, a := range peering {
		g.addresses[a] = "that at which workloads peer with the node" // also before an interface has it
	}
	maps.Copy(g.interfaces, facts.Uplinks)
	return g
}

// refuses says why a workload endpoint must not be in force; empty: it may.
func (g guard) refuses(e Endpoint) string {
	if why, yes := g.interfaces[e.Interface]; yes {
		return fmt.Sprintf("interface %s %s, so the endpoint is refused: give the workload's interface", e.Interface, why)
	}
	for _, a := range e.Addresses {
		if why, yes := g.addresses[a]; yes {
			return fmt.Sprintf("address %v is %s, so the endpoint is refused: give the workload's address", a, why)
		}
		if a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() {
			return fmt.Sprintf("address %v cannot belong to a workload, so the endpoint is refused: give the workload's address", a)
		}
	}
	return ""
}

// HostEndpointFor returns which of a node's host endpoints governs an interface with some addresses: one that names the interface, or names
// none and expects one of the addresses; else one for every interface (*). Of several the first by name governs, valid ones before
// closed ones.
func HostEndpointFor(iface string, addrs []netip.Addr, heps map[EndpointID]Endpoint) (EndpointID, bool) {
	var best Endpoint
	rank := func(e Endpoint) int {
		switch {
		case e.Interface == iface && iface != "*", e.Interface == "" && slices.ContainsFunc(e.Addresses, func(a netip.Addr) bool {
			return slices.Contains(addrs, a)
		}):
			return 2
		case e.Interface == "*":
			return 1
		}
		return 0
	}
	better := func(e Endpoint) bool {
		if r := cmp.Compare(rank(e), rank(best)); r != 0 {
			return r > 0
		}
		return claimant{e.ID, e.Closed != ""}.before(claimant{best.ID, best.Closed != ""})
	}
	for id, e := range heps {
		if id.Kind == api.KindHostEndpoint && rank(e) > 0 && (best.ID == EndpointID{} || better(e)) {
			best = e
		}
	}
	return best.ID, best.ID != EndpointID{}
}
