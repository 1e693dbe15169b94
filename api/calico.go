package api

import (
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"strings"
)

// Relaxation is a value that Margay accepts and that Calico refuses or does not understand.
type Relaxation struct {
	What   string // description, as in docs/compatibility.md
	Effect string // effect of such an object on Calico's agents or tools, as a sentence
	find   func(o Object) []string
}

// Found describes the values of an object that need the relaxation. Each text begins with the path of the field.
func (r Relaxation) Found(o Object) []string { return r.find(o) }

const (
	policyMissing = "Calico's agents treat a policy or profile with such a rule as if it did not exist, so its Deny rules are gone there"
	objectRefused = "calicoctl refuses to write the object"
	ruleClosed    = "Calico's agents treat the rule as one that matches nothing"
)

// Relaxations returns all relaxations that can be seen in an object. Those of the text (documents with only comments, UTF-16,
// merge keys) cannot be seen any more once it is decoded.
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

// inRules turns a function that checks one rule into one that checks all rules of an object.
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
					found(sideNames[i]+"."+list.name, "Calico accepts the number %v only with a protocol", p)
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
				found(sideNames[i], "one rule has networks of IPv4 and of IPv6: make two rules")
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
			found(sideNames[i]+"."+field, "is not a field in Calico")
		}
	}
}

// protocolCase finds names of protocols in rules and in ports of endpoints that Calico writes in other case.
func protocolCase(o Object) (all []string) {
	look := func(path string, p *Protocol) {
		if p == nil || p.Name == "" {
			return
		}
		for _, name := range []string{"TCP", "UDP", "ICMP", "ICMPv6", "SCTP", "UDPLite"} {
			if strings.EqualFold(p.Name, name) && p.Name != name {
				all = append(all, fmt.Sprintf("%s: Calico knows %s only as %s", path, p.Name, name))
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

// fractions finds durations whose stored form has a fraction, such as 1.5s.
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
