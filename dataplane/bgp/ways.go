package bgp

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/bgp/filter"
	"github.com/margay-project/margay/dataplane/routes"
)

// The criterion interface of a rule is about the interface by which packets to the next hop of a route leave, as in BIRD. GoBGP v3 knows no
// interfaces, but it has a condition on next hops. So the Speaker looks up the way to each next hop that peers announce, and a rule with an
// interface becomes a statement with the next hops behind interfaces of that name. Over a link-local session all next hops are on
// the interface of the session.
//
// A route whose next hop has no known way gets a mark before the rules. Of the rules with an interface, those that reject match it, and
// those that accept do not.

const (
	noWayMark = firstOwnMark - 1 // of routes whose next hop has no known way

	waysAgain    = 10 * time.Second // between two looks at the ways: routes may change without any interface
	hopsAgain    = 30 * time.Second // between two readings of next hops, without a reason
	hopsInterval = time.Second
)

// ways has the names of the interfaces by which packets to each next hop leave: several for a route with several next hops, none if no way
// is known. It is not changed once it is in use.
type ways map[netip.Addr][]string

// known returns the next hops with a way, sorted.
func (w ways) known() []netip.Addr {
	return w.those(func(names []string) bool { return len(names) > 0 })
}

// by returns the next hops behind interfaces with a name like the pattern, sorted. For a rule that accepts, every interface of the way must
// be like that, and for one that rejects, one of them.
func (w ways) by(pattern string, accept bool) []netip.Addr {
	like := func(name string) bool { return filter.Named(pattern, name) }
	return w.those(func(names []string) bool {
		if accept {
			return len(names) > 0 && !slices.ContainsFunc(names, func(name string) bool { return !like(name) })
		}
		return slices.ContainsFunc(names, like)
	})
}

func (w ways) those(yes func(names []string) bool) (list []netip.Addr) {
	for next, names := range w {
		if yes(names) {
			list = append(list, next)
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return list
}

func (w ways) equal(o ways) bool { return maps.EqualFunc(w, o, slices.Equal[[]string]) }

// wayTo looks up the interfaces by which packets to a next hop leave. A learned route is no way: a next hop must not be reached by what
// it announces.
func wayTo(next netip.Addr) (names []string) {
	found, err := netlink.RouteGetWithOptions(next.AsSlice(), &netlink.RouteGetOptions{FIBMatch: true})
	if err != nil {
		return nil
	}
	for _, route := range found {
		if route.Type != unix.RTN_UNICAST || route.Protocol == routes.LearnedProtocol || route.Protocol == routes.NodeProtocol {
			return nil
		}
		indexes := []int{route.LinkIndex}
		if len(route.MultiPath) > 0 {
			indexes = nil
		}
		for _, hop := range route.MultiPath {
			indexes = append(indexes, hop.LinkIndex)
		}
		for _, index := range indexes {
			link, err := netlink.LinkByIndex(index)
			if err != nil {
				return nil
			}
			names = append(names, link.Attrs().Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// wayState is what a Speaker knows about next hops. It is empty as long as no rule has an interface.
type wayState struct {
	lookUp func(next netip.Addr) []string
	ways   ways
	hops   map[netip.Addr][]netip.Addr // by peer: the next hops of its routes, as far as they were read, sorted
	due    time.Time                   // of the next look at all ways
	read   time.Time                   // the next hops were read last
	rest   time.Time                   // they are not read before: to read many takes long
	seen   seenRoutes                  // then
}

// seenRoutes tells whether routes of peers may have changed.
type seenRoutes struct {
	received int
	puts     uint64
}

func newWayState() wayState {
	return wayState{lookUp: wayTo, ways: ways{}, hops: map[netip.Addr][]netip.Addr{}}
}

// forget drops all but the lookup.
func (w *wayState) forget() {
	fresh := newWayState()
	fresh.lookUp = w.lookUp
	*w = fresh
}

func hasInterface(rules []calc.RouteRule) bool {
	return slices.ContainsFunc(rules, func(r calc.RouteRule) bool { return r.Interface != "" })
}

// judgesTransit says whether the next hops of all peers matter: a peer of a reflector has an export rule with an interface.
func judgesTransit(want calc.BGP) bool {
	if !want.ClusterID.IsValid() {
		return false
	}
	for _, p := range want.Peers {
		if p.Filters != nil && hasInterface(p.Filters.Export) {
			return true
		}
	}
	return false
}

// needWays returns the addresses of the peers, by name, whose next hops matter.
func (s *Speaker) needWays() map[string]netip.Addr {
	list, all := map[string]netip.Addr{}, judgesTransit(s.wanted)
	for name, p := range s.wanted.Peers {
		if !p.LinkLocal() && !p.IsWorkload() && (all || p.Filters != nil && hasInterface(p.Filters.Import)) {
			list[name] = p.Address.Unmap()
		}
	}
	return list
}

// findWays looks up the way to each next hop. Those that were looked up before are looked up only if again says so.
func (s *Speaker) findWays(again bool) (changed bool) {
	found := ways{}
	for _, address := range s.needWays() {
		for _, next := range append([]netip.Addr{address}, s.way.hops[address]...) {
			names, known := s.way.ways[next]
			if _, done := found[next]; done {
				continue
			}
			if !known || again {
				names = s.way.lookUp(next)
			}
			found[next] = names
		}
	}
	changed = !found.equal(s.way.ways)
	s.way.ways = found
	return changed
}

// watchWays keeps the rules with interfaces in line with the ways to next hops, until ctx ends.
func (s *Speaker) watchWays(ctx context.Context) {
	ticker := time.NewTicker(hopsInterval)
	defer ticker.Stop()
	for {
		again := false
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-s.linkEvents:
			again = true
		}
		s.lookAtWays(time.Now(), again)
	}
}

// interfacesChanged has the ways to next hops looked up again.
func (s *Speaker) interfacesChanged() {
	select {
	case s.linkEvents <- struct{}{}:
	default:
	}
}

// lookAtWays reads the next hops of peers whose routes may have changed, and looks up their ways. If a way has changed, the routes are
// judged again; no session is reset.
func (s *Speaker) lookAtWays(now time.Time, again bool) {
	hops := s.readHops(now)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.running == nil {
		return
	}
	for address, list := range hops {
		s.way.hops[address] = list
	}
	if again = again || now.After(s.way.due); again {
		s.way.due = now.Add(waysAgain)
	}
	if !s.findWays(again) {
		return
	}
	errs, _ := s.applyFilters(s.wanted, s.filteredPeers(s.wanted, nil))
	for _, err := range errs { // the next Apply tries again
		s.log.WithError(err).Warn("rules of BGPFilters with an interface are not in force for the present ways to next hops")
	}
}

// readHops reads the next hops of the peers for which they matter, if routes may have changed. It holds no lock while the server reads its
// tables.
func (s *Speaker) readHops(now time.Time) map[netip.Addr][]netip.Addr {
	s.mu.Lock()
	need := s.needWays()
	maps.DeleteFunc(need, func(name string, _ netip.Addr) bool { _, there := s.peers[name]; return !there })
	if len(need) == 0 || now.Before(s.way.rest) {
		s.mu.Unlock()
		return nil
	}
	seen, states := seenRoutes{puts: s.learned.puts.Load()}, s.states()
	for _, address := range need {
		seen.received += states[address].Received
	}
	if seen == s.way.seen && now.Sub(s.way.read) < hopsAgain {
		s.mu.Unlock()
		return nil
	}
	s.way.seen, s.way.read = seen, now
	s.mu.Unlock()
	began := time.Now()
	found := map[netip.Addr][]netip.Addr{}
	for name, address := range need {
		hops, err := s.srv.nextHops(address)
		if err != nil {
			s.log.WithError(err).WithField("peer", name).Debug("the next hops of a BGP peer cannot be read")
			continue // its former ones stay
		}
		found[address] = hops
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.way.rest = now.Add(10 * time.Since(began))
	return found
}

// withoutWay says which next hops of a peer have no known way although rules ask for their interface. It is empty if all have one.
func (s *Speaker) withoutWay(name string, p peer) string {
	if _, needed := s.needWays()[name]; !needed {
		return ""
	}
	var lacking []netip.Addr
	for _, next := range s.way.hops[p.session.Address] {
		if len(s.way.ways[next]) == 0 {
			lacking = append(lacking, next)
		}
	}
	if len(lacking) == 0 {
		return ""
	}
	more := ""
	if len(lacking) > 1 {
		more = fmt.Sprintf(" and %d more", len(lacking)-1)
	}
	return fmt.Sprintf("there is no route to the next hop %v%s of its routes, so of the rules with interface in BGPFilters only those that reject match them; "+
		"add a route, or have the peer announce itself as the next hop", lacking[0], more)
}
