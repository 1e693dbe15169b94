package calc

import (
	"encoding/binary"
	"slices"
)

// lazyList is a list whose removed items stay until they are as many as the others. So a removal visits no other item, nearly always.
type lazyList[T comparable] struct {
	items []T
	gone  int // items that were removed but are still there
}

func (l *lazyList[T]) add(v T) { l.items = append(l.items, v) }

func (l *lazyList[T]) size() int { return len(l.items) - l.gone }

// remove counts one item less. When enough are gone it drops them: those of which still reports false. still must report true once only for
// an item that is in the list twice.
func (l *lazyList[T]) remove(still func(T) bool) {
	if l.gone++; l.gone*2 < len(l.items) {
		return
	}
	l.items = slices.Clip(slices.DeleteFunc(l.items, func(v T) bool { return !still(v) }))
	l.gone = 0
}

// byValue is lists by the hash of a value. Most have one item, which needs no list.
type byValue[T comparable] struct {
	one  map[uint64]T
	more map[uint64]*lazyList[T] // a hash is in one or in more, never in both
}

func (b *byValue[T]) empty() bool { return len(b.one)+len(b.more) == 0 }

// add adds an item to the list of a hash. The second item makes it a list.
func (b *byValue[T]) add(hash uint64, v T) {
	if list := b.more[hash]; list != nil {
		list.add(v)
		return
	}
	first, there := b.one[hash]
	switch {
	case !there:
		if b.one == nil {
			b.one = map[uint64]T{}
		}
		b.one[hash] = v
	default:
		if b.more == nil {
			b.more = map[uint64]*lazyList[T]{}
		}
		delete(b.one, hash)
		b.more[hash] = &lazyList[T]{items: []T{first, v}}
	}
}

func (b *byValue[T]) remove(hash uint64, v T, still func(T) bool) {
	if list := b.more[hash]; list != nil {
		if list.remove(still); len(list.items) == 0 {
			delete(b.more, hash)
		}
	} else if b.one[hash] == v {
		delete(b.one, hash)
	}
}

func (b *byValue[T]) each(hash uint64, f func(T)) {
	if list := b.more[hash]; list != nil {
		for _, v := range list.items {
			f(v)
		}
	} else if v, there := b.one[hash]; there {
		f(v)
	}
}

func (b *byValue[T]) size(hash uint64) int {
	if list := b.more[hash]; list != nil {
		return list.size()
	}
	if _, there := b.one[hash]; there {
		return 1
	}
	return 0
}

// idList is a lazyList of entities in a quarter of the memory: it stores the distance of each ID from the one before it. There is one for
// each label of all entities.
type idList struct {
	distances   []byte // varints
	last        entityID
	count, gone int
}

func (l *idList) add(id entityID) {
	l.distances = binary.AppendVarint(l.distances, int64(id)-int64(l.last))
	l.last = id
	l.count++
}

func (l *idList) each(yield func(entityID) bool) {
	id := int64(0)
	for rest := l.distances; len(rest) > 0; {
		distance, size := binary.Varint(rest)
		rest, id = rest[size:], id+distance
		if !yield(entityID(id)) {
			return
		}
	}
}

func (l *idList) size() int { return l.count - l.gone }

// remove is as lazyList.remove.
func (l *idList) remove(still func(entityID) bool) {
	if l.gone++; l.gone*2 < l.count {
		return
	}
	left := idList{}
	for id := range l.each {
		if still(id) {
			left.add(id)
		}
	}
	left.distances = slices.Clip(left.distances)
	*l = left
}
