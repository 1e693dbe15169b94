package calc

// table is a map that knows how it changed since the last flush. A value that changed and changed back counts as unchanged.
type table[K comparable, V any] struct {
	now    map[K]V           // read it directly; change it by set, remove and replace
	before map[K]previous[V] // of the keys that were set or removed since the last flush
	equal  func(a, b V) bool
}

type previous[V any] struct {
	value V
	there bool
}

func newTable[K comparable, V any](equal func(a, b V) bool) *table[K, V] {
	return &table[K, V]{now: map[K]V{}, before: map[K]previous[V]{}, equal: equal}
}

func same[V comparable](a, b V) bool { return a == b }

// remember notes the value that a key had at the last flush, before it first changes.
func (t *table[K, V]) remember(key K) {
	if _, yes := t.before[key]; !yes {
		value, there := t.now[key]
		t.before[key] = previous[V]{value, there}
	}
}

func (t *table[K, V]) set(key K, value V) {
	t.remember(key)
	t.now[key] = value
}

func (t *table[K, V]) remove(key K) {
	if _, there := t.now[key]; there {
		t.remember(key)
		delete(t.now, key)
	}
}

// replace makes the table hold exactly the entries of want.
func (t *table[K, V]) replace(want map[K]V) {
	for key := range t.now {
		if _, still := want[key]; !still {
			t.remove(key)
		}
	}
	for key, value := range want {
		t.set(key, value)
	}
}

// flush returns the values that are new or different since the last flush, and the keys that are gone; nil if there are none.
func (t *table[K, V]) flush() (changed map[K]V, gone []K) {
	for key, old := range t.before {
		value, there := t.now[key]
		switch {
		case there && !(old.there && t.equal(old.value, value)):
			if changed == nil {
				changed = map[K]V{}
			}
			changed[key] = value
		case old.there && !there:
			gone = append(gone, key)
		}
	}
	t.before = emptied(t.before)
	return changed, gone
}

// emptied returns an empty map: m itself, unless it is large. Clearing a map costs time in proportion to the largest size that it ever
// had, and after the first listing the next change is small.
func emptied[K comparable, V any](m map[K]V) map[K]V {
	if len(m) > 64 {
		return map[K]V{}
	}
	clear(m)
	return m
}
