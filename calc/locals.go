package calc

import (
	"slices"

	"github.com/margay-project/margay/api"
)

// locals are this node's endpoints. Those that the same policies select form a group and share their lists of policies.
type locals struct {
	endpoints  map[EndpointID]*local // all of this node, also those that the guard refuses; set by updateLocal
	byEntity   map[entityID]*local   // those that have labels; set by updateLocal, reset by removeEntity
	index      *index                // of the policies' selectors over this node's endpoints
	prints     prints
	selections map[fingerprint]*selection   // by the texts of their selectors; set by selectionOf, reset by dropEmptySelections
	groups     map[string]*group            // by signature; set by join, reset by leave
	claims     claims                       // of the workload endpoints that the guard does not refuse
	guard      guard                        // set by readPending
	sent       *table[EndpointID, Endpoint] // as they are handed out

	// Notes for updateLocals, which handles and resets them.
	pending         map[EndpointID]struct{} // endpoints that must be put into a group and handed out again
	pendingGroups   map[*group]struct{}     // groups whose lists must be arranged again
	emptySelections map[*selection]struct{} // selections that may have no policy left
}

// local is an endpoint of this node. updateLocal makes it, and removes it when the endpoint is gone or is another node's.
type local struct {
	read      Endpoint // as its object says, without policies; set by updateLocal
	effective Endpoint // read, but closed if another endpoint has a better claim; set by assignGroup
	entity    entityID // where its labels are; valid if hasEntity
	hasEntity bool     // it is false for an endpoint that has no labels because it is invalid
	matching  *matches // the selectors of policies that match its labels; nil: not in the index. Set by the index only
	refused   bool     // by the guard; set by guardOne and guardAll
	group     *group   // nil: it was refused, or is new
	excess    string   // not empty: why its policies are too many for the classifier, so that it is closed; set by checkBounds
	profiles  []string // the profiles that it makes active; set by referProfiles
}

func newLocals(prints prints) locals {
	return locals{
		prints:          prints,
		endpoints:       map[EndpointID]*local{},
		byEntity:        map[entityID]*local{},
		selections:      map[fingerprint]*selection{},
		groups:          map[string]*group{},
		claims:          newClaims(),
		pending:         map[EndpointID]struct{}{},
		pendingGroups:   map[*group]struct{}{},
		emptySelections: map[*selection]struct{}{},
		sent:            newTable[EndpointID](Endpoint.equal),
	}
}

// updateLocal handles a change of an endpoint. It does nothing for an endpoint that is and was another node's, as most are.
func (g *Graph) updateLocal(u api.Update) {
	l := &g.local
	e, problems, ok := localEndpoint(g.node, u)
	g.problems.set(u.Key, "endpoint", problems...)
	n := l.endpoints[e.ID]
	if n == nil && !ok {
		return
	}
	l.pending[e.ID] = struct{}{}
	if n == nil {
		n = &local{}
		l.endpoints[e.ID] = n
	} else {
		l.unclaim(n)
	}
	if !ok {
		g.problems.set(u.Key, "guard")
		g.problems.set(u.Key, "claim")
		if n.hasEntity {
			l.index.remove(n.entity, g.entities.labelsOf(n.entity))
			delete(l.byEntity, n.entity)
		}
		l.leave(n, &g.active)
		g.referProfiles(n, nil)
		g.problems.set(u.Key, "bound")
		delete(l.endpoints, e.ID)
		return
	}
	n.read = e
	g.guardOne(n)
	l.claim(n)
	if id, there := g.entities.find(u.Key); there {
		n.entity, n.hasEntity = id, true
		l.byEntity[id] = n
		g.reselect(n, g.entities.labelsOf(id))
	}
}

// localsIndexed gives an index access to this node's endpoints.
func (g *Graph) localsIndexed() indexed {
	return indexed{
		labelsOf: g.entities.labelsOf,
		matching: func(id entityID) **matches {
			if n := g.local.byEntity[id]; n != nil {
				return &n.matching
			}
			return nil
		},
		each: func(yield func(entityID) bool) {
			for id, n := range g.local.byEntity {
				if n.matching != nil && !yield(id) {
					return
				}
			}
		},
	}
}

// reselect finds the policies that select an endpoint after its labels changed. old are its labels before.
func (g *Graph) reselect(n *local, old labels) {
	g.pending.workloadPeers = true
	started, stopped := g.local.index.set(n.entity, old)
	if len(started)+len(stopped) > 0 {
		g.local.pending[n.read.ID] = struct{}{}
	}
}

// guardOne decides whether the guard refuses an endpoint. The endpoint must have no claims yet.
func (g *Graph) guardOne(n *local) {
	if n.read.ID.Kind == api.KindWorkloadEndpoint {
		why := g.local.guard.refuses(n.read)
		n.refused = why != ""
		g.problems.set(n.read.ID.key(), "guard", why)
	}
}

// guardAll decides again for every endpoint, after the guard has changed.
func (g *Graph) guardAll() {
	for id, n := range g.local.endpoints {
		if id.Kind != api.KindWorkloadEndpoint {
			continue
		}
		before := n.refused
		why := g.local.guard.refuses(n.read)
		g.problems.set(id.key(), "guard", why)
		if before == (why != "") {
			continue
		}
		g.local.unclaim(n)
		n.refused = why != ""
		g.local.claim(n)
	}
}

// claim and unclaim enter and withdraw the claims of a workload endpoint. It becomes pending, and so does every endpoint that claims
// the same interface or address.
func (l *locals) claim(n *local) {
	l.markClaimants(n)
	if n.read.ID.Kind == api.KindWorkloadEndpoint && !n.refused {
		l.claims.add(n.read)
	}
}

func (l *locals) unclaim(n *local) {
	l.markClaimants(n)
	if n.read.ID.Kind == api.KindWorkloadEndpoint && !n.refused {
		l.claims.remove(n.read)
	}
}

// markClaimants makes an endpoint pending, and every endpoint that claims the same interface or address.
func (l *locals) markClaimants(n *local) {
	l.pending[n.read.ID] = struct{}{}
	if n.read.ID.Kind != api.KindWorkloadEndpoint {
		return
	}
	for _, c := range l.claims.interfaces[n.read.Interface] {
		l.pending[c.id] = struct{}{}
	}
	for _, a := range n.read.Addresses {
		for _, c := range l.claims.addresses[a] {
			l.pending[c.id] = struct{}{}
		}
	}
}

// updateLocals puts the pending endpoints into their groups, arranges the pending groups, and publishes and returns the endpoints that
// may have changed.
func (g *Graph) updateLocals() map[EndpointID]struct{} {
	l := &g.local
	l.dropEmptySelections()
	for id := range l.pending {
		if n := l.endpoints[id]; n != nil {
			g.assignGroup(n)
		}
	}
	for grp := range l.pendingGroups {
		if len(grp.members) > 0 && grp.arrange(g.tiers, &g.active) {
			for id := range grp.members {
				l.pending[id] = struct{}{}
			}
		}
	}
	l.pendingGroups = emptied(l.pendingGroups)
	g.publishLocals()
	changed := l.pending
	l.pending = map[EndpointID]struct{}{}
	return changed
}

// assignGroup decides which policies judge an endpoint: none if the guard refuses it or if another endpoint has a better claim,
// and otherwise those of the group of its selectors.
func (g *Graph) assignGroup(n *local) {
	l := &g.local
	n.effective = n.read
	if n.refused {
		n.excess = ""
		g.problems.set(n.read.ID.key(), "bound")
		g.problems.set(n.read.ID.key(), "claim")
		l.leave(n, &g.active)
		return
	}
	if n.read.ID.Kind == api.KindWorkloadEndpoint {
		g.problems.set(n.read.ID.key(), "claim", l.claims.resolve(&n.effective)...)
	}
	var matched []*matcher
	if n.hasEntity && n.effective.Closed == "" {
		matched = slices.Collect(n.matching.live)
	}
	l.join(n, matched, &g.active)
}

// publishLocals puts the pending endpoints into the table of endpoints, makes their profiles active, and marks the routes to them.
func (g *Graph) publishLocals() {
	l := &g.local
	for id := range l.pending {
		if old, there := l.sent.now[id]; there {
			g.unlocate(old)
		}
	}
	for id := range l.pending {
		n := l.endpoints[id]
		if n == nil || n.refused {
			l.sent.remove(id)
			if n != nil {
				g.referProfiles(n, nil)
			}
			continue
		}
		e := n.published()
		l.sent.set(id, e)
		g.referProfiles(n, n.effective.Profiles)
		g.locate(e)
	}
}

// published is the endpoint as it is handed out: with the policies of its group.
func (n *local) published() Endpoint {
	e := n.effective
	e.Policies = n.group.lists
	if n.excess != "" {
		e.close(n.excess)
	}
	return e
}

// referProfiles makes profiles active because an endpoint has them, instead of those that it had before.
func (g *Graph) referProfiles(n *local, profiles []string) {
	for _, name := range profiles {
		g.active.refer(PolicyID{Kind: api.KindProfile, Name: name}, 1)
	}
	for _, name := range n.profiles {
		g.active.refer(PolicyID{Kind: api.KindProfile, Name: name}, -1)
	}
	n.profiles = profiles
}
