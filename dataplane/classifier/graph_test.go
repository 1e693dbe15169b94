package classifier

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/calc"
)

// calc makes the changes here, from objects. No packet is judged by a part of a transaction.
func TestNoPacketSeesAPartOfATransaction(t *testing.T) {
	t.Parallel()
	for _, f := range []chances{{}, {tables: 10, interfaces: 20, putOff: 30}} {
		for i := range 15 * *rounds {
			w := cloud{random(t, i)}
			g, state := calc.New("n1", calc.Facts{}), &calc.State{}
			for i := range 5 {
				g.Update(w.endpoint(i))
				g.Update(w.policy(i))
			}
			g.Update(api.Update{Key: api.Key{Kind: "Tier", Name: "default"}, Object: &api.Tier{Metadata: api.Metadata{Name: "default"}}})
			state.Fold(g.Flush())
			if len(state.Endpoints) != 3 {
				t.Fatalf("%d endpoints", len(state.Endpoints))
			}
			l := newLab(t, w.Rand, state.Clone())
			for range 8 {
				for range 1 + w.IntN(3) {
					g.Update(w.update())
				}
				d := g.Flush()
				state.Fold(d)
				l.changeBy(&d, state.Clone(), f)
			}
			l.heal()
		}
	}
}

// cloud makes objects of a few machines whose labels, policies and network sets change.
type cloud struct{ *rand.Rand }

func (w cloud) one(of ...string) string { return of[w.IntN(len(of))] }

func (w cloud) update() api.Update {
	switch w.IntN(8) {
	case 0, 1, 2, 3:
		u := w.endpoint(w.IntN(5))
		if w.IntN(6) == 0 {
			u.Object = nil
		}
		return u
	case 4, 5:
		s := &api.GlobalNetworkSet{Metadata: api.Metadata{Name: w.one("s1", "s2"), Labels: w.labels()}}
		for range w.IntN(4) {
			s.Spec.Nets = append(s.Spec.Nets, w.one("10.65.0.0/24", "10.65.0.1/32", "10.65.0.2/31", "192.0.2.0/24", "192.0.2.7/32", "fd00::/64"))
		}
		return api.Update{Key: api.Key{Kind: "GlobalNetworkSet", Name: s.Name}, Object: s}
	}
	return w.policy(w.IntN(5))
}

func (w cloud) labels() map[string]string { return map[string]string{"role": w.one("a", "b", "c")} }

// endpoint is on this node or another; its address stays, its labels do not.
func (w cloud) endpoint(i int) api.Update {
	e := &api.WorkloadEndpoint{Metadata: api.Metadata{Name: fmt.Sprintf("n1-vm-%d-eth0", i), Namespace: "default", Labels: w.labels()}}
	e.Spec = api.WorkloadEndpointSpec{Orchestrator: "vm", Node: "n1", InterfaceName: fmt.Sprint("cali", i),
		IPNetworks: []string{fmt.Sprintf("10.65.0.%d", i), fmt.Sprintf("fd00::%d", i)}}
	if i > 2 {
		e.Spec.Node = "n2"
	}
	return api.Update{Key: api.Key{Kind: "WorkloadEndpoint", Namespace: e.Namespace, Name: e.Name}, Object: e}
}

func (w cloud) policy(i int) api.Update {
	p := &api.GlobalNetworkPolicy{Metadata: api.Metadata{Name: fmt.Sprint("p", i)}}
	p.Spec.Selector = w.selector()
	p.Spec.Types = []api.PolicyType{api.Ingress, api.Egress}
	p.Spec.Ingress, p.Spec.Egress = w.rules(), w.rules()
	return api.Update{Key: api.Key{Kind: "GlobalNetworkPolicy", Name: p.Name}, Object: p}
}

func (w cloud) selector() string {
	return w.one("role == 'a'", "role == 'b'", "role != 'c'", "role in {'b', 'c'}", "all()")
}

func (w cloud) rules() (rules []api.Rule) {
	for range w.IntN(3) {
		r := api.Rule{Action: api.Allow}
		if w.IntN(3) == 0 {
			r.Action = api.Deny
		}
		for _, side := range []*api.EntityRule{&r.Source, &r.Destination} {
			switch w.IntN(5) {
			case 0, 1:
				side.Selector = w.selector()
			case 2:
				side.NotSelector = w.selector()
			}
		}
		rules = append(rules, r)
	}
	return rules
}
