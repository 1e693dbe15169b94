package dataplane

import (
	"errors"
	"fmt"
	"time"

	"github.com/margay-project/margay/bpf"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/classifier"
)

// policies are the generations. The last is the one that interfaces are to run; the ones before it are kept current
// until no interface runs them.
type policies struct {
	all      []*generation
	attached map[int]*bpf.Attachment // by interface; which generation each runs is in Driver.links
	queue    []calc.Delta            // not yet absorbed by the generations

	sizes    classifier.Sizes
	renew    string // not empty: why another generation is needed
	failures int
	again    time.Time
	err      error // of the last attempt to build one
	serial   int
}

func (p *policies) newest() *generation {
	if len(p.all) == 0 {
		return nil
	}
	return p.all[len(p.all)-1]
}

// pending adds a change to what the generations have not absorbed. The first one is built from the State instead.
func (p *policies) pending(delta calc.Delta) {
	if len(p.all) > 0 && !delta.Empty() {
		p.queue = append(p.queue, delta)
	}
}

func (p *policies) close() error {
	var errs []error
	for _, a := range p.attached {
		errs = append(errs, a.Close())
	}
	for _, g := range p.all {
		errs = append(errs, g.close())
	}
	*p = policies{}
	return errors.Join(errs...)
}

// absorb brings what changed into all generations.
func (d *Driver) absorb() error {
	p := &d.policies
	var errs []error
	for _, g := range p.all {
		err := g.absorbAll(p.queue)
		errs = append(errs, err)
		if g == p.newest() && err != nil {
			d.grow(g, err)
		}
	}
	p.queue = nil
	return errors.Join(errs...)
}

// grow asks for a larger generation when a table was full.
func (d *Driver) grow(g *generation, err error) {
	sizes, full := larger(g.sizes, err)
	if !full {
		return
	}
	d.policies.sizes = sizes
	d.policies.renew = err.Error()
}

// larger returns the sizes with which a change that did not fit may fit. At the limits there is none, and the
// objects that need more are refused.
func larger(s classifier.Sizes, err error) (classifier.Sizes, bool) {
	var full *classifier.ErrFull
	if !errors.As(err, &full) {
		return s, false
	}
	limits := classifier.Limits()
	double := func(n *int, limit int) bool {
		grown := min(*n*2, limit)
		bigger := grown > *n
		*n = grown
		return bigger
	}
	switch full.What {
	case "slots":
		return s, double(&s.Blocks, limits.Blocks)
	case "vectors":
		return s, double(&s.Vectors, limits.Vectors)
	case "chunks":
		return s, double(&s.Chunks, limits.Chunks)
	case "hosts":
		return s, double(&s.Hosts, limits.Hosts)
	case "nets":
		return s, double(&s.Nets, limits.Nets)
	}
	return s, false
}

// firstSizes are what a State probably needs: room for three copies of its rules, and for new classes.
func firstSizes(s *calc.State) classifier.Sizes {
	rules, members := 64, 0
	for _, p := range s.Policies {
		rules += len(p.Ingress) + len(p.Egress) + 2
	}
	for _, m := range s.Sets {
		members += len(m)
	}
	blocks := 1
	for blocks < bpf.MaxBlocks && blocks*bpf.BlockSlots < 3*rules {
		blocks *= 2
	}
	limits := classifier.Limits()
	return classifier.Sizes{
		Blocks:  blocks,
		Vectors: min(max(4096, 4*rules), limits.Vectors),
		Chunks:  min(max(8192, 8*rules), limits.Chunks),
		Hosts:   min(max(1<<16, 2*members), limits.Hosts),
		Nets:    min(max(1<<16, 2*members), limits.Nets),
	}
}

// build makes the next generation beside those that run: loaded, filled with the whole State, verified. Nothing runs
// it yet. While that fails everything stays as it is, and it is tried again later.
func (d *Driver) build(now time.Time) error {
	p := &d.policies
	if (p.renew == "" && len(p.all) > 0) || p.again.After(now) {
		return nil
	}
	if p.sizes == (classifier.Sizes{}) {
		p.sizes = firstSizes(d.state)
	}
	g, err := d.buildUntilItFits()
	if err != nil {
		p.failures++
		p.again = now.Add(min(time.Second<<min(p.failures, 6), time.Minute))
		p.err = fmt.Errorf("build generation %d: %w", p.serial, err)
		return p.err
	}
	p.all = append(p.all, g)
	p.renew, p.failures, p.again, p.err = "", 0, time.Time{}, nil
	return nil
}

func (d *Driver) buildUntilItFits() (*generation, error) {
	for {
		d.policies.serial++
		g, err := d.load(d.policies.serial, d.policies.sizes)
		if err != nil {
			return nil, err
		}
		everything := calc.Diff(nil, d.state)
		err = g.absorb(&everything)
		if sizes, full := larger(g.sizes, err); full {
			d.policies.sizes = sizes
			if err := g.close(); err != nil {
				return nil, err
			}
			continue
		}
		var full *classifier.ErrFull
		switch {
		case errors.As(err, &full): // at the limits: what fits is complete, and endpoints that need the rest are closed
			d.Log.WithError(err).Error("policy is larger than the tables can be; endpoints that need the rest are closed: remove some rules")
		case err != nil:
			return nil, errors.Join(err, g.close())
		}
		if err := g.verify(d.state); err != nil {
			return nil, errors.Join(err, g.close())
		}
		return g, nil
	}
}

// retire closes the generations that no interface runs any more.
func (d *Driver) retire() error {
	p := &d.policies
	used := map[*generation]bool{p.newest(): true}
	for _, r := range d.links.Held() {
		used[r.generation] = true
	}
	var errs []error
	var kept []*generation
	for _, g := range p.all {
		if used[g] {
			kept = append(kept, g)
			continue
		}
		d.flows.wait()
		errs = append(errs, g.close())
	}
	p.all = kept
	return errors.Join(errs...)
}
