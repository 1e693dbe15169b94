package classifier

import (
	"errors"

	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/calc"
)

// Classifier keeps the tables of one generation. Its methods are called by one goroutine at a time; only the program
// reads the tables meanwhile.
//
// A change takes four steps: Apply; write the masks that it returns; Sweep; and Reuse, once no program still runs that
// ran during Sweep.
type Classifier struct {
	// Set by New. The tables that they keep change with each step.
	mem         *Memory
	vectors     vectors
	addresses   *addresses
	services    *line
	sourcePorts *line
	order       order
	masks       masks
	hash        func(calc.RuleID) uint64 // a test may replace it

	// Set by merge, which is the first part of Apply: the state as the Deltas tell it.
	policies  map[calc.PolicyID]*policy // profiles too, and failsafes that endpoints name before they come
	tiers     map[string]*tier
	endpoints map[calc.EndpointID]*endpoint
	leaving   map[calc.EndpointID]*endpoint // no longer in the state; Sweep removes those whose interfaces lost their masks

	// Shared by the endpoints that name the same. The first user adds an entry, the last one removes it.
	profiles  map[string]*profileList // by profileList.key
	rulesets  map[string]*ruleset     // by ruleset.key
	ruleNames map[uint64]*ruleName    // by the number in a slot; kept until the slot is reused

	// Work for this Apply or, if it cannot be completed, for the next one.

	// pendingEndpoints may need other masks. Added by every change of an endpoint or its rulesets, and by Sweep after a failed
	// write; removed by propose once the tables have everything that the endpoint needs.
	pendingEndpoints map[*endpoint]struct{}
	// closed endpoints are closed by the classifier, not by calc: a policy is missing, or a ruleset has a problem. resolve adds
	// and removes them. A change of any policy or tier makes them pending, as it may end the cause.
	closed map[*endpoint]struct{}
	// pendingRulesets need another mask. Added by attach (a new ruleset) and fillSlots (other slots); removed by rebuild.
	pendingRulesets map[*ruleset]struct{}
	// failed is replaced by each Apply.
	failed failures
	// proposed endpoints got masks from the last Apply. Sweep empties it, and Apply refuses to run before.
	proposed []*endpoint

	round  uint64 // number of Sweeps so far; things that became unused are marked with it
	serial uint32 // of the last list that was made

	// Buffers.
	scratch      []byte                   // of rulesetOf
	lists        []*list                  // of listsOf
	lastResolved [layout.Stages]*endpoint // resolved last in this Apply, by stage: the next endpoint often has the same rulesets
	freed        []*item                  // of reuseSlots
}

// New returns a classifier for tables that are all zero. The Sizes of Hosts and Nets bound t; those of mem are in its
// slices.
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

// Apply fills the tables with everything that a change needs, and returns the masks that endpoints must get.
//
// Until the masks are written, every packet is judged by the old rules. Only members of sets take effect at once: each
// address moves from its old sets to its new ones in one step, and only if no packet can get a mixed verdict (mix.go).
//
// The error joins everything that could not be written. The next Apply tries it again, also with an empty Delta.
// Endpoints that need it keep their former masks and are in Commit.Held.
//
// An ErrFull in the error says that the tables are correct but have no room for the change: build the next generation
// with Sizes.Larger.
func (c *Classifier) Apply(d *calc.Delta) (Commit, error) {
	if len(c.proposed) > 0 {
		return Commit{}, errors.New("apply: the last commit has not been swept")
	}
	members := c.changeUnaskedSets(d.Sets)
	gone := c.merge(d)
	c.resolvePending()
	c.changeAskedSets(append(members, c.goneSets(d.SetsGone)...))
	c.dropTiers()
	err := c.program()
	err = errors.Join(err, c.rebuildPending())
	commit := c.propose(err)
	commit.Gone = gone
	return commit, err
}

// program fills slots, classes, points and addresses, in this order. The parts that fail are in c.failed.
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

// Reuse frees everything that was unused at the Sweep that returned this round. The caller makes sure that no program
// that ran during that Sweep still runs: it may hold numbers of masks, classes and slots. The error says which writes
// failed; the next Reuse or Apply repeats them.
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

// Rule returns the rule that the number in a slot stands for. Rules that are gone are known until their slots are
// reused.
func (c *Classifier) Rule(hash uint64) (calc.RuleID, bool) {
	n := c.ruleNames[hash]
	if n == nil {
		return calc.RuleID{}, false
	}
	return n.id, true
}
