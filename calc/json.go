package calc

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// The JSON of a State and of a Delta is for scripts: lists are in the order of Text, and names never change.

// MarshalJSON writes the maps of the State as sorted lists.
func (s *State) MarshalJSON() ([]byte, error) {
	type set struct {
		Selector SetID          `json:"selector"`
		Members  []netip.Prefix `json:"members"`
	}
	out := struct {
		Ready     bool        `json:"ready"`
		Tiers     []Tier      `json:"tiers"`
		Policies  []Policy    `json:"policies"`
		Sets      []set       `json:"sets"`
		Endpoints []Endpoint  `json:"endpoints"`
		Routes    []routeJSON `json:"routes"`
		Pools     []Pool      `json:"pools"`
		BGP       BGP         `json:"bgp"`
		Config    Config      `json:"config"`
		Problems  []Problem   `json:"problems"`
	}{
		Ready: s.Ready, Tiers: s.SortedTiers(), Policies: s.SortedPolicies(), Sets: []set{}, Endpoints: s.SortedEndpoints(),
		Routes: routesJSON(s.Routes), Pools: poolsJSON(s.Pools), BGP: s.BGP, Config: s.Config, Problems: s.SortedProblems(),
	}
	for _, id := range slices.Sorted(maps.Keys(s.Sets)) {
		out.Sets = append(out.Sets, set{id, s.Sets[id].Sorted()})
	}
	return json.Marshal(out)
}

// MarshalJSON writes the changes as sorted lists, in the forms of State's JSON. Kinds without a change are left out.
func (d Delta) MarshalJSON() ([]byte, error) {
	type set struct {
		Selector SetID          `json:"selector"`
		Added    []netip.Prefix `json:"added,omitempty"`
		Removed  []netip.Prefix `json:"removed,omitempty"`
	}
	out := struct {
		Ready         *bool          `json:"ready,omitempty"`
		Tiers         []Tier         `json:"tiers,omitempty"`
		TiersGone     []string       `json:"tiersGone,omitempty"`
		Policies      []Policy       `json:"policies,omitempty"`
		PoliciesGone  []PolicyID     `json:"policiesGone,omitempty"`
		Sets          []set          `json:"sets,omitempty"`
		SetsGone      []SetID        `json:"setsGone,omitempty"`
		Endpoints     []Endpoint     `json:"endpoints,omitempty"`
		EndpointsGone []EndpointID   `json:"endpointsGone,omitempty"`
		Routes        []routeJSON    `json:"routes,omitempty"`
		RoutesGone    []netip.Prefix `json:"routesGone,omitempty"`
		Pools         []Pool         `json:"pools,omitempty"`
		PoolsGone     []netip.Prefix `json:"poolsGone,omitempty"`
		BGP           *BGP           `json:"bgp,omitempty"`
		Config        *Config        `json:"config,omitempty"`
		Problems      []Problem      `json:"problems,omitempty"`
		ProblemsGone  []Problem      `json:"problemsGone,omitempty"`
	}{
		Ready: d.Ready, Tiers: d.sortedTiers(), TiersGone: slices.Sorted(slices.Values(d.TiersGone)),
		Policies: d.sortedPolicies(), PoliciesGone: slices.SortedFunc(slices.Values(d.PoliciesGone), PolicyID.Compare),
		SetsGone: slices.Sorted(slices.Values(d.SetsGone)), Endpoints: d.sortedEndpoints(), EndpointsGone: d.sortedEndpointsGone(),
		Routes: routesJSON(d.Routes), RoutesGone: sorted(d.RoutesGone), Pools: poolsJSON(d.Pools), PoolsGone: sorted(d.PoolsGone),
		BGP: d.BGP, Config: d.Config, Problems: sortedProblems(d.Problems), ProblemsGone: sortedProblems(d.ProblemsGone),
	}
	for _, id := range slices.Sorted(maps.Keys(d.Sets)) {
		out.Sets = append(out.Sets, set{id, sorted(d.Sets[id].Added), sorted(d.Sets[id].Removed)})
	}
	return json.Marshal(out)
}

type routeJSON struct {
	Destination netip.Prefix `json:"destination"`
	Route
}

func routesJSON(routes map[netip.Prefix]Route) []routeJSON {
	out := []routeJSON{}
	for _, p := range sortedPrefixes(routes) {
		out = append(out, routeJSON{p, routes[p]})
	}
	return out
}

func poolsJSON(pools map[netip.Prefix]Pool) []Pool {
	out := []Pool{}
	for _, p := range sortedPrefixes(pools) {
		out = append(out, pools[p])
	}
	return out
}

// MarshalJSON adds the lists of policies as policies.STAGE.DIRECTION, unless they are empty.
func (e Endpoint) MarshalJSON() ([]byte, error) {
	type plain Endpoint
	policies := map[string]map[string][]TierPolicies{}
	for stage, directions := range e.Policies {
		for dir, tiers := range directions {
			if len(tiers) == 0 {
				continue
			}
			name := Stage(stage).String()
			if policies[name] == nil {
				policies[name] = map[string][]TierPolicies{}
			}
			policies[name][Direction(dir).String()] = tiers
		}
	}
	return json.Marshal(struct {
		plain
		Policies map[string]map[string][]TierPolicies `json:"policies,omitempty"`
	}{plain(e), policies})
}

// MarshalJSON adds the family, if the rule is about one only, and the rule as a sentence.
func (r Rule) MarshalJSON() ([]byte, error) {
	type plain Rule
	family := 0
	switch {
	case r.V4 && !r.V6:
		family = 4
	case r.V6 && !r.V4:
		family = 6
	}
	return json.Marshal(struct {
		plain
		IPVersion int    `json:"ipVersion,omitempty"`
		Text      string `json:"text"`
	}{plain(r), family, r.String()})
}

func (b BGP) MarshalJSON() ([]byte, error) {
	type peer struct {
		Name string `json:"name"`
		Peer
		RestartTime string `json:"restartTime"`
		Keepalive   string `json:"keepalive,omitempty"`
	}
	type path struct {
		Prefix netip.Prefix `json:"prefix"`
		Path
	}
	out := struct {
		AS         uint32       `json:"as"`
		RouterID   netip.Addr   `json:"routerID"`
		ListenPort uint16       `json:"listenPort"`
		BindNodeIP bool         `json:"bindNodeIP,omitempty"`
		V4         netip.Prefix `json:"ipv4Address,omitzero"`
		V6         netip.Prefix `json:"ipv6Address,omitzero"`
		ClusterID  netip.Addr   `json:"clusterID,omitzero"`
		Transit    []RouteRule  `json:"transit,omitempty"`
		Peers      []peer       `json:"peers"`
		Paths      []path       `json:"paths"`
	}{AS: b.AS, RouterID: b.RouterID, ListenPort: b.ListenPort, BindNodeIP: b.BindNodeIP, V4: b.V4, V6: b.V6, ClusterID: b.ClusterID, Transit: b.Transit, Peers: []peer{}, Paths: []path{}}
	for _, name := range slices.Sorted(maps.Keys(b.Peers)) {
		p := b.Peers[name]
		keepalive := ""
		if p.Keepalive != 0 {
			keepalive = p.Keepalive.String()
		}
		out.Peers = append(out.Peers, peer{name, p, p.RestartTime.String(), keepalive})
	}
	for _, p := range sortedPrefixes(b.Paths) {
		out.Paths = append(out.Paths, path{p, b.Paths[p]})
	}
	return json.Marshal(out)
}

// MarshalJSON writes the fields that FelixConfiguration sets, by their names in the manifest.
func (c Config) MarshalJSON() ([]byte, error) { return json.Marshal(c.Raw) }

func (p Problem) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]string{"object": p.Object.String(), "text": p.Text})
}

// MarshalJSON writes the number, or null if the order is unset.
func (o Order) MarshalJSON() ([]byte, error) {
	if !o.Set {
		return []byte("null"), nil
	}
	return json.Marshal(o.Value)
}

func (k RouteKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

func (d Direction) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// MarshalJSON writes a number, or LOW:HIGH as in manifests.
func (p PortRange) MarshalJSON() ([]byte, error) {
	if p.First == p.Last {
		return json.Marshal(p.First)
	}
	return json.Marshal(p.String())
}

// MarshalJSON writes the rule's name in parts and as text.
func (r RuleID) MarshalJSON() ([]byte, error) {
	if r == (RuleID{}) {
		return []byte("null"), nil
	}
	return json.Marshal(struct {
		Policy    PolicyID  `json:"policy"`
		Tier      string    `json:"tier,omitempty"`
		Direction Direction `json:"direction"`
		Index     int       `json:"index"`
		Text      string    `json:"text"`
	}{r.Policy, r.Tier, r.Direction, r.Index, fmt.Sprint(r)})
}
