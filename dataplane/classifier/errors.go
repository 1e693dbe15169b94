package classifier

import (
	"errors"
	"fmt"
	"slices"
)

// errorList keeps the first three errors of a pass and counts the others: a table that is full fails for each entry. It
// also keeps the first error about each table that is full.
type errorList struct {
	first []error
	count int
}

// add adds an error; nil is none.
func (f *errorList) add(err error) {
	const enough = 3
	if err == nil {
		return
	}
	if f.count++; f.count <= enough || f.isNewTable(err) {
		f.first = append(f.first, err)
	}
}

// isNewTable says whether an error is about a full table that no error before was about.
func (f *errorList) isNewTable(err error) bool {
	for _, full := range fullErrors(err) {
		if !slices.ContainsFunc(f.first, func(e error) bool {
			return slices.ContainsFunc(fullErrors(e), func(known *ErrFull) bool { return known.What == full.What })
		}) {
			return true
		}
	}
	return false
}

// err joins the errors. Those that are only counted come last, as so many more entries, a word in the plural.
func (f *errorList) err(entries string) error {
	if more := f.count - len(f.first); more > 0 {
		return errors.Join(append(f.first, fmt.Errorf("and %d more %s", more, entries))...)
	}
	return errors.Join(f.first...)
}

// ErrFull says that a table has no room for the change. The tables are correct as they are and keep what they have.
// Build the next generation with Sizes.Larger. If none is larger, the state is beyond the limits: endpoints that need
// the rest stay closed or keep their masks until there is less.
type ErrFull struct {
	What string // slots, vectors, chunks, hosts, nets or classes
	Size int    // entries of the full table; for classes, the atoms that all classes may have together
}

func (e *ErrFull) Error() string {
	if e.What == "classes" {
		return "too many nets, sets or port ranges overlap each other: use fewer, or let them be disjoint"
	}
	if e.Size >= limitOf(e.What) {
		return fmt.Sprintf("table %s has no room left in its %d entries, the most that are supported: remove some rules", e.What, e.Size)
	}
	return fmt.Sprintf("table %s has no room left in its %d entries: felix builds a larger one", e.What, e.Size)
}

// FullTables returns the names of the tables that an error says are full, sorted.
func FullTables(err error) []string {
	var names []string
	for _, full := range fullErrors(err) {
		names = append(names, full.What)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// fullErrors returns every ErrFull in an error.
func fullErrors(err error) []*ErrFull {
	switch e := err.(type) {
	case *ErrFull:
		return []*ErrFull{e}
	case interface{ Unwrap() error }:
		return fullErrors(e.Unwrap())
	case interface{ Unwrap() []error }:
		var out []*ErrFull
		for _, one := range e.Unwrap() {
			out = append(out, fullErrors(one)...)
		}
		return out
	}
	return nil
}
