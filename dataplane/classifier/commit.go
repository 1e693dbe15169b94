package classifier

import (
	"slices"

	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/calc"
)

// Masks are the masks that all interfaces of an endpoint must get. Each interface gets all of them in one write. The masks
// of a closed endpoint let only a host endpoint's failsafes through and deny the rest.
type Masks struct {
	Mask   [layout.Stages]uint32 // by kernel stage: the number of a vector; 0: no policy at this stage
	Closed string                // why the endpoint is closed; empty: it is not
}

// Commit is the result of Apply. The caller writes it to the interfaces and tells Sweep which writes failed.
type Commit struct {
	Endpoints map[calc.EndpointID]Masks  // to be written to their interfaces
	Gone      []calc.EndpointID          // the entries of their interfaces must be removed
	Held      map[calc.EndpointID]string // endpoints that keep their former masks, with the error that is the reason
}

// propose decides for each pending endpoint: it gets its new masks if the tables have everything that they need.
// Otherwise it keeps the masks that it has; an endpoint that never had any is closed.
func (c *Classifier) propose(failure error) Commit {
	commit := Commit{Endpoints: map[calc.EndpointID]Masks{}, Held: map[calc.EndpointID]string{}}
	for e := range c.pendingEndpoints {
		want, complete := c.wantedMasks(e)
		switch {
		case complete:
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

// why returns the reason why the tables are not complete: the errors of this Apply.
func why(err error) string {
	if err == nil {
		return "unknown"
	}
	return err.Error()
}

// Sweep ends a commit. The caller names the endpoints for which a write or a removal failed; the next Apply returns
// them again. The round is for Reuse.
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

// noteUncertain notes masks that some interface of an endpoint may have, because a write of them failed. It adds no
// masks twice: a write may fail for hours. It takes over the reference to m.
func (c *Classifier) noteUncertain(e *endpoint, m *maskSet) {
	if slices.ContainsFunc(e.uncertain, func(u *maskSet) bool { return *u == *m }) {
		c.releaseMasks(m)
		return
	}
	e.uncertain = append(e.uncertain, m)
}

// Masks returns the masks that were last committed for an endpoint. An interface of it that appears later gets these.
func (c *Classifier) Masks(id calc.EndpointID) (Masks, bool) {
	e := c.endpoints[id]
	if e == nil || e.committed == nil {
		return Masks{}, false
	}
	return e.committed.export(), true
}

// maskSet is the masks of an endpoint at one moment. Each maskSet that an endpoint keeps holds a reference to its
// masks.
type maskSet struct {
	masks  [layout.Stages]*mask
	closed string
}

// wantedMasks returns the masks that an endpoint should have now. It is false if a ruleset has no mask yet, or if
// a mask must change and the tables do not have everything that its rules need.
func (c *Classifier) wantedMasks(e *endpoint) (*maskSet, bool) {
	m := &maskSet{closed: e.closed}
	for i, s := range e.rulesets {
		if s == nil {
			continue
		}
		if _, pending := c.pendingRulesets[s]; pending {
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

// differs says whether the masks of a direction differ at some stage. A packet passes all stages of a direction, so
// they are compared, and change, together.
func (m *maskSet) differs(from *maskSet, dir calc.Direction) bool {
	for i, n := range m.masks {
		if stages[i].dir == dir && (from == nil || from.masks[i] != n) {
			return true
		}
	}
	return false
}

// retain adds a reference to each mask of the set and returns it.
func (c *Classifier) retain(m *maskSet) *maskSet {
	for _, n := range m.masks {
		if n != nil {
			n.refs++
		}
	}
	return m
}

// releaseMasks gives back the references of mask sets; nil sets have none.
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

// export returns the numbers of the masks.
func (m *maskSet) export() Masks {
	out := Masks{Closed: m.closed}
	for i, n := range m.masks {
		if n != nil {
			out.Mask[i] = n.vector
		}
	}
	return out
}
