package calc

import (
	"hash/maphash"
	"slices"

	"github.com/margay-project/margay/api/selector"
)

// entityID numbers the entities from 0 on. A number is reused after its entity is gone.
type entityID uint32

// index finds which selectors match which entities, and tries few pairs that do not match.
//
// A selector that needs some label waits in the bucket of that label, or of that label's values; an entity tries the buckets of the
// labels that it has. A selector that needs several labels waits in the bucket with the fewest selectors. The other way around, a new
// selector tries the entities that have a label that it needs (postings.go); if it needs several, the rarest one. The index compares
// values by their hashes: a collision costs a try in vain.
//
// Graph has two: one of the sets' selectors over all entities, and one of the policies' selectors over this node's endpoints.
type index struct {
	entities indexed
	names    *labelNames
	postings postings
	seed     maphash.Seed          // of the hashes of values
	waiting  map[uint64]*bucket    // matchers by the number of the label that they wait for
	always   map[*matcher]struct{} // matchers whose selectors need no label
	serial   uint32                // the last one that add gave out
	round    uint64                // the number of the current search; see next
	seen     []uint32              // by entity: the low half of the last round in which it was a candidate
	found    []*matcher            // what search found; scratch space
}

// indexed gives an index access to its entities.
type indexed struct {
	// labelsOf returns the labels that an entity has now.
	labelsOf func(entityID) labels
	// matching returns where the index keeps the matches of an entity: nil if the index is not about that entity.
	matching func(entityID) **matches
	// each yields the entities that are in the index.
	each func(yield func(entityID) bool)
}

// matcher is a selector in an index.
type matcher struct {
	owner  owner
	parsed *selector.Selector // nil until it is first needed; then the owner's
	alone  *matches           // of this matcher only: shared by all entities that no other selector matches. nil: not needed yet
	seen   uint64             // the last round in which it was tried
	serial uint32             // given by add, unique in the index
	label  uint32             // the label that it waits for, if any
	waits  waits
	on     bool // scratch of set: it is in found, and was not in the matches before
	gone   bool // it was dropped, but some entities' matches still have it
}

// owner has the selector of a matcher: it is a set, a port's name or a selection. It parses the selector when it is asked.
type owner interface{ selector() *selector.Selector }

// waits says where an index keeps a matcher.
type waits uint8

const (
	waitsNowhere    waits = iota // its selector matches no entity
	waitsForNothing              // in index.always
	waitsForLabel                // in the bucket of a label
	waitsForValue                // in the bucket of a label, under each value that would do
)

func (m *matcher) matches(l labels) bool { return m.selector().Matches(l) }

func (m *matcher) selector() *selector.Selector {
	if m.parsed == nil {
		m.parsed = m.owner.selector()
	}
	return m.parsed
}

// bucket is the matchers that wait for one label.
type bucket struct {
	present lazyList[*matcher] // that wait for any value
	values  byValue[*matcher]  // that wait for one of certain values
}

func (b *bucket) empty() bool { return len(b.present.items) == 0 && b.values.empty() }

func newIndex(names *labelNames, entities indexed) *index {
	return &index{
		entities: entities,
		names:    names,
		postings: newPostings(),
		seed:     maphash.MakeSeed(),
		waiting:  map[uint64]*bucket{},
		always:   map[*matcher]struct{}{},
	}
}

func (x *index) hash(value string) uint64 { return maphash.String(x.seed, value) }

// matches are the selectors that match an entity. A value never changes; entities that one and the same selector matches share it.
type matches struct{ by []*matcher }

// nothing is the matches of an entity that is in the index and that no selector matches.
var nothing = &matches{}

// set adds an entity to the index, or notes that its labels changed. old are its labels before; labelsOf returns the new ones already.
// set returns the selectors that started to match it and those that stopped.
func (x *index) set(id entityID, old labels) (started, stopped []*matcher) {
	matching := x.entities.matching(id)
	before := *matching
	if before == nil {
		old = labels{}
	}
	now := x.entities.labelsOf(id)
	x.postings.relabel(x, id, old, now)
	x.search(now)
	for _, m := range x.found {
		m.on = true
	}
	for m := range before.live {
		if m.on {
			m.on = false
		} else {
			stopped = append(stopped, m)
		}
	}
	for _, m := range x.found {
		if m.on {
			m.on = false
			started = append(started, m)
		}
	}
	if len(started)+len(stopped) > 0 || before == nil {
		*matching = kept(x.found)
	}
	return started, stopped
}

// kept makes the matches of an entity from what search found.
func kept(found []*matcher) *matches {
	switch len(found) {
	case 0:
		return nothing
	case 1:
		if found[0].alone == nil {
			found[0].alone = &matches{slices.Clone(found)}
		}
		return found[0].alone
	}
	return &matches{slices.Clone(found)}
}

// live yields the matchers that have not been dropped.
func (m *matches) live(yield func(*matcher) bool) {
	if m == nil {
		return
	}
	for _, by := range m.by {
		if !by.gone && !yield(by) {
			return
		}
	}
}

// next begins another round, in which each matcher and each entity is tried once.
func (x *index) next() uint64 {
	if x.round++; uint32(x.round) == 0 {
		clear(x.seen)
		x.round++
	}
	return x.round
}

// remove takes an entity out of the index. old are its labels; stopped are the selectors that matched it.
func (x *index) remove(id entityID, old labels) (stopped []*matcher) {
	matching := x.entities.matching(id)
	if matching == nil || *matching == nil {
		return nil
	}
	stopped = slices.Collect((*matching).live)
	*matching = nil
	x.postings.relabel(x, id, old, labels{})
	return stopped
}

// add puts a selector into the index, and returns the entities that it matches.
func (x *index) add(m *matcher, s *selector.Selector) (matched []entityID) {
	x.serial++
	m.serial = x.serial
	needs, never := x.needs(s)
	if never {
		return nil
	}
	x.wait(m, needs)
	x.postings.candidates(x, needs, func(id entityID) {
		if !s.Matches(x.entities.labelsOf(id)) {
			return
		}
		matched = append(matched, id)
		matching := x.entities.matching(id)
		x.found = append(slices.AppendSeq(x.found[:0], (*matching).live), m)
		*matching = kept(x.found)
	})
	if len(matched) > 0 {
		m.parsed = s
	}
	return matched
}

// need is a label without which a selector does not match, and the values that would do if only certain ones do.
type need struct {
	label uint64
	selector.Restriction
}

// needs returns the labels that a selector needs. never: it matches no entity at all.
func (x *index) needs(s *selector.Selector) (needs []need, never bool) {
	restrictions, never := s.Restrictions()
	needs = make([]need, 0, len(restrictions))
	for _, r := range restrictions {
		needs = append(needs, need{x.names.number(r.Label), r})
	}
	return needs, never
}

// drop takes a selector out of the index. The matches of entities lose it when the entities next change.
func (x *index) drop(m *matcher) {
	m.gone = true
	still := func(m *matcher) bool { return !m.gone }
	b := x.waiting[uint64(m.label)]
	switch m.waits {
	case waitsForNothing:
		delete(x.always, m)
		return
	case waitsForLabel:
		b.present.remove(still)
	case waitsForValue:
		needs, _ := x.needs(m.selector())
		for _, n := range needs {
			if n.label != uint64(m.label) {
				continue
			}
			for _, v := range n.Values {
				b.values.remove(x.hash(v), m, still)
			}
		}
	default:
		return
	}
	if b.empty() {
		delete(x.waiting, uint64(m.label))
	}
}

// search puts the selectors that match some labels into found. They are valid until the next search.
func (x *index) search(l labels) {
	round := x.next()
	x.found = x.found[:0]
	try := func(m *matcher) {
		if m.seen != round && !m.gone {
			m.seen = round
			if m.matches(l) {
				x.found = append(x.found, m)
			}
		}
	}
	for m := range x.always {
		try(m)
	}
	if len(x.waiting) == 0 {
		return
	}
	l.each(func(number uint64, value string) {
		b := x.waiting[number]
		if b == nil {
			return
		}
		for _, m := range b.present.items {
			try(m)
		}
		if !b.values.empty() {
			b.values.each(x.hash(value), try)
		}
	})
}

// wait puts a selector into one bucket that all entities that it may match try.
func (x *index) wait(m *matcher, needs []need) {
	m.waits = waitsForNothing
	var chosen need
	fewest := 0
	// The best bucket is the one with the fewest selectors; among equals, one of certain values before one of any value, then the one with
	// the smallest label number. So the choice does not depend on the order of needs.
	for _, n := range needs {
		waiting, valued := x.waitingFor(n), n.Values != nil
		better := m.waits == waitsForNothing || waiting < fewest || waiting == fewest &&
			(valued == (m.waits == waitsForValue) && n.label < chosen.label || valued && m.waits == waitsForLabel)
		if !better {
			continue
		}
		fewest, chosen, m.waits = waiting, n, waitsForLabel
		if valued {
			m.waits = waitsForValue
		}
	}
	if m.waits == waitsForNothing {
		x.always[m] = struct{}{}
		return
	}
	m.label = uint32(chosen.label)
	b := x.waiting[chosen.label]
	if b == nil {
		b = &bucket{}
		x.waiting[chosen.label] = b
	}
	if m.waits == waitsForLabel {
		b.present.add(m)
	}
	for _, v := range chosen.Values {
		b.values.add(x.hash(v), m)
	}
}

// waitingFor counts the selectors that wait for a label, or for its values.
func (x *index) waitingFor(n need) int {
	b := x.waiting[n.label]
	if b == nil {
		return 0
	}
	if n.Values == nil {
		return len(b.present.items)
	}
	total := 0
	for _, v := range n.Values {
		total += b.values.size(x.hash(v))
	}
	return total
}

// first reports whether an entity is asked for the first time in a round.
func (x *index) first(id entityID, round uint64) bool {
	if int(id) >= len(x.seen) {
		x.seen = append(x.seen, make([]uint32, int(id)+1-len(x.seen))...)
	}
	again := x.seen[id] == uint32(round)
	x.seen[id] = uint32(round)
	return !again
}
