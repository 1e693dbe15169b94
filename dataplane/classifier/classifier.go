package classifier

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/calc"
)

// Classifier keeps one generation's tables. It has one user at a time.
//
// The order of a change is: Apply, write the masks that it returns, Sweep, wait until no program that ran meanwhile
// still runs, Reuse.
type Classifier struct {
	mem         *Memory
	vectors     vectors
	addresses   *addresses
	services    *line
	sourcePorts *line
	order       order
	masks       masks
	hash        func(calc.RuleID) uint64

	policies  map[calc.PolicyID]*policy
	tiers     map[string]*tier
	profiles  map[string]*profileList
	endpoints map[calc.EndpointID]*endpoint
	leaving   map[calc.EndpointID]*endpoint // gone, but perhaps their interfaces still have masks
	specs     map[string]*spec
	names     map[uint64]*name

	dirty    map[*endpoint]struct{} // may need other masks
	troubled map[*endpoint]struct{} // closed because of something that may change
	stale    map[*spec]struct{}     // need another mask
	failed   failures
	proposed []*endpoint // by the last Apply, not swept yet
	epoch    uint64
	serial   uint32
	scratch  []byte
	lists    []*list
	lately   [layout.Stages]*endpoint // resolved in this Apply: the next may have the same
	freed    []*item
}

// failures are what the last Apply could not bring into the tables.
type failures struct {
	conds map[*condition]struct{}
	atoms map[*atom]struct{}
}

// New returns a classifier for empty tables.
func New(mem *Memory, s Sizes, t Tables) (*Classifier, error) {
	if err := mem.check(); err != nil {
		return nil, err
	}
	c := &Classifier{
		mem:       mem,
		vectors:   newVectors(mem),
		hash:      calc.RuleID.Hash,
		policies:  map[calc.PolicyID]*policy{},
		tiers:     map[string]*tier{},
		profiles:  map[string]*profileList{},
		endpoints: map[calc.EndpointID]*endpoint{},
		leaving:   map[calc.EndpointID]*endpoint{},
		specs:     map[string]*spec{},
		names:     map[uint64]*name{},
		dirty:     map[*endpoint]struct{}{},
		troubled:  map[*endpoint]struct{}{},
		stale:     map[*spec]struct{}{},
	}
	c.addresses = newAddresses(&c.vectors, t, s)
	c.services = newLine("services", &c.vectors, mem.Services, layout.Services)
	c.sourcePorts = newLine("source ports", &c.vectors, mem.SourcePorts, layout.SourcePorts)
	c.order = newOrder(mem.Blocks, &c.epoch)
	c.order.onMove = c.copied
	c.masks = newMasks(&c.vectors)
	return c, nil
}

// Apply fills the tables with everything that a change needs and returns the masks that endpoints must get.
//
// Until the masks are written every packet is judged by the old rules. Only the membership of sets takes effect at
// once, for each address as a whole, and only where no packet could tell that the rest is not there yet. What could not
// be written is in the error and is tried again by the next Apply, also of an empty Delta; endpoints that need it keep
// their masks.
//
// With an ErrFull the tables are correct but have no room for the change: build the next generation.
func (c *Classifier) Apply(d *calc.Delta) (Commit, error) {
	if len(c.proposed) > 0 {
		return Commit{}, errors.New("apply: the last commit has not been swept")
	}
	members := c.setChanges(d.Sets)
	gone := c.merge(d)
	c.resolveDirty()
	c.changeSets(append(members, c.goneSets(d.SetsGone)...))
	c.dropTiers()
	err := c.program()
	err = errors.Join(err, c.rebuildStale())
	commit := c.propose(err)
	commit.Gone = gone
	return commit, err
}

// program fills slots, classes and addresses, in this order.
func (c *Classifier) program() error {
	c.failed = failures{}
	var errs []error
	fail := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	fail(c.order.settle())
	c.fillSlots()
	for _, cs := range c.dimensions() {
		conds, err := cs.flush()
		fail(err)
		c.failed.addConditions(conds)
	}
	for _, l := range []*line{c.services, c.sourcePorts} {
		if err := l.settle(c.epoch); err != nil {
			fail(err)
			for _, v := range l.join {
				c.failed.addAtoms(v.atoms)
			}
		}
	}
	fail(c.addresses.settle(c.epoch))
	c.failed.addAtoms(c.addresses.failed)
	return errors.Join(errs...)
}

func (c *Classifier) dimensions() []*classes {
	return []*classes{&c.addresses.classes, &c.services.classes, &c.sourcePorts.classes}
}

func (f *failures) addConditions(conds []*condition) {
	for _, c := range conds {
		if f.conds == nil {
			f.conds = map[*condition]struct{}{}
		}
		f.conds[c] = struct{}{}
	}
}

func (f *failures) addAtoms(atoms []*atom) {
	for _, a := range atoms {
		if f.atoms == nil {
			f.atoms = map[*atom]struct{}{}
		}
		f.atoms[a] = struct{}{}
	}
}

// affect says whether a list depends on something that is not in the tables.
func (f *failures) affect(l *list) bool {
	if !l.whole {
		return true
	}
	if len(f.conds)+len(f.atoms) == 0 {
		return false
	}
	for _, it := range l.items {
		for _, c := range it.conds {
			if c == nil {
				continue
			}
			if _, failed := f.conds[c]; failed || f.any(c.in) || f.any(c.out) {
				return true
			}
		}
	}
	return false
}

func (f *failures) any(views []*view) bool {
	for _, v := range views {
		for _, a := range v.atoms {
			if _, failed := f.atoms[a]; failed {
				return true
			}
		}
	}
	return false
}

// rebuildStale makes the masks that are to change; first those that most endpoints need, in case there is no room.
func (c *Classifier) rebuildStale() error {
	specs := slices.Collect(maps.Keys(c.stale))
	slices.SortFunc(specs, func(a, b *spec) int { return len(b.endpoints) - len(a.endpoints) })
	var f faults
	for _, s := range specs {
		f.add(c.rebuild(s))
	}
	return f.err("masks")
}

// complete says whether the tables have everything that a spec needs.
func (c *Classifier) complete(s *spec) bool {
	if len(c.order.changed)+len(c.failed.conds)+len(c.failed.atoms) == 0 {
		return true
	}
	for _, l := range s.lists {
		if c.failed.affect(l) {
			return false
		}
	}
	return true
}

// rebuild makes the mask of a spec, unless its lists are not complete in the tables.
func (c *Classifier) rebuild(s *spec) error {
	if !c.complete(s) {
		return nil
	}
	m, err := c.masks.make(s.lists, s.mask)
	if err != nil {
		return fmt.Errorf("mask of %d endpoints: %w", len(s.endpoints), err)
	}
	delete(c.stale, s)
	if m == s.mask {
		return nil
	}
	m.refs++
	c.masks.release(s.mask, c.epoch)
	s.mask = m
	maps.Copy(c.dirty, s.endpoints)
	return nil
}

// propose lists the endpoints whose masks have to be written.
func (c *Classifier) propose(failure error) Commit {
	commit := Commit{Endpoints: map[calc.EndpointID]Masks{}, Held: map[calc.EndpointID]string{}}
	for e := range c.dirty {
		want, whole := c.masking(e)
		switch {
		case whole:
			delete(c.dirty, e)
		case e.committed != nil:
			commit.Held[e.ID] = why(failure)
			continue
		default:
			want = &masking{closed: "its policy is not complete in the tables: " + why(failure)}
		}
		if e.committed != nil && *e.committed == *want && len(e.uncertain) == 0 {
			continue
		}
		e.proposed = c.hold(want)
		c.proposed = append(c.proposed, e)
		commit.Endpoints[e.ID] = want.commit()
	}
	return commit
}

func why(err error) string {
	if err == nil {
		return "unknown"
	}
	return err.Error()
}

// Sweep ends a commit. It is told for which endpoints the write failed, including those that were to be removed:
// these get their masks again from the next Apply. The result is for Reuse.
func (c *Classifier) Sweep(failed ...calc.EndpointID) (epoch uint64) {
	bad := make(map[calc.EndpointID]bool, len(failed))
	for _, id := range failed {
		bad[id] = true
	}
	for _, e := range c.proposed {
		if bad[e.ID] {
			c.doubt(e, e.proposed)
			c.dirty[e] = struct{}{}
		} else {
			c.letGo(e.committed)
			c.letGo(e.uncertain...)
			e.committed, e.uncertain = e.proposed, nil
		}
		e.proposed = nil
	}
	for id, e := range c.leaving {
		if !bad[id] {
			c.letGo(e.committed)
			c.letGo(e.uncertain...)
			delete(c.leaving, id)
		}
	}
	c.proposed = nil
	c.epoch++
	return c.epoch - 1
}

// doubt notes masks that perhaps some interface of an endpoint has. A write that fails for hours is noted once.
func (c *Classifier) doubt(e *endpoint, m *masking) {
	if slices.ContainsFunc(e.uncertain, func(u *masking) bool { return *u == *m }) {
		c.letGo(m)
		return
	}
	e.uncertain = append(e.uncertain, m)
}

// Reuse frees what was not used any more at the Sweep that returned the epoch. Call it when no program that was
// running at that Sweep still runs.
func (c *Classifier) Reuse(epoch uint64) error {
	c.masks.reuse(epoch)
	c.reuseSlots(epoch)
	err := errors.Join(c.services.settle(c.epoch), c.sourcePorts.settle(c.epoch), c.addresses.settle(c.epoch))
	for _, cs := range c.dimensions() {
		cs.reuse(epoch)
	}
	c.vectors.reuse(epoch)
	return err
}

// Masks returns what was last committed for an endpoint: what an interface of it that appears now must get.
func (c *Classifier) Masks(id calc.EndpointID) (Masks, bool) {
	e := c.endpoints[id]
	if e == nil || e.committed == nil {
		return Masks{}, false
	}
	return e.committed.commit(), true
}

// Rule names the rule that a slot's number stands for.
func (c *Classifier) Rule(hash uint64) (calc.RuleID, bool) {
	n := c.names[hash]
	if n == nil {
		return calc.RuleID{}, false
	}
	return n.id, true
}
