package calc

import (
	"slices"

	"github.com/margay-project/margay/api/selector"
)

// thingID is a small number for a thing; it is used again after the thing is gone.
type thingID uint32

// index finds which selectors match which things, looking only at pairs that have a chance.
//
// Every selector that needs some label waits in a bucket for that label, or for one of its values; a thing tries the
// buckets of the labels that it has. The other way around, a new selector tries the things that have a label that it
// needs. Of several labels that would do, the one with the fewest to try is taken.
type index struct {
	labelsOf func(thingID) labels
	things   map[string]map[string]*postings // by label and value
	count    map[string]int                  // by label: how many things have it
	all      map[thingID][]*matcher          // everything, with what matches it
	waiting  map[string]*bucket              // matchers by the label that they need
	always   map[*matcher]struct{}           // those that need none
	seen     []uint64                        // by thing: the round in which it was a candidate
	round    uint64
	serial   uint32
}

// matcher is a selector in an index.
type matcher struct {
	selector *selector.Selector
	serial   uint32 // unlike every other's of the index
	label    string // where it waits
	values   []string
	valued   bool
	gone     bool
	seen, on uint64 // rounds
}

type bucket struct {
	present map[*matcher]struct{}
	values  map[string]map[*matcher]struct{}
}

// postings are the things with some value of some label. Those that lost it stay until they are as many as the rest.
type postings struct {
	label
	ids   []thingID
	stale int
}

func newIndex(labelsOf func(thingID) labels) *index {
	return &index{
		labelsOf: labelsOf,
		things:   map[string]map[string]*postings{},
		count:    map[string]int{},
		all:      map[thingID][]*matcher{},
		waiting:  map[string]*bucket{},
		always:   map[*matcher]struct{}{},
	}
}

// set puts a thing into the index or changes its labels from what they were; labelsOf gives the new ones already. It
// returns the selectors that began to match it, and those that no longer do.
func (x *index) set(id thingID, old labels) (started, stopped []*matcher) {
	before, known := x.all[id]
	if known {
		x.relabel(id, old, x.labelsOf(id))
	} else {
		x.relabel(id, labels{}, x.labelsOf(id))
	}
	now := x.matching(x.labelsOf(id))
	x.round++
	for _, m := range now {
		m.on = x.round
	}
	for _, m := range before {
		if m.gone {
			continue
		}
		if m.on != x.round {
			stopped = append(stopped, m)
		} else {
			m.on = 0
		}
	}
	for _, m := range now {
		if m.on == x.round {
			started = append(started, m)
		}
	}
	x.all[id] = slices.Clip(now)
	return started, stopped
}

// remove takes a thing with these labels out of the index.
func (x *index) remove(id thingID, old labels) (stopped []*matcher) {
	before, known := x.all[id]
	if !known {
		return nil
	}
	delete(x.all, id)
	x.relabel(id, old, labels{})
	return slices.DeleteFunc(before, func(m *matcher) bool { return m.gone })
}

// add puts a selector into the index and finds what it matches.
func (x *index) add(s *selector.Selector) (m *matcher, matched []thingID) {
	x.serial++
	m = &matcher{selector: s, serial: x.serial}
	if s.Never() {
		return m, nil
	}
	needs := s.Restrictions()
	x.wait(m, needs)
	x.candidates(needs, func(id thingID) {
		if s.Matches(x.labelsOf(id)) {
			matched = append(matched, id)
			x.all[id] = append(slices.DeleteFunc(x.all[id], func(m *matcher) bool { return m.gone }), m)
		}
	})
	return m, matched
}

// drop takes a selector out of the index. Things forget it when they next change.
func (x *index) drop(m *matcher) {
	m.gone = true
	delete(x.always, m)
	b := x.waiting[m.label]
	if b == nil {
		return
	}
	delete(b.present, m)
	for _, v := range m.values {
		delete(b.values[v], m)
		if len(b.values[v]) == 0 {
			delete(b.values, v)
		}
	}
	if len(b.present) == 0 && len(b.values) == 0 {
		delete(x.waiting, m.label)
	}
}

// matching finds the selectors that match labels.
func (x *index) matching(l labels) (found []*matcher) {
	x.round++
	try := func(m *matcher) {
		if m.seen != x.round {
			m.seen = x.round
			if m.selector.Matches(l) {
				found = append(found, m)
			}
		}
	}
	for m := range x.always {
		try(m)
	}
	if len(x.waiting) == 0 {
		return found
	}
	l.each(func(name, value string) {
		b := x.waiting[name]
		if b == nil {
			return
		}
		for m := range b.present {
			try(m)
		}
		for m := range b.values[value] {
			try(m)
		}
	})
	return found
}

// wait puts a selector where things that it may match look for it.
func (x *index) wait(m *matcher, needs map[string]selector.Restriction) {
	fewest, chosen := -1, false
	for label, r := range needs {
		n := x.waitingFor(label, r)
		better := !chosen || n < fewest ||
			n == fewest && (m.valued == (r.Values != nil) && label < m.label || !m.valued && r.Values != nil)
		if better {
			fewest, chosen = n, true
			m.label, m.values, m.valued = label, r.Values, r.Values != nil
		}
	}
	if !chosen {
		x.always[m] = struct{}{}
		return
	}
	b := x.waiting[m.label]
	if b == nil {
		b = &bucket{present: map[*matcher]struct{}{}, values: map[string]map[*matcher]struct{}{}}
		x.waiting[m.label] = b
	}
	if !m.valued {
		b.present[m] = struct{}{}
	}
	for _, v := range m.values {
		if b.values[v] == nil {
			b.values[v] = map[*matcher]struct{}{}
		}
		b.values[v][m] = struct{}{}
	}
}

func (x *index) waitingFor(label string, r selector.Restriction) int {
	b := x.waiting[label]
	if b == nil {
		return 0
	}
	if r.Values == nil {
		return len(b.present)
	}
	n := 0
	for _, v := range r.Values {
		n += len(b.values[v])
	}
	return n
}

// candidates calls f, once each, with things among which are all that meet the needs.
func (x *index) candidates(needs map[string]selector.Restriction, f func(thingID)) {
	best, fewest := "", len(x.all)
	for label, r := range needs {
		n := x.count[label]
		if r.Values != nil {
			n = 0
			for _, v := range r.Values {
				if p := x.things[label][v]; p != nil {
					n += len(p.ids)
				}
			}
		}
		if n < fewest {
			best, fewest = label, n
		}
	}
	if best == "" {
		for id := range x.all {
			f(id)
		}
		return
	}
	x.round++
	try := func(p *postings) {
		if p == nil {
			return
		}
		for _, id := range p.ids {
			if _, there := x.all[id]; there && x.first(id) {
				f(id)
			}
		}
	}
	if values := needs[best].Values; values != nil {
		for _, v := range values {
			try(x.things[best][v])
		}
		return
	}
	for _, p := range x.things[best] {
		try(p)
	}
}

// first says whether this is the first time in this round that a thing is asked for.
func (x *index) first(id thingID) bool {
	if int(id) >= len(x.seen) {
		x.seen = append(x.seen, make([]uint64, int(id)+1-len(x.seen))...)
	}
	again := x.seen[id] == x.round
	x.seen[id] = x.round
	return !again
}

// relabel keeps the postings of a thing's labels.
func (x *index) relabel(id thingID, old, now labels) {
	old.each(func(name, value string) {
		if v, has := now.Get(name); !has || v != value {
			x.count[name]--
			p := x.things[name][value]
			p.stale++
			if p.stale*2 > len(p.ids) {
				x.compact(name, value, p)
			}
		}
	})
	now.each(func(name, value string) {
		if v, had := old.Get(name); !had || v != value {
			x.count[name]++
			p := x.posted(name, value)
			p.ids = append(p.ids, id)
		}
	})
}

func (x *index) posted(name, value string) *postings {
	values := x.things[name]
	if values == nil {
		values = map[string]*postings{}
		x.things[name] = values
	}
	p := values[value]
	if p == nil {
		p = &postings{label: label{name, value}}
		values[value] = p
	}
	return p
}

// share makes the labels of a thing that is about to be set point at those that the index has.
func (x *index) share(l labels) {
	for i, own := range l.own {
		l.own[i] = &x.posted(own.name, own.value).label
	}
}

// compact drops the stale postings of a value, and then those that are there twice.
func (x *index) compact(name, value string, p *postings) {
	p.ids = slices.DeleteFunc(p.ids, func(id thingID) bool {
		if _, there := x.all[id]; !there {
			return true
		}
		v, has := x.labelsOf(id).Get(name)
		return !has || v != value
	})
	slices.Sort(p.ids)
	p.ids = slices.Clip(slices.Compact(p.ids))
	p.stale = 0
	if len(p.ids) == 0 {
		delete(x.things[name], value)
		if len(x.things[name]) == 0 {
			delete(x.things, name)
			delete(x.count, name)
		}
	}
}
