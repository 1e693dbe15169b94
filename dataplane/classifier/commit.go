package classifier

import (
	"slices"

	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/calc"
)

// Masks is what the interfaces of an endpoint must get, in one write.
//
// A closed endpoint still has masks: what they let through is a host endpoint's failsafes, and they deny the rest.
type Masks struct {
	Mask   [layout.Stages]uint32
	Closed string // not empty: why everything else is dropped
}

// Commit is what the caller writes after Apply, and reports to Sweep.
type Commit struct {
	Endpoints map[calc.EndpointID]Masks
	Gone      []calc.EndpointID          // their interfaces must lose their entries
	Held      map[calc.EndpointID]string // keep their former masks because something they need could not be written
}

// propose lists the endpoints whose masks have to be written.
func (c *Classifier) propose(failure error) Commit {
	commit := Commit{Endpoints: map[calc.EndpointID]Masks{}, Held: map[calc.EndpointID]string{}}
	for e := range c.pendingEndpoints {
		want, whole := c.wantedMasks(e)
		switch {
		case whole:
			delete(c.pendingEndpoints, e)
		case e.committed != nil:
			commit.Held[e.ID] = why(failure)
			continue
		default:
			want = &maskSet{closed: "its policy is not complete in the tables: " + why(failure)}
		}
		if e.committed != nil && *e.committed == *want && len(e.uncertain) == 0 {
			continue
		}
		e.proposed = c.retain(want)
		c.proposed = append(c.proposed, e)
		commit.Endpoints[e.ID] = want.export()
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
func (c *Classifier) Sweep(failed ...calc.EndpointID) (round uint64) {
	bad := make(map[calc.EndpointID]bool, len(failed))
	for _, id := range failed {
		bad[id] = true
	}
	for _, e := range c.proposed {
		if bad[e.ID] {
			c.noteUncertain(e, e.proposed)
			c.pendingEndpoints[e] = struct{}{}
		} else {
			c.releaseMasks(e.committed)
			c.releaseMasks(e.uncertain...)
			e.committed, e.uncertain = e.proposed, nil
		}
		e.proposed = nil
	}
	for id, e := range c.leaving {
		if !bad[id] {
			c.releaseMasks(e.committed)
			c.releaseMasks(e.uncertain...)
			delete(c.leaving, id)
		}
	}
	c.proposed = nil
	c.round++
	return c.round - 1
}

// noteUncertain notes masks that perhaps some interface of an endpoint has. A write that fails for hours is noted once.
func (c *Classifier) noteUncertain(e *endpoint, m *maskSet) {
	if slices.ContainsFunc(e.uncertain, func(u *maskSet) bool { return *u == *m }) {
		c.releaseMasks(m)
		return
	}
	e.uncertain = append(e.uncertain, m)
}

// Masks returns what was last committed for an endpoint: what an interface of it that appears now must get.
func (c *Classifier) Masks(id calc.EndpointID) (Masks, bool) {
	e := c.endpoints[id]
	if e == nil || e.committed == nil {
		return Masks{}, false
	}
	return e.committed.export(), true
}

// maskSet is the masks of an endpoint at one time.
type maskSet struct {
	masks  [layout.Stages]*mask
	closed string
}

// wantedMasks is what an endpoint should have now; false if the masks of a stage are not there yet, or were there before and
// what changed since is not in the tables.
func (c *Classifier) wantedMasks(e *endpoint) (*maskSet, bool) {
	m := &maskSet{closed: e.closed}
	for i, s := range e.rulesets {
		if s == nil {
			continue
		}
		if _, stale := c.pendingRulesets[s]; stale {
			return nil, false
		}
		m.masks[i] = s.mask
	}
	for i, s := range e.rulesets {
		if s != nil && !c.complete(s) && m.differs(e.committed, stages[i].dir) {
			return nil, false
		}
	}
	return m, true
}

// differs says whether some mask of a direction is another one. A packet passes all the stages of a direction, so they
// change together.
func (m *maskSet) differs(from *maskSet, dir calc.Direction) bool {
	for i, n := range m.masks {
		if stages[i].dir == dir && (from == nil || from.masks[i] != n) {
			return true
		}
	}
	return false
}

func (c *Classifier) retain(m *maskSet) *maskSet {
	for _, n := range m.masks {
		if n != nil {
			n.refs++
		}
	}
	return m
}

func (c *Classifier) releaseMasks(ms ...*maskSet) {
	for _, m := range ms {
		if m == nil {
			continue
		}
		for _, n := range m.masks {
			c.masks.release(n, c.round)
		}
	}
}

func (m *maskSet) export() Masks {
	out := Masks{Closed: m.closed}
	for i, n := range m.masks {
		if n != nil {
			out.Mask[i] = n.vector
		}
	}
	return out
}
