package interfaces

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/calc"
)

// Role says whose interface it is.
type Role uint8

const (
	None     Role = iota // no policy
	Host                 // an interface of the host with a HostEndpoint
	Workload             // the host's side of a workload
)

// Assignment says what must be enforced on one interface.
type Assignment struct {
	Link     Link
	Role     Role
	Endpoint calc.EndpointID // zero: no endpoint; a Workload interface without one is closed
	Closed   string          // not empty: why all packets on it are dropped
	Refused  string          // not empty: why no workload policy may be in force although an endpoint or the configuration asks for it
	Master   string          // the bridge or bond of which a workload's interface is a port; such an interface gets no route
	Bridged  bool            // Master is a bridge of the kernel: the interface is judged as its port
	VLANs    bool            // and the bridge keeps VLANs apart
}

// TakesTags says whether the workload may use VLAN tags: its port is a tagged member of a VLAN. The bridge drops those of other VLANs.
func (a Assignment) TakesTags() bool { return a.Bridged && a.VLANs && len(a.Link.VLANs.Tagged) > 0 }

// Attachment says in words how a workload's interface is connected; empty: the host routes to it.
func (a Assignment) Attachment() string {
	if !a.Bridged {
		return ""
	}
	if a.VLANs {
		return "bridged on " + a.Master + ", " + a.Link.VLANs.String()
	}
	return "bridged on " + a.Master
}

// Idle says why endpoints govern no interface.
type Idle map[calc.EndpointID]string

// Rules has the inputs of Match besides interfaces and endpoints.
type Rules struct {
	Prefixes []string // an interface whose name begins with one of them belongs to a workload
	// Enforced has the interfaces, by index, on which workload policy is in force now. They stay workload interfaces as long as
	// they exist, even if their names, endpoints or routes change.
	Enforced map[int]bool
	// Uplinks says why no workload can have an interface, by name: UplinkMemory.Reasons.
	Uplinks map[string]string
}

// Match finds the endpoint that governs each interface. It is a pure function.
func Match(links Links, endpoints map[calc.EndpointID]calc.Endpoint, rules Rules) (map[int]Assignment, Idle) {
	m := matcher{links: links, rules: rules, idle: Idle{}, result: map[int]Assignment{}}
	for _, link := range links.sorted() {
		if link.Uplink || rules.Uplinks[link.Name] != "" {
			m.uplinks = append(m.uplinks, link)
		}
	}
	m.split(endpoints)
	for _, link := range links.sorted() {
		m.result[link.Index] = m.assign(link)
	}
	m.explainIdle()
	return m.result, m.idle
}

type matcher struct {
	links  Links
	rules  Rules
	idle   Idle
	result map[int]Assignment

	uplinks   []Link
	workloads map[string][]calc.Endpoint // by interface name, in the order of their names
	hosts     map[calc.EndpointID]calc.Endpoint

	closedAliases map[int]string // why interfaces are closed whose alias another one has too, by index
}

func (m *matcher) split(endpoints map[calc.EndpointID]calc.Endpoint) {
	m.workloads, m.hosts = map[string][]calc.Endpoint{}, map[calc.EndpointID]calc.Endpoint{}
	ids := slices.SortedFunc(maps.Keys(endpoints), func(a, b calc.EndpointID) int {
		return compareEndpoints(endpoints[a], endpoints[b])
	})
	var unnamed []calc.Endpoint // workload endpoints whose interfaceName is not the name of an interface
	for _, id := range ids {
		ep := endpoints[id]
		link, there := m.links.Named(ep.Interface)
		if there {
			ep.Interface = link.Name // it may be an alternative name
		}
		switch {
		case id.Kind == api.KindHostEndpoint:
			m.hosts[id] = ep
		case ep.Interface == "":
			m.idle[id] = "the endpoint names no interface: set spec.interfaceName"
		case !there:
			unnamed = append(unnamed, ep)
		default:
			m.workloads[ep.Interface] = append(m.workloads[ep.Interface], ep)
		}
	}
	m.assignAliases(unnamed)
}

// compareEndpoints orders endpoints that name the same interface: the first one gets it. Valid endpoints go before closed ones.
func compareEndpoints(a, b calc.Endpoint) int {
	if broken := a.Closed != ""; broken != (b.Closed != "") {
		return map[bool]int{false: -1, true: 1}[broken]
	}
	return cmp.Or(strings.Compare(a.ID.Name, b.ID.Name), strings.Compare(a.ID.Namespace, b.ID.Namespace))
}

func (m *matcher) assign(link Link) Assignment {
	named := m.workloads[link.Name]
	if len(named) > 0 || m.prefixed(link.Name) || m.rules.Enforced[link.Index] || m.closedAliases[link.Index] != "" {
		return m.assignWorkload(link, named)
	}
	return m.assignHost(link)
}

func (m *matcher) prefixed(name string) bool {
	return slices.ContainsFunc(m.rules.Prefixes, func(p string) bool { return p != "" && strings.HasPrefix(name, p) })
}

func (m *matcher) assignWorkload(link Link, named []calc.Endpoint) Assignment {
	a := Assignment{Link: link, Role: Workload, Master: m.memberOf(link)}
	a.Bridged = a.Master != "" && m.links[link.Master].Kind == "bridge"
	a.VLANs = a.Bridged && m.links[link.Master].FiltersVLANs
	if reason := m.lockout(link); reason != "" && !m.rules.Enforced[link.Index] {
		// As a workload's interface it would cut the host off. A host endpoint may govern it.
		for _, ep := range named {
			m.idle[ep.ID] = reason
		}
		a = m.assignHost(link)
		a.Refused = reason
		return a
	}
	if len(named) == 0 {
		a.Closed = cmp.Or(m.closedAliases[link.Index],
			"no WorkloadEndpoint of this node names the interface: create one with this interfaceName, or correct interfacePrefix")
		return a
	}
	a.Endpoint, a.Closed = named[0].ID, named[0].Closed
	if a.Master != "" && !a.Bridged && a.Closed == "" {
		a.Closed = fmt.Sprintf("%s is a port of %s, which is no bridge of the kernel: make it the port of a bridge, or take it off (ip link set %s nomaster) "+
			"and give the workload its address with the gateway 169.254.1.1, or remove the endpoint", link.Name, a.Master, link.Name)
	}
	for _, ep := range named[1:] {
		m.idle[ep.ID] = fmt.Sprintf("interface %s belongs to WorkloadEndpoint %s", link.Name, named[0].ID.Name)
	}
	return a
}

// lockout says why workload policy on the interface would cut the host off. It is empty if it would not.
func (m *matcher) lockout(link Link) string {
	why := m.rules.Uplinks[link.Name]
	switch {
	case link.Loopback:
		why = "is the host's loopback"
	case why == "" && link.Uplink: // a default route has come since Uplinks was made
		why = "carries the host's default route"
	case why == "":
		why = m.carriesUplink(link)
	}
	if why == "" {
		return ""
	}
	return fmt.Sprintf("%s %s: correct spec.interfaceName or interfacePrefix", link.Name, why)
}

// carriesUplink says which uplink of the host has its packets carried by this interface. It is empty if there is none.
func (m *matcher) carriesUplink(link Link) string {
	for _, upper := range m.uplinks {
		if m.links.Carries(link, upper) {
			return fmt.Sprintf("carries %s, which %s", upper.Name, cmp.Or(m.rules.Uplinks[upper.Name], "carries the host's default route"))
		}
	}
	return ""
}

// assignHost finds the host endpoint that governs the interface.
func (m *matcher) assignHost(link Link) Assignment {
	a := Assignment{Link: link}
	id, found := calc.HostEndpointFor(link.Name, link.Addresses, m.hosts)
	if link.Loopback || !found {
		return a
	}
	ep := m.hosts[id]
	if member := m.memberOf(link); member != "" {
		if ep.Interface != "*" {
			m.idle[id] = fmt.Sprintf("%s is a port of %s, where its packets are judged: name %s in spec.interfaceName", link.Name, member, member)
		}
		return a
	}
	a.Role, a.Endpoint, a.Closed = Host, id, ep.Closed
	return a
}

// memberOf returns the name of the bridge or bond of which the interface is a member.
func (m *matcher) memberOf(link Link) string {
	switch master := m.links[link.Master]; master.Kind {
	case "bridge", "bond", "team", "openvswitch":
		return master.Name
	}
	return ""
}

func governs(ep calc.Endpoint, link Link) bool {
	if ep.Interface != "" {
		return ep.Interface == link.Name
	}
	return slices.ContainsFunc(ep.Addresses, func(a netip.Addr) bool { return slices.Contains(link.Addresses, a) })
}

// explainIdle gives a reason to each endpoint that governs no interface and has no reason yet.
func (m *matcher) explainIdle() {
	governed := map[calc.EndpointID]bool{}
	for _, a := range m.result {
		governed[a.Endpoint] = true
	}
	for name, eps := range m.workloads {
		for _, ep := range eps {
			if _, explained := m.idle[ep.ID]; !explained && !governed[ep.ID] {
				m.idle[ep.ID] = fmt.Sprintf("waiting for interface %s", name)
			}
		}
	}
	for _, ep := range m.hosts {
		if governed[ep.ID] {
			delete(m.idle, ep.ID)
			continue
		}
		if _, explained := m.idle[ep.ID]; !explained {
			m.idle[ep.ID] = m.idleHost(ep)
		}
	}
}

func (m *matcher) idleHost(ep calc.Endpoint) string {
	switch {
	case ep.Interface == "*":
		return "no interface is left for it: each of the others is governed by another endpoint, belongs to a workload, or is a port of a bridge or bond"
	case ep.Interface == "" && len(ep.Addresses) == 0:
		return "the endpoint names no interface and no address: set spec.interfaceName or spec.expectedIPs"
	case ep.Interface == "":
		for _, link := range m.links {
			if governs(ep, link) {
				return fmt.Sprintf("another endpoint governs interface %s", link.Name)
			}
		}
		return fmt.Sprintf("no interface has one of the addresses %v", ep.Addresses)
	}
	if link, there := m.links.Named(ep.Interface); there {
		if a := m.result[link.Index]; a.Role == Workload {
			return fmt.Sprintf("interface %s belongs to a workload", ep.Interface)
		}
		return fmt.Sprintf("another HostEndpoint governs interface %s", ep.Interface)
	}
	return fmt.Sprintf("waiting for interface %s; this host has %s", ep.Interface, m.hostInterfaces())
}

// hostInterfaces lists up to eight interfaces that a host endpoint could name.
func (m *matcher) hostInterfaces() string {
	const most = 8
	var names []string
	for _, link := range m.links.sorted() {
		if !link.Loopback && m.result[link.Index].Role != Workload {
			names = append(names, link.Name)
		}
	}
	switch {
	case len(names) == 0:
		return "no other"
	case len(names) > most:
		return strings.Join(names[:most], ", ") + " and more"
	}
	return strings.Join(names, ", ")
}
