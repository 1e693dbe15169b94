package vm

import (
	"fmt"
	"strings"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/ctl/hints"
	"github.com/margay-project/margay/ctl/workload"
)

// orchestrator is part of the names of these endpoints.
const orchestrator = "libvirt"

// wanted returns the endpoints of a domain on a node. stored are those that it has there already: an interface keeps the name of its
// endpoint, also after another one was unplugged.
func (d *domain) wanted(node string, stored []*api.WorkloadEndpoint) ([]workload.Wanted, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	names := d.endpointNames(stored)
	var list []workload.Wanted
	for i, n := range d.interfaces {
		t := d.termsOf(n)
		if t.ignored {
			continue
		}
		if n.device == "" {
			return nil, hints.With(fmt.Errorf("domain %s: the %v has no device on the host yet", d.name, n),
				"start the domain, or name the device: <target dev='tap-web'/>")
		}
		ep := &api.WorkloadEndpoint{
			TypeMeta: api.TypeMeta{Kind: api.KindWorkloadEndpoint, APIVersion: api.APIVersion},
			Metadata: api.Metadata{Namespace: d.metadata.namespace, Labels: t.labels, Annotations: map[string]string{api.DomainAnnotation: d.name}},
			Spec: api.WorkloadEndpointSpec{
				Node: node, Orchestrator: orchestrator, Workload: d.workload(), Endpoint: names[i],
				InterfaceName: n.device, MAC: n.mac, Profiles: t.profiles, IPNetworks: t.addresses,
			},
		}
		var err error
		if ep.Name, err = api.WorkloadEndpointName(ep.Spec); err != nil {
			return nil, fmt.Errorf("domain %s: %w", d.name, err)
		}
		w := workload.Wanted{Endpoint: ep}
		if t.chosen {
			w.Request = &api.AddressRequest{Pools: t.pools, Count: t.count, IPv6Count: t.ipv6Count}
			if err := w.Request.Check(); err != nil {
				return nil, fmt.Errorf("domain %s: %w", d.name, err)
			}
		}
		list = append(list, w)
	}
	return list, nil
}

// check says what is wrong with the metadata of a domain; nil if nothing is. It needs no names of devices, so it also works before the
// domain runs.
func (d *domain) check() error {
	if d.metadata == nil {
		return hints.With(fmt.Errorf("domain %s has no element <workload xmlns=%q> in its <metadata>", d.name, URI),
			"add it with virsh edit; docs/vms.md has an example")
	}
	say := func(format string, about ...any) error {
		return fmt.Errorf("domain %s: "+format, append([]any{d.name}, about...)...)
	}
	governed := 0
	for _, n := range d.interfaces {
		t := d.termsOf(n)
		switch {
		case t.ignored:
			continue
		case !n.onHost():
			return hints.With(say("felix cannot judge the packets of the %v: want type ethernet, bridge or network", n),
				fmt.Sprintf(`to leave it without policy, add <interface mac=%q ignore="yes"/> to <workload>`, n.mac))
		case n.kind == "ethernet" && n.vlan:
			return say("the %v has a <vlan>, but a routed interface has no VLAN: remove it, or use a bridge", n)
		}
		for _, text := range t.addresses {
			if _, err := workload.ParseAddress(text); err != nil {
				return say("<address>: %w", err)
			}
		}
		governed++
	}
	for i, t := range d.metadata.each {
		if d.find(t) == nil {
			return say("<interface> is about %s%s, which the domain does not have", t.mac, t.device)
		}
		for _, other := range d.metadata.each[:i] {
			if d.find(t) == d.find(other) {
				return say("two elements <interface> are about the same one, %s%s", t.mac, t.device)
			}
		}
	}
	if len(d.metadata.all.addresses) > 0 && governed > 1 {
		return say("<address> stands in <workload>, but there are %d interfaces: put it into an <interface>", governed)
	}
	return nil
}

// find returns the interface of the domain that an element is about; nil if there is none. An interface that has no device yet may get
// the name that the element gives.
func (d *domain) find(t interfaceTerms) *nic {
	for i := range d.interfaces {
		if n := &d.interfaces[i]; t.mac != "" && n.mac == t.mac || t.device != "" && n.device == t.device {
			return n
		}
	}
	return nil
}

// termsOf returns what the metadata says about an interface.
func (d *domain) termsOf(n nic) interfaceTerms {
	for _, t := range d.metadata.each {
		if t.mac != "" && n.mac == t.mac || t.device != "" && n.device == t.device {
			t.terms = t.over(d.metadata.all)
			return t
		}
	}
	return interfaceTerms{terms: terms{}.over(d.metadata.all)}
}

// workload returns the name of the workload: that of the metadata, or of the domain. Names of domains may have signs that names of
// workloads cannot have; those get a part of the UUID, so that no two domains have one name.
func (d *domain) workload() string {
	if d.metadata.name != "" {
		return d.metadata.name
	}
	name := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9', r == '-', r == '.':
			return r
		case 'A' <= r && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, d.name)
	name = strings.Trim(name, "-.")
	if name != d.name && len(d.uuid) >= 8 {
		name = strings.Trim(name+"-"+d.uuid[:8], "-")
	}
	return name
}

// endpointNames returns the name of each interface's endpoint, by its index: that of the metadata, that of its stored endpoint, or eth
// with the lowest free number.
func (d *domain) endpointNames(stored []*api.WorkloadEndpoint) map[int]string {
	names, taken := map[int]string{}, map[string]bool{}
	take := func(i int, name string) {
		if name != "" && names[i] == "" && !taken[name] {
			names[i], taken[name] = name, true
		}
	}
	for i, n := range d.interfaces {
		take(i, d.termsOf(n).endpoint)
	}
	for i, n := range d.interfaces {
		for _, ep := range stored {
			if n.mac != "" && ep.Spec.MAC == n.mac {
				take(i, ep.Spec.Endpoint)
			}
		}
	}
	for i := range d.interfaces {
		for number := 0; names[i] == ""; number++ {
			take(i, fmt.Sprintf("eth%d", number))
		}
	}
	return names
}
