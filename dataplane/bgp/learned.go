package bgp

import (
	"bytes"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"google.golang.org/protobuf/types/known/anypb"
)

// learned gathers the routes that peers announce. The server's goroutine puts them in, and the owner of the Speaker takes
// them out. Of several changes of one prefix only the last is kept, so a slow owner costs no memory.
type learned struct {
	news chan struct{} // delivers when there may be something to take

	puts    atomic.Uint64 // how often put was called
	mu      sync.Mutex
	changed map[netip.Prefix][]netip.Addr // since the last take; no next hops: withdrawn
	origins origins                       // of the prefixes that have next hops
	told    map[ending]struct{}           // ends of RIB that peers have sent in their present sessions
}

// ending is an end of RIB: the peer has sent all its routes of a family.
type ending struct {
	Neighbour netip.Addr
	V4        bool
}

func newLearned() *learned {
	return &learned{
		news: make(chan struct{}, 1), changed: map[netip.Prefix][]netip.Addr{}, origins: newOrigins(),
		told: map[ending]struct{}{},
	}
}

// put replaces the best paths to prefixes. Those to our own paths are no news.
func (l *learned) put(routes map[netip.Prefix][]Way) {
	news := false
	l.mu.Lock()
	for prefix, ways := range routes {
		if l.origins.of[prefix] == nil && len(ways) == 0 {
			continue
		}
		l.changed[prefix] = l.origins.set(prefix, ways)
		news = true
	}
	l.mu.Unlock()
	if news {
		l.puts.Add(1)
		l.signal()
	}
}

// withdrawAll withdraws every route.
func (l *learned) withdrawAll() {
	l.mu.Lock()
	for prefix := range l.origins.of {
		l.changed[prefix] = nil
	}
	l.origins.clear()
	clear(l.told)
	l.mu.Unlock()
	l.signal()
}

// end notes that peers have sent all their routes. Their routes were put before.
func (l *learned) end(endings []ending) {
	l.mu.Lock()
	for _, e := range endings {
		l.told[e] = struct{}{}
	}
	l.mu.Unlock()
	l.signal()
}

// down notes that a session has ended.
func (l *learned) down(neighbour netip.Addr) {
	l.mu.Lock()
	delete(l.told, ending{neighbour, true})
	delete(l.told, ending{neighbour, false})
	l.mu.Unlock()
	l.signal()
}

// hasTold says whether a peer has sent so many ends of RIB.
func (l *learned) hasTold(neighbour netip.Addr, ends int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, v4 := range []bool{true, false} {
		if _, told := l.told[ending{neighbour, v4}]; told {
			ends--
		}
	}
	return ends <= 0
}

func (l *learned) signal() {
	select {
	case l.news <- struct{}{}:
	default:
	}
}

// take returns the changes since the last call.
func (l *learned) take() map[netip.Prefix][]netip.Addr {
	l.mu.Lock()
	defer l.mu.Unlock()
	changed := l.changed
	l.changed = map[netip.Prefix][]netip.Addr{}
	return changed
}

// News delivers when TakeLearned may have something new.
func (s *Speaker) News() <-chan struct{} { return s.learned.news }

// TakeLearned returns the learned routes that have changed since the last call: the next hops of the best paths to each prefix,
// or none if the prefix was withdrawn. A next hop with a zone is on the network of the interface that the zone names. A default route is
// among them only if a filter accepts it. complete says that the peers have sent
// all their routes: every wanted session that is not closed is up and its peer has sent an end of RIB, or the longest restart time has passed since the
// first peers were added and a session is up. Workloads are waited for only until they have told once, and only for that time: they come and go. Until then, routes that a former process learned may still be valid.
func (s *Speaker) TakeLearned() (changed map[netip.Prefix][]netip.Addr, complete bool) {
	s.mu.Lock()
	complete = s.complete() // before the routes are taken: they come before the end of RIB
	s.tookComplete = complete
	s.mu.Unlock()
	return s.learned.take(), complete
}

// signalComplete has TakeLearned called again if it would say something else than the last time: peers may have come or gone.
func (s *Speaker) signalComplete() {
	if s.complete() != s.tookComplete {
		s.learned.signal()
	}
}

func (s *Speaker) complete() bool {
	if len(s.wanted.Peers) == 0 {
		return s.applied
	}
	up, told, open := 0, 0, 0
	late := !s.deadline.IsZero() && time.Now().After(s.deadline)
	workloads := true // have told
	for name, want := range s.wanted.Peers {
		switch {
		case want.IsWorkload():
			workloads = s.heardWorkload(name) && workloads
		case !s.staysClosed(name):
			open++
		}
	}
	for _, p := range s.peers {
		if p.session.Interface != "" || !s.links[p.session.Address].up {
			continue
		}
		up++
		if s.hasTold(p) {
			told++
		}
	}
	return told == open && (workloads || late) || up > 0 && late
}

// staysClosed says whether a peer is closed for longer.
func (s *Speaker) staysClosed(name string) bool {
	_, limited := s.limited[name]
	w, withheld := s.withheld[name]
	return limited || withheld && !w.Soon
}

// hasTold says whether a peer has sent all its routes in its present session.
func (s *Speaker) hasTold(p peer) bool {
	link := s.links[p.session.Address]
	return link.up && s.learned.hasTold(p.session.Address, max(link.ends, 1))
}

// awaitRoutes starts the time after which complete no longer waits for peers that do not answer.
func (s *Speaker) awaitRoutes(sessions map[string]session) {
	if !s.deadline.IsZero() || len(sessions) == 0 {
		return
	}
	longest := time.Duration(0)
	for _, sess := range sessions {
		longest = max(longest, time.Duration(sess.RestartTime)*time.Second)
	}
	s.deadline = time.Now().Add(longest)
	time.AfterFunc(longest+time.Second, s.learned.signal)
}

// endsOf returns the ends of RIB in an event.
func endsOf(paths []*api.Path) (endings []ending) {
	for _, path := range paths {
		if a, ok := neighbourOf(path); ok && path.GetNlri() == nil {
			endings = append(endings, ending{a, path.GetFamily().GetAfi() == api.Family_AFI_IP})
		}
	}
	return endings
}

// routesOf reads an event of GoBGP about the best paths. For each prefix the event has the complete set of best paths, or a
// withdrawal. Own paths are on the same stream; they have no peer.
func routesOf(paths []*api.Path) map[netip.Prefix][]Way {
	routes := make(map[netip.Prefix][]Way, len(paths))
	var r wayReader
	for _, path := range paths {
		prefix, ok := prefixOf(path)
		if !ok {
			continue
		}
		ways := routes[prefix]
		if path.GetIsWithdraw() {
			routes[prefix] = ways
			continue
		}
		if way, ok := r.read(path); ok && !slices.Contains(ways, way) {
			if ways == nil {
				ways = r.only
			} else {
				ways = append(ways, way)
			}
		}
		routes[prefix] = ways
	}
	for _, ways := range routes {
		slices.SortFunc(ways, compareWays)
	}
	return routes
}

// wayReader reads the ways of paths. Most paths of an event have the peer and the attributes of the path before, and so its way.
type wayReader struct {
	last *api.Path
	way  Way
	ok   bool
	only []Way // the way alone, with no room for another one: prefixes share it
}

func (r *wayReader) read(path *api.Path) (Way, bool) {
	if r.last != nil && r.last.GetNeighborIp() == path.GetNeighborIp() && slices.EqualFunc(r.last.GetPattrs(), path.GetPattrs(), sameAttribute) {
		return r.way, r.ok
	}
	*r = wayReader{last: path}
	if r.way.Neighbour, r.ok = neighbourOf(path); r.ok {
		r.way.NextHop, r.ok = nextHopOf(path)
	}
	if r.ok {
		r.only = []Way{r.way}
	}
	return r.way, r.ok
}

func sameAttribute(a, b *anypb.Any) bool {
	return a.GetTypeUrl() == b.GetTypeUrl() && bytes.Equal(a.GetValue(), b.GetValue())
}

func prefixOf(path *api.Path) (netip.Prefix, bool) {
	var nlri api.IPAddressPrefix
	if path.GetNlri() == nil || path.GetNlri().UnmarshalTo(&nlri) != nil {
		return netip.Prefix{}, false // an end of RIB has none
	}
	addr, err := netip.ParseAddr(nlri.GetPrefix())
	if err != nil {
		return netip.Prefix{}, false
	}
	prefix, err := addr.Prefix(int(nlri.GetPrefixLen()))
	return prefix, err == nil
}

// nextHopOf reads the next hop of a path. From a peer with a link-local address, an IPv6 next hop is on the network of that interface, and
// gets its zone. GoBGP v3 drops the link-local one of two next hops in a route (RFC 2545); if the other is unspecified, as BIRD's is on an
// interface with no other address, the peer itself is the next hop. From any other peer, a link-local next hop has no interface.
func nextHopOf(path *api.Path) (netip.Addr, bool) {
	for _, attribute := range path.GetPattrs() {
		var plain api.NextHopAttribute
		var reach api.MpReachNLRIAttribute
		text := ""
		switch {
		case attribute.MessageIs(&plain) && attribute.UnmarshalTo(&plain) == nil:
			text = plain.GetNextHop()
		case attribute.MessageIs(&reach) && attribute.UnmarshalTo(&reach) == nil && len(reach.GetNextHops()) > 0:
			text = reach.GetNextHops()[0]
		default:
			continue
		}
		hop, err := netip.ParseAddr(text)
		hop = hop.Unmap()
		if peer, ok := neighbourOf(path); ok && peer.Zone() != "" && hop.Is6() {
			if hop.IsUnspecified() {
				return peer, err == nil
			}
			return hop.WithZone(peer.Zone()), err == nil
		}
		return hop, err == nil && !hop.IsUnspecified() && !hop.IsLinkLocalUnicast()
	}
	return netip.Addr{}, false
}
