package api

import (
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"strings"
)

// Relaxation is something that is valid here and that Calico refuses or does not understand.
type Relaxation struct {
	What   string // as docs/compatibility.md names it
	Effect string // on the agents of Calico, where such an object is in their datastore
	find   func(o Object) []string
}

// Found says what of an object needs the relaxation; each text begins with the field's path.
func (r Relaxation) Found(o Object) []string { return r.find(o) }

const (
	policyMissing = "Calico's agents treat a policy or profile with such a rule as if it did not exist, so its Deny rules are gone there"
	objectRefused = "calicoctl refuses to write the object"
	ruleClosed    = "Calico's agents take the rule for one that matches nothing"
)

// Relaxations are all of them, as far as an object shows them. How a text may be written besides (documents of comments alone,
// UTF-16, merge keys) is gone when it is an object.
func Relaxations() []Relaxation {
	return []Relaxation{
		{"numeric ports without a protocol", policyMissing, inRules(portsWithoutProtocol)},
		{"networks of both families in one rule", policyMissing, inRules(bothFamilies)},
		{"bare addresses in `nets` and `notNets`", objectRefused, inRules(bareAddresses)},
		{"names of protocols in any case", objectRefused, protocolCase},
		{"`destination.domains` in egress Allow rules", ruleClosed, inRules(domainsAsked)},
		{"durations such as `1.5s` in FelixConfiguration", objectRefused, fractions},
		{"AS numbers up to 4294967295 everywhere", objectRefused, longASNumbers},
	}
}

// inRules looks at each rule of an object.
func inRules(find func(r *Rule, found func(path, text string, args ...any))) func(Object) []string {
	return func(o Object) (all []string) {
		for i, list := range ruleLists(o) {
			for n := range *list {
				find(&(*list)[n], func(path, text string, args ...any) {
					all = append(all, at([2]string{"spec.ingress", "spec.egress"}[i], n)+"."+path+": "+fmt.Sprintf(text, args...))
				})
			}
		}
		return all
	}
}

var sideNames = [2]string{"source", "destination"}

func portsWithoutProtocol(r *Rule, found func(path, text string, args ...any)) {
	if r.Protocol != nil {
		return
	}
	for i, side := range r.sides() {
		for _, list := range []struct {
			name  string
			ports []Port
		}{{"ports", side.Ports}, {"notPorts", side.NotPorts}} {
			for _, p := range list.ports {
				if p.Name == "" {
					found(sideNames[i]+"."+list.name, "the number %v needs a protocol there", p)
					break
				}
			}
		}
	}
}

func bothFamilies(r *Rule, found func(path, text string, args ...any)) {
	var v4, v6 bool
	for i, side := range r.sides() {
		for _, text := range append(append([]string{}, side.Nets...), side.NotNets...) {
			n, err := ParseNet(text)
			if err != nil {
				continue
			}
			v4, v6 = v4 || n.Addr().Is4(), v6 || n.Addr().Is6()
			if v4 && v6 {
				found(sideNames[i], "networks of IPv4 and IPv6 stand in one rule: make two of it")
				return
			}
		}
	}
}

func bareAddresses(r *Rule, found func(path, text string, args ...any)) {
	for i, side := range r.sides() {
		for _, list := range []struct {
			name string
			nets []string
		}{{"nets", side.Nets}, {"notNets", side.NotNets}} {
			for _, text := range list.nets {
				if a, err := netip.ParseAddr(text); err == nil {
					found(sideNames[i]+"."+list.name, "%s needs its length: %s/%d", text, text, a.BitLen())
				}
			}
		}
	}
}

func domainsAsked(r *Rule, found func(path, text string, args ...any)) {
	for i, side := range r.sides() {
		for _, field := range side.ownFields() {
			found(sideNames[i]+"."+field, "is no field there")
		}
	}
}

// protocolCase finds names of protocols in rules and in endpoints' ports.
func protocolCase(o Object) (all []string) {
	look := func(path string, p *Protocol) {
		if p == nil || p.Name == "" {
			return
		}
		for _, name := range []string{"TCP", "UDP", "ICMP", "ICMPv6", "SCTP", "UDPLite"} {
			if strings.EqualFold(p.Name, name) && p.Name != name {
				all = append(all, fmt.Sprintf("%s: %s is written %s there", path, p.Name, name))
			}
		}
	}
	for i, list := range ruleLists(o) {
		for n := range *list {
			path := at([2]string{"spec.ingress", "spec.egress"}[i], n)
			look(path+".protocol", (*list)[n].Protocol)
			look(path+".notProtocol", (*list)[n].NotProtocol)
		}
	}
	switch o := o.(type) {
	case *HostEndpoint:
		for i := range o.Spec.Ports {
			look(at("spec.ports", i)+".protocol", &o.Spec.Ports[i].Protocol)
		}
	case *WorkloadEndpoint:
		for i := range o.Spec.Ports {
			look(at("spec.ports", i)+".protocol", &o.Spec.Ports[i].Protocol)
		}
	}
	return all
}

// fractions finds durations that are stored with a fraction.
func fractions(o Object) (all []string) {
	f, ok := o.(*FelixConfiguration)
	if !ok {
		return nil
	}
	spec := reflect.ValueOf(f.Spec)
	for _, field := range fieldsOf(spec.Type()) {
		if d, ok := spec.FieldByIndex(field.index).Interface().(*Duration); ok && d != nil && strings.Contains(d.String(), ".") {
			all = append(all, fmt.Sprintf("spec.%s: %v has a fraction, want whole units", field.name, d))
		}
	}
	return all
}

func longASNumbers(o Object) (all []string) {
	look := func(path string, n ASNumber) {
		if n > math.MaxInt32 {
			all = append(all, fmt.Sprintf("%s: %d is more than %d", path, n, math.MaxInt32))
		}
	}
	switch o := o.(type) {
	case *BGPConfiguration:
		if o.Spec.ASNumber != nil {
			look("spec.asNumber", *o.Spec.ASNumber)
		}
	case *BGPPeer:
		look("spec.asNumber", o.Spec.ASNumber)
	}
	return all
}
