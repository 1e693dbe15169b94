package selector

import (
	"cmp"
	"slices"
)

// Restriction is a label that an object must have for a selector to match it.
type Restriction struct {
	Label  string
	Values []string // the values that the label may have, sorted; nil: any value
}

// Restrictions returns conditions that are necessary, but not sufficient, for the selector to match, sorted by label. An index uses
// them to find the few selectors that can match an object, and the few objects that a selector can match. never is true if the
// selector certainly matches no labels; it may match none although never is false.
func (s *Selector) Restrictions() (needs []Restriction, never bool) {
	return restrictions(s.root, false)
}

// restrictions returns the restrictions of n, or of its negation.
func restrictions(n node, negated bool) (needs []Restriction, never bool) {
	switch n := n.(type) {
	case all, global:
		return nil, negated
	case not:
		return restrictions(n.of, !negated)
	case has:
		if !negated {
			return []Restriction{{Label: n.label}}, false
		}
	case compare:
		return n.restrictions(negated), false
	case member:
		if n.out == negated {
			values := append([]string{}, n.values...)
			return []Restriction{{n.label, values}}, len(values) == 0
		}
	case group:
		if (n.op == and) != negated {
			return everyPart(n.parts, negated)
		}
		return somePart(n.parts, negated)
	}
	return nil, false
}

func (n compare) restrictions(negated bool) []Restriction {
	op := n.op
	if negated {
		switch op {
		case unequal:
			op = equal
		default:
			return nil
		}
	}
	switch op {
	case unequal:
		return nil
	case equal:
		return []Restriction{{n.label, []string{n.value}}}
	}
	return []Restriction{{Label: n.label}}
}

func everyPart(parts []node, negated bool) (needs []Restriction, never bool) {
	for _, p := range parts {
		of, no := restrictions(p, negated)
		never = never || no
		for _, r := range of {
			at, found := search(needs, r.Label)
			if !found {
				needs = slices.Insert(needs, at, r)
				continue
			}
			before := &needs[at]
			switch {
			case before.Values == nil:
				before.Values = r.Values
			case r.Values != nil:
				before.Values = common(before.Values, r.Values)
				never = never || len(before.Values) == 0
			}
		}
	}
	return needs, never
}

func search(sorted []Restriction, label string) (at int, found bool) {
	return slices.BinarySearchFunc(sorted, label, func(r Restriction, label string) int { return cmp.Compare(r.Label, label) })
}

func somePart(parts []node, negated bool) (needs []Restriction, never bool) {
	never = true
	for _, p := range parts {
		of, no := restrictions(p, negated)
		if no {
			continue
		}
		if never { // the first part that can match
			needs, never = of, false
			continue
		}
		needs = either(needs, of)
	}
	return needs, never
}

// either returns the restrictions that hold if those of a or those of b hold: labels of both, with the values of both.
func either(a, b []Restriction) (needs []Restriction) {
	for _, ra := range a {
		at, found := search(b, ra.Label)
		if !found {
			continue
		}
		r := Restriction{Label: ra.Label}
		if rb := b[at]; ra.Values != nil && rb.Values != nil {
			r.Values = append(append([]string{}, ra.Values...), rb.Values...)
			slices.Sort(r.Values)
			r.Values = slices.Compact(r.Values)
		}
		needs = append(needs, r)
	}
	return needs
}

func common(a, b []string) []string {
	both := []string{}
	for _, v := range a {
		if _, ok := slices.BinarySearch(b, v); ok {
			both = append(both, v)
		}
	}
	return both
}
