package calc

import "slices"

// postings say which things of an index have a label, and once a selector has asked for values of the label, which have
// a value: most labels nobody ever asks for.
type postings struct {
	labels map[uint64]*posted
}

// posted are the things that have a label. Those that lost it stay until they are as many as the rest.
type posted struct {
	ids    []thingID
	stale  int
	values map[string]*posted // nil: nobody has asked
}

func newPostings() postings { return postings{labels: map[uint64]*posted{}} }

func (p *posted) size() int { return len(p.ids) - p.stale }

// relabel notes that a thing has other labels. Things that change together, because their profile does, already have
// their new labels when the first of them comes, so a list may have forgotten them before their turn.
func (p *postings) relabel(x *index, id thingID, old, now labels) {
	old.each(func(number uint64, value string) {
		at := p.labels[number]
		if at == nil {
			return
		}
		v, has := now.get(number)
		if !has {
			at.lose(func(id thingID) bool { return x.has(id, number, nil) })
		}
		if of := at.values[value]; of != nil && (!has || v != value) {
			of.lose(func(id thingID) bool { return x.has(id, number, &value) })
			if len(of.ids) == 0 {
				delete(at.values, value)
			}
		}
		if len(at.ids) == 0 {
			delete(p.labels, number)
		}
	})
	now.each(func(number uint64, value string) {
		at := p.labels[number]
		if at == nil {
			at = &posted{}
			p.labels[number] = at
		}
		v, had := old.get(number)
		if !had {
			at.ids = append(at.ids, id)
		}
		if at.values != nil && (!had || v != value) {
			at.post(value, id)
		}
	})
}

func (p *posted) post(value string, id thingID) {
	of := p.values[value]
	if of == nil {
		of = &posted{}
		p.values[value] = of
	}
	of.ids = append(of.ids, id)
}

// lose counts one thing less, and now and then looks which still are there.
func (p *posted) lose(still func(thingID) bool) {
	if p.stale++; p.stale*2 <= len(p.ids) {
		return
	}
	p.ids = slices.DeleteFunc(p.ids, func(id thingID) bool { return !still(id) })
	slices.Sort(p.ids)
	p.ids = slices.Clip(slices.Compact(p.ids))
	p.stale = 0
}

// there says whether a thing is in the index.
func (x *index) there(id thingID) bool {
	matching := x.things.matching(id)
	return matching != nil && *matching != nil
}

// has says whether a thing is in the index and has a label, perhaps with a certain value.
func (x *index) has(id thingID, number uint64, value *string) bool {
	if !x.there(id) {
		return false
	}
	v, has := x.things.labelsOf(id).get(number)
	return has && (value == nil || v == *value)
}

// candidates calls f, once each, with things among which are all that meet the needs.
func (p *postings) candidates(x *index, needs []need, f func(thingID)) {
	var best []*posted
	fewest := -1
	for _, n := range needs {
		lists, size := p.meeting(x, n)
		if fewest < 0 || size < fewest {
			best, fewest = lists, size
		}
	}
	if fewest < 0 {
		x.things.each(func(id thingID) bool {
			f(id)
			return true
		})
		return
	}
	round := x.next()
	for _, list := range best {
		for _, id := range list.ids {
			if x.there(id) && x.first(id, round) {
				f(id)
			}
		}
	}
}

// meeting are the lists of the things that meet a need.
func (p *postings) meeting(x *index, n need) (lists []*posted, size int) {
	at := p.labels[n.label]
	if at == nil {
		return nil, 0
	}
	if n.Values == nil {
		return []*posted{at}, at.size()
	}
	if at.values == nil {
		at.values = map[string]*posted{}
		round := x.next()
		for _, id := range at.ids {
			if !x.there(id) || !x.first(id, round) {
				continue
			}
			if value, has := x.things.labelsOf(id).get(n.label); has {
				at.post(value, id)
			}
		}
	}
	for _, v := range n.Values {
		if of := at.values[v]; of != nil {
			lists, size = append(lists, of), size+of.size()
		}
	}
	return lists, size
}
