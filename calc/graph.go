package calc

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/margay-project/margay/api"
)

// Graph keeps what Compute computes up to date, at a cost proportional to what changes.
//
// Objects go in by Update; Flush works off what changed since the last one, in the order in which one entity depends on
// another: profiles, entities (endpoints and network sets) and their labels, policies, the node's endpoints, groups of
// endpoints with the same policies, then which policies and sets are active. It is not safe for concurrent use.
type Graph struct {
	node    string
	facts   Facts
	updates map[string][]api.Update // by kind, in order
	objects objects                 // of the kinds that are read as a whole
	pending pendingReadings

	tiers    map[string]Tier
	prints   prints
	policies map[fingerprint]*keptPolicy // by their keys
	active   activity
	entities entities
	local    locals
	problems problemBook

	config    configuration
	space     space
	bgp       *bgpReader
	failsafes map[PolicyID]*policy

	routes *table[netip.Prefix, Route]
	paths  *table[netip.Prefix, Path]
	pools  *table[netip.Prefix, Pool]
	sent   struct {
		config *Config
		bgp    *BGP
		ready  *bool
	}
}

// stale says what must be read anew.
type pendingReadings struct {
	config, space, bgp, guard, failsafes bool
}

// New returns a Graph for a node whose datastore is empty so far.
func New(node string, facts Facts) *Graph {
	prints := newPrints()
	g := &Graph{
		prints: prints,
		node:   node, facts: facts,
		updates:  map[string][]api.Update{},
		objects:  objects{},
		pending:  pendingReadings{config: true, space: true, bgp: true, guard: true, failsafes: true},
		tiers:    map[string]Tier{},
		policies: map[fingerprint]*keptPolicy{},
		active:   newActivity(),
		entities: newEntities(prints),
		local:    newLocals(prints),
		problems: newProblemBook(),
		routes:   newTable[netip.Prefix](same[Route]),
		paths:    newTable[netip.Prefix](Path.equal),
		pools:    newTable[netip.Prefix](same[Pool]),
	}
	g.entities.index = newIndex(g.entities.names, g.entities.indexed())
	g.local.index = newIndex(g.entities.names, g.localsIndexed())
	return g
}

// Update takes in one change. It takes effect with the next Flush; the object must not be changed afterwards.
func (g *Graph) Update(u api.Update) {
	list := g.updates[u.Key.Kind]
	if len(list) == cap(list) { // a snapshot is long: copy it seldom
		list = slices.Grow(list, len(list)+1)
	}
	g.updates[u.Key.Kind] = append(list, u)
}

// SetFacts replaces what is known of the host. It takes effect with the next Flush.
func (g *Graph) SetFacts(f Facts) {
	g.pending.config = g.pending.config || !maps.Equal(g.facts.Parameters, f.Parameters)
	g.facts = f
	g.pending.guard, g.pending.failsafes = true, true
}

// Flush returns what changed since the last Flush.
func (g *Graph) Flush() Delta {
	byKind := g.updates
	g.updates = map[string][]api.Update{} // not cleared: the first one is large
	for _, updates := range byKind {
		for _, u := range updates {
			g.problems.set(u.Key, "object", invalidText(u))
		}
	}

	g.updateTiers(byKind[api.KindTier])
	g.updateProfiles(byKind[api.KindProfile])
	g.updateEntities(byKind)
	g.updatePolicies(byKind[api.KindGlobalNetworkPolicy])
	g.updatePolicies(byKind[api.KindNetworkPolicy])
	g.updateObjects(byKind)
	g.readPending()
	changed := g.updateLocals()
	g.activate()
	g.bound(changed)
	return g.delta()
}

// updateObjects keeps the objects of the kinds that are read as a whole, and notes which readings are stale.
func (g *Graph) updateObjects(byKind map[string][]api.Update) {
	for kind, updates := range byKind {
		for _, u := range updates {
			switch kind {
			case api.KindFelixConfiguration:
				g.pending.config = true
			case api.KindNode:
				g.pending.bgp = true
				g.pending.config = g.pending.config || u.Key.Name == g.node
			case api.KindBGPPeer, api.KindBGPConfiguration:
				g.pending.bgp = true
			case api.KindIPPool:
				g.pending.space = true
			case api.KindIPAMBlock:
				g.updateBlock(u)
				continue
			case api.KindBlockAffinity:
				if u.Key.Namespace != g.node {
					continue
				}
				g.pending.space = true
			case api.KindClusterInformation:
			default:
				continue
			}
			g.objects.put(u)
		}
	}
}

// updateBlock keeps only blocks that say they are this node's; what is allocated in them does not matter here.
func (g *Graph) updateBlock(u api.Update) {
	old := named[api.IPAMBlock](g.objects, api.KindIPAMBlock, u.Key.Name)
	b, ok := u.Object.(*api.IPAMBlock)
	if !ok || u.Broken != "" || !ownedBy(g.node, b) {
		u.Object, u.Broken, b = nil, "", nil
	}
	g.objects.put(u)
	if (old == nil) != (b == nil) || old != nil && old.CIDR != b.CIDR {
		g.pending.space = true
	}
}

// readPending reads anew what is stale.
func (g *Graph) readPending() {
	if g.pending.config {
		g.config = readConfig(g.node, g.facts.Parameters, g.objects)
		g.problems.setAll(api.KindFelixConfiguration, g.config.problems)
		g.pending.failsafes = true
	}
	if g.pending.bgp {
		g.bgp = readBGP(g.node, g.objects)
		g.problems.setAll("BGP", g.bgp.problems)
		g.pending.failsafes, g.pending.guard, g.pending.space = true, true, true // paths have the configuration's communities
	}
	if g.pending.space {
		g.space = readSpace(g.node, g.objects)
		g.problems.setAll("space", g.space.problems)
		g.pools.replace(g.space.pools)
	}
	if g.pending.failsafes {
		g.readFailsafes()
	}
	if g.pending.guard {
		g.local.guard = newGuard(g.facts, g.bgp.bgp)
		g.guardAll()
	}
}

func (g *Graph) readFailsafes() {
	g.failsafes = map[PolicyID]*policy{}
	sessions := slices.Concat(g.facts.Sessions, g.bgp.sessions())
	for id, p := range failsafePolicies(sessions, g.config.inbound, g.config.outbound) {
		g.failsafes[id] = &policy{Policy: p}
		g.active.mark(id)
	}
}

// delta collects what the tables have to tell.
func (g *Graph) delta() (d Delta) {
	d.Tiers, d.TiersGone = g.active.tiers.flush()
	d.Policies, d.PoliciesGone = g.active.policies.flush()
	d.Sets, d.SetsGone = g.entities.flushSets()
	d.Endpoints, d.EndpointsGone = g.local.sent.flush()
	d.Routes, d.RoutesGone = g.routes.flush()
	d.Pools, d.PoolsGone = g.pools.flush()
	d.Problems, d.ProblemsGone = g.problems.flush()
	changed, gone := g.paths.flush()
	if g.pending.bgp || changed != nil || gone != nil {
		bgp := g.bgp.bgp
		bgp.Paths = maps.Clone(g.paths.now)
		if g.sent.bgp == nil || !g.sent.bgp.equal(bgp) {
			g.sent.bgp, d.BGP = &bgp, &bgp
		}
	}
	if g.pending.config && (g.sent.config == nil || !g.sent.config.equal(g.config.Config)) {
		config := g.config.Config
		g.sent.config, d.Config = &config, &config
	}
	if now := ready(g.objects); g.sent.ready == nil || *g.sent.ready != now {
		g.sent.ready, d.Ready = &now, &now
	}
	g.pending = pendingReadings{}
	return d
}
