package classifier

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/margay-project/margay/bpf"
	"github.com/margay-project/margay/calc"
)

// Masks is what the interfaces of an endpoint must get, in one write.
//
// A closed endpoint still has masks: what they let through is a host endpoint's failsafes, and they deny the rest.
type Masks struct {
	Mask   [bpf.Stages]uint32
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
	specs     [bpf.Stages]*spec // nil: no policy at this stage
	profiles  *profileList
	closed    string
	committed *masking   // nil: never
	proposed  *masking   // waits for Sweep
	uncertain []*masking // writes that failed, perhaps not on every interface
}

// masking is the masks of an endpoint at one time.
type masking struct {
	masks  [bpf.Stages]*mask
	closed string
}

// profileList is the distinct lists of profiles that endpoints have; its rules and their end are one stretch of slots.
type profileList struct {
	key   string
	names []string
	lists [2]*list
	users int
}

// stages are the places of an interface's masks in calc's lists.
var stages = [bpf.Stages]struct {
	stage calc.Stage
	dir   calc.Direction
}{
	bpf.StageNormalIn:     {calc.Normal, calc.Ingress},
	bpf.StageNormalOut:    {calc.Normal, calc.Egress},
	bpf.StageForwardIn:    {calc.Forward, calc.Ingress},
	bpf.StageForwardOut:   {calc.Forward, calc.Egress},
	bpf.StagePreDNATIn:    {calc.PreDNAT, calc.Ingress},
	bpf.StageUntrackedIn:  {calc.Untracked, calc.Ingress},
	bpf.StageUntrackedOut: {calc.Untracked, calc.Egress},
}

// resolve finds the lists that judge an endpoint now.
func (c *Classifier) resolve(e *endpoint) {
	delete(c.troubled, e)
	old := e.profiles
	names := e.Profiles
	e.closed = e.Closed
	if e.closed != "" {
		names = nil
	}
	e.profiles = c.useProfiles(names)
	lists, trouble := c.listsOf(e)
	if trouble != "" {
		e.closed = trouble
		c.troubled[e] = struct{}{}
	}
	if e.closed != "" {
		c.dropProfiles(e.profiles)
		e.profiles = c.useProfiles(nil)
		lists = c.closedLists(e)
	}
	for i := range lists {
		c.attach(e, i, lists[i])
	}
	c.dropProfiles(old)
	c.dirty[e] = struct{}{}
}

// listsOf returns an endpoint's lists by stage, or why it has to be closed.
func (c *Classifier) listsOf(e *endpoint) (out [bpf.Stages][]*list, trouble string) {
	for i, s := range stages {
		for _, t := range e.Policies[s.stage][s.dir] {
			if len(t.Policies) == 0 {
				continue
			}
			for _, id := range t.Policies {
				p := c.policies[id]
				if p == nil || p.lists[s.dir] == nil {
					return out, fmt.Sprintf("%s %s is not known", strings.ToLower(id.Kind), id.Name)
				}
				out[i] = append(out[i], p.lists[s.dir])
			}
			if t.Tier != "" && (s.stage == calc.Normal || s.stage == calc.Forward) {
				out[i] = append(out[i], c.tierNamed(t.Tier).ends[s.dir])
			}
		}
		if s.stage == calc.Normal {
			out[i] = append(out[i], e.profiles.lists[s.dir])
		}
		if trouble = problem(out[i]); trouble != "" {
			return out, trouble
		}
	}
	for _, name := range e.profiles.names {
		if c.policies[calc.PolicyID{Kind: calc.KindProfile, Name: name}] == nil {
			return out, fmt.Sprintf("profile %s is not known", name)
		}
	}
	return out, ""
}

// closedLists let only failsafes through.
func (c *Classifier) closedLists(e *endpoint) (out [bpf.Stages][]*list) {
	for i, s := range stages {
		for _, t := range e.Policies[s.stage][s.dir] {
			if t.Tier != "" {
				continue
			}
			for _, id := range t.Policies {
				if p := c.policies[id]; p != nil && p.lists[s.dir] != nil && p.lists[s.dir].refused == "" {
					out[i] = append(out[i], p.lists[s.dir])
				}
			}
		}
		if s.stage == calc.Normal || s.stage == calc.Forward {
			out[i] = append(out[i], e.profiles.lists[s.dir])
		}
	}
	return out
}

// attach makes an endpoint use the spec of some lists.
func (c *Classifier) attach(e *endpoint, stage int, lists []*list) {
	var s *spec
	if len(lists) > 0 {
		c.scratch = c.scratch[:0]
		for _, l := range lists {
			c.scratch = binary.LittleEndian.AppendUint32(c.scratch, l.serial)
		}
		s = c.specs[string(c.scratch)]
		if s == nil {
			s = &spec{key: string(c.scratch), lists: lists, endpoints: map[*endpoint]struct{}{}}
			c.specs[s.key] = s
			c.stale[s] = struct{}{}
			for _, l := range lists {
				l.specs[s] = struct{}{}
			}
		}
	}
	if old := e.specs[stage]; old != s {
		if s != nil {
			s.endpoints[e] = struct{}{}
		}
		e.specs[stage] = s
		c.detach(e, old)
	}
}

// detach frees a spec that an endpoint has no longer, if no other has it. One endpoint may have it at two stages.
func (c *Classifier) detach(e *endpoint, s *spec) {
	if s == nil {
		return
	}
	for _, other := range e.specs {
		if other == s {
			return
		}
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
}

func (c *Classifier) useProfiles(names []string) *profileList {
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

// setProfiles brings the rules of a list of profiles up to date.
func (c *Classifier) setProfiles(p *profileList) {
	var ps []*calc.Policy
	for _, name := range p.names {
		if known := c.policies[calc.PolicyID{Kind: calc.KindProfile, Name: name}]; known != nil {
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

// masking is what an endpoint should have now; false if the masks of a stage are not there yet.
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
	return m, true
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
