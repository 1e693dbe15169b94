package calc

import (
	"encoding/binary"

	"github.com/margay-project/margay/api"
)

// packedRules are rules as an object has them, as far as they mean anything here, in a fifth of the memory: a node knows
// every policy of the datastore, and needs the rules of few. Each rule begins with its length.
type packedRules string

func packRules(rules []api.Rule) packedRules {
	if len(rules) == 0 {
		return ""
	}
	c := coder{writing: true, bytes: make([]byte, 0, 256)}
	var all []byte
	for i := range rules {
		c.bytes = c.bytes[:0]
		c.rule(&rules[i])
		all = binary.AppendUvarint(all, uint64(len(c.bytes)))
		all = append(all, c.bytes...)
	}
	return packedRules(all)
}

// each yields the rules one by one, packed.
func (p packedRules) each(f func(i int, packed string)) {
	for i := 0; len(p) > 0; i++ {
		length, size := uvarint(string(p))
		f(i, string(p[size:size+int(length)]))
		p = p[size+int(length):]
	}
}

func unpackRule(packed string) (r api.Rule) {
	c := coder{text: packed}
	c.rule(&r)
	return r
}

// coder writes values, or reads them in the same order.
type coder struct {
	writing bool
	bytes   []byte
	text    string
}

func (c *coder) rule(r *api.Rule) {
	c.string((*string)(&r.Action))
	optional(c, &r.IPVersion, c.int)
	optional(c, &r.Protocol, c.protocol)
	optional(c, &r.NotProtocol, c.protocol)
	optional(c, &r.ICMP, c.icmp)
	optional(c, &r.NotICMP, c.icmp)
	optional(c, &r.HTTP, func(*api.HTTPMatch) {})
	many(c, &r.Unknown, c.string)
	c.side(&r.Source)
	c.side(&r.Destination)
}

func (c *coder) side(e *api.EntityRule) {
	if empty := e.Selector == "" && e.NotSelector == "" && e.NamespaceSelector == "" && e.Services == nil &&
		e.ServiceAccounts == nil && len(e.Nets)+len(e.NotNets)+len(e.Ports)+len(e.NotPorts)+len(e.Domains)+len(e.Unknown) == 0; c.flag(!empty) {
		many(c, &e.Nets, c.string)
		many(c, &e.NotNets, c.string)
		c.string(&e.Selector)
		c.string(&e.NotSelector)
		c.string(&e.NamespaceSelector)
		many(c, &e.Ports, c.port)
		many(c, &e.NotPorts, c.port)
		many(c, &e.Domains, c.string)
		many(c, &e.Unknown, c.string)
		optional(c, &e.Services, func(*api.ServiceMatch) {})
		optional(c, &e.ServiceAccounts, func(a *api.ServiceAccountMatch) {
			many(c, &a.Names, c.string)
			c.string(&a.Selector)
		})
	}
}

func (c *coder) protocol(p *api.Protocol) {
	number := int(p.Number)
	c.int(&number)
	p.Number = uint8(number)
	c.string(&p.Name)
}

func (c *coder) icmp(i *api.ICMPFields) {
	optional(c, &i.Type, c.int)
	optional(c, &i.Code, c.int)
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
	c.int(&n)
	if c.writing {
		c.bytes = append(c.bytes, *s...)
		return
	}
	*s, c.text = c.text[:n], c.text[n:]
}

func (c *coder) flag(given bool) bool {
	n := 0
	if given {
		n = 1
	}
	c.int(&n)
	return n == 1
}

// optional codes what a pointer points at, if it does.
func optional[T any](c *coder, p **T, code func(*T)) {
	if !c.flag(*p != nil) {
		return
	}
	if !c.writing {
		*p = new(T)
	}
	code(*p)
}

// many codes a list; one that is empty is nil again.
func many[T any](c *coder, list *[]T, code func(*T)) {
	n := len(*list)
	c.int(&n)
	if !c.writing && n > 0 {
		*list = make([]T, n)
	}
	for i := range *list {
		code(&(*list)[i])
	}
}
