package classifier

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/margay-project/margay/calc"
)

// spec is the lists that judge an endpoint at one stage; endpoints with the same share it and its mask.
type spec struct {
	key       string
	lists     []*list
	mask      *mask // of the lists as they last were; nil: there never was one
	endpoints map[*endpoint]struct{}
	trouble   string // why endpoints with it are closed
	checked   bool   // trouble is up to date
}

// specOf returns the spec of some lists, nil for none. One that no endpoint has yet is not kept: attach does that.
func (c *Classifier) specOf(lists []*list) *spec {
	if len(lists) == 0 {
		return nil
	}
	c.scratch = c.scratch[:0]
	for _, l := range lists {
		c.scratch = binary.LittleEndian.AppendUint32(c.scratch, l.serial)
	}
	s := c.specs[string(c.scratch)]
	if s == nil {
		s = &spec{key: string(c.scratch), lists: slices.Clone(lists), endpoints: map[*endpoint]struct{}{}}
	}
	if !s.checked {
		s.checked, s.trouble = true, problem(lists)
	}
	return s
}

// attach makes an endpoint use a spec.
func (c *Classifier) attach(e *endpoint, stage int, s *spec) {
	old := e.specs[stage]
	if s != nil {
		if known := c.specs[s.key]; known != nil {
			s = known
		} else {
			c.specs[s.key] = s
			c.stale[s] = struct{}{}
			for _, l := range s.lists {
				l.specs[s] = struct{}{}
			}
		}
		s.endpoints[e] = struct{}{}
	}
	if e.specs[stage] = s; old != s {
		c.detach(e, old)
	}
}

// detach frees a spec that an endpoint has no longer, if no other has it. One endpoint may have it at two stages.
func (c *Classifier) detach(e *endpoint, s *spec) {
	if s == nil || slices.Contains(e.specs[:], s) {
		return
	}
	delete(s.endpoints, e)
	if len(s.endpoints) > 0 {
		return
	}
	delete(c.specs, s.key)
	delete(c.stale, s)
	for _, l := range s.lists {
		delete(l.specs, s)
	}
	c.masks.release(s.mask, c.epoch)
	s.mask = nil // it may be attached again
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

// maxContinuations is how often the program goes on after a Pass or a Log, as the calculation knows it.
const maxContinuations = calc.MaxContinuations

// problem says why lists, in order, must not judge an endpoint.
func problem(lists []*list) string {
	var search calc.Continuations
	for i, l := range lists {
		if l.refused != "" {
			return l.refused
		}
		if i > 0 && !lists[i-1].place.sameTier(l.place) {
			search.EndTier()
		}
		if i > 0 && lists[i-1].place.compare(l.place) > 0 {
			return fmt.Sprintf("its policies are not in the order of the node: %q before %q",
				lists[i-1].place.name, l.place.name)
		}
		if l.place.group == failsafes { // after whose Pass nothing follows
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

// disturb has the endpoints of a list resolved again.
func (c *Classifier) disturb(l *list) {
	for s := range l.specs {
		s.checked = false
		maps.Copy(c.dirty, s.endpoints)
	}
}
