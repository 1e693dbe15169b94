package selector

// Labels are the labels of one object.
type Labels interface {
	// Get returns the value of a label, and whether the object has the label.
	Get(name string) (string, bool)
}

// Map holds labels in a map.
type Map map[string]string

// Get returns the value of a label, and whether the map has it.
func (m Map) Get(name string) (string, bool) {
	value, ok := m[name]
	return value, ok
}

// Selector is a parsed selector. It never changes, so goroutines may share it.
type Selector struct {
	root node
	text string
}

func newSelector(root node) *Selector { return &Selector{root: root, text: text(root)} }

// All matches everything, as empty text does.
func All() *Selector { return newSelector(all{}) }

// Equal matches a label that has the value.
func Equal(label, value string) *Selector { return newSelector(compare{label, equal, value}) }

// In matches a label that has one of the values.
func In(label string, values ...string) *Selector {
	return newSelector(newMember(label, false, values))
}

// Has matches labels that include this one, with any value.
func Has(label string) *Selector { return newSelector(has{label}) }

// And matches if all of the selectors match; without selectors it matches everything.
func And(selectors ...*Selector) *Selector {
	var parts []node
	for _, s := range selectors {
		switch n := s.root.(type) {
		case all:
		case group:
			if n.op == and {
				parts = append(parts, n.parts...)
				continue
			}
			parts = append(parts, n)
		default:
			parts = append(parts, n)
		}
	}
	switch len(parts) {
	case 0:
		return All()
	case 1:
		return newSelector(parts[0])
	}
	return newSelector(group{and, parts})
}

// Not matches if s does not.
func Not(s *Selector) *Selector { return newSelector(negate(s.root)) }

// Matches says whether the labels meet the selector.
func (s *Selector) Matches(l Labels) bool { return s.root.matches(l) }

// String returns the canonical text: selectors with the same text match the same labels. Parse turns the text into the same
// selector, except that it drops doubled negations.
func (s *Selector) String() string { return s.text }

// IsAll says whether the selector is all() or empty text.
func (s *Selector) IsAll() bool {
	_, ok := s.root.(all)
	return ok
}

// UsesGlobal says whether global() occurs in the selector. It has a meaning only in a namespace selector.
func (s *Selector) UsesGlobal() bool { return usesGlobal(s.root) }

// IsGlobal says whether the selector is global() and nothing else.
func (s *Selector) IsGlobal() bool {
	_, ok := s.root.(global)
	return ok
}

// Rewriting turns a selector over labels of namespaces or service accounts into one over labels of endpoints.
type Rewriting struct {
	Prefix string    // added in front of every label
	All    *Selector // replaces all(), unless nil; gets no prefix
	Global *Selector // replaces global(), unless nil; gets no prefix
}

// Rewrite returns s after the rewriting. s does not change.
func (s *Selector) Rewrite(r Rewriting) *Selector { return newSelector(r.apply(s.root)) }

func (r Rewriting) apply(n node) node {
	switch n := n.(type) {
	case all:
		if r.All != nil {
			return r.All.root
		}
	case global:
		if r.Global != nil {
			return r.Global.root
		}
	case has:
		return has{r.Prefix + n.label}
	case compare:
		n.label = r.Prefix + n.label
		return n
	case member:
		n.label = r.Prefix + n.label
		return n
	case not:
		return not{r.apply(n.of)}
	case group:
		parts := make([]node, len(n.parts))
		for i, p := range n.parts {
			parts[i] = r.apply(p)
		}
		return group{n.op, parts}
	}
	return n
}
