package dataplane

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/margay-project/margay/bpf"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/classifier"
)

// generations has those that are loaded. Interfaces are to run the last one. Those before it are kept current until no
// interface runs them.
type generations struct {
	all      []*generation
	attached map[int]*bpf.Attachment // by interface; which generation each runs is in Driver.links
	change   calc.Delta              // that the generations do not have yet
	former   *calc.State             // the State of the generations while changes wait; nil: none wait

	sizes    classifier.Sizes
	renew    string // not empty: why another generation is needed
	failures int
	again    time.Time // not before then is another one built
	err      error     // of the last attempt to build one
	serial   int
}

func (gs *generations) newest() *generation {
	if len(gs.all) == 0 {
		return nil
	}
	return gs.all[len(gs.all)-1]
}

// fold brings a change into the State and into the change that waits for the generations. While the datastore is not ready, the
// generations stay as they are; afterwards they get one change with everything that came meanwhile. The first generation is
// built from the State.
func (d *Driver) fold(delta calc.Delta) {
	gs := &d.generations
	ready := d.state.Ready
	if delta.Ready != nil {
		ready = *delta.Ready
	}
	if !ready && gs.former == nil && len(gs.all) > 0 {
		gs.former = d.state.Clone()
	}
	d.state.Fold(delta)
	switch {
	case gs.former == nil:
		gs.change = delta
	case ready:
		gs.change, gs.former = calc.Diff(gs.former, d.state), nil
	}
}

func (gs *generations) close() error {
	var errs []error
	for _, a := range gs.attached {
		errs = append(errs, a.Close())
	}
	for _, g := range gs.all {
		errs = append(errs, g.close())
	}
	*gs = generations{}
	return errors.Join(errs...)
}

// updateGenerations brings the waiting change into all generations.
func (d *Driver) updateGenerations() error {
	gs := &d.generations
	var errs []error
	for _, g := range gs.all {
		err := g.update(&gs.change)
		if g != gs.newest() || !d.grow(g, err) {
			errs = append(errs, err)
		}
	}
	gs.change = calc.Delta{}
	return errors.Join(errs...)
}

// grow asks for another generation after a table was full. The new one is larger. At the limits it has the same size, and
// helps if this one also holds the former policy of some endpoints, because the new one holds only what is wanted now. grow
// returns true if it asked: the same pass builds it, and the full table is no problem yet.
func (d *Driver) grow(g *generation, err error) bool {
	sizes, is := g.sizes.Larger(err)
	if !is && !(isFull(err) && g.keepsFormer()) {
		return false
	}
	d.generations.sizes = sizes
	// The error may tell operators to remove rules. That is wrong as long as the next generation may have room for all of them.
	full := strings.Join(classifier.FullTables(err), ", ")
	d.generations.renew = "full: " + full
	how := "larger"
	if !is {
		how = "without the former policy that some endpoints still have"
	}
	d.Log.WithField("full", full).Info("tables of policy are full, so all are built anew, " + how)
	return true
}

func isFull(err error) bool {
	_, is := errors.AsType[*classifier.ErrFull](err)
	return is
}

// firstSizes returns sizes with room for twice a State, and at least for a small fleet. Tables of rules are mapped and count as
// memory of the agent, so their minimum is small. Tables of addresses take memory only as they fill.
func firstSizes(s *calc.State) (classifier.Sizes, error) {
	sizes, err := classifier.SizesFor(s)
	if err != nil {
		return sizes, fmt.Errorf("estimate the tables: %w", err)
	}
	limits := classifier.Limits()
	sizes.Vectors = min(max(sizes.Vectors, 2048), limits.Vectors)
	sizes.Chunks = min(max(sizes.Chunks, 2048), limits.Chunks)
	sizes.Hosts = min(max(sizes.Hosts, 1<<16), limits.Hosts)
	sizes.Nets = min(max(sizes.Nets, 1<<16), limits.Nets)
	return sizes, nil
}

// build makes the next generation beside those that run: it is loaded, filled with the whole State and verified. No interface
// runs it yet. If that fails, the running ones stay, and build tries again after 2 s, then after twice as long each time, at
// most 1 min.
func (d *Driver) build(now time.Time) error {
	gs := &d.generations
	if (gs.renew == "" && len(gs.all) > 0) || gs.again.After(now) {
		return nil
	}
	var err error
	if gs.sizes == (classifier.Sizes{}) {
		gs.sizes, err = firstSizes(d.state)
	}
	var g *generation
	if err == nil {
		g, err = d.buildUntilItFits()
	}
	if err != nil {
		gs.failures++
		gs.again = now.Add(min(time.Second<<min(gs.failures, 6), time.Minute))
		gs.err = fmt.Errorf("build generation %d: %w", gs.serial, err)
		return gs.err
	}
	gs.all = append(gs.all, g)
	gs.renew, gs.failures, gs.again, gs.err = "", 0, time.Time{}, nil
	return nil
}

func (d *Driver) buildUntilItFits() (*generation, error) {
	for {
		d.generations.serial++
		g, err := d.load(d.generations.serial, d.generations.sizes)
		if err != nil {
			return nil, err
		}
		everything := calc.Diff(nil, d.state)
		err = g.apply(&everything)
		if sizes, is := g.sizes.Larger(err); is {
			d.generations.sizes = sizes
			if err := g.close(); err != nil {
				return nil, err
			}
			continue
		}
		switch {
		case isFull(err): // at the limits: policies that fit are complete, and endpoints that need others are closed
			d.Log.WithError(err).Error("policy is larger than the largest tables; endpoints whose policy does not fit are closed: remove some rules")
		case err != nil:
			return nil, errors.Join(err, g.close())
		}
		if err := g.verify(d.state); err != nil {
			return nil, errors.Join(err, g.close())
		}
		return g, nil
	}
}

// retire closes the generations that no interface runs any more. After a failed swap it closes none: one of the two programs
// of that interface may have been swapped.
func (d *Driver) retire() error {
	gs := &d.generations
	if d.links.Status().Failed > 0 {
		return nil
	}
	used := map[*generation]bool{gs.newest(): true}
	for _, r := range d.links.Held() {
		used[r.generation] = true
	}
	var errs []error
	var kept []*generation
	for _, g := range gs.all {
		if used[g] {
			kept = append(kept, g)
			continue
		}
		d.flows.wait()
		errs = append(errs, g.close())
	}
	gs.all = kept
	return errors.Join(errs...)
}
