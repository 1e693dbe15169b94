package classifier

import (
	"iter"
	"net/netip"
	"slices"

	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/calc"
)

// setChange is a change of a set that conditions ask about.
type setChange struct {
	set *set
	calc.SetDelta
}

// changeUnaskedSets changes the sets that no condition asks about. It returns the changes of the other sets, which Apply
// hands to changeAskedSets when the changes of rules and endpoints are known.
func (c *Classifier) changeUnaskedSets(sets map[calc.SetID]calc.SetDelta) (later []setChange) {
	for id, d := range sets {
		if s := c.addresses.known(id); s.view == nil {
			c.addresses.changeMembers(s, d)
		} else {
			later = append(later, setChange{s, d})
		}
	}
	return later
}

// goneSets removes sets from the state. Rules that are retired keep seeing the members. If a rule in a list still names a
// set, the set becomes empty instead, and goneSets returns that change. A Delta of calc never names such a set: calc
// removes a set only when no active policy names it.
func (c *Classifier) goneSets(ids []calc.SetID) (later []setChange) {
	if len(ids) == 0 {
		return nil
	}
	live := c.liveSets()
	for _, id := range ids {
		s := c.addresses.sets[id]
		if s == nil {
			continue
		}
		if !live[s] {
			delete(c.addresses.sets, id)
			continue
		}
		all := calc.SetDelta{Removed: make([]netip.Prefix, 0, len(s.members))}
		for p := range s.members {
			all.Removed = append(all.Removed, p)
		}
		later = append(later, setChange{s, all})
	}
	return later
}

// liveSets returns the sets that a rule in a list names.
func (c *Classifier) liveSets() map[*set]bool {
	live := map[*set]bool{}
	for _, l := range c.order.lists {
		for _, it := range l.items {
			for _, cond := range it.aboutAddresses() {
				if cond != nil {
					for _, v := range slices.Concat(cond.in, cond.out) {
						live[v.set] = true
					}
				}
			}
		}
	}
	return live
}

// changeAskedSets makes members join and leave: in place if no packet can get a mixed verdict, otherwise through other views
// and so other slots, which take effect with the masks.
func (c *Classifier) changeAskedSets(changes []setChange) {
	var moves movedAddresses
	changes = slices.DeleteFunc(changes, func(ch setChange) bool { return !moves.note(ch) })
	if len(changes) == 0 {
		return
	}
	if c.mixes(changes, moves) {
		for _, ch := range changes {
			if len(ch.set.view.conds) > 0 { // else only retired rules ask about the set, through its former views
				c.addresses.addView(ch.set)
			}
		}
		for _, l := range c.order.lists {
			c.relink(l)
		}
	}
	for _, ch := range changes {
		c.addresses.changeMembers(ch.set, ch.SetDelta)
	}
}

// relink replaces the items of a list that ask about former views by items that ask about the current views. These get
// other slots.
func (c *Classifier) relink(l *list) {
	for i, it := range l.items {
		if conds := it.aboutAddresses(); !conds[0].former() && !conds[1].former() {
			continue
		}
		next := &item{id: it.id, hash: it.hash, rule: it.rule, variant: it.variant, action: it.action, list: l}
		c.setConditions(next)
		c.countRule(next)
		c.order.retire(it)
		l.items[i] = next
		c.order.pending[l] = struct{}{}
	}
}

// mixes says whether some packet could get a verdict that neither the old state nor the new one gives, if members
// changed in place, address by address.
func (c *Classifier) mixes(changes []setChange, moves movedAddresses) bool {
	m := mixCheck{several: moves.several || len(c.addresses.failed) > 0, about: map[*mask][2]bool{}}
	if !m.several && len(c.pendingEndpoints)+len(c.leaving)+len(c.pendingRulesets)+len(c.order.pending) == 0 {
		return false
	}
	for _, ch := range changes {
		m.rules.add(ch.set.view)
	}
	if len(m.rules[0])+len(m.rules[1]) == 0 {
		return false
	}
	for _, x := range c.addresses.failed { // atoms with addresses that the last update could not move: this Apply tries again
		for _, v := range x.views {
			m.rules.add(v)
		}
	}
	m.changing = c.changingRulesets()
	for e := range c.mixCandidates(&m) {
		if m.seenAt(e) {
			return true
		}
	}
	return false
}

// mixCheck finds endpoints where a packet could see a mix. An address moves from all its former sets to all its new
// ones in one step. So a mix is possible only if the endpoint has rules about changing sets, and one of these holds:
//
//   - The endpoint gets other masks: until the commit, its old rules would meet the new members.
//   - Its rules ask about the source and about the destination, and two addresses of one family change: for a moment, one
//     would be in its new sets and the other still in its old sets.
type mixCheck struct {
	rules    slotsBySide       // about sets that change
	several  bool              // two addresses of one family change, or a net changes, or an earlier change failed
	changing map[*ruleset]bool // whose masks change
	about    map[*mask][2]bool // by side: whether the mask has some of the rules; filled as needed
}

// changingRulesets returns the rulesets whose masks change in this Apply, or should have changed and could not.
func (c *Classifier) changingRulesets() map[*ruleset]bool {
	changing := map[*ruleset]bool{}
	for l := range c.order.pending {
		for s := range l.rulesets {
			changing[s] = true
		}
	}
	for s := range c.pendingRulesets {
		changing[s] = true
	}
	return changing
}

// mixCandidates returns the endpoints that may see a mix, some perhaps more than once.
func (c *Classifier) mixCandidates(m *mixCheck) iter.Seq[*endpoint] {
	return func(yield func(*endpoint) bool) {
		changing := []map[*endpoint]struct{}{c.pendingEndpoints} // endpoints whose masks may change
		for s := range m.changing {
			changing = append(changing, s.endpoints)
		}
		others := []map[calc.EndpointID]*endpoint{c.leaving} // their interfaces may still have masks
		if m.several {                                       // a mix needs no change of masks: every endpoint may see it
			changing, others = nil, append(others, c.endpoints)
		}
		for _, endpoints := range changing {
			for e := range endpoints {
				if !yield(e) {
					return
				}
			}
		}
		for _, endpoints := range others {
			for _, e := range endpoints {
				if !yield(e) {
					return
				}
			}
		}
	}
}

// seenAt says whether a packet could see a mix through masks that some interface of an endpoint may have.
func (m *mixCheck) seenAt(e *endpoint) bool {
	has := slices.Clip(e.uncertain)
	if e.committed != nil {
		has = append(has, e.committed)
	}
	return slices.ContainsFunc(has, func(h *maskSet) bool {
		return m.seenThrough(h, e, calc.Ingress) || m.seenThrough(h, e, calc.Egress)
	})
}

// seenThrough looks at all stages of a direction together, as a packet passes all of them.
func (m *mixCheck) seenThrough(h *maskSet, e *endpoint, dir calc.Direction) bool {
	var about [2]bool
	changes := (h.closed == "") != (e.closed == "") // closed is a flag that is written together with the masks: layout.IfaceClosed
	for i, n := range h.masks {
		if stages[i].dir != dir {
			continue
		}
		var next *mask
		if s := e.rulesets[i]; s != nil {
			next = s.mask
			changes = changes || m.changing[s]
		}
		changes = changes || n != next
		if n != nil {
			here := m.aboutIn(n)
			about[0], about[1] = about[0] || here[0], about[1] || here[1]
		}
	}
	return changes && (about[0] || about[1]) || m.several && about[0] && about[1]
}

// aboutIn says, by side, whether a mask has rules about sets that change.
func (m *mixCheck) aboutIn(n *mask) [2]bool {
	about, known := m.about[n]
	if !known {
		about = [2]bool{n.has(m.rules[0]), n.has(m.rules[1])}
		m.about[n] = about
	}
	return about
}

// slotsBySide are slots of rules: about the source, and about the destination.
type slotsBySide [2]slotSet

// add adds the slots of the rules about a view.
func (s *slotsBySide) add(v *view) {
	for _, cond := range v.conds {
		for side, slots := range cond.slots {
			for _, w := range slots {
				s[side].addWord(w)
			}
		}
	}
}

// movedAddresses says whether several addresses of one family change their sets. Only these can be the source and the
// destination of one packet, which has one family. A net counts as several addresses.
type movedAddresses struct {
	one     [2]netip.Prefix // by family: the last address that was added; invalid: none
	several bool            // two addresses of one family, or a net
}

// note adds a change. It is false if the change has no effect.
func (m *movedAddresses) note(ch setChange) (any bool) {
	for _, r := range ch.Removed {
		if p, ok := ch.set.leaves(r); ok {
			m.add(p)
			any = true
		}
	}
	for _, r := range ch.Added {
		if p, ok := ch.set.joins(r); ok {
			m.add(p)
			any = true
		}
	}
	return any
}

func (m *movedAddresses) add(p netip.Prefix) {
	one := &m.one[0]
	if p.Addr().Is6() {
		one = &m.one[1]
	}
	if !p.IsSingleIP() || one.IsValid() && *one != p {
		m.several = true
	}
	*one = p
}

// has says whether the mask has one of some slots.
func (m *mask) has(slots slotSet) bool {
	for _, w := range slots {
		c := m.chunks[w.at/uint32(layout.BlockWords)]
		if c != nil && c.words[w.at%uint32(layout.BlockWords)]&w.bits != 0 {
			return true
		}
	}
	return false
}
