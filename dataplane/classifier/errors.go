package classifier

import (
	"errors"
	"fmt"
	"slices"
)

// errorList keeps the first errors of a pass and counts the rest: a table that is full fails for every entry.
type errorList struct {
	first []error
	count int
}

func (f *errorList) add(err error) {
	const enough = 3
	if err == nil {
		return
	}
	if f.count++; f.count <= enough || f.isNewTable(err) {
		f.first = append(f.first, err)
	}
}

// isNewTable says whether an error is about a table that is full, and the first about it.
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

// err is what there is to report about so many entries of a kind.
func (f *errorList) err(entries string) error {
	if more := f.count - len(f.first); more > 0 {
		return errors.Join(append(f.first, fmt.Errorf("and %d more %s", more, entries))...)
	}
	return errors.Join(f.first...)
}

// ErrFull says that a table has no room for the change. The running tables are correct as they are and keep what they
// have. Build the next generation with the Sizes that SizesFor gives; if that reports ErrFull at its first Apply, the
// state is beyond the limits: what does not fit stays closed until there is less of it.
type ErrFull struct {
	What string // slots, vectors, chunks, hosts, nets or classes
	Size int
}

func (e *ErrFull) Error() string {
	if e.What == "classes" {
		return "too many nets, sets or port ranges overlap each other: use fewer, or let them be disjoint"
	}
	return fmt.Sprintf("%s: all %d are in use: build the next generation with larger tables", e.What, e.Size)
}

// fullErrors are the tables that an error says are full.
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
