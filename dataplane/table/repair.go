package table

import "fmt"

// Change says how an entry of the target was found that somebody else had changed.
type Change string

// The ways in which an entry can be changed by others.
const (
	Gone     Change = "gone"
	Changed  Change = "changed"
	Stranger Change = "not ours, but with our mark"
)

// Repair is one entry that somebody else had changed in the target, and that is as wanted again.
type Repair struct {
	Entry string
	Found Change
}

func (r Repair) String() string { return fmt.Sprintf("%s (%s)", r.Entry, r.Found) }

// Repairs returns what was repaired since the last call. A change is found when the target is listed after Resync.
func (t *Table[K, V]) Repairs() []Repair {
	repairs := t.repairs
	t.repairs = nil
	return repairs
}

// compare notes what others changed in the target. Entries in doubt are left out: nobody knows what our own last write
// made of them.
func (t *Table[K, V]) compare(held map[K]V) {
	for k, believed := range t.programmed {
		if _, doubt := t.doubt[k]; doubt {
			continue
		}
		wanted, want := t.wanted[k]
		now, there := held[k]
		switch {
		case !want || !t.equal(wanted, believed): // to be written or deleted anyway
		case !there:
			t.drift[k] = Gone
		case !t.equal(now, wanted):
			t.drift[k] = Changed
		}
	}
	for k := range held {
		_, known := t.programmed[k]
		_, doubt := t.doubt[k]
		if _, want := t.wanted[k]; !known && !doubt && !want {
			t.drift[k] = Stranger
		}
	}
}

// repaired notes that an entry is as wanted. It counts when somebody else had changed the entry.
func (t *Table[K, V]) repaired(k K) {
	if found, changed := t.drift[k]; changed {
		t.repairs = append(t.repairs, Repair{Entry: fmt.Sprint(k), Found: found})
		delete(t.drift, k)
	}
}
