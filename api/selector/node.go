package selector

import (
	"slices"
	"strings"
)

// A node is one term of a selector.
type node interface {
	matches(Labels) bool
	write(*strings.Builder)
}

type (
	all    struct{}
	global struct{} // matches everything, unless Rewrite replaces it
	has    struct{ label string }
	not    struct{ of node }

	compare struct {
		label string
		op    comparison
		value string
	}
	// member is "label in {values}", or "not in" if out is set. Values are sorted and unique.
	member struct {
		label  string
		out    bool
		values []string
	}
	// group is two or more parts joined by && or ||.
	group struct {
		op    junction
		parts []node
	}
)

type comparison string

const (
	equal     comparison = "=="
	unequal   comparison = "!="
	substring comparison = "contains"
	starts    comparison = "starts with"
	ends      comparison = "ends with"
)

type junction string

const (
	and junction = "&&"
	or  junction = "||"
)

func newMember(label string, out bool, values []string) member {
	values = slices.Clone(values)
	slices.Sort(values)
	return member{label, out, slices.Compact(values)}
}

func negate(n node) node {
	if inner, ok := n.(not); ok {
		return inner.of
	}
	return not{n}
}

func (all) matches(Labels) bool     { return true }
func (global) matches(Labels) bool  { return true }
func (n not) matches(l Labels) bool { return !n.of.matches(l) }

func (n has) matches(l Labels) bool {
	_, ok := l.Get(n.label)
	return ok
}

func (n compare) matches(l Labels) bool {
	value, ok := l.Get(n.label)
	if !ok {
		return n.op == unequal
	}
	switch n.op {
	case equal:
		return value == n.value
	case unequal:
		return value != n.value
	case substring:
		return strings.Contains(value, n.value)
	case starts:
		return strings.HasPrefix(value, n.value)
	}
	return strings.HasSuffix(value, n.value)
}

func (n member) matches(l Labels) bool {
	value, ok := l.Get(n.label)
	if !ok {
		return n.out
	}
	_, found := slices.BinarySearch(n.values, value)
	return found != n.out
}

func (n group) matches(l Labels) bool {
	for _, p := range n.parts {
		if p.matches(l) == (n.op == or) {
			return n.op == or
		}
	}
	return n.op == and
}

func text(n node) string {
	var b strings.Builder
	n.write(&b)
	return b.String()
}

func (all) write(b *strings.Builder)    { b.WriteString("all()") }
func (global) write(b *strings.Builder) { b.WriteString("global()") }

func (n has) write(b *strings.Builder) {
	b.WriteString("has(")
	b.WriteString(n.label)
	b.WriteByte(')')
}

func (n not) write(b *strings.Builder) {
	b.WriteByte('!')
	n.of.write(b)
}

func (n compare) write(b *strings.Builder) {
	b.WriteString(n.label)
	b.WriteByte(' ')
	b.WriteString(string(n.op))
	b.WriteByte(' ')
	writeValue(b, n.value)
}

func (n member) write(b *strings.Builder) {
	b.WriteString(n.label)
	if n.out {
		b.WriteString(" not")
	}
	b.WriteString(" in {")
	for i, v := range n.values {
		if i > 0 {
			b.WriteString(", ")
		}
		writeValue(b, v)
	}
	b.WriteByte('}')
}

func (n group) write(b *strings.Builder) {
	b.WriteByte('(')
	for i, p := range n.parts {
		if i > 0 {
			b.WriteByte(' ')
			b.WriteString(string(n.op))
			b.WriteByte(' ')
		}
		p.write(b)
	}
	b.WriteByte(')')
}

// writeValue quotes a value. The language has no escapes, so a value never has both kinds of quotes.
func writeValue(b *strings.Builder, value string) {
	quote := byte('"')
	if strings.Contains(value, `"`) {
		quote = '\''
	}
	b.WriteByte(quote)
	b.WriteString(value)
	b.WriteByte(quote)
}

func usesGlobal(n node) bool {
	switch n := n.(type) {
	case global:
		return true
	case not:
		return usesGlobal(n.of)
	case group:
		return slices.ContainsFunc(n.parts, usesGlobal)
	}
	return false
}

// depth is the largest number of groups inside of each other.
func depth(n node) int {
	switch n := n.(type) {
	case not:
		return depth(n.of)
	case group:
		deepest := 0
		for _, p := range n.parts {
			deepest = max(deepest, depth(p))
		}
		return deepest + 1
	}
	return 0
}
