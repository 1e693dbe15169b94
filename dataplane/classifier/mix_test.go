package classifier

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/classifier/classifiertest"
)

// lab is a node whose endpoints have two interfaces each. It is checked after every write that a packet could see: each
// store to memory, each write to the tables of addresses, each entry of an interface, Sweep and Reuse.
type lab struct {
	*node
	*testing.T
	r       *rand.Rand
	second  map[calc.EndpointID]Masks // of the second interfaces; entries are those of the first
	former  map[calc.EndpointID]Masks // masks that packets in the middle of the program may have read before the change
	states  []*calc.State             // states that may be in force: the last one that was completely in force, and those since
	packets []calc.Packet
	want    map[question]calc.Verdict
	looks   int
	filler  []uint32    // slots that are taken to leave little room
	full    func(error) // is called with each error about a full table; nil: no table is full
}

type question struct {
	state  *calc.State
	id     calc.EndpointID
	stage  int
	packet int
}

func newLab(t *testing.T, r *rand.Rand, s *calc.State) *lab {
	t.Helper()
	l := &lab{node: newNode(t, small), T: t, r: r, second: map[calc.EndpointID]Masks{}}
	l.become(t, s)
	maps.Copy(l.second, l.entries)
	l.states = []*calc.State{s}
	l.hook = func(p netip.Prefix) { l.look("a write of %v", p) }
	l.mem.stored = func() {
		if r.IntN(16) == 0 {
			l.look("a store")
		}
	}
	return l
}

// look asks the tables about every packet at every interface. The verdicts of all stages of a direction must be those of
// one single state.
func (l *lab) look(after string, args ...any) {
	l.Helper()
	l.looks++
	for i, p := range l.packets {
		d := l.view().classify(p)
		for k, entries := range []map[calc.EndpointID]Masks{l.entries, l.second, l.former} {
			for id, m := range entries {
				if k > 0 && m == l.entries[id] {
					continue
				}
				for _, dir := range []calc.Direction{calc.Ingress, calc.Egress} {
					if err := l.judged(m, d, id, dir, i); err != nil {
						l.Fatalf("after %s, %d changes under way: %v (%s interface) %s %+v: %v", fmt.Sprintf(after, args...),
							len(l.states)-1, id, [...]string{"first", "second", "former"}[k], dir, p, err)
					}
				}
			}
		}
	}
}

func (l *lab) judged(m Masks, d dims, id calc.EndpointID, dir calc.Direction, packet int) error {
	var got [layout.Stages]Result
	for i := range got {
		got[i] = l.view().follow(m.Mask[i], d)
	}
	var errs []error
	for _, s := range l.states {
		err := l.judgedBy(s, got, m.Closed != "", id, dir, packet)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (l *lab) judgedBy(s *calc.State, got [layout.Stages]Result, closed bool, id calc.EndpointID, dir calc.Direction, packet int) (err error) {
	for i := range got {
		if stages[i].dir != dir {
			continue
		}
		q := question{s, id, i, packet}
		want, known := l.want[q]
		if !known {
			want = calc.Judge(s, id, stages[i].stage, dir, l.packets[packet])
			l.want[q] = want
		}
		if closed {
			err = closedVerdict(got[i], want)
		} else if want.Action != "" || got[i].Action != "" || len(got[i].Passed)+len(want.Passed) > 0 {
			err = sameVerdict(got[i], want)
		}
		if err != nil {
			return fmt.Errorf("stage %d: %w", i, err)
		}
	}
	return nil
}

// chances are how often things fail, in percent.
type chances struct{ tables, interfaces, putOff int }

// change applies the next state, as far as writes succeed.
func (l *lab) change(next *calc.State, f chances) {
	l.Helper()
	l.changeBy(classifiertest.Diff(l.states[len(l.states)-1], next), next, f)
}

func (l *lab) changeBy(d *calc.Delta, next *calc.State, f chances) {
	l.Helper()
	l.states = append(l.states, next)
	l.packets = nil
	for i := range l.states[1:] {
		l.packets = append(l.packets, classifiertest.BoundaryPackets(l.r, l.states[i], l.states[i+1], 12)...)
	}
	l.want = map[question]calc.Verdict{}
	l.apply(d, f)
}

func (l *lab) apply(d *calc.Delta, f chances) {
	l.Helper()
	chance := func(percent int) bool { return l.r.IntN(100) < percent }
	l.fail = func() bool { return chance(f.tables) }
	l.former = maps.Clone(l.entries)
	commit, err := l.Apply(d)
	if err != nil && l.full != nil {
		l.full(err)
	} else if err != nil && f.tables == 0 {
		l.Fatal(err)
	}
	l.look("apply")
	off := chance(f.putOff)
	fails := func() bool { return off || chance(f.interfaces) }
	var failed []calc.EndpointID
	for _, entries := range []map[calc.EndpointID]Masks{l.entries, l.second} {
		for id, m := range commit.Endpoints {
			if fails() {
				failed = append(failed, id)
				continue
			}
			entries[id] = m
			l.look("the entry of %v", id)
		}
		for _, id := range commit.Gone {
			if fails() {
				failed = append(failed, id)
				continue
			}
			delete(entries, id)
		}
	}
	round := l.Sweep(failed...)
	l.look("sweep")
	if l.full == nil { // otherwise slots wait for room in their classes
		consistent(l, &l.Classifier.addresses.classes)
	}
	done := err == nil && len(failed)+len(commit.Held) == 0
	if l.r.IntN(3) > 0 {
		if grace := l.r.Uint64N(3); grace == 0 {
			l.former = nil
		} else {
			round -= min(round, grace)
		}
		if err := l.Reuse(round); err != nil {
			done = false
		}
		l.look("reuse")
		if l.full == nil {
			consistent(l, &l.Classifier.addresses.classes)
		}
	}
	if done && len(l.Classifier.addresses.queue) == 0 {
		l.states = l.states[len(l.states)-1:]
	}
}

// heal lets all writes succeed. Then the last state is in force, and no former views or retired objects are left.
func (l *lab) heal() {
	l.Helper()
	l.apply(&calc.Delta{}, chances{})
	if len(l.states) != 1 {
		l.Fatal("not everything is in force although nothing fails")
	}
	l.state = l.states[0]
	l.check(l, l.r, 10)
	l.former = nil
	for range 3 {
		if _, err := l.Apply(&calc.Delta{}); err != nil {
			l.Fatal(err)
		}
		if err := l.Reuse(l.Sweep()); err != nil {
			l.Fatal(err)
		}
		l.look("the last reuse")
	}
	l.check(l, l.r, 10)
	for id, s := range l.Classifier.addresses.sets {
		if len(s.former)+len(s.parts)+len(s.partial) > 0 || s.view != nil && len(s.view.atoms) > 1 {
			l.Fatalf("of %s there are left: %d views, %d parts, %d members in them", id, len(s.former), len(s.parts), len(s.partial))
		}
	}
}

// A packet is judged by one state, whatever changes and in whatever order writes succeed: the state before or after the
// change or, while writes fail, one of the states since the last one that was completely in force.
func TestNoPacketSeesAMixOfStates(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what string
		chances
	}{
		{"nothing fails", chances{}},
		{"changes wait for each other", chances{putOff: 50}},
		{"writes to the tables fail", chances{tables: 15}},
		{"entries of interfaces fail", chances{interfaces: 30}},
		{"everything fails", chances{tables: 10, interfaces: 20, putOff: 20}},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			looks := 0
			for i := range 12 * *rounds {
				r := random(t, i)
				o := classifiertest.Options{Endpoints: 3, Rules: 4}
				l := newLab(t, r, classifiertest.RandomState(r, o))
				for range 6 {
					last := l.states[len(l.states)-1]
					if len(l.states) > 4 {
						break
					}
					l.change(classifiertest.Transact(r, last, o), c.chances)
				}
				l.heal()
				looks += l.looks
			}
			t.Logf("looked %d times", looks)
		})
	}
}

// together is a state in which endpoint "a" has policies, and sets have members.
func together(sets map[calc.SetID]string, policies ...calc.PolicyID) *calc.State {
	s := &calc.State{
		Tiers:     map[string]calc.Tier{"default": {Name: "default", Default: api.Deny}},
		Policies:  map[calc.PolicyID]calc.Policy{},
		Sets:      map[calc.SetID]calc.Members{},
		Endpoints: map[calc.EndpointID]calc.Endpoint{},
	}
	for id, members := range sets {
		s.Sets[id] = calc.Members{}
		if members != "" {
			s.Sets[id][netip.MustParsePrefix(members)] = struct{}{}
		}
	}
	allow := func(name string, source, dest calc.SetID) {
		p := calc.Policy{ID: policyID(name), Tier: "default"}
		p.Egress = []calc.Rule{{Action: api.Allow, V4: true, V6: true, Source: calc.Match{Set: source}, Destination: calc.Match{Set: dest}}}
		s.Policies[p.ID] = p
	}
	allow("from-clients", "clients", "")
	allow("to-itself", "nobody", "")
	allow("clients-to-servers", "clients", "servers")
	e := calc.Endpoint{ID: calc.EndpointID{Kind: "WorkloadEndpoint", Name: "a"}}
	e.Policies[calc.Normal][calc.Egress] = []calc.TierPolicies{{Tier: "default", Policies: policies}}
	s.Endpoints[e.ID] = e
	return s
}

// staged is a change: the endpoint refuses clients at one stage, and allows packets to servers at the next.
func staged(s *calc.State) {
	rule := func(name string, r calc.Rule) []calc.TierPolicies {
		r.V4, r.V6 = true, true
		s.Policies[policyID(name)] = calc.Policy{ID: policyID(name), Tier: "default", Ingress: []calc.Rule{r}}
		return []calc.TierPolicies{{Tier: "default", Policies: []calc.PolicyID{policyID(name)}}}
	}
	e := calc.Endpoint{ID: calc.EndpointID{Kind: "HostEndpoint", Name: "host"}}
	e.Policies[calc.PreDNAT][calc.Ingress] = rule("refuse-clients", calc.Rule{Action: api.Deny, Source: calc.Match{Set: "clients"}})
	e.Policies[calc.Normal][calc.Ingress] = rule("serve", calc.Rule{Action: api.Allow, Destination: calc.Match{Set: "servers"}})
	s.Endpoints[e.ID] = e
}

// another adds an endpoint that has the policy of clients.
func another(s *calc.State) {
	e := calc.Endpoint{ID: calc.EndpointID{Kind: "WorkloadEndpoint", Name: "b"}}
	e.Policies[calc.Normal][calc.Egress] = []calc.TierPolicies{{Tier: "default", Policies: []calc.PolicyID{policyID("from-clients")}}}
	s.Endpoints[e.ID] = e
}

// rewritten is a change: the policy of clients is about a net.
func rewritten(s *calc.State) {
	p := s.Policies[policyID("from-clients")]
	p.Egress = []calc.Rule{{Action: api.Allow, V4: true, Source: calc.Match{Nets: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24")}}}}
	s.Policies[p.ID] = p
}

// lonely is a change: an address joins a set that a rule is about.
func lonely(s *calc.State) {
	s.Sets["nobody"] = calc.Members{netip.MustParsePrefix("10.0.0.1/32"): {}}
}

// The smallest changes during which a packet could pass that neither state allows.
func TestNoPacketPassesThatBothStatesDeny(t *testing.T) {
	t.Parallel()
	const one, other = "10.0.0.1/32", "10.0.0.2/32"
	sets := func(clients, servers string) map[calc.SetID]string {
		return map[calc.SetID]string{"clients": clients, "servers": servers, "nobody": ""}
	}
	from, itself, both := policyID("from-clients"), policyID("to-itself"), policyID("clients-to-servers")
	for _, c := range []struct {
		what   string
		states []*calc.State
		chances
	}{
		{"an endpoint becomes a client, and gets a policy that lets clients do nothing",
			[]*calc.State{together(sets("", ""), from), together(sets(one, ""), itself)}, chances{}},
		{"a client becomes none, another address a server",
			[]*calc.State{together(sets(one, ""), both), together(sets("", other), both)}, chances{}},
		{"the other way round",
			[]*calc.State{together(sets("", other), both), together(sets(one, ""), both)}, chances{}},
		{"the rules of a policy change, and an address joins the set that they are no longer about",
			[]*calc.State{together(sets("", ""), from), change(together(sets(one, ""), from), rewritten)}, chances{}},
		{"a net changes places, with an address in it that has an entry of its own",
			[]*calc.State{change(together(sets("10.0.0.0/24", ""), both, itself), lonely),
				change(together(sets("", "10.0.0.0/24"), both, itself), lonely)}, chances{}},
		{"the policy changes, and before it is in force the address joins",
			[]*calc.State{together(sets("", ""), from), together(sets("", ""), itself), together(sets(one, ""), itself)},
			chances{putOff: 100}},
		{"one stage refuses clients no more, the next lets nobody in any more",
			[]*calc.State{change(together(sets(one, other), itself), staged), change(together(sets("", ""), itself), staged)}, chances{}},
		{"an endpoint gets the policy of another, and what should have left its set is still there",
			[]*calc.State{change(together(sets(one, ""), itself), another), change(together(sets("", ""), from), another)},
			chances{tables: 100}},
		{"the endpoint goes, and its address joins",
			[]*calc.State{together(sets("", ""), from), change(together(sets(one, ""), from),
				func(s *calc.State) { clear(s.Endpoints) })}, chances{}},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			for i := range 10 {
				l := newLab(t, random(t, i), c.states[0])
				for _, s := range c.states[1:] {
					l.packets = []calc.Packet{}
					l.change(s, c.chances)
				}
				l.heal()
			}
		})
	}
}

// A member that could not be written waits. A member that joins on the other side meanwhile is seen with it, not before.
func TestMembersWaitForOneThatCouldNotBeWritten(t *testing.T) {
	t.Parallel()
	both := policyID("clients-to-servers")
	sets := func(clients, servers string) map[calc.SetID]string {
		return map[calc.SetID]string{"clients": clients, "servers": servers}
	}
	l := newLab(t, random(t, 0), together(sets("10.0.0.1/32", ""), both))
	l.change(together(sets("", ""), both), chances{tables: 100})
	l.change(together(sets("", "10.0.0.2/32"), both), chances{tables: 50})
	l.heal()
}

// While new rules are not complete in the tables, the old ones are in force. They do not see members that join meanwhile.
func TestOldRulesDoNotSeeNewMembers(t *testing.T) {
	t.Parallel()
	from := policyID("from-clients")
	sets := func(clients string) map[calc.SetID]string {
		return map[calc.SetID]string{"clients": clients, "nobody": ""}
	}
	l := newLab(t, random(t, 0), together(sets(""), from))
	l.change(change(together(sets(""), from), rewritten), chances{tables: 100})
	l.change(change(together(sets("10.0.0.1/32"), from), rewritten), chances{})
	l.heal()
}

// While an address cannot be moved back, its class still has to lose the slots that other rules get.
func TestAnAddressThatCannotBeMovedLeavesNoBitsBehind(t *testing.T) {
	t.Parallel()
	from, itself := policyID("from-clients"), policyID("to-itself")
	sets := func(clients string) map[calc.SetID]string {
		return map[calc.SetID]string{"clients": clients, "nobody": ""}
	}
	without := func(s *calc.State) { delete(s.Policies, from) }
	n := newNode(t, small)
	n.become(t, together(sets(""), from))
	for i, s := range []*calc.State{
		together(sets("10.0.0.1/32"), itself, from),
		change(together(sets("10.0.0.1/32"), itself), without),
		change(together(sets("10.0.0.1/32"), itself), without),
		together(sets("10.0.0.1/32"), itself, policyID("clients-to-servers")),
		together(sets("10.0.0.1/32"), itself),
	} {
		commit, err := n.Apply(classifiertest.Diff(n.state, s))
		if i == 0 && err != nil {
			t.Fatal(err)
		}
		n.flip(commit)
		n.state = s
		n.fail = func() bool { return true } // from here on nothing moves
		_ = n.Reuse(n.Sweep())
		if len(commit.Held) == 0 {
			n.check(t, random(t, i), 50)
		}
		for _, cs := range n.dimensions() {
			consistent(t, cs)
		}
	}
}

// consistent checks that each class has the slots of the conditions that it meets or violates, and no other.
func consistent(t testing.TB, cs *classes) {
	t.Helper()
	for _, k := range cs.byKey {
		for side := range cs.sides {
			var want [2]slotSet
			for _, cond := range cs.conds {
				if slices.ContainsFunc(cond.out, k.isIn) {
					for _, w := range cond.slots[side] {
						want[veto].addWord(w)
					}
				}
				if len(cond.in) > 0 && k.isInAll(cond.in) {
					for _, w := range cond.slots[side] {
						want[pos].addWord(w)
					}
				}
			}
			for b, e := range cs.vectors.entries(k.vectors[side]) {
				for i, w := range cs.vectors.mem.Chunks[e.Chunk].Words {
					at := uint32(b*layout.BlockWords + i)
					without := want[veto].word(at)
					if w.Veto != without || w.Pos&^w.Veto != want[pos].word(at)&^without {
						t.Fatalf("a class has slots %x without %x at %d, want %v", w.Pos, w.Veto, at, want)
					}
				}
			}
		}
	}
}

func (s slotSet) word(at uint32) uint64 {
	if i, found := s.find(at); found {
		return s[i].bits
	}
	return 0
}

// A change that no packet can see takes effect in place, without other slots or masks.
func TestMembersJoinInPlaceIfNoPacketCanTell(t *testing.T) {
	t.Parallel()
	s := together(map[calc.SetID]string{"clients": "10.0.0.1/32", "servers": "10.0.0.2/32"}, policyID("clients-to-servers"))
	n := newNode(t, small)
	n.become(t, s)
	before := n.slots()
	net := netip.MustParsePrefix
	for what, d := range map[string]*calc.Delta{
		"one address, in both sets": {Sets: map[calc.SetID]calc.SetDelta{
			"clients": {Added: []netip.Prefix{net("10.0.0.3/32")}}, "servers": {Added: []netip.Prefix{net("10.0.0.3/32")}}}},
		"one address of each family": {Sets: map[calc.SetID]calc.SetDelta{
			"clients": {Added: []netip.Prefix{net("10.0.0.4/32")}}, "servers": {Added: []netip.Prefix{net("fd00::4/128")}}}},
		"many addresses on one side": {Sets: map[calc.SetID]calc.SetDelta{
			"clients": {Added: []netip.Prefix{net("10.1.0.0/24"), net("10.2.0.0/24")}, Removed: []netip.Prefix{net("10.0.0.1/32")}}}},
		"a new endpoint": {Sets: map[calc.SetID]calc.SetDelta{"clients": {Added: []netip.Prefix{net("10.0.0.5/32")}}},
			Endpoints: map[calc.EndpointID]calc.Endpoint{{Name: "new"}: {ID: calc.EndpointID{Name: "new"},
				Policies: s.Endpoints[calc.EndpointID{Kind: "WorkloadEndpoint", Name: "a"}].Policies}}},
	} {
		commit, err := n.Apply(d)
		if err != nil {
			t.Fatal(err)
		}
		if _, known := commit.Endpoints[calc.EndpointID{Kind: "WorkloadEndpoint", Name: "a"}]; known || !maps.Equal(n.slots(), before) {
			t.Errorf("%s: rules have other slots", what)
		}
		if err := n.Reuse(n.Sweep()); err != nil {
			t.Fatal(err)
		}
	}
}

// A change through another view costs as much as the members that join and leave, not as much as the set.
func TestAnotherViewOfALargeSetMovesOnlyMembersThatChange(t *testing.T) {
	t.Parallel()
	s := together(map[calc.SetID]string{"clients": "10.0.0.1/32", "nobody": ""}, policyID("from-clients"))
	for i := range 500 {
		s.Sets["clients"][netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 32)] = struct{}{}
	}
	n := newNode(t, small)
	n.become(t, s)
	var written []string
	n.hook = func(p netip.Prefix) { written = append(written, p.String()) }
	next := change(s, func(s *calc.State) {
		s.Sets["clients"] = maps.Clone(s.Sets["clients"])
		delete(s.Sets["clients"], netip.MustParsePrefix("10.0.0.1/32"))
		s.Sets["clients"][netip.MustParsePrefix("10.0.0.2/32")] = struct{}{}
		id := calc.EndpointID{Kind: "WorkloadEndpoint", Name: "a"}
		e := s.Endpoints[id]
		e.Policies[calc.Normal][calc.Egress] = []calc.TierPolicies{{Tier: "default",
			Policies: []calc.PolicyID{policyID("to-itself"), policyID("from-clients")}}}
		s.Endpoints[id] = e
	})
	n.become(t, next)
	n.become(t, next)
	slices.Sort(written)
	if got, want := fmt.Sprint(slices.Compact(written)), "[10.0.0.1/32 10.0.0.2/32]"; got != want {
		t.Errorf("written: %s, want %s", got, want)
	}
	n.check(t, random(t, 0), 50)
}
