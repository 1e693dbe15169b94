package calc

// postings say which entities of an index have a label. The lists by value of a label are made when the first selector asks for them:
// none ever does for most labels.
type postings struct {
	labels map[uint64]*posted // by the label's number
}

// posted is the entities that have one label.
type posted struct {
	ids    idList // with some that have lost the label; see lazyList
	asked  bool   // values is kept
	values byValue[entityID]
}

func newPostings() postings { return postings{labels: map[uint64]*posted{}} }

// relabel notes that an entity's labels changed from old to now. Entities may change together, with their profile: then all have their
// new labels when the first of them is relabelled, so a list may have dropped one before its turn.
func (p *postings) relabel(x *index, id entityID, old, now labels) {
	old.each(func(number uint64, value string) {
		at := p.labels[number]
		if at == nil {
			return
		}
		v, has := now.get(number)
		if !has {
			at.ids.remove(x.hasLabel(number, nil))
		}
		if at.asked && (!has || v != value) {
			hash := x.hash(value)
			at.values.remove(hash, id, x.hasLabel(number, &hash))
		}
		if at.ids.count == 0 {
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
			at.ids.add(id)
		}
		if at.asked && (!had || v != value) {
			at.values.add(x.hash(value), id)
		}
	})
}

// has reports whether an entity is in the index.
func (x *index) has(id entityID) bool {
	matching := x.entities.matching(id)
	return matching != nil && *matching != nil
}

// hasLabel returns a function that reports whether an entity is in the index and has a label; with a hash, whether the value has that
// hash. It reports true once for each entity.
func (x *index) hasLabel(number uint64, hash *uint64) func(entityID) bool {
	var round uint64
	return func(id entityID) bool {
		if round == 0 {
			round = x.next()
		}
		if !x.has(id) || !x.first(id, round) {
			return false
		}
		v, has := x.entities.labelsOf(id).get(number)
		return has && (hash == nil || x.hash(v) == *hash)
	}
}

// candidates calls f once for each entity that may meet all needs, and for some that do not.
func (p *postings) candidates(x *index, needs []need, f func(entityID)) {
	best, fewest := -1, 0
	for i, n := range needs {
		if size := p.meeting(x, n); best < 0 || size < fewest {
			best, fewest = i, size
		}
	}
	if best < 0 {
		x.entities.each(func(id entityID) bool {
			f(id)
			return true
		})
		return
	}
	at := p.labels[needs[best].label]
	if at == nil {
		return
	}
	round := x.next()
	try := func(id entityID) {
		if x.has(id) && x.first(id, round) {
			f(id)
		}
	}
	if needs[best].Values == nil {
		for id := range at.ids.each {
			try(id)
		}
	}
	for _, v := range needs[best].Values {
		at.values.each(x.hash(v), try)
	}
}

// meeting counts the entities that may meet a need.
func (p *postings) meeting(x *index, n need) (size int) {
	at := p.labels[n.label]
	if at == nil {
		return 0
	}
	if n.Values == nil {
		return at.ids.size()
	}
	if !at.asked {
		p.post(x, n.label, at)
	}
	for _, v := range n.Values {
		size += at.values.size(x.hash(v))
	}
	return size
}

// post makes the lists by value of one label.
func (p *postings) post(x *index, label uint64, at *posted) {
	at.asked = true
	round := x.next()
	for id := range at.ids.each {
		if !x.has(id) || !x.first(id, round) {
			continue
		}
		if value, has := x.entities.labelsOf(id).get(label); has {
			at.values.add(x.hash(value), id)
		}
	}
}
