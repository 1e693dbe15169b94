package calc

import (
	"encoding/binary"
	"slices"

	"github.com/margay-project/margay/api"
)

// packedRules are the rules of an object in a fifth of the memory: a node knows every policy of the datastore and needs the rules of
// few. Equal rules are packed equally, so a change is found by comparing texts; matches that restrict nothing are left out.
//
// Each rule begins with its length. A text that equals the policy's own selector is stored as a reference to it, because many policies
// are about traffic among the endpoints that they select.
type packedRules string

// packRules packs rules. own is the selector of their policy; split and unpackRule reverse it.
func packRules(rules []api.Rule, own string) packedRules {
	if len(rules) == 0 {
		return ""
	}
	c := coder{writing: true, bytes: make([]byte, 0, 48*len(rules)), own: own}
	for i := range rules {
		start := len(c.bytes)
		c.bytes = append(c.bytes, 0) // room for its length, if that is below 128
		c.rule(&rules[i])
		if length := len(c.bytes) - start - 1; length < 0x80 {
			c.bytes[start] = byte(length)
		} else {
			c.bytes = slices.Replace(c.bytes, start, start+1, binary.AppendUvarint(nil, uint64(length))...)
		}
	}
	return packedRules(c.bytes)
}

// split returns the rules one by one, still packed.
func (p packedRules) split() (rules []string) {
	for p != "" {
		if rules == nil {
			rules = make([]string, 0, 1+len(p)/16)
		}
		length, size := uvarint(string(p))
		rules = append(rules, string(p[size:size+int(length)]))
		p = p[size+int(length):]
	}
	return rules
}

func unpackRule(packed, own string) (r api.Rule) {
	c := coder{text: packed, own: own}
	c.rule(&r)
	return r
}

// coder writes values, or reads them in the same order: one function for both, so that they cannot differ.
type coder struct {
	writing bool
	bytes   []byte // written so far
	text    string // left to read
	own     string // the policy's selector: a text that equals it has the length -1. Empty: none does
}

func (c *coder) rule(r *api.Rule) {
	c.action(&r.Action)
	if given := c.given(bit(0, r.IPVersion != nil) | bit(1, r.Protocol != nil) | bit(2, r.NotProtocol != nil) | bit(3, r.ICMP.Restricts()) |
		bit(4, r.NotICMP.Restricts()) | bit(5, len(r.Unknown) > 0) | bit(6, r.HTTP.Restricts())); given != 0 {
		c.common(given, r)
	}
	c.side(&r.Source)
	c.side(&r.Destination)
}

// common codes the fields that are of neither side.
func (c *coder) common(given given, r *api.Rule) {
	optional(given.next(), &r.IPVersion, c.int)
	optional(given.next(), &r.Protocol, c.protocol)
	optional(given.next(), &r.NotProtocol, c.protocol)
	optional(given.next(), &r.ICMP, c.icmp)
	optional(given.next(), &r.NotICMP, c.icmp)
	many(c, given.next(), &r.Unknown, c.string)
	optional(given.next(), &r.HTTP, c.http)
}

func (c *coder) side(e *api.EntityRule) {
	given := c.given(bit(0, e.Selector != "") | bit(1, len(e.Nets) > 0) | bit(2, len(e.Ports) > 0) | bit(3, e.NotSelector != "") |
		bit(4, e.NamespaceSelector != "") | bit(5, len(e.NotNets) > 0) | bit(6, len(e.NotPorts) > 0) | bit(7, len(e.Domains) > 0) |
		bit(8, len(e.Unknown) > 0) | bit(9, e.Services.Restricts()) | bit(10, e.ServiceAccounts.Restricts()))
	if given == 0 {
		return
	}
	c.optionalString(given.next(), &e.Selector)
	many(c, given.next(), &e.Nets, c.string)
	many(c, given.next(), &e.Ports, c.port)
	if given == 0 { // no rare field
		return
	}
	c.optionalString(given.next(), &e.NotSelector)
	c.optionalString(given.next(), &e.NamespaceSelector)
	many(c, given.next(), &e.NotNets, c.string)
	many(c, given.next(), &e.NotPorts, c.port)
	many(c, given.next(), &e.Domains, c.string)
	many(c, given.next(), &e.Unknown, c.string)
	optional(given.next(), &e.Services, func(s *api.ServiceMatch) {
		c.string(&s.Name)
		c.string(&s.Namespace)
	})
	optional(given.next(), &e.ServiceAccounts, func(a *api.ServiceAccountMatch) {
		many(c, true, &a.Names, c.string)
		c.string(&a.Selector)
	})
}

// action codes a known action by its number, any other as text.
func (c *coder) action(a *api.Action) {
	known := []api.Action{api.Allow, api.Deny, api.Log, api.Pass}
	n := slices.Index(known, *a)
	if c.int(&n); n >= 0 {
		*a = known[n]
		return
	}
	c.string((*string)(a))
}

// given says which fields follow: one bit for each, the first field has the lowest bit.
type given uint

func (g *given) next() bool {
	yes := *g&1 != 0
	*g >>= 1
	return yes
}

// bits are the bits of some fields, in their order. Code that runs for each rule calls bit instead, at half the cost.
func bits(fields ...bool) (g given) {
	for n, yes := range fields {
		g |= bit(n, yes)
	}
	return g
}

func bit(n int, yes bool) given {
	if yes {
		return 1 << n
	}
	return 0
}

func (c *coder) given(g given) given {
	if c.writing {
		c.bytes = binary.AppendUvarint(c.bytes, uint64(g))
		return g
	}
	value, size := uvarint(c.text)
	c.text = c.text[size:]
	return given(value)
}

func (c *coder) protocol(p *api.Protocol) {
	number := int(p.Number)
	c.int(&number)
	p.Number = uint8(number)
	c.string(&p.Name)
}

func (c *coder) http(h *api.HTTPMatch) {
	many(c, true, &h.Methods, c.string)
	many(c, true, &h.Paths, func(p *api.HTTPPath) {
		c.string(&p.Exact)
		c.string(&p.Prefix)
	})
}

func (c *coder) icmp(i *api.ICMPFields) {
	given := c.given(bit(0, i.Type != nil) | bit(1, i.Code != nil))
	optional(given.next(), &i.Type, c.int)
	optional(given.next(), &i.Code, c.int)
}

func (c *coder) port(p *api.Port) {
	first, last := int(p.First), int(p.Last)
	c.int(&first)
	c.int(&last)
	p.First, p.Last = uint16(first), uint16(last)
	c.string(&p.Name)
}

func (c *coder) int(n *int) {
	if c.writing {
		c.bytes = binary.AppendVarint(c.bytes, int64(*n))
		return
	}
	value, size := uvarint(c.text)
	c.text = c.text[size:]
	*n = int(int64(value>>1) ^ -int64(value&1))
}

func (c *coder) string(s *string) {
	n := len(*s)
	if c.writing && c.own != "" && *s == c.own {
		n = -1
	}
	c.int(&n)
	switch {
	case !c.writing && n < 0:
		*s = c.own
	case !c.writing:
		*s, c.text = c.text[:n], c.text[n:]
	case n > 0:
		c.bytes = append(c.bytes, *s...)
	}
}

func (c *coder) optionalString(given bool, s *string) {
	if given {
		c.string(s)
	}
}

// optional codes the value behind a pointer, if it is given.
func optional[T any](given bool, p **T, code func(*T)) {
	if !given {
		return
	}
	if *p == nil {
		*p = new(T)
	}
	code(*p)
}

// many codes a list, if it is given.
func many[T any](c *coder, given bool, list *[]T, code func(*T)) {
	if !given {
		return
	}
	n := len(*list)
	c.int(&n)
	if !c.writing && n > 0 {
		*list = make([]T, n)
	}
	for i := range *list {
		code(&(*list)[i])
	}
}
