package calc

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/api/selector"
)

// Named ports. Each endpoint says which port a name stands for, so a name in a rule means different ports on different endpoints. For each
// protocol and port that the name stands for on some endpoint, there is a set of the addresses where it does, and the rule lists these sets.
// The rule changes only when the name gets a port that it had on no endpoint, or loses one; all else is a change of members.

// PortNames are the named ports in one list of a rule. Ports are the numbers that they now stand for on some endpoint; there may be none.
type PortNames struct {
	Names []string    `json:"names"`
	Ports []NamedPort `json:"ports,omitempty"`
}

func (n *PortNames) equal(m *PortNames) bool {
	return n == m || n != nil && m != nil && slices.Equal(n.Names, m.Names) && slices.Equal(n.Ports, m.Ports)
}

// matches reports whether one of the ports meets a condition. A nil list has none.
func (n *PortNames) matches(in func(NamedPort) bool) bool {
	return n != nil && slices.ContainsFunc(n.Ports, in)
}

// NamedPort is one protocol and port that a name stands for on some endpoints.
type NamedPort struct {
	Name     string `json:"name"`
	Protocol uint8  `json:"protocol"`
	Port     uint16 `json:"port"`
	Set      SetID  `json:"set"` // the addresses of these endpoints
}

func (n NamedPort) String() string { return fmt.Sprintf("%s %d", protocolName(n.Protocol), n.Port) }

// matches reports whether a packet has this protocol and port. Its address must be in Set as well.
func (n NamedPort) matches(protocol uint8, port uint16) bool {
	return n.Protocol == protocol && n.Port == port
}

// maxVariants is how many combinations the named ports of one rule may expand to: the classifier needs a slot for each. A rule with more
// loses its names.
const maxVariants = 128

// variants counts the rules without names that a rule with names expands to.
func (r *Rule) variants() int {
	return r.Source.variants() * r.Destination.variants()
}

func (m *Match) variants() int {
	positive, negative := 1, 1
	if m.Names != nil {
		if positive = len(m.Names.Ports); len(m.Ports) > 0 {
			positive++
		}
	}
	if m.NotNames != nil {
		negative = 1 + len(m.NotNames.Ports)
	}
	return positive * negative
}

// portNumber is a port of a protocol.
type portNumber struct {
	protocol uint8
	port     uint16
}

func (p portNumber) compare(q portNumber) int {
	return cmp.Or(cmp.Compare(p.protocol, q.protocol), cmp.Compare(p.port, q.port))
}

// endpointPort is a port that an endpoint names.
type endpointPort struct {
	name string
	portNumber
}

// portUse is a port's name as one side of a rule uses it: on the endpoints that a selector matches.
type portUse struct {
	name string
	of   *selector.Selector
}

func (u portUse) String() string { return "port " + u.name + " of " + u.of.String() }

// set is the set of addresses where the name stands for a port.
func (u portUse) set(n portNumber) setSource { return setSource{of: u.of, name: u.name, number: n} }

// setSource says which addresses a set has: those of all entities that a selector matches, or only those where a name stands for a
// certain port.
type setSource struct {
	of     *selector.Selector
	name   string     // empty: of all entities
	number portNumber // that the name stands for
}

// id is the name of the set. Equal sources have equal names.
func (s setSource) id() SetID {
	if s.name == "" {
		return SetID(s.of.String())
	}
	return SetID(fmt.Sprintf("port %s (%s %d) of %v", s.name, protocolName(s.number.protocol), s.number.port, s.of))
}

// has reports whether an entity that the selector matches belongs to the set.
func (s setSource) has(c contribution) bool {
	return s.name == "" || slices.Contains(c.ports(), endpointPort{s.name, s.number})
}

// portLabel is the label that an entity has for each name of a port, so that selectors find it. No manifest can contain it, because of
// the blank.
func portLabel(name string) string { return "port " + name }

func portsOfWorkload(ports []api.WorkloadPort) (named []endpointPort) {
	for _, p := range ports {
		named = appendPort(named, p.Name, p.Protocol, p.Port)
	}
	return named
}

func portsOfHost(ports []api.EndpointPort) (named []endpointPort) {
	for _, p := range ports {
		named = appendPort(named, p.Name, p.Protocol, p.Port)
	}
	return named
}

func appendPort(named []endpointPort, name string, protocol api.Protocol, port uint16) []endpointPort {
	number, known := protocol.Value()
	p := endpointPort{name, portNumber{number, port}}
	if name == "" || port == 0 || !known || !HasPorts(number) || slices.Contains(named, p) {
		return named
	}
	return append(named, p)
}

// addPorts adds a label for each named port.
func (p *packing) addPorts(ports []endpointPort) {
	for i, port := range ports {
		again := slices.ContainsFunc(ports[:i], func(q endpointPort) bool { return q.name == port.name })
		if !again {
			p.add(portLabel(port.name), "")
		}
	}
}

// numbersOf returns the ports that a name stands for on the entities that a selector matches, in order.
func (c *computation) numbersOf(u portUse) []portNumber {
	seen := map[portNumber]struct{}{}
	for _, t := range c.entities {
		if !u.of.Matches(t.labels) {
			continue
		}
		for _, p := range t.contribution().ports() {
			if p.name == u.name && t.contribution().addressed() {
				seen[p.portNumber] = struct{}{}
			}
		}
	}
	return sortedNumbers(seen)
}

func sortedNumbers[V any](seen map[portNumber]V) []portNumber {
	numbers := make([]portNumber, 0, len(seen))
	for n := range seen {
		numbers = append(numbers, n)
	}
	slices.SortFunc(numbers, portNumber.compare)
	return numbers
}
