package bgp

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	api "github.com/osrg/gobgp/v3/api"
)

// Received is a route as a peer has sent it, before any filter.
type Received struct {
	Prefix      netip.Prefix
	Peer        string     // the BGPPeer's name, or the mesh and its node
	Neighbour   netip.Addr // the peer's address
	NextHop     netip.Addr
	ASPath      string
	Communities []string // aa:nn and aa:nn:mm
	LocalPref   *Number  // nil: the peer sent none
	MED         *Number  // nil: the peer sent none
	Stale       bool     // the peer restarts, and the route is from before
	Best        bool     // one of the best paths: what the kernel should have
	Unused      string   // why it is none of the best paths

	workload bool // the peer is a workload

	loop  uint32 // this node's AS number, if the AS path has it
	noWay bool   // rules ask for the interface to the next hop, and no way to it is known
}

// Number is an attribute of a route. It is a struct because gob takes a pointer to a bare 0 for nil.
type Number struct{ Value uint32 }

// Received returns the routes of all established peers, and those that are kept for peers that restart, sorted by prefix and then
// by peer. It holds no lock while the server reads its tables.
func (s *Speaker) Received() (list []Received, err error) {
	s.mu.Lock()
	peers, running, node := make(map[string]peer, len(s.peers)), s.running != nil, s.wanted.AS
	need, ways := s.needWays(), s.way.ways
	for name, p := range s.peers {
		peers[name] = p
	}
	s.mu.Unlock()
	if !running {
		return nil, nil
	}
	for name, p := range peers {
		routes, err := s.srv.received(p.session.Address)
		if err != nil && s.has(name) {
			return nil, fmt.Errorf("read the routes of BGP peer %s: %w", Called(name, p.calc), err)
		}
		as := cmp.Or(p.session.LocalAS, node)
		for _, r := range routes {
			r.Peer, r.Neighbour = Called(name, p.calc), p.session.Address
			if slices.Contains(strings.FieldsFunc(r.ASPath, isNoDigit), fmt.Sprint(as)) {
				r.loop = as
			}
			_, needed := need[name]
			r.noWay = needed && len(ways[r.NextHop]) == 0
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(a, b Received) int {
		return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), a.Prefix.Bits()-b.Prefix.Bits(), strings.Compare(a.Peer, b.Peer),
			a.Neighbour.Compare(b.Neighbour))
	})
	names := map[netip.Addr]string{}
	for name, p := range peers {
		names[p.session.Address] = Called(name, p.calc)
	}
	return list, s.judge(list, names)
}

func (s *Speaker) has(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, there := s.peers[name]
	return there
}

func isNoDigit(r rune) bool { return r < '0' || r > '9' }

// judge says for each route whether it is one of the best paths, and if not, why. names has the peers by address.
func (s *Speaker) judge(list []Received, names map[netip.Addr]string) error {
	accepted, err := s.srv.accepted()
	if err != nil {
		return fmt.Errorf("read the table of BGP: %w", err)
	}
	s.learned.mu.Lock()
	defer s.learned.mu.Unlock()
	for i := range list {
		r := &list[i]
		best := s.learned.origins.of[r.Prefix]
		r.Best = best != nil && slices.Contains(best.ways, Way{r.Neighbour, r.NextHop})
		switch {
		case r.Best:
		case accepted[candidate{r.Prefix, r.Neighbour}] && best != nil:
			r.Unused = "another path is better: " + waysText(best.ways, names)
		case accepted[candidate{r.Prefix, r.Neighbour}]:
			r.Unused = "its next hop cannot be used"
		case r.loop != 0:
			r.Unused = fmt.Sprintf("its AS path has this node's AS %d: give each node an asNumber of its own, or set numAllowedLocalASNumbers in the BGPPeer", r.loop)
		case r.Prefix.Bits() == 0:
			r.Unused = "no BGPFilter of the BGPPeer accepts this default route"
		case r.workload:
			r.Unused = "no BGPFilter of the BGPPeer accepts it, and routes of workloads need one that does"
		case r.noWay:
			r.Unused = "a BGPFilter of the BGPPeer has rules with interface, and there is no route to the next hop: of these rules, only those that reject match"
		default:
			r.Unused = "a BGPFilter of the BGPPeer rejects it"
		}
	}
	return nil
}

// waysText names the peers of the best paths.
func waysText(ways []Way, names map[netip.Addr]string) string {
	var texts []string
	for _, w := range ways {
		texts = append(texts, fmt.Sprintf("that of %s at %v", cmp.Or(names[w.Neighbour], "a peer that has gone"), w.Neighbour))
	}
	return strings.Join(slices.Compact(texts), " and ")
}

// candidate is a path that the import policy has accepted.
type candidate struct {
	Prefix    netip.Prefix
	Neighbour netip.Addr
}

// receivedOf reads a route of a peer from GoBGP's form.
func receivedOf(path *api.Path) (Received, bool) {
	prefix, ok := prefixOf(path)
	if !ok {
		return Received{}, false
	}
	r := Received{Prefix: prefix, Stale: path.GetStale()}
	r.NextHop, _ = nextHopOf(path)
	for _, attribute := range path.GetPattrs() {
		m, err := attribute.UnmarshalNew()
		if err != nil {
			continue
		}
		switch a := m.(type) {
		case *api.AsPathAttribute:
			r.ASPath = asPathText(a.GetSegments())
		case *api.LocalPrefAttribute:
			r.LocalPref = &Number{a.LocalPref}
		case *api.MultiExitDiscAttribute:
			r.MED = &Number{a.Med}
		case *api.CommunitiesAttribute:
			for _, c := range a.GetCommunities() {
				r.Communities = append(r.Communities, fmt.Sprintf("%d:%d", c>>16, c&0xffff))
			}
		case *api.LargeCommunitiesAttribute:
			for _, c := range a.GetCommunities() {
				r.Communities = append(r.Communities, fmt.Sprintf("%d:%d:%d", c.GlobalAdmin, c.LocalData1, c.LocalData2))
			}
		}
	}
	return r, true
}

// asPathText writes an AS path as routers do: a sequence as numbers, a set in braces, parts of a confederation in parentheses.
func asPathText(segments []*api.AsSegment) string {
	var parts []string
	for _, s := range segments {
		var numbers []string
		for _, n := range s.GetNumbers() {
			numbers = append(numbers, fmt.Sprint(n))
		}
		text := strings.Join(numbers, " ")
		switch s.GetType() {
		case api.AsSegment_AS_SET:
			text = "{" + text + "}"
		case api.AsSegment_AS_CONFED_SEQUENCE, api.AsSegment_AS_CONFED_SET:
			text = "(" + text + ")"
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, " ")
}
