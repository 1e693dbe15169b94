package calc

import (
	"slices"

	"github.com/margay-project/margay/api"
)

// locals are this node's endpoints. Those that the same policies select form a group, and share their lists.
type locals struct {
	endpoints       map[EndpointID]*local
	byEntity        map[entityID]*local
	index           *index // selectors of policies
	prints          prints
	selections      map[fingerprint]*selection // by the texts of their selectors
	groups          map[string]*group
	claims          claims
	guard           guard
	pending         map[EndpointID]struct{}
	pendingGroups   map[*group]struct{} // whose lists must be made anew
	emptySelections map[*selection]struct{}
	sent            *table[EndpointID, Endpoint]
}

// local is an endpoint of this node.
type local struct {
	read      Endpoint // from its object alone
	effective Endpoint // what others leave of it
	entity    entityID
	hasEntity bool
	matching  *matches // selectors of policies
	refused   bool
	group     *group
	excess    string   // why its policies may not judge it
	profiles  []string // profiles that are in use for it
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

// updateLocal takes in an endpoint, which may be this node's or have been.
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

// localsIndexed lets an index see the labels of this node's endpoints.
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

// reselect finds the policies that select an endpoint whose labels were old.
func (g *Graph) reselect(n *local, old labels) {
	started, stopped := g.local.index.set(n.entity, old)
	if len(started)+len(stopped) > 0 {
		g.local.pending[n.read.ID] = struct{}{}
	}
}

// guardOne decides whether an endpoint is refused.
func (g *Graph) guardOne(n *local) {
	if n.read.ID.Kind == api.KindWorkloadEndpoint {
		why := g.local.guard.refuses(n.read)
		n.refused = why != ""
		g.problems.set(n.read.ID.key(), "guard", why)
	}
}

// guardAll decides for every endpoint, after the guard has changed.
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

// claim and unclaim keep what workload endpoints claim; whoever else claims the same must be settled again.
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

// updateLocals brings every disturbed endpoint into its group, the groups' lists up to date, and hands out what
// changed: those that it returns.
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

// publishLocals puts the endpoints that may have changed into the table, with their routes and profiles.
func (g *Graph) publishLocals() {
	l := &g.local
	for id := range l.pending {
		if old, there := l.sent.now[id]; there {
			g.unroute(old)
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
		g.route(e, g.routes.set, g.paths.set)
	}
	if g.pending.space {
		g.rebuildRoutes()
	}
}

// present is the endpoint as it is handed out.
func (n *local) published() Endpoint {
	e := n.effective
	e.Policies = n.group.lists
	if n.excess != "" {
		e.close(n.excess)
	}
	return e
}

// employ makes an endpoint the user of its profiles, and not of those that it had.
func (g *Graph) referProfiles(n *local, profiles []string) {
	for _, name := range profiles {
		g.active.refer(PolicyID{Kind: api.KindProfile, Name: name}, 1)
	}
	for _, name := range n.profiles {
		g.active.refer(PolicyID{Kind: api.KindProfile, Name: name}, -1)
	}
	n.profiles = profiles
}
