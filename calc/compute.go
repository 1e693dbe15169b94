package calc

import (
	"net/netip"
	"slices"

	"github.com/margay-project/margay/api"
)

// Compute returns the State of a node, given the updates of its datastore in order. Of several updates of one object the last counts.
//
// It is the specification: it loops over everything and remembers nothing. Graph keeps the same result up to date. Both call the same
// readers.
func Compute(node string, facts Facts, updates []api.Update) *State {
	c := &computation{node: node, facts: facts, objects: objects{}, state: newState()}
	for _, u := range updates {
		c.objects.put(u)
	}
	c.config = readConfig(node, facts.Parameters, c.objects)
	c.space = readSpace(node, c.objects)
	c.bgp = readBGP(node, c.objects)
	c.readPolicies()
	c.readEntities()
	c.endpoints()
	c.activate()
	c.closeExcess()
	c.routes()
	c.workloadPeers()
	c.problems()
	c.state.Config = c.config.Config
	c.state.Pools = c.space.pools
	c.state.BGP = c.bgp.bgp
	c.state.BGP.Transit = c.bgp.transit(c.space)
	c.state.Ready = ready(c.objects)
	return c.state
}

// newState is the State of a node whose datastore is empty, but for the defaults of its configuration.
func newState() *State {
	return &State{
		Tiers:     map[string]Tier{},
		Policies:  map[PolicyID]Policy{},
		Sets:      map[SetID]Members{},
		Endpoints: map[EndpointID]Endpoint{},
		Routes:    map[netip.Prefix]Route{},
		Pools:     map[netip.Prefix]Pool{},
		BGP:       BGP{Peers: map[string]Peer{}, Paths: map[netip.Prefix]Path{}},
		Config:    Config{Raw: map[string]string{}, Sources: map[string]string{}},
		Problems:  map[Problem]struct{}{},
		Ready:     true,
	}
}

// computation is the work of one Compute, and the objects of a Survey. Each method reads fields that those before it set.
type computation struct {
	node    string
	facts   Facts
	objects objects
	config  configuration
	space   space
	bgp     *bgpReader

	waysProblems []Problem

	tiers    map[string]Tier
	policies []*policy // in order
	profiles map[string]*policy
	entities map[api.Key]labelled
	state    *State
}

func (c *computation) note(about api.Key, texts ...string) {
	for _, text := range texts {
		if text != "" {
			c.state.Problems[Problem{Object: about, Text: text}] = struct{}{}
		}
	}
}

// readPolicies reads tiers, profiles and policies, and sorts the policies in the order of evaluation.
func (c *computation) readPolicies() {
	c.tiers, c.profiles = map[string]Tier{}, map[string]*policy{defaultAllow: missingProfile(defaultAllow)}
	for _, u := range c.objects.of(api.KindTier) {
		if t, ok := readTier(u); ok {
			c.tiers[t.Name] = t
		}
	}
	for _, u := range c.objects.of(api.KindProfile) {
		c.profiles[u.Key.Name] = readProfile(u)
		c.note(u.Key, c.profiles[u.Key.Name].problems...)
	}
	for _, u := range c.objects.of(api.KindGlobalNetworkPolicy, api.KindNetworkPolicy) {
		p := readPolicy(u)
		c.policies = append(c.policies, p)
		c.note(u.Key, p.problems...)
	}
	slices.SortFunc(c.policies, func(p, q *policy) int { return p.compareIn(c.tiers, q.Policy) })
}

func (c *computation) profile(name string) *policy {
	if p, ok := c.profiles[name]; ok {
		return p
	}
	return missingProfile(name)
}

// labelled is an entity with its own labels and those of its profiles.
type labelled struct {
	entity
	labels labels
}

// readEntities reads all endpoints and network sets, with the labels that they inherit from profiles.
func (c *computation) readEntities() {
	c.entities = map[api.Key]labelled{}
	names := newLabelNames()
	for _, u := range c.objects.of(api.KindWorkloadEndpoint, api.KindHostEndpoint, api.KindGlobalNetworkSet, api.KindNetworkSet) {
		t, profiles, problems, ok := readEntity(names, u)
		c.note(u.Key, problems...)
		if !ok {
			continue
		}
		all := labels{names: names, own: t.labels()}
		for _, name := range profiles {
			all.inherited = append(all.inherited, &profile{labels: names.pack(c.profile(name).labels)})
		}
		c.entities[u.Key] = labelled{t, all}
	}
}

// endpoints reads this node's endpoints, and finds the policies that select them.
func (c *computation) endpoints() {
	guard, claims := newGuard(c.facts, c.bgp.bgp, c.bgp.peering()), newClaims()
	var local []Endpoint
	for _, u := range c.objects.of(api.KindWorkloadEndpoint, api.KindHostEndpoint) {
		e, problems, ok := localEndpoint(c.node, u)
		c.note(u.Key, problems...)
		if ok && e.ID.Kind == api.KindWorkloadEndpoint {
			if why := guard.refuses(e); why != "" {
				c.note(u.Key, why)
				continue
			}
			claims.add(e)
		}
		if ok {
			local = append(local, e)
		}
	}
	for _, e := range local {
		key := api.Key{Kind: e.ID.Kind, Namespace: e.ID.Namespace, Name: e.ID.Name}
		if e.ID.Kind == api.KindWorkloadEndpoint {
			c.note(key, claims.resolve(&e)...)
		}
		if e.Closed == "" {
			e.Policies = lists(e.ID.Kind, c.selecting(c.entities[key].labels))
		}
		c.state.Endpoints[e.ID] = e
	}
}

// selecting lists the policies that select an endpoint with these labels, in the order of evaluation.
func (c *computation) selecting(l labels) (selecting []*policy) {
	for _, p := range c.policies {
		if p.selector.Matches(l) {
			selecting = append(selecting, p)
		}
	}
	return selecting
}

// activate puts the policies and profiles of the endpoints into the state, with their tiers and sets.
func (c *computation) activate() {
	read := map[PolicyID]*policy{}
	for _, p := range c.policies {
		read[p.ID] = p
	}
	failsafes := failsafePolicies(slices.Concat(c.facts.Sessions, c.bgp.sessions()), c.config.inbound, c.config.outbound)
	for _, e := range c.state.Endpoints {
		for _, name := range e.Profiles {
			c.activatePolicy(c.profile(name))
		}
		for id := range policiesOf(e) {
			if p, ok := read[id]; ok {
				c.activatePolicy(p)
			} else if e.ID.Kind == api.KindHostEndpoint {
				c.state.Policies[id] = failsafes[id]
			}
		}
	}
}

// activatePolicy puts a policy or profile into the state, with its tier and its sets.
func (c *computation) activatePolicy(p *policy) {
	a := p.resolve(c.numbersOf, nil)
	c.state.Policies[p.ID] = a.Policy
	c.note(p.ID.key(), a.problems...)
	if p.Tier != "" {
		c.state.Tiers[p.Tier] = tierNamed(c.tiers, p.Tier)
		if c.state.Tiers[p.Tier].Missing {
			c.state.Problems[noTier(p.Tier)] = struct{}{}
		}
	} else if c.profiles[p.ID.Name] == nil {
		c.state.Problems[noProfile(p.ID.Name)] = struct{}{}
	}
	for id, s := range a.sets {
		if _, known := c.state.Sets[id]; !known {
			c.state.Sets[id] = c.members(s)
		}
	}
}

// policiesOf yields every policy in an endpoint's lists; one may come more than once.
func policiesOf(e Endpoint) func(yield func(PolicyID) bool) {
	return func(yield func(PolicyID) bool) {
		for _, stage := range e.Policies {
			for _, dir := range stage {
				for _, tier := range dir {
					for _, id := range tier.Policies {
						if !yield(id) {
							return
						}
					}
				}
			}
		}
	}
}

// members returns the addresses of all entities that belong to a set.
func (c *computation) members(s setSource) Members {
	m := Members{}
	for _, t := range c.entities {
		if s.of.Matches(t.labels) && s.has(t.contribution()) {
			for n := range t.contribution().nets {
				m[n.unpack()] = struct{}{}
			}
		}
	}
	return m
}

// routes makes the routes and announcements: it decides about each block, and each address of an endpoint or a BGP peer.
func (c *computation) routes() {
	f, all := c.fleet()
	for prefix := range all {
		d := f.decide(prefix)
		if d.routed {
			c.state.Routes[prefix] = d.route
		}
		if d.told && !c.bgp.drained {
			d.path.Communities = c.bgp.communities(prefix)
			c.bgp.bgp.Paths[prefix] = d.path
		}
		if d.problem != "" {
			c.note(d.about, d.problem)
		}
	}
}

// fleet looks things up in maps that it makes for that. It also returns every block, and every address of an endpoint or a BGP peer that
// has a gateway.
func (c *computation) fleet() (f *fleet, all map[netip.Prefix]bool) {
	local, held, owners, all := map[netip.Addr]Endpoint{}, map[netip.Addr][]holder{}, map[netip.Prefix]string{}, map[netip.Prefix]bool{}
	for _, b := range c.space.blocks {
		all[b] = true
	}
	for p := range c.bgp.routes {
		all[p] = true
	}
	for _, u := range c.objects.of(api.KindIPAMBlock) {
		if cidr, node, ok := ownerOf(u); ok {
			owners[cidr], all[cidr] = node, true
		}
	}
	for _, u := range c.objects.of(api.KindWorkloadEndpoint) {
		h, addresses, _ := readHolder(u)
		for _, a := range addresses {
			held[a], all[host(a)] = append(held[a], h), true
		}
	}
	for _, e := range c.state.Endpoints {
		if e.ID.Kind == api.KindWorkloadEndpoint && e.Closed == "" {
			for _, a := range e.Addresses {
				local[a] = e
			}
		}
	}
	isHeld := func(a netip.Addr) bool { return len(held[a]) > 0 }
	ways := readWays(c.node, c.objects, c.config.Config, c.facts, c.bgp.bgp, isHeld)
	c.waysProblems = ways.problems
	return &fleet{
		node: c.node, ways: ways.ways, space: &c.space, peers: c.bgp.routes,
		known:   func(node string) bool { return c.objects.has(api.Key{Kind: api.KindNode, Name: node}) },
		local:   func(a netip.Addr) (Endpoint, bool) { e, yes := local[a]; return e, yes },
		holders: func(a netip.Addr) []holder { return held[a] },
		owner:   func(p netip.Prefix) (string, bool) { node, yes := owners[p]; return node, yes },
		around: func(a netip.Addr) (netip.Prefix, string, bool) {
			for bits := a.BitLen(); bits >= 0; bits-- {
				p := netip.PrefixFrom(a, bits).Masked()
				if node, yes := owners[p]; yes {
					return p, node, true
				}
			}
			return netip.Prefix{}, "", false
		},
	}, all
}

// problems notes the problems that readers returned, and those of invalid objects that are ignored.
func (c *computation) problems() {
	for _, list := range [][]Problem{c.config.problems, c.space.problems, c.bgp.problems, c.waysProblems} {
		for _, p := range list {
			c.note(p.Object, p.Text)
		}
	}
	for _, kind := range c.objects {
		for key, u := range kind {
			c.note(key, invalidText(u))
		}
	}
}
