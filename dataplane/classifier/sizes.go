package classifier

import (
	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/calc"
)

// SizesFor returns Sizes with room for a state and as much again, up to Limits. It builds the tables in ordinary memory
// to find them.
func SizesFor(s *calc.State) (Sizes, error) {
	whole := calc.Diff(nil, s)
	try := guess(s)
	for {
		c, err := New(NewMemory(try), try, NewImage())
		if err != nil {
			return Sizes{}, err
		}
		_, err = c.Apply(&whole)
		larger, is := try.Larger(err)
		if !is {
			return c.sizes(), nil // everything fits, or a table is at its limit and Apply refuses the rest
		}
		try = larger
	}
}

// Larger returns Sizes in which each table is doubled, up to Limits, that an error of Apply says is full. It is false if none
// grows: the error says something else, or the table is at its limit and the objects that need more are refused.
func (s Sizes) Larger(err error) (larger Sizes, is bool) {
	full := map[string]bool{}
	for _, e := range fullErrors(err) {
		full[e.What] = true
	}
	limits := Limits()
	larger = s
	for what, size := range map[string]struct {
		is    *int
		limit int
	}{
		"slots":   {&larger.Blocks, limits.Blocks},
		"vectors": {&larger.Vectors, limits.Vectors},
		"chunks":  {&larger.Chunks, limits.Chunks},
		"hosts":   {&larger.Hosts, limits.Hosts},
		"nets":    {&larger.Nets, limits.Nets},
	} {
		if full[what] {
			*size.is = max(*size.is, min(2**size.is, size.limit))
		}
	}
	return larger, larger != s
}

// guess estimates Sizes for SizesFor to start with. It is right for rules that differ in one net and one port each.
func guess(s *calc.State) Sizes {
	rules, members := 0, 0
	for _, p := range s.Policies {
		rules += len(p.Ingress) + len(p.Egress) + 2
	}
	for _, set := range s.Sets {
		members += len(set)
	}
	g := Sizes{
		Blocks:  blocksFor(rules),
		Vectors: 1024 + 3*rules + 2*len(s.Sets),
		Chunks:  1024 + 4*rules + 2*len(s.Sets),
		Hosts:   1024 + members + rules,
		Nets:    1024 + members + rules,
	}
	return g.min(Limits())
}

// blocksFor returns the blocks for some items, as many again, and a quarter more for gaps.
func blocksFor(items int) int {
	return max(1, (2*items+items/4+layout.BlockSlots-1)/layout.BlockSlots)
}

// min is the lesser of each size.
func (s Sizes) min(t Sizes) Sizes {
	return Sizes{
		Blocks:  min(s.Blocks, t.Blocks),
		Vectors: min(s.Vectors, t.Vectors),
		Chunks:  min(s.Chunks, t.Chunks),
		Hosts:   min(s.Hosts, t.Hosts),
		Nets:    min(s.Nets, t.Nets),
	}
}

// sizes returns twice what is in use, and room for the first objects of a small state.
func (c *Classifier) sizes() Sizes {
	s := Sizes{
		Blocks:  max(c.mem.Blocks, blocksFor(c.order.items)),
		Vectors: 256 + 2*int(c.vectors.numbers.count),
		Chunks:  256 + 2*int(c.vectors.chunks.count),
		Hosts:   1024 + 2*c.addresses.hosts.used,
		Nets:    256 + 2*c.addresses.nets.used,
	}
	return s.min(Limits())
}

// Use returns how many slots and how much of each size are in use. Things that wait for Reuse count. Blocks is the size
// itself.
func (c *Classifier) Use() (slots int, rest Sizes) {
	return c.order.items + len(c.order.retired), Sizes{
		Blocks:  c.mem.Blocks,
		Vectors: int(c.vectors.numbers.count),
		Chunks:  int(c.vectors.chunks.count),
		Hosts:   c.addresses.hosts.used,
		Nets:    c.addresses.nets.used,
	}
}

// Sizes are the capacities of the tables of one generation.
type Sizes struct {
	Blocks  int // of slots, layout.BlockSlots each; at most layout.MaxBlocks
	Vectors int // of classes and masks together; number 0 is the empty one
	Chunks  int // blocks of vectors that are not empty; number 0 is all zero
	Hosts   int // single addresses
	Nets    int // prefixes
}

// Limits are the largest Sizes. A change that does not fit into these is refused for the objects that need it.
func Limits() Sizes {
	return Sizes{Blocks: layout.MaxBlocks, Vectors: 1 << 18, Chunks: 1 << 20, Hosts: 1 << 22, Nets: 1 << 20}
}

// limitOf returns the most entries that a table can have. Tables have the names of ErrFull.What; 0 for one without a size.
func limitOf(table string) int {
	limits := Limits()
	return map[string]int{
		"slots":   limits.Blocks * layout.BlockSlots,
		"vectors": limits.Vectors,
		"chunks":  limits.Chunks,
		"hosts":   limits.Hosts,
		"nets":    limits.Nets,
	}[table]
}
