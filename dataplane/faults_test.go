package dataplane

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/classifier"
	"github.com/margay-project/margay/internal/lab"
)

// fault makes the n-th write to the kernel fail, and every retry of it until the fault is healed. Of the writes that differ
// only in their key, only the first two are counted.
type fault struct {
	at, count int
	kinds     map[string]int
	what      string // the write that failed; empty: the fault was never reached
}

func (f *fault) step(what string) error {
	if f.what != "" && what == f.what {
		return errors.New("injected")
	}
	kind := what[:strings.LastIndex(" "+what, " ")]
	if f.kinds == nil {
		f.kinds = map[string]int{}
	}
	if f.kinds[kind]++; f.kinds[kind] > 2 {
		return nil
	}
	f.count++
	if f.count == f.at {
		f.what = what
	}
	if f.what != "" && what == f.what {
		return errors.New("injected")
	}
	return nil
}

func (f *fault) heal() { f.at, f.what = -1, "" }

// clock is the Driver's clock. Tests move it forward so that retries happen at once.
type clock struct{ now time.Time }

func (c *clock) time() time.Time { return c.now }

func TestAFailureAtAnyStepOfTheStartOpensNothing(t *testing.T) {
	h := newHost(t)
	client, server := h.pair()
	w := newWorld()
	w.workload(client)
	w.protect(w.workload(server), 80)
	to := server.Addresses[0]
	for n := 1; ; n++ {
		f, c := &fault{at: n}, &clock{time.Now()}
		d := h.start(Options{step: f.step, clock: c.time})
		d.InSync()
		err := d.become(w)
		what := f.what
		if (what != "") != (err != nil) {
			t.Errorf("step %d (%s) failed, and the pass returned %v", n, what, err)
		}
		if client.ReachesAtOnce("tcp", to, 81) {
			t.Errorf("open after step %d failed: %s", n, what)
		}
		f.heal()
		for range 3 {
			c.now = c.now.Add(time.Hour)
			err = d.Apply(calc.Delta{})
		}
		if err != nil || !client.Reaches("tcp", to, 80) || client.ReachesAtOnce("tcp", to, 81) {
			t.Errorf("the state is not as desired after step %d (%s) was healed: %v\n%+v", n, what, err, d.Status())
		}
		must(t, d.Uninstall())
		if what == "" {
			t.Logf("%d steps", n-1)
			return
		}
	}
}

func TestAFailureAtAnyStepOfAChangeOpensNothing(t *testing.T) {
	h := newHost(t)
	client, server := h.pair()
	f, c := &fault{at: -1}, &clock{time.Now()}
	w := newWorld()
	w.workload(client)
	id := w.workload(server)
	w.protect(id, 80)
	d := h.run(w, Options{step: f.step, clock: c.time})
	defer func() { must(t, d.Uninstall()) }()
	to := server.Addresses[0]
	if !client.Reaches("tcp", to, 80) {
		t.Fatal("the server does not answer")
	}
	ports := []uint16{81, 80}
	reached := 0
	for n := 1; ; n++ {
		port, other := int(ports[n%2]), int(ports[(n+1)%2])
		w.protect(id, uint16(port))
		f.at, f.count, f.kinds = n, 0, nil
		_ = d.become(w)
		what := f.what
		if a, b := client.ReachesAtOnce("tcp", to, 80), client.ReachesAtOnce("tcp", to, 81); a && b {
			t.Errorf("open after step %d failed: %s", n, what)
		}
		f.heal()
		c.now = c.now.Add(time.Hour)
		if err := d.Apply(calc.Delta{}); err != nil {
			t.Errorf("error after step %d (%s) was healed: %v", n, what, err)
		}
		if !client.Reaches("tcp", to, port) || client.ReachesAtOnce("tcp", to, other) {
			t.Errorf("the new policy is not in force after step %d (%s) was healed", n, what)
		}
		if what == "" {
			break
		}
		reached = n
	}
	t.Logf("%d steps", reached)
}

func TestPolicyReachesAnInterfaceThatCannotChangeItsGeneration(t *testing.T) {
	h := newHost(t)
	client, server := h.pair()
	c := &clock{time.Now()}
	broken := false
	w := newWorld()
	w.workload(client)
	id := w.workload(server)
	w.protect(id, 80)
	d := h.run(w, Options{clock: c.time, step: func(what string) error {
		if broken && strings.HasPrefix(what, "swap interface") {
			return errors.New("injected")
		}
		return nil
	}})
	defer func() { must(t, d.Uninstall()) }()
	to := server.Addresses[0]
	if !client.Reaches("tcp", to, 80) {
		t.Fatal("the server does not answer")
	}
	broken = true
	d.generations.renew = "the test asks for it"
	w.protect(id, 81)
	if err := d.become(w); err == nil {
		t.Error("the failed swap is not reported")
	}
	if got := d.Status(); got.Generations != 2 {
		t.Errorf("%d generations", got.Generations)
	}
	if client.ReachesAtOnce("tcp", to, 80) || !client.Reaches("tcp", to, 81) {
		t.Error("the interface that stayed in its generation has the old policy")
	}
	broken = false
	c.now = c.now.Add(time.Hour)
	must(t, d.Apply(calc.Delta{}))
	if got := d.Status(); got.Generations != 1 {
		t.Errorf("%d generations after the fault was healed", got.Generations)
	}
	if client.ReachesAtOnce("tcp", to, 80) || !client.Reaches("tcp", to, 81) {
		t.Error("the policy is not in force in the new generation")
	}
}

func TestFullTablesGrow(t *testing.T) {
	h := newHost(t)
	client, server := h.pair()
	w := newWorld()
	w.workload(client)
	id := w.workload(server)
	w.protect(id, 80)
	d := h.start(Options{})
	defer func() { must(t, d.Uninstall()) }()
	d.generations.sizes = classifier.Sizes{Blocks: 1, Vectors: 16, Chunks: 16, Hosts: 64, Nets: 64}
	d.InSync()
	must(t, d.become(w))
	first := d.generations.sizes
	var rules []calc.Rule
	for i := range 300 {
		net := netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 16, byte(i), 0}), 24)
		rules = append(rules, calc.Rule{Action: api.Deny, V4: true, Source: calc.Match{Nets: []netip.Prefix{net}}})
	}
	many := calc.PolicyID{Kind: "GlobalNetworkPolicy", Name: "default.many"}
	w.Policies[many] = calc.Policy{ID: many, Tier: "default", Ingress: rules}
	ep := w.Endpoints[id]
	ep.Policies[calc.Normal][calc.Ingress] = []calc.TierPolicies{{Tier: "default",
		Policies: []calc.PolicyID{many, ep.Policies[calc.Normal][calc.Ingress][0].Policies[0]}}}
	w.Endpoints[id] = ep
	_ = d.become(w)
	d.settle(func() bool { return d.Apply(calc.Delta{}) == nil })
	if d.generations.sizes == first {
		t.Error("the tables have not grown")
	}
	if !client.Reaches("tcp", server.Addresses[0], 80) || client.ReachesAtOnce("tcp", server.Addresses[0], 81) {
		t.Errorf("the state is not as desired: %+v", d.Status())
	}
}

// A change needs a second copy of each rule of a policy. The policy already fills more than half of the largest possible
// tables, so the copy has no room beside it, and the tables cannot grow.
func TestALargePolicyChangesTogetherWithItsSet(t *testing.T) {
	h := newHost(t)
	client, server := h.pair()
	w := newWorld()
	w.workload(client)
	id := w.workload(server)
	large := calc.PolicyID{Kind: "GlobalNetworkPolicy", Name: "default.large"}
	rules := make([]calc.Rule, calc.MaxSlots/2+1)
	for i := range rules {
		rules[i] = calc.Rule{Action: api.Deny, V4: true, V6: true, Source: calc.Match{Set: "refused"}}
	}
	rules[len(rules)-1] = calc.Rule{Action: api.Allow, V4: true, V6: true}
	w.Policies[large] = calc.Policy{ID: large, Tier: "default", Ingress: rules}
	w.judgedBy(id, large)
	w.Sets = map[calc.SetID]calc.Members{"refused": {}}
	d := h.start(Options{})
	defer func() { must(t, d.Uninstall()) }()
	log := &textLog{}
	h.log.Logger.AddHook(log)
	become := func() {
		t.Helper()
		if err := d.become(w); err != nil { // the kernel may have no memory for so many rule counters at once
			d.settle(func() bool { return d.counters.Status().Failed == 0 })
		}
	}
	d.InSync()
	become()
	if !client.Reaches("tcp", server.Addresses[0], 80) {
		t.Fatal("the server does not answer")
	}
	w.Sets["refused"] = client.asMembers()
	w.Policies[allowsNone] = calc.Policy{ID: allowsNone, Tier: "default"}
	w.judgedBy(id, large, allowsNone)
	become()
	if client.ReachesAtOnce("tcp", server.Addresses[0], 80) {
		t.Errorf("the old policy still allows the connection: %v", d.Status().Problems)
	}
	if text := log.String(); !strings.Contains(text, "built anew, without the former policy") || strings.Contains(text, "remove some rules") {
		t.Errorf("all rules have room in the next tables, and the log says:\n%s", text)
	}
}

// textLog keeps what is logged, with all fields.
type textLog struct{ lab.Output }

func (l *textLog) Levels() []logrus.Level { return logrus.AllLevels }

func (l *textLog) Fire(e *logrus.Entry) error {
	line, err := e.String()
	if err == nil {
		_, err = l.Write([]byte(line))
	}
	return err
}

// Work that failed at the end of a grace period is retried without another change.
func TestAnUnusedAddressIsRemovedInTheEnd(t *testing.T) {
	h := newHost(t)
	c, broken, failed := &clock{time.Now()}, false, false
	w := newWorld()
	id := w.workload(h.plug("cali1", "10.65.0.1"))
	w.Policies[allowsClients] = calc.Policy{ID: allowsClients, Tier: "default", Ingress: []calc.Rule{
		{Action: api.Allow, V4: true, V6: true, Source: calc.Match{Set: "clients"}}}}
	w.judgedBy(id, allowsClients)
	w.Sets = map[calc.SetID]calc.Members{"clients": {netip.MustParsePrefix("10.9.0.1/32"): {}}}
	d := h.run(w, Options{clock: c.time, step: func(what string) error {
		if broken && strings.HasPrefix(what, "delete address") {
			failed = true
			return errors.New("injected")
		}
		return nil
	}})
	defer func() { must(t, d.Uninstall()) }()
	addresses := func() (n int) {
		hosts, err := d.generations.newest().Hosts.All()
		for range hosts {
			n++
		}
		must(t, err())
		return n
	}
	if addresses() != 1 {
		t.Fatalf("%d addresses are left", addresses())
	}
	broken = true
	delete(w.Policies, allowsClients)
	w.Sets = nil
	w.judgedBy(id)
	must(t, d.become(w))
	later := func() { c.now = c.now.Add(2 * graceDelay) }
	d.settle(func() bool { later(); return failed })
	broken = false
	d.settle(func() bool { later(); return addresses() == 0 })
}

// The kernel lacks memory for some rule counters, as when many are made in a row. Policy must not wait for them. Each is
// retried once, later.
func TestCountersAreRetriedAfterTheKernelLackedMemory(t *testing.T) {
	h := newHost(t)
	client, server := h.pair()
	w := newWorld()
	w.workload(client)
	w.protect(w.workload(server), 80)
	c, tries, short := &clock{time.Now()}, map[string]int{}, true
	d := h.start(Options{clock: c.time, step: func(what string) error {
		if strings.HasPrefix(what, "put rule counter") && short {
			tries[what]++
			return unix.ENOMEM
		}
		return nil
	}})
	defer func() { must(t, d.Uninstall()) }()
	d.InSync()
	if err := d.become(w); !errors.Is(err, unix.ENOMEM) {
		t.Errorf("error %v, want one about memory", err)
	}
	if to := server.Addresses[0]; !client.Reaches("tcp", to, 80) || client.ReachesAtOnce("tcp", to, 81) {
		t.Error("policy is not in force")
	}
	if len(tries) == 0 {
		t.Fatal("no rule has a counter")
	}
	for what, n := range tries {
		if n != 1 {
			t.Errorf("%s was tried %d times without a pause", what, n)
		}
	}
	short = false
	c.now = c.now.Add(time.Minute)
	must(t, d.Apply(calc.Delta{}))
	if s := d.counters.Status(); s.Failed != 0 || s.Programmed != s.Wanted {
		t.Errorf("status after the retry: %+v", s)
	}
}
