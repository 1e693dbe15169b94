package classifier

import (
	"errors"

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
	rulesets  map[string]*ruleset
	ruleNames map[uint64]*ruleName

	pendingEndpoints map[*endpoint]struct{} // may need other masks
	closed           map[*endpoint]struct{} // closed because of something that may change
	pendingRulesets  map[*ruleset]struct{}  // need another mask
	failed           failures
	proposed         []*endpoint // by the last Apply, not swept yet
	round            uint64
	serial           uint32
	scratch          []byte
	lists            []*list
	lastResolved     [layout.Stages]*endpoint // resolved in this Apply: the next may have the same
	freed            []*item
}

// New returns a classifier for empty tables.
func New(mem *Memory, s Sizes, t Tables) (*Classifier, error) {
	if err := mem.check(); err != nil {
		return nil, err
	}
	c := &Classifier{
		mem:              mem,
		vectors:          newVectors(mem),
		hash:             calc.RuleID.Hash,
		policies:         map[calc.PolicyID]*policy{},
		tiers:            map[string]*tier{},
		profiles:         map[string]*profileList{},
		endpoints:        map[calc.EndpointID]*endpoint{},
		leaving:          map[calc.EndpointID]*endpoint{},
		rulesets:         map[string]*ruleset{},
		ruleNames:        map[uint64]*ruleName{},
		pendingEndpoints: map[*endpoint]struct{}{},
		closed:           map[*endpoint]struct{}{},
		pendingRulesets:  map[*ruleset]struct{}{},
	}
	c.addresses = newAddresses(&c.vectors, t, s)
	c.services = newLine("services", &c.vectors, mem.Services, layout.Services)
	c.sourcePorts = newLine("source ports", &c.vectors, mem.SourcePorts, layout.SourcePorts)
	c.order = newOrder(mem.Blocks, &c.round)
	c.order.onCopy = c.countCopy
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
	c.resolvePending()
	c.changeSets(append(members, c.goneSets(d.SetsGone)...))
	c.dropTiers()
	err := c.program()
	err = errors.Join(err, c.rebuildPending())
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
	fail(c.order.assignSlots())
	c.fillSlots()
	for _, cs := range c.dimensions() {
		conds, err := cs.addNewSlots()
		fail(err)
		c.failed.addConditions(conds)
	}
	for _, l := range []*line{c.services, c.sourcePorts} {
		if err := l.update(c.round); err != nil {
			fail(err)
			for _, v := range l.join {
				c.failed.addAtoms(v.atoms)
			}
		}
	}
	fail(c.addresses.update(c.round))
	c.failed.addAtoms(c.addresses.failed)
	return errors.Join(errs...)
}

// Reuse frees what was not used any more at the Sweep that returned the round. Call it when no program that was
// running at that Sweep still runs.
func (c *Classifier) Reuse(round uint64) error {
	c.masks.reuse(round)
	c.reuseSlots(round)
	err := errors.Join(c.services.update(c.round), c.sourcePorts.update(c.round), c.addresses.update(c.round))
	for _, cs := range c.dimensions() {
		cs.reuse(round)
	}
	c.vectors.reuse(round)
	return err
}

// Rule names the rule that a slot's number stands for.
func (c *Classifier) Rule(hash uint64) (calc.RuleID, bool) {
	n := c.ruleNames[hash]
	if n == nil {
		return calc.RuleID{}, false
	}
	return n.id, true
}
