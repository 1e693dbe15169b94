package classifier

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/margay-project/margay/api"
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

// endpoint is a local endpoint and the masks that it should have, has and may have.
type endpoint struct {
	calc.Endpoint
	specs     [layout.Stages]*spec // nil: no policy at this stage
	profiles  *profileList
	closed    string
	committed *masking   // nil: never
	proposed  *masking   // waits for Sweep
	uncertain []*masking // writes that failed, perhaps not on every interface
}

// masking is the masks of an endpoint at one time.
type masking struct {
	masks  [layout.Stages]*mask
	closed string
}

// profileList is the distinct lists of profiles that endpoints have; its rules and their end are one stretch of slots.
type profileList struct {
	key   string
	names []string
	lists [2]*list
	users int
}

// resolve finds the lists that judge an endpoint now.
func (c *Classifier) resolve(e *endpoint) {
	delete(c.troubled, e)
	c.dirty[e] = struct{}{}
	old, names := e.profiles, e.Profiles
	e.closed = e.Closed
	if e.closed != "" {
		names = nil
	}
	e.profiles = c.useProfiles(names)
	specs, trouble := c.specsOf(e)
	if trouble != "" {
		e.closed = trouble
		c.troubled[e] = struct{}{}
	}
	if e.closed != "" {
		c.dropProfiles(e.profiles)
		e.profiles = c.useProfiles(nil)
		specs = c.closedSpecs(e)
	}
	for stage, s := range specs {
		c.attach(e, stage, s)
		if e.closed == "" {
			c.lately[stage] = e
		}
	}
	c.dropProfiles(old)
}

// specsOf returns an endpoint's specs by stage, or why it has to be closed.
func (c *Classifier) specsOf(e *endpoint) (specs [layout.Stages]*spec, trouble string) {
	for _, name := range e.profiles.names {
		if c.policies[calc.PolicyID{Kind: api.KindProfile, Name: name}] == nil {
			return specs, fmt.Sprintf("profile %s is not known", name)
		}
	}
	for i := range specs {
		if like := c.lately[i]; like != nil && like.profiles == e.profiles && samePolicies(like, e, i) {
			specs[i] = like.specs[i]
			continue
		}
		lists, trouble := c.listsOf(e, i)
		if trouble != "" {
			return specs, trouble
		}
		specs[i] = c.specOf(lists)
		if s := specs[i]; s != nil && s.trouble != "" {
			return specs, s.trouble
		}
	}
	return specs, ""
}

// samePolicies says whether two endpoints have the same at a stage.
func samePolicies(a, b *endpoint, i int) bool {
	s := stages[i]
	return slices.EqualFunc(a.Policies[s.stage][s.dir], b.Policies[s.stage][s.dir],
		func(x, y calc.TierPolicies) bool { return x.Tier == y.Tier && slices.Equal(x.Policies, y.Policies) })
}

// listsOf returns an endpoint's lists at a stage until the next call.
func (c *Classifier) listsOf(e *endpoint, i int) (lists []*list, trouble string) {
	s := stages[i]
	out := c.lists[:0]
	for _, t := range e.Policies[s.stage][s.dir] {
		for _, id := range t.Policies {
			p := c.policies[id]
			if p == nil || p.lists[s.dir] == nil {
				return nil, fmt.Sprintf("%s %s is not known", strings.ToLower(id.Kind), id.Name)
			}
			out = append(out, p.lists[s.dir])
		}
		if t.Tier != "" && len(t.Policies) > 0 && (s.stage == calc.Normal || s.stage == calc.Forward) {
			out = append(out, c.tierNamed(t.Tier).ends[s.dir])
		}
	}
	if s.stage == calc.Normal {
		out = append(out, e.profiles.lists[s.dir])
	}
	c.lists = out
	return out, ""
}

// closedSpecs let only failsafes through.
func (c *Classifier) closedSpecs(e *endpoint) (specs [layout.Stages]*spec) {
	for i, s := range stages {
		var lists []*list
		for _, t := range e.Policies[s.stage][s.dir] {
			if t.Tier != "" {
				continue
			}
			for _, id := range t.Policies {
				if p := c.policies[id]; p != nil && p.lists[s.dir] != nil && p.lists[s.dir].refused == "" {
					lists = append(lists, p.lists[s.dir])
				}
			}
		}
		if s.stage == calc.Normal || s.stage == calc.Forward {
			lists = append(lists, e.profiles.lists[s.dir])
		}
		specs[i] = c.specOf(lists)
	}
	return specs
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

// useProfiles returns the list of some profiles with one more user. A name counts where it is first.
func (c *Classifier) useProfiles(names []string) *profileList {
	names = distinct(names)
	key := strings.Join(names, "\x00")
	p := c.profiles[key]
	if p == nil {
		p = &profileList{key: key, names: names}
		for dir := range p.lists {
			p.lists[dir] = c.newList(place{group: profiles, name: key, egress: dir == int(calc.Egress)})
		}
		c.profiles[key] = p
		c.setProfiles(p)
	}
	p.users++
	return p
}

func distinct(names []string) (out []string) {
	for _, n := range names {
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// setProfiles brings the rules of a list of profiles up to date.
func (c *Classifier) setProfiles(p *profileList) {
	var ps []*calc.Policy
	for _, name := range p.names {
		if known := c.policies[calc.PolicyID{Kind: api.KindProfile, Name: name}]; known != nil {
			ps = append(ps, &known.Policy)
		}
	}
	for dir, l := range p.lists {
		c.setRules(l, profileRules(ps, calc.Direction(dir)))
	}
}

func (c *Classifier) dropProfiles(p *profileList) {
	if p == nil {
		return
	}
	if p.users--; p.users > 0 {
		return
	}
	delete(c.profiles, p.key)
	for _, l := range p.lists {
		c.order.remove(l)
	}
}

// masking is what an endpoint should have now; false if the masks of a stage are not there yet, or were there before and
// what changed since is not in the tables.
func (c *Classifier) masking(e *endpoint) (*masking, bool) {
	m := &masking{closed: e.closed}
	for i, s := range e.specs {
		if s == nil {
			continue
		}
		if _, stale := c.stale[s]; stale {
			return nil, false
		}
		m.masks[i] = s.mask
	}
	for i, s := range e.specs {
		if s != nil && !c.complete(s) && m.differs(e.committed, stages[i].dir) {
			return nil, false
		}
	}
	return m, true
}

// differs says whether some mask of a direction is another one. A packet passes all the stages of a direction, so they
// change together.
func (m *masking) differs(from *masking, dir calc.Direction) bool {
	for i, n := range m.masks {
		if stages[i].dir == dir && (from == nil || from.masks[i] != n) {
			return true
		}
	}
	return false
}

func (c *Classifier) hold(m *masking) *masking {
	for _, n := range m.masks {
		if n != nil {
			n.refs++
		}
	}
	return m
}

func (c *Classifier) letGo(ms ...*masking) {
	for _, m := range ms {
		if m == nil {
			continue
		}
		for _, n := range m.masks {
			c.masks.release(n, c.epoch)
		}
	}
}

func (m *masking) commit() Masks {
	out := Masks{Closed: m.closed}
	for i, n := range m.masks {
		if n != nil {
			out.Mask[i] = n.vector
		}
	}
	return out
}
