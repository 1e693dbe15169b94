package classifier

import (
	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/calc"
)

// SizesFor returns Sizes for a state in which as much again fits beside what is there, up to Limits. It finds them by
// building the tables in ordinary memory.
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
			return c.sizes(), nil // at a limit Apply refuses what does not fit
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

// guess is right for rules that differ in one net and one port each.
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

// blocksFor leaves as much room again between the rules, and some more.
func blocksFor(items int) int {
	return max(1, (2*items+items/4+layout.BlockSlots-1)/layout.BlockSlots)
}

func (s Sizes) min(t Sizes) Sizes {
	return Sizes{
		Blocks:  min(s.Blocks, t.Blocks),
		Vectors: min(s.Vectors, t.Vectors),
		Chunks:  min(s.Chunks, t.Chunks),
		Hosts:   min(s.Hosts, t.Hosts),
		Nets:    min(s.Nets, t.Nets),
	}
}

// sizes are twice what is in use, and some more for small states.
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

// Use is how much of its Sizes a generation uses: what waits for Reuse counts.
func (c *Classifier) Use() (slots int, rest Sizes) {
	return c.order.items + len(c.order.retired), Sizes{
		Blocks:  c.mem.Blocks,
		Vectors: int(c.vectors.numbers.count),
		Chunks:  int(c.vectors.chunks.count),
		Hosts:   c.addresses.hosts.used,
		Nets:    c.addresses.nets.used,
	}
}

// Sizes are the capacities of one generation's tables.
type Sizes struct {
	Blocks  int // of slots
	Vectors int
	Chunks  int
	Hosts   int
	Nets    int
}

// Limits are the largest Sizes. At these a change that does not fit is refused for the objects that need it.
func Limits() Sizes {
	return Sizes{Blocks: layout.MaxBlocks, Vectors: 1 << 18, Chunks: 1 << 20, Hosts: 1 << 22, Nets: 1 << 20}
}
