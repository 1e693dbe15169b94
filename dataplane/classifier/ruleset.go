package classifier

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/margay-project/margay/calc"
)

// ruleset is the lists that judge an endpoint at one kernel stage, in order. Endpoints with the same lists share it and
// its mask.
type ruleset struct {
	key       string // serial numbers of the lists
	lists     []*list
	mask      *mask                  // set by rebuild, with one reference; nil: not built yet. It may be older than the lists, see pendingRulesets
	endpoints map[*endpoint]struct{} // that have it, at one or more stages
	problem   string                 // why endpoints with it must be closed; empty: none
	checked   bool                   // problem is up to date; resolveAgain resets it
}

// rulesetOf returns the ruleset of some lists, nil for no lists. A new one belongs to nobody until attach keeps it.
func (c *Classifier) rulesetOf(lists []*list) *ruleset {
	if len(lists) == 0 {
		return nil
	}
	c.scratch = c.scratch[:0]
	for _, l := range lists {
		c.scratch = binary.LittleEndian.AppendUint32(c.scratch, l.serial)
	}
	s := c.rulesets[string(c.scratch)]
	if s == nil {
		s = &ruleset{key: string(c.scratch), lists: slices.Clone(lists), endpoints: map[*endpoint]struct{}{}}
	}
	if !s.checked {
		s.checked, s.problem = true, problemOf(lists)
	}
	return s
}

// attach gives an endpoint a ruleset at a stage, or none. If an equal ruleset was attached meanwhile, the endpoint gets
// that one.
func (c *Classifier) attach(e *endpoint, stage int, s *ruleset) {
	old := e.rulesets[stage]
	if s != nil {
		if known := c.rulesets[s.key]; known != nil {
			s = known
		} else {
			c.rulesets[s.key] = s
			c.pendingRulesets[s] = struct{}{}
			for _, l := range s.lists {
				l.rulesets[s] = struct{}{}
			}
		}
		s.endpoints[e] = struct{}{}
	}
	if e.rulesets[stage] = s; old != s {
		c.detach(e, old)
	}
}

// detach is called after an endpoint has another ruleset at a stage. It frees the old one if no endpoint has it any
// more. An endpoint may have one ruleset at two stages.
func (c *Classifier) detach(e *endpoint, s *ruleset) {
	if s == nil || slices.Contains(e.rulesets[:], s) {
		return
	}
	delete(s.endpoints, e)
	if len(s.endpoints) > 0 {
		return
	}
	delete(c.rulesets, s.key)
	delete(c.pendingRulesets, s)
	for _, l := range s.lists {
		delete(l.rulesets, s)
	}
	c.masks.release(s.mask, c.round)
	s.mask = nil // it may be attached again
}

// rebuildPending makes the masks of pending rulesets, those of the most endpoints first: there may not be room for all.
func (c *Classifier) rebuildPending() error {
	rulesets := slices.Collect(maps.Keys(c.pendingRulesets))
	slices.SortFunc(rulesets, func(a, b *ruleset) int { return len(b.endpoints) - len(a.endpoints) })
	var f errorList
	for _, s := range rulesets {
		f.add(c.rebuild(s))
	}
	return f.err("masks")
}

// rebuild makes the mask of a ruleset, unless the tables lack something that its lists need; then it stays pending.
func (c *Classifier) rebuild(s *ruleset) error {
	if !c.complete(s) {
		return nil
	}
	m, err := c.masks.make(s.lists, s.mask)
	if err != nil {
		return fmt.Errorf("mask of %d endpoints: %w", len(s.endpoints), err)
	}
	delete(c.pendingRulesets, s)
	if m == s.mask {
		return nil
	}
	m.refs++
	c.masks.release(s.mask, c.round)
	s.mask = m
	maps.Copy(c.pendingEndpoints, s.endpoints)
	return nil
}

// complete says whether the tables have everything that a ruleset needs.
func (c *Classifier) complete(s *ruleset) bool {
	if len(c.order.pending)+len(c.failed.conds)+len(c.failed.atoms) == 0 {
		return true
	}
	for _, l := range s.lists {
		if c.failed.affects(l) {
			return false
		}
	}
	return true
}

// maxContinuations is how many Pass and Log slots the program's search goes through. calc closes endpoints that could
// need more; problemOf counts the same in the lists that the tables have.
const maxContinuations = calc.MaxContinuations

// problemOf returns why lists, in this order, must not judge an endpoint; empty if they may.
func problemOf(lists []*list) string {
	var search calc.Continuations
	for i, l := range lists {
		if l.problem != "" {
			return l.problem
		}
		if i > 0 && !lists[i-1].position.sameTier(l.position) {
			search.EndTier()
		}
		if i > 0 && lists[i-1].position.compare(l.position) > 0 {
			return fmt.Sprintf("its policies are not in the order of the node: %q before %q",
				lists[i-1].position.name, l.position.name)
		}
		if l.position.group == failsafes { // after whose Pass nothing follows
			search.AddPolicy(l.logs, 0)
		} else {
			search.AddPolicy(l.logs, l.depth)
		}
	}
	if n := search.Most(); n > maxContinuations {
		return fmt.Sprintf("a packet may pass or be logged %d times on its way through its policies, more than %d: "+
			"use fewer rules with the actions Log and Pass", n, maxContinuations)
	}
	return ""
}

// resolveAgain makes the endpoints that have a list pending. Their rulesets will be checked again.
func (c *Classifier) resolveAgain(l *list) {
	for s := range l.rulesets {
		s.checked = false
		maps.Copy(c.pendingEndpoints, s.endpoints)
	}
}
