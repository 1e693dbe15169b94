package calc

import (
	"encoding/binary"

	"github.com/margay-project/margay/api"
)

// entity is an endpoint of any node, or a network set: an object with labels, which selectors match, and with addresses, which sets
// consist of. There may be many, so an entity is packed into one string, which is one allocation and has no pointers for the collector
// to follow: the length of its own labels, the labels (see labelNames), and its contribution.
type entity string

// labels are the entity's own labels, packed; those of its profiles are not in it.
func (t entity) labels() string {
	labels, _ := t.parts()
	return labels
}

func (t entity) contribution() contribution {
	_, c := t.parts()
	return c
}

func (t entity) parts() (labels string, c contribution) {
	if t == "" {
		return "", ""
	}
	length, size := uvarint(string(t))
	end := size + int(length)
	return string(t[size:end]), contribution(t[end:])
}

// contribution has the parts of an entity that become members of sets, packed: the number of its named ports, the ports, and its
// addresses or networks.
type contribution string

// eachPort yields the ports that the entity names, and returns the rest: the packed addresses.
func (c contribution) eachPort(yield func(endpointPort)) (nets string) {
	if c == "" {
		return ""
	}
	count, size := uvarint(string(c))
	rest := string(c[size:])
	for range count {
		length, size := uvarint(rest)
		end := size + int(length)
		yield(endpointPort{rest[size:end], portNumber{rest[end], uint16(rest[end+1])<<8 | uint16(rest[end+2])}})
		rest = rest[end+3:]
	}
	return rest
}

// ports are those that the entity names.
func (c contribution) ports() (all []endpointPort) {
	c.eachPort(func(p endpointPort) { all = append(all, p) })
	return all
}

// nets yields the entity's addresses and networks.
func (c contribution) nets(yield func(prefix) bool) {
	rest := c.eachPort(func(endpointPort) {})
	for rest != "" {
		n, size := readPrefix(rest)
		if !yield(n) {
			return
		}
		rest = rest[size:]
	}
}

// addressed reports whether there is any address or network.
func (c contribution) addressed() bool { return c.eachPort(func(endpointPort) {}) != "" }

// readEntity reads an object, and returns also the names of the profiles whose labels it inherits. ok is false for an object that is
// invalid or gone, and for a workload endpoint without interface or addresses: no selector matches these.
func readEntity(names *labelNames, u api.Update) (t entity, profiles, problems []string, ok bool) {
	if u.Invalid != "" {
		return "", nil, nil, false
	}
	p := &names.packing
	p.labels, p.contribution = p.labels[:0], p.contribution[:0]
	switch o := u.Object.(type) {
	case *api.WorkloadEndpoint:
		ports := portsOfWorkload(o.Spec.Ports)
		p.addWorkload(o, ports)
		p.addContribution(ports, o.Spec.IPNetworks)
		if profiles = o.Spec.Profiles; o.Spec.InterfaceName == "" || !contribution(p.contribution).addressed() {
			return "", nil, nil, false
		}
	case *api.HostEndpoint:
		ports := portsOfHost(o.Spec.Ports)
		p.addAll(o.Labels)
		p.addPorts(ports)
		p.addContribution(ports, o.Spec.ExpectedIPs)
		profiles = o.Spec.Profiles
	case *api.GlobalNetworkSet:
		p.addAll(o.Labels)
		problems = p.addContribution(nil, o.Spec.Nets)
	case *api.NetworkSet:
		p.addNetworkSet(o)
		problems = p.addContribution(nil, o.Spec.Nets)
		profiles = []string{profileOfNamespace + o.Namespace}
	default:
		return "", nil, nil, false
	}
	return p.entity(), profiles, problems, true
}

func (p *packing) entity() entity {
	p.buffer = binary.AppendUvarint(p.buffer[:0], uint64(len(p.labels)))
	p.buffer = append(append(p.buffer, p.labels...), p.contribution...)
	return entity(p.buffer)
}

// addContribution skips invalid nets, and returns a problem for each.
func (p *packing) addContribution(ports []endpointPort, nets []string) (problems []string) {
	p.contribution = binary.AppendUvarint(p.contribution, uint64(len(ports)))
	for _, port := range ports {
		p.contribution = binary.AppendUvarint(p.contribution, uint64(len(port.name)))
		p.contribution = append(p.contribution, port.name...)
		p.contribution = append(p.contribution, port.protocol, byte(port.port>>8), byte(port.port))
	}
	for _, text := range nets {
		if text == "" {
			continue
		}
		n, err := api.ParseNet(text)
		if err != nil {
			problems = append(problems, "nets: "+err.Error()+"; it is left out")
			continue
		}
		p.contribution = packPrefix(n).append(p.contribution)
	}
	return problems
}
