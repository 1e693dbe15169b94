package calc

// table is a map that knows what changed since it was last asked.
type table[K comparable, V any] struct {
	now    map[K]V
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

// replace makes the table hold exactly what is in want.
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

// flush says what is new or different, and what is gone, since the last flush. Both are nil if nothing is.
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

// emptied is a map without its entries: itself, unless it was once so large that emptying it would cost more than the
// next change does.
func emptied[K comparable, V any](m map[K]V) map[K]V {
	if len(m) > 64 {
		return map[K]V{}
	}
	clear(m)
	return m
}
