package calc

import (
	"hash/maphash"
	"slices"

	"github.com/margay-project/margay/api/selector"
)

// entityID is a small number for an entity; it is used again after the entity is gone.
type entityID uint32

// index finds which selectors match which entities, looking only at pairs that have a chance.
//
// Every selector that needs some label waits in a bucket for that label, or for one of its values; an entity tries the
// buckets of the labels that it has. The other way around, a new selector tries the entities that have a label that it
// needs (postings.go). Of several labels that would do, the one with the fewest to try is taken. Values are known by their
// hash: two with the same only make for a vain try.
type index struct {
	entities indexed
	names    *labelNames
	postings postings
	seed     maphash.Seed
	waiting  map[uint64]*bucket    // matchers by the label that they need
	always   map[*matcher]struct{} // those that need none
	seen     []uint32              // by entity: the low half of the round in which it was a candidate
	round    uint64
	serial   uint32
	found    []*matcher // of the last search, used again
}

// indexed is where the entities of an index are.
type indexed struct {
	labelsOf func(entityID) labels
	// matching is where it is kept what matches an entity: nil if it is not in the index.
	matching func(entityID) **matches
	// each yields those that are in the index.
	each func(yield func(entityID) bool)
}

// matcher is a selector in an index.
type matcher struct {
	owner  owner
	parsed *selector.Selector // nil: the owner parses it when it is tried
	alone  *matches           // itself: what matches an entity, for the many that one selector matches
	seen   uint64             // the round in which it was last tried
	serial uint32             // unlike every other's of the index
	label  uint32             // for which it waits
	waits  waits
	on     bool // among what was found last
	gone   bool
}

// owner is what wants to know what a selector matches.
type owner interface{ selector() *selector.Selector }

// place is where a matcher waits.
type waits uint8

const (
	waitsNowhere waits = iota // it matches nothing
	waitsForNothing
	waitsForLabel
	waitsForValue
)

func (m *matcher) matches(l labels) bool { return m.selector().Matches(l) }

func (m *matcher) selector() *selector.Selector {
	if m.parsed == nil {
		m.parsed = m.owner.selector()
	}
	return m.parsed
}

// bucket is the matchers that wait for a label.
type bucket struct {
	present lazyList[*matcher]
	values  byValue[*matcher]
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

// matches are the selectors that match an entity. They never change, and entities that the same one matches share them.
type matches struct{ by []*matcher }

// nothing matches an entity that is in the index and matched by none.
var nothing = &matches{}

// set puts an entity into the index or changes its labels from what they were; labelsOf gives the new ones already. It
// returns the selectors that began to match it, and those that no longer do.
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

// kept is what is remembered of what matches an entity.
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

// still yields those that are in the index.
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

// next begins another round.
func (x *index) next() uint64 {
	if x.round++; uint32(x.round) == 0 {
		clear(x.seen)
		x.round++
	}
	return x.round
}

// remove takes an entity with these labels out of the index.
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

// add puts a selector into the index and finds what it matches.
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

// need is a label that a selector needs, and its values if they are known.
type need struct {
	label uint64
	selector.Restriction
}

func (x *index) needs(s *selector.Selector) (needs []need, never bool) {
	restrictions, never := s.Restrictions()
	needs = make([]need, 0, len(restrictions))
	for _, r := range restrictions {
		needs = append(needs, need{x.names.number(r.Label), r})
	}
	return needs, never
}

// drop takes a selector out of the index. Entities forget it when they next change.
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

// search finds the selectors that match labels, until the next search.
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

// wait puts a selector where entities that it may match look for it.
func (x *index) wait(m *matcher, needs []need) {
	m.waits = waitsForNothing
	var chosen need
	fewest := 0
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

// first says whether this is the first time in a round that an entity is asked for.
func (x *index) first(id entityID, round uint64) bool {
	if int(id) >= len(x.seen) {
		x.seen = append(x.seen, make([]uint32, int(id)+1-len(x.seen))...)
	}
	again := x.seen[id] == uint32(round)
	x.seen[id] = uint32(round)
	return !again
}
