package selector

import "slices"

// Restriction is what must be true of a label for a selector to match.
type Restriction struct {
	Present bool     // the label must be there
	Values  []string // unless nil, its value must be one of these; sorted
}

// Restrictions are conditions that labels must meet for the selector to match; meeting them is not enough. An index uses
// them to find the few selectors that a thing's labels can match, and the few things that a selector can match. Never
// says that the selector was seen to match nothing whatever; false promises nothing.
func (s *Selector) Restrictions() (needs map[string]Restriction, never bool) {
	return restrictions(s.root, false)
}

// restrictions of n, or of its negation.
func restrictions(n node, negated bool) (needs map[string]Restriction, never bool) {
	switch n := n.(type) {
	case all, global:
		return nil, negated
	case not:
		return restrictions(n.of, !negated)
	case has:
		if !negated {
			return map[string]Restriction{n.label: {Present: true}}, false
		}
	case compare:
		return n.restrictions(negated), false
	case member:
		if n.out == negated {
			values := append([]string{}, n.values...)
			return map[string]Restriction{n.label: {true, values}}, len(values) == 0
		}
	case group:
		if (n.op == and) != negated {
			return everyPart(n.parts, negated)
		}
		return somePart(n.parts, negated)
	}
	return nil, false
}

func (n compare) restrictions(negated bool) map[string]Restriction {
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
		return map[string]Restriction{n.label: {true, []string{n.value}}}
	}
	return map[string]Restriction{n.label: {Present: true}}
}

func everyPart(parts []node, negated bool) (map[string]Restriction, bool) {
	needs, never := map[string]Restriction{}, false
	for _, p := range parts {
		of, no := restrictions(p, negated)
		never = never || no
		for label, r := range of {
			before, ok := needs[label]
			if ok && before.Values != nil {
				if r.Values == nil {
					r.Values = before.Values
				} else {
					r.Values = common(before.Values, r.Values)
					never = never || len(r.Values) == 0
				}
			}
			needs[label] = r
		}
	}
	return needs, never
}

func somePart(parts []node, negated bool) (map[string]Restriction, bool) {
	var needs map[string]Restriction
	never := true
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

// either is what holds when one of two conditions holds.
func either(a, b map[string]Restriction) map[string]Restriction {
	needs := map[string]Restriction{}
	for label, ra := range a {
		rb, ok := b[label]
		if !ok {
			continue
		}
		r := Restriction{Present: true}
		if ra.Values != nil && rb.Values != nil {
			r.Values = append(append([]string{}, ra.Values...), rb.Values...)
			slices.Sort(r.Values)
			r.Values = slices.Compact(r.Values)
		}
		needs[label] = r
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
