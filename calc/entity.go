package calc

import (
	"encoding/binary"

	"github.com/margay-project/margay/api"
)

// entity is what selectors select and sets contain: an endpoint of any node, or a network set. There may be many, so what
// is known of one is a single string, which costs one allocation and the collector no look: its own labels, with their
// length before them, and then its contribution.
type entity string

// labels are packed, without those of the entity's profiles.
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

// contribution is what an entity contributes to sets: ports and nets, packed. Ports come first, behind their number.
type contribution string

// eachPort yields the ports that the entity names, and returns the rest.
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

// addressed says whether there is any address.
func (c contribution) addressed() bool { return c.eachPort(func(endpointPort) {}) != "" }

// readEntity reads an object, with the profiles whose labels it inherits; one that is broken is none.
func readEntity(names *labelNames, u api.Update) (t entity, profiles, problems []string, ok bool) {
	if u.Broken != "" {
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

// addContribution skips nets that it cannot read, and says so.
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
