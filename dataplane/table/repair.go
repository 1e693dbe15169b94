package table

import "fmt"

// Change says how another program had changed an entry of the target.
type Change string

// The ways in which an entry can be changed.
const (
	Gone     Change = "gone"
	Changed  Change = "changed"
	Stranger Change = "not ours, but with our mark"
)

// Repair is one entry that another program had changed in the target, and that is as wanted again.
type Repair struct {
	Entry string
	Found Change
}

func (r Repair) String() string { return fmt.Sprintf("%s (%s)", r.Entry, r.Found) }

// Repairs returns the repairs since the last call. Changes are found when the target is listed after Resync.
func (t *Table[K, V]) Repairs() []Repair {
	repairs := t.repairs
	t.repairs = nil
	return repairs
}

// compare notes the entries that other programs changed in the target. It leaves out uncertain entries: our own last write may
// have changed them.
func (t *Table[K, V]) compare(held map[K]V) {
	for k, believed := range t.programmed {
		if _, uncertain := t.uncertain[k]; uncertain {
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
		_, uncertain := t.uncertain[k]
		if _, want := t.wanted[k]; !known && !uncertain && !want {
			t.drift[k] = Stranger
		}
	}
}

// repaired notes that an entry is as wanted. It is a repair if another program had changed the entry.
func (t *Table[K, V]) repaired(k K) {
	if found, changed := t.drift[k]; changed {
		t.repairs = append(t.repairs, Repair{Entry: fmt.Sprint(k), Found: found})
		delete(t.drift, k)
	}
}
