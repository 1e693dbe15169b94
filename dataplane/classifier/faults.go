package classifier

import (
	"errors"
	"fmt"
	"slices"
)

// faults keeps the first errors of a pass and counts the rest: a table that is full fails for every entry.
type faults struct {
	first []error
	count int
}

func (f *faults) add(err error) {
	const enough = 3
	if err == nil {
		return
	}
	if f.count++; f.count <= enough || f.another(err) {
		f.first = append(f.first, err)
	}
}

// another says whether an error is about a table that is full, and the first about it.
func (f *faults) another(err error) bool {
	for _, full := range fulls(err) {
		if !slices.ContainsFunc(f.first, func(e error) bool {
			return slices.ContainsFunc(fulls(e), func(known *ErrFull) bool { return known.What == full.What })
		}) {
			return true
		}
	}
	return false
}

// err is what there is to report about so many entries of a kind.
func (f *faults) err(entries string) error {
	if more := f.count - len(f.first); more > 0 {
		return errors.Join(append(f.first, fmt.Errorf("and %d more %s", more, entries))...)
	}
	return errors.Join(f.first...)
}
