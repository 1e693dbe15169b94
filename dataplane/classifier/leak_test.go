package classifier

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/margay-project/margay/calc"
)

// A live atom that still points to a freed class would keep a chain of all freed classes alive.
func TestFreedClassesAreCollected(t *testing.T) {
	t.Parallel()
	n := newNode(t, medium)
	s := fleet(1, 3, 1)
	for i := range 200 {
		n.become(t, change(s, func(s *calc.State) {
			p := s.Policies[policyID("policy-00000")]
			p.Ingress = append([]calc.Rule(nil), p.Ingress...)
			for k := range p.Ingress {
				nets := []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 16, byte(i), byte(i)}), 28-k)}
				ports := []calc.PortRange{{First: uint16(i), Last: uint16(i + k + 3)}}
				if k == 0 { // this net stays, and the others lie within it
					nets, ports = []netip.Prefix{netip.MustParsePrefix("172.16.0.0/16")}, []calc.PortRange{{First: 0, Last: 1000}}
				}
				p.Ingress[k] = calc.Rule{Action: p.Ingress[k].Action, V4: true, Protocol: 6,
					Source: calc.Match{Nets: nets}, Destination: calc.Match{Nets: nets, Ports: ports}}
			}
			s.Policies[p.ID] = p
		}))
		for _, cs := range n.dimensions() {
			for _, cond := range cs.conds {
				for _, v := range slices.Concat(cond.in, cond.out) {
					for _, c := range v.atoms[0].classes[len(v.atoms[0].classes):cap(v.atoms[0].classes)] {
						if c != nil {
							t.Fatalf("change %d: an atom holds a class that it is no longer in", i)
						}
					}
				}
			}
		}
	}
}
