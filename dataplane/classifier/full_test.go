package classifier

import (
	"slices"
	"testing"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/classifier/classifiertest"
)

// Tables are too small now and then, and refuse some changes. Each packet is judged by one state meanwhile, and once
// there is room again, the tables are as if there always had been.
func TestNoPacketSeesAMixOfStatesInFullTables(t *testing.T) {
	t.Parallel()
	refused := map[string]int{}
	for i := range 25 * *rounds {
		r := random(t, i)
		o := classifiertest.Options{Endpoints: 3, Rules: 4}
		first := classifiertest.RandomState(r, o)
		l := newLab(t, r, first)
		l.full = func(err error) { refusal(t, refused, err) }
		l.squeeze()
		for range 5 {
			last := l.states[len(l.states)-1]
			if len(l.states) > 4 {
				break
			}
			next := classifiertest.Transact(r, last, o)
			l.change(next, chances{putOff: 10})
			ascending(t, l.Classifier)
		}
		l.change(first, chances{})
		l.release()
		l.heal()
		sameCounts(t, l.node, small)
	}
	t.Logf("refused for lack of %v", refused)
}

// squeeze leaves little room in a table, until release.
func (l *lab) squeeze() {
	c, few := l.Classifier, l.r.IntN(12)
	switch l.r.IntN(5) {
	case 0:
		c.vectors.numbers.limit = c.vectors.numbers.count*8/7 + uint32(few) // an eighth is for masks
	case 1:
		c.vectors.chunks.limit = c.vectors.chunks.count*8/7 + uint32(few)
	case 2:
		c.addresses.hosts.limit = c.addresses.hosts.used + few
		c.addresses.nets.limit = c.addresses.nets.used + few
	default:
		for slot := range c.order.total {
			if c.order.occupied[slot/64]&(1<<(slot%64)) == 0 && l.r.IntN(4096) > 40 {
				c.order.occupy(slot)
				l.filler = append(l.filler, slot)
			}
		}
	}
}

func (l *lab) release() {
	c := l.Classifier
	c.vectors.numbers.limit, c.vectors.chunks.limit = uint32(small.Vectors), uint32(small.Chunks)
	c.addresses.hosts.limit, c.addresses.nets.limit = small.Hosts, small.Nets
	for _, slot := range l.filler {
		c.order.vacate(slot)
	}
	l.filler = nil
}

// ascending checks that rules stand in the order of evaluation, also those of lists that lack some.
func ascending(t testing.TB, c *Classifier) {
	t.Helper()
	last := uint32(0)
	for _, l := range c.order.lists {
		for _, it := range l.items {
			if it.slot != 0 && it.slot <= last {
				t.Fatalf("rule %v has slot %d, and one before it has %d", it.id, it.slot, last)
			}
			last = max(last, it.slot)
		}
	}
}

// A policy that does not fit keeps the slots of the rules that it has. Rules that find room meanwhile stay on their side
// of these.
func TestRulesOfAPolicyThatDoesNotFitKeepTheirPlace(t *testing.T) {
	t.Parallel()
	n := newNode(t, small)
	n.become(t, fleet(3, 1, 1))
	rules := func(policy string, count int) func(*calc.State) {
		return func(s *calc.State) {
			p := s.Policies[policyID(policy)]
			p.Ingress = slices.Clone(p.Ingress)
			for i := range count {
				p.Ingress = append(p.Ingress, fleetRule(1000+i))
			}
			s.Policies[p.ID] = p
		}
	}
	var taken []uint32
	for _, l := range n.order.lists {
		if len(l.items) > 0 && l.items[0].id.Policy == policyID("policy-00001") {
			taken = n.fillSlotsBut(l.items[0].slot, 6)
		}
	}
	next := change(change(n.state, rules("policy-00001", 20)), rules("policy-00002", 3))
	commit, err := n.Apply(classifiertest.Diff(n.state, next))
	refusal(t, map[string]int{}, err)
	ascending(t, n.Classifier)
	n.flip(commit)
	n.Sweep()
	for _, slot := range taken {
		n.order.vacate(slot)
	}
	n.state = next
	settled(t, n)
	ascending(t, n.Classifier)
	n.check(t, random(t, 0), 100)
}

// fillSlotsBut occupies all free slots except the first few before a slot.
func (n *node) fillSlotsBut(before uint32, some int) (taken []uint32) {
	for slot := range n.order.total {
		switch {
		case n.order.occupied[slot/64]&(1<<(slot%64)) != 0:
		case slot < before && some > 0:
			some--
		default:
			n.order.occupy(slot)
			taken = append(taken, slot)
		}
	}
	return taken
}
