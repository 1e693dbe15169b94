package dataplane

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/calc"
)

// First the server's policy allows clients, and the other VM is not a client. Then the policy allows no VM, and the other VM
// is a client. Neither state lets that VM in. It tries to connect before every write to the kernel, and must always fail,
// also after failed writes and during grace periods.
func TestNoDeniedPacketPassesDuringAChange(t *testing.T) {
	h := newHost(t)
	client, server := h.pair()
	to := server.Addresses[0]
	watched, broken := "", ""
	c := &clock{time.Now()}
	tries := 0
	step := func(what string) error {
		if watched != "" {
			if tries++; client.ReachesAtOnce("tcp", to, 80) {
				t.Errorf("%s: let in before %q", watched, what)
			}
		}
		if broken != "" && strings.Contains(what, broken) {
			return errors.New("injected")
		}
		return nil
	}
	w := newWorld()
	w.workload(client)
	id := w.workload(server)
	w.Policies[allowsClients] = calc.Policy{ID: allowsClients, Tier: "default", Ingress: []calc.Rule{
		{Action: api.Allow, V4: true, V6: true, Source: calc.Match{Set: "clients"}}}}
	w.Policies[allowsNone] = calc.Policy{ID: allowsNone, Tier: "default"}
	d := h.start(Options{step: step, clock: c.time})
	defer func() { must(t, d.Uninstall()) }()
	d.InSync()

	w.judgedBy(id, allowsClients)
	w.Sets = map[calc.SetID]calc.Members{"clients": client.asMembers()}
	must(t, d.become(w))
	if !client.Reaches("tcp", to, 80) {
		t.Fatal("a client is not let in")
	}
	former := func() {
		w.judgedBy(id, allowsClients)
		w.Sets["clients"] = calc.Members{}
		must(t, d.become(w))
	}
	policy := func() error { w.judgedBy(id, allowsNone); return d.become(w) }
	members := func() error { w.Sets["clients"] = client.asMembers(); return d.become(w) }

	former()
	watched = "both at once"
	w.judgedBy(id, allowsNone)
	must(t, members())

	watched = ""
	former()
	watched = "both wait until the datastore is ready"
	w.Ready = false
	rules := d.Status().Rules
	must(t, errors.Join(policy(), members()))
	for range 20 {
		former()
		must(t, errors.Join(policy(), members()))
	}
	w.Ready = true
	must(t, d.become(w))
	if now := d.Status().Rules; now > 2*rules {
		t.Errorf("%d rules in the tables, %d before: changes leave rules behind", now, rules)
	}

	watched = ""
	former()
	watched, broken = "the policy cannot be written", "interface policy"
	if err := errors.Join(policy(), members()); err == nil {
		t.Error("the failure is not reported")
	}
	broken = ""
	c.now = c.now.Add(time.Hour)
	must(t, d.Apply(calc.Delta{}))
	watched = ""
	t.Logf("tried %d times", tries)
}

var (
	allowsClients = calc.PolicyID{Kind: "GlobalNetworkPolicy", Name: "default.lets-clients-in"}
	allowsNone    = calc.PolicyID{Kind: "GlobalNetworkPolicy", Name: "default.lets-nobody-in"}
)

// judgedBy gives an endpoint ingress policies.
func (w world) judgedBy(id calc.EndpointID, policies ...calc.PolicyID) {
	ep := w.Endpoints[id]
	ep.Policies[calc.Normal][calc.Ingress] = []calc.TierPolicies{{Tier: "default", Policies: policies}}
	w.Endpoints[id] = ep
}

func (m *vm) asMembers() calc.Members {
	members := calc.Members{}
	for _, a := range m.Addresses {
		members[netip.PrefixFrom(a, a.BitLen())] = struct{}{}
	}
	return members
}
