package selector

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

const (
	maxDepth = 256 // parentheses inside of each other
	maxLabel = 512 // bytes of the name of a label
)

// Error is a syntax error in the text of a selector.
type Error struct {
	Text   string
	Column int    // in characters, from 1
	Want   string // what was expected there
}

func (e *Error) Error() string {
	shown := e.Text
	if len(shown) > 80 {
		shown = strings.ToValidUTF8(shown[:80], "") + "..."
	}
	return fmt.Sprintf("selector %q is wrong at column %d: want %s", shown, e.Column, e.Want)
}

// Parse parses a selector. Empty text is all(). The error is an *Error.
func Parse(text string) (*Selector, error) {
	p := parser{text: text}
	p.blanks()
	if p.at == len(text) {
		return All(), nil
	}
	root := p.or()
	if p.err == nil && p.at < len(text) {
		p.fail(`"&&", "||" or the end`)
	}
	if p.err == nil && depth(root) > maxDepth {
		p.fail(tooDeep)
	}
	if p.err != nil {
		return nil, p.err
	}
	return newSelector(root), nil
}

const tooDeep = "at most 256 parentheses within each other"

// parser is a recursive descent parser. Each of its methods leaves the position after the blanks that follow the text it has read.
// It remembers the first error; results after an error have no meaning.
type parser struct {
	text string
	at   int // byte offset of the position
	open int // parentheses around the position
	err  *Error
}

func (p *parser) fail(want string) node {
	if p.err == nil {
		p.err = &Error{Text: p.text, Column: utf8.RuneCountInString(p.text[:p.at]) + 1, Want: want}
	}
	return all{}
}

func (p *parser) rest() string { return p.text[p.at:] }

func (p *parser) blanks() {
	for p.at < len(p.text) && (p.text[p.at] == ' ' || p.text[p.at] == '\t') {
		p.at++
	}
}

// symbol skips s, and the blanks after it, if it comes next.
func (p *parser) symbol(s string) bool {
	if p.err != nil || !strings.HasPrefix(p.rest(), s) {
		return false
	}
	p.at += len(s)
	p.blanks()
	return true
}

func (p *parser) or() node  { return p.group(or, p.and) }
func (p *parser) and() node { return p.group(and, p.unary) }

func (p *parser) group(op junction, part func() node) node {
	parts := []node{part()}
	for p.symbol(string(op)) {
		parts = append(parts, part())
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return group{op, parts}
}

// unary drops !! before a term but keeps !(!x), as Calico does: the canonical text must be the same.
func (p *parser) unary() node {
	negated := false
	for p.symbol("!") {
		negated = !negated
	}
	n := p.primary()
	if negated {
		return not{n}
	}
	return n
}

func (p *parser) primary() node {
	if p.err != nil {
		return all{}
	}
	if p.symbol("(") {
		return p.parentheses()
	}
	name := p.label()
	if name == "" {
		return p.fail("a label, has(LABEL), all() or \"(\"")
	}
	if strings.HasPrefix(p.rest(), "(") {
		switch name {
		case "all":
			return p.call(all{})
		case "global":
			return p.call(global{})
		case "has":
			return p.has()
		}
	}
	p.blanks()
	return p.condition(name)
}

func (p *parser) parentheses() node {
	if p.open++; p.open > maxDepth {
		return p.fail(tooDeep)
	}
	n := p.or()
	p.open--
	if !p.symbol(")") {
		return p.fail(`"&&", "||" or ")"`)
	}
	return n
}

// label reads the name of a label, and leaves the position right after it, before any blanks. It is empty if no name comes next.
func (p *parser) label() string {
	start := p.at
	for p.at < len(p.text) && isLabel(p.text[p.at]) {
		p.at++
	}
	if p.at-start > maxLabel {
		p.at = start
		p.fail(fmt.Sprintf("a label of at most %d characters", maxLabel))
		return ""
	}
	return p.text[start:p.at]
}

func isLabel(c byte) bool {
	return isWord(c) || c == '.' || c == '/' || c == '-'
}

func isWord(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_'
}

func (p *parser) call(n node) node {
	p.symbol("(")
	if !p.symbol(")") {
		return p.fail(`")"`)
	}
	return n
}

func (p *parser) has() node {
	p.symbol("(")
	name := p.label()
	if name == "" {
		return p.fail("a label")
	}
	p.blanks()
	if !p.symbol(")") {
		return p.fail(`")"`)
	}
	return has{name}
}

func (p *parser) condition(name string) node {
	switch {
	case p.symbol("=="):
		return compare{name, equal, p.value()}
	case p.symbol("!="):
		return compare{name, unequal, p.value()}
	case p.words("contains"):
		return compare{name, substring, p.value()}
	case p.words("starts", "with"), p.words("startswith"):
		return compare{name, starts, p.value()}
	case p.words("ends", "with"), p.words("endswith"):
		return compare{name, ends, p.value()}
	case p.words("in"):
		return newMember(name, false, p.set())
	case p.words("not", "in"), p.words("notin"):
		return newMember(name, true, p.set())
	}
	return p.fail(`an operator: ==, !=, in, not in, contains, starts with or ends with`)
}

// words skips an operator, and the blanks after it, if all of its words come next, separated by blanks.
func (p *parser) words(words ...string) bool {
	start := p.at
	for i, w := range words {
		before := p.at
		p.blanks()
		if i > 0 && p.at == before || !strings.HasPrefix(p.rest(), w) {
			p.at = start
			return false
		}
		p.at += len(w)
		if p.at < len(p.text) && isWord(p.text[p.at]) {
			p.at = start
			return false
		}
	}
	p.blanks()
	return true
}

func (p *parser) value() string {
	if p.err != nil {
		return ""
	}
	if p.at == len(p.text) || p.text[p.at] != '"' && p.text[p.at] != '\'' {
		p.fail("a value in quotes")
		return ""
	}
	quote := p.text[p.at]
	end := strings.IndexByte(p.text[p.at+1:], quote)
	if end < 0 {
		p.fail("a value that ends with the quote it begins with")
		return ""
	}
	value := p.text[p.at+1 : p.at+1+end]
	p.at += end + 2
	p.blanks()
	return value
}

func (p *parser) set() []string {
	if !p.symbol("{") {
		p.fail(`a set such as {"a", "b"}`)
		return nil
	}
	var values []string
	for !p.symbol("}") {
		if p.err != nil {
			return nil
		}
		values = append(values, p.value())
		if !p.symbol(",") && !strings.HasPrefix(p.rest(), "}") {
			p.fail(`"," or "}"`)
		}
	}
	return values
}
