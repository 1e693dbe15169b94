package calc

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/margay-project/margay/api"
)

// Graph is Compute made incremental: it keeps the State of one node up to date, at a cost proportional to what changes.
//
// Update hands over the changes of objects. Flush handles them in the order in which the parts depend on one another: profiles,
// entities (endpoints and network sets) and their labels, policies, this node's endpoints and their groups, and at the end the
// policies, tiers and sets that are active. Each part marks as pending everything that later parts must look at. Flush handles
// all pending notes, so after it there are none.
//
// A Graph is not safe for concurrent use.
type Graph struct {
	node    string                  // set by New
	facts   Facts                   // set by New and SetFacts
	updates map[string][]api.Update // by kind, in order of arrival; added by Update, taken by Flush
	objects objects                 // of the kinds that updateObjects keeps; all others are kept packed, in the fields below
	pending pendingReadings

	tiers    map[string]Tier // the valid ones of the datastore, by name; set by updateTiers
	prints   prints
	policies map[fingerprint]*keptPolicy // all of the datastore, by their keys; set by replacePolicy
	active   activity                    // which policies are active on this node, and what follows from them
	entities entities                    // all endpoints and network sets, and the sets that active policies name
	local    locals                      // this node's endpoints
	problems problemBook                 // every part replaces the problems that it found itself

	// The results of the last readings; see readPending.
	config configuration
	space  space
	bgp    *bgpReader
	ways   *wayReader

	workloadPeers map[string]Peer      // by name; set by updateWorkloadPeers
	failsafes     map[PolicyID]*policy // the six lists of rules that failsafePolicies makes, by ID

	blocks blockOwners // of all nodes; set by updateBlock
	marks  marks       // which prefixes updateRoutes must decide about
	// Outputs. Each table knows what changed since the last Flush.
	routes *table[netip.Prefix, Route]
	paths  *table[netip.Prefix, Path]
	pools  *table[netip.Prefix, Pool]
	sent   struct { // as they were last handed out; nil before the first Flush
		config *Config
		bgp    *BGP
		ready  *bool
	}
}

// pendingReadings says which readings the next Flush must do again, because an object or a fact that they read has changed. All
// are pending in a new Graph. delta resets them, at the end of Flush.
type pendingReadings struct {
	config    bool // readConfig
	space     bool // readSpace, and all routes and paths
	bgp       bool // readBGP
	guard     bool // newGuard, and whether it refuses any endpoint
	ways      bool // readWays
	failsafes bool // readFailsafes

	workloadPeers bool // updateWorkloadPeers
}

// New returns the Graph of a node whose datastore is empty.
func New(node string, facts Facts) *Graph {
	prints := newPrints()
	g := &Graph{
		prints: prints,
		node:   node, facts: facts,
		updates:  map[string][]api.Update{},
		objects:  objects{},
		pending:  pendingReadings{config: true, space: true, bgp: true, guard: true, failsafes: true, ways: true},
		tiers:    map[string]Tier{},
		policies: map[fingerprint]*keptPolicy{},
		active:   newActivity(),
		entities: newEntities(prints),
		local:    newLocals(prints),
		problems: newProblemBook(),
		blocks:   newBlockOwners(),
		marks:    newMarks(),
		routes:   newTable[netip.Prefix](same[Route]),
		paths:    newTable[netip.Prefix](Path.equal),
		pools:    newTable[netip.Prefix](same[Pool]),
	}
	g.entities.index = newIndex(g.entities.names, g.entities.indexed())
	g.local.index = newIndex(g.entities.names, g.localsIndexed())
	return g
}

// Update hands over one change of an object. It takes effect with the next Flush. The caller must not change the object afterwards.
func (g *Graph) Update(u api.Update) {
	list := g.updates[u.Key.Kind]
	if len(list) == cap(list) { // the first listing is long: copy it seldom
		list = slices.Grow(list, len(list)+1)
	}
	g.updates[u.Key.Kind] = append(list, u)
}

// SetFacts replaces the facts about the host. They take effect with the next Flush.
func (g *Graph) SetFacts(f Facts) {
	g.pending.config = g.pending.config || !maps.Equal(g.facts.Parameters, f.Parameters)
	g.facts = f
	g.pending.guard, g.pending.failsafes, g.pending.ways = true, true, true
}

// Flush returns how the State changed since the last Flush. Folding all Deltas of a Graph gives what Compute returns for all updates.
func (g *Graph) Flush() Delta {
	byKind := g.updates
	g.updates = map[string][]api.Update{} // a new map: after the first listing the old one is large
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
	g.pending.workloadPeers = g.pending.workloadPeers || len(changed) > 0
	g.activate()
	g.checkBounds(changed)
	g.updateRoutes()
	g.updateWorkloadPeers()
	return g.delta()
}

// updateObjects keeps the objects of kinds with few objects, and notes which readings are pending because of them. Such a reading
// reads all objects of its kinds again.
func (g *Graph) updateObjects(byKind map[string][]api.Update) {
	for kind, updates := range byKind {
		for _, u := range updates {
			switch kind {
			case api.KindFelixConfiguration:
				g.pending.config = true
			case api.KindNode:
				g.pending.bgp = true
				g.pending.config = g.pending.config || u.Key.Name == g.node
			case api.KindBGPPeer, api.KindBGPFilter, api.KindBGPConfiguration:
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

// updateBlock keeps the owner of each block, and only this node's blocks as objects. Their allocations do not matter here.
func (g *Graph) updateBlock(u api.Update) {
	if cidr, node, _ := ownerOf(u); cidr.IsValid() && g.blocks.set(cidr, node) {
		g.touchBlock(cidr)
	}
	old := named[api.IPAMBlock](g.objects, api.KindIPAMBlock, u.Key.Name)
	b, ok := u.Object.(*api.IPAMBlock)
	if !ok || u.Invalid != "" || !ownedBy(g.node, b) {
		u.Object, u.Invalid, b = nil, "", nil
	}
	g.objects.put(u)
	if (old == nil) != (b == nil) || old != nil && old.CIDR != b.CIDR {
		g.pending.space = true
	}
}

// readPending does the readings that are pending. Some make others pending.
func (g *Graph) readPending() {
	if g.pending.config {
		g.config = readConfig(g.node, g.facts.Parameters, g.objects)
		g.problems.setAll(api.KindFelixConfiguration, g.config.problems)
		g.pending.failsafes, g.pending.ways = true, true
	}
	if g.pending.bgp {
		g.bgp = readBGP(g.node, g.objects)
		g.problems.setAll("BGP", g.bgp.problems)
		g.pending.workloadPeers = true
		g.pending.failsafes, g.pending.guard, g.pending.space, g.pending.ways = true, true, true, true // sessions are failsafes, peers are guarded, and paths have the communities of BGPConfiguration
	}
	if g.pending.ways {
		g.readWays()
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
		g.local.guard = newGuard(g.facts, g.bgp.bgp, g.bgp.peering())
		g.guardAll()
	}
}

// readFailsafes makes the rules of the failsafes again. Those that are active are resolved again by activate.
func (g *Graph) readFailsafes() {
	g.failsafes = map[PolicyID]*policy{}
	sessions := slices.Concat(g.facts.Sessions, g.bgp.sessions())
	for id, p := range failsafePolicies(sessions, g.config.inbound, g.config.outbound) {
		g.failsafes[id] = &policy{Policy: p}
		g.active.mark(id)
	}
}

// delta collects the changes of all tables, and resets the pending readings.
func (g *Graph) delta() (d Delta) {
	d.Tiers, d.TiersGone = g.active.tiers.flush()
	d.Policies, d.PoliciesGone = g.active.policies.flush()
	d.Sets, d.SetsGone = g.entities.flushSets()
	d.Endpoints, d.EndpointsGone = g.local.sent.flush()
	d.Routes, d.RoutesGone = g.routes.flush()
	d.Pools, d.PoolsGone = g.pools.flush()
	d.Problems, d.ProblemsGone = g.problems.flush()
	changed, gone := g.paths.flush()
	if g.pending.bgp || g.pending.space || g.pending.workloadPeers || changed != nil || gone != nil {
		bgp := g.bgp.bgp
		bgp.Peers = g.allPeers()
		bgp.Paths, bgp.Transit = maps.Clone(g.paths.now), g.bgp.transit(g.space)
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
