package dataplane

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/routes"
	"github.com/margay-project/margay/dataplane/table"
)

// hopRoutes brings routes by other hosts into the kernel. There are three kinds: those that BGP peers announce; those to other
// nodes of the same networks, which the calculation derives from the nodes' blocks; and those to BGP peers by their gateways. If the first
// two have one prefix, that of the peers wins by its metric: a peer that fails takes its route back, and then the other one is already there.
type hopRoutes struct {
	name     string // of one route, in messages
	names    string // of several
	kind     string // of a route, in a Dump
	remedy   string // for a prefix that must not be routed
	adjacent bool   // next hops must be on a network of this host
	forPeers bool   // the routes lead to BGP peers
	kernel   *routes.HopRoutes
	table    *table.Table[netip.Prefix, routes.HopRoute]

	announced map[netip.Prefix][]netip.Addr // the next hops of each prefix
	shared    []netip.Addr                  // those of the prefix that was noted last; prefixes with the same ones share them
	uses      map[netip.Addr]int            // by next hop: the prefixes that have it
	complete  bool                          // everything is announced: routes that only a former process knew may go
	former    map[netip.Prefix]struct{}     // announced to a former speaker, and not to the present one

	pending   map[netip.Prefix]struct{} // to be planned
	serial    int                       // of the plan that planHopRoutes saw last
	metric    [2]int                    // of IPv4 and IPv6 routes, in the last plan
	closed    []netip.Prefix            // pools to which there are no routes of this kind, in the last plan
	resolved  map[netip.Addr]resolution // by next hop
	due       time.Time                 // of the next look at the ways to next hops: routes may change without any interface
	protected []protectedPrefix         // sorted by prefix
	refused   map[netip.Prefix]string   // announced and not wanted, and why
}

// resolution is the way to a next hop.
type resolution struct {
	hops []routes.Hop
	life uint64 // of the interfaces, added up: it grows when the kernel may have dropped routes by one of them
	err  string // why there is no way
}

func (r resolution) equal(o resolution) bool {
	return slices.Equal(r.hops, o.hops) && r.life == o.life && r.err == o.err
}

func (d *Driver) openHopRoutes() error {
	d.learned = hopRoutes{name: "learned route", names: "learned routes", kind: "bgp", remedy: "filter it on the peer that announces it"}
	d.toNodes = hopRoutes{
		name: "route to another node", names: "routes to other nodes", kind: "node",
		remedy: "correct the block or the addresses of endpoints there", adjacent: true, complete: true,
	}
	d.toPeers = peerRoutes{gateways: map[netip.Prefix]netip.Addr{}, inKernel: map[netip.Prefix]string{}}
	d.toPeers.hopRoutes = hopRoutes{
		name: "route to a BGP peer", names: "routes to BGP peers", kind: "peer",
		remedy: "correct peerIP of the BGPPeer, or remove reachableBy", adjacent: true, forPeers: true,
	}
	// The next hop of a learned route may be the peer itself, which is reached by the route to it.
	others := func(protocol int) bool { return protocol != routes.PeerProtocol && d.ownsProtocol(protocol) }
	return errors.Join(d.openHopRoutesOf(&d.learned, routes.LearnedProtocol, others), d.openHopRoutesOf(&d.toNodes, routes.NodeProtocol, d.ownsProtocol),
		d.openHopRoutesOf(&d.toPeers.hopRoutes, routes.PeerProtocol, d.ownsProtocol))
}

// byOtherHosts returns every kind of routes by other hosts.
func (d *Driver) byOtherHosts() []*hopRoutes {
	return []*hopRoutes{&d.learned, &d.toNodes, &d.toPeers.hopRoutes}
}

// openHopRoutesOf opens one kind. unusable says by which routes, by their protocol numbers, no next hop may be reached.
func (d *Driver) openHopRoutesOf(l *hopRoutes, protocol int, unusable func(protocol int) bool) (err error) {
	l.announced, l.uses = map[netip.Prefix][]netip.Addr{}, map[netip.Addr]int{}
	l.former = map[netip.Prefix]struct{}{}
	l.pending, l.resolved, l.refused = map[netip.Prefix]struct{}{}, map[netip.Addr]resolution{}, map[netip.Prefix]string{}
	if l.kernel, err = routes.NewHopRoutes(protocol, unusable); err != nil {
		return err
	}
	l.table = table.New(l.names, stepped[netip.Prefix, routes.HopRoute]{d, l.name, l.kernel}, routes.HopRoute.Equal)
	return nil
}

// ownsProtocol says whether routes with a protocol number are felix's.
func (d *Driver) ownsProtocol(protocol int) bool {
	return protocol == routes.LearnedProtocol || protocol == routes.NodeProtocol || protocol == routes.PeerProtocol ||
		slices.Contains(d.kernel.Protocols(), protocol) || slices.Contains(d.kernel.Former(), protocol)
}

// News tells the Driver which routes a BGP speaker has learned.
type News struct {
	Changed  map[netip.Prefix][]netip.Addr // the next hops of each prefix; none: it was withdrawn
	Complete bool                          // peers have announced all their routes; before that, routes of a former process stay
	Anew     bool                          // the speaker has started, and knows nothing of what was learned before Changed
}

// Learn notes the routes of BGP peers. Apply brings them into the kernel.
func (d *Driver) Learn(news News) {
	l := &d.learned
	l.complete = news.Complete
	if news.Anew {
		for prefix := range l.announced {
			l.former[prefix] = struct{}{}
		}
	}
	for prefix, hops := range news.Changed {
		delete(l.former, prefix)
		l.note(prefix, hops)
	}
	if news.Complete && len(l.former) > 0 {
		for prefix := range l.former {
			l.note(prefix, nil)
		}
		l.former = map[netip.Prefix]struct{}{}
	}
}

// noteRoutesToNodes notes the routes to other nodes in a Delta.
func (d *Driver) noteRoutesToNodes(delta calc.Delta) {
	for prefix, r := range delta.Routes {
		if r.Kind == calc.ViaNode {
			d.toNodes.note(prefix, []netip.Addr{r.Gateway})
		} else {
			d.toNodes.note(prefix, nil)
		}
	}
	for _, prefix := range delta.RoutesGone {
		d.toNodes.note(prefix, nil)
	}
}

// note replaces the next hops of a prefix.
func (l *hopRoutes) note(prefix netip.Prefix, hops []netip.Addr) {
	before, announced := l.announced[prefix]
	if !announced && len(hops) == 0 {
		return
	}
	for _, hop := range hops {
		l.uses[hop]++
	}
	// The new ones are counted already: a hop that stays keeps its resolution. By its life, resolveNextHops knows that the kernel may
	// have dropped routes.
	for _, hop := range before {
		if l.uses[hop]--; l.uses[hop] == 0 {
			delete(l.uses, hop)
			delete(l.resolved, hop)
		}
	}
	l.pending[prefix] = struct{}{}
	if len(hops) > 0 {
		if !slices.Equal(hops, l.shared) {
			l.shared = hops
		}
		l.announced[prefix] = l.shared
	} else {
		delete(l.announced, prefix)
	}
}

// keepLearned brings the routes of BGP peers into the kernel.
func (d *Driver) keepLearned(now time.Time) error {
	d.advertise(now)
	return d.keepHopRoutes(&d.learned, now)
}

// keepHopRoutes brings one kind of routes into the kernel.
func (d *Driver) keepHopRoutes(l *hopRoutes, now time.Time) error {
	d.planHopRoutes(l, now)
	return l.table.Reconcile(now, l.complete)
}

// planHopRoutes tells the table which routes are wanted. Usually it looks only at those that have changed. It looks at all of them when
// the way to a next hop has changed, the metric, or the prefixes that must not be routed elsewhere.
func (d *Driver) planHopRoutes(l *hopRoutes, now time.Time) {
	changed := d.resolveNextHops(l, now)
	if metric := d.metricOf(l); metric != l.metric {
		l.metric, changed = metric, true
	}
	if pools := d.closedPools(l); !slices.Equal(pools, l.closed) {
		l.closed, changed = pools, true
	}
	if l.serial != d.plan.serial {
		l.serial = d.plan.serial
		if list := d.protectedPrefixes(); !slices.Equal(list, l.protected) {
			l.protected, changed = list, true
		}
	}
	if changed {
		for prefix := range l.announced {
			l.pending[prefix] = struct{}{}
		}
	}
	var last planned
	for prefix := range l.pending {
		l.plan(prefix, &last)
	}
	if len(l.pending) > 64 { // clearing a map costs time in proportion to the largest size that it ever had
		l.pending = map[netip.Prefix]struct{}{}
	} else {
		clear(l.pending)
	}
}

// metricOf returns the metrics of IPv4 and IPv6 routes of a kind. Routes to other nodes come behind those that BGP peers announce, and routes
// to BGP peers before them: a route that a former process learned must not lead to a peer by another way.
func (d *Driver) metricOf(l *hopRoutes) [2]int {
	bgp := d.bgpInForce()
	metric := [2]int{cmp.Or(bgp.Metric4, routes.LearnedMetric), cmp.Or(bgp.Metric6, routes.LearnedMetric)}
	switch l {
	case &d.toNodes:
		metric[0]++
		metric[1]++
	case &d.toPeers.hopRoutes:
		metric[0] = max(metric[0]-1, 1)
		metric[1] = max(metric[1]-1, 1)
	}
	return metric
}

// closedPools returns the pools to which there are no learned routes, because programClusterRoutes says so.
func (d *Driver) closedPools(l *hopRoutes) []netip.Prefix {
	if l.adjacent || !d.bgpInForce().NoPools {
		return nil
	}
	if d.resumed != nil {
		return d.resumed.pools
	}
	return slices.SortedFunc(maps.Keys(d.state.Pools), netip.Prefix.Compare)
}

func (l *hopRoutes) isClosed(prefix netip.Prefix) bool {
	return slices.ContainsFunc(l.closed, func(pool netip.Prefix) bool { return pool.Bits() <= prefix.Bits() && pool.Contains(prefix.Addr()) })
}

// planned is a route of the present plan. The next prefix often has the same route.
type planned struct {
	next      []netip.Addr
	route     routes.HopRoute
	unreached string // why there is no way to a next hop
}

func (l *hopRoutes) plan(prefix netip.Prefix, last *planned) {
	next, announced := l.announced[prefix]
	if !announced {
		delete(l.refused, prefix)
		l.table.Unwant(prefix)
		return
	}
	metric := l.metric[0]
	if prefix.Addr().Is6() {
		metric = l.metric[1]
	}
	if metric != last.route.Metric || !slices.Equal(next, last.next) {
		var hops []routes.Hop
		unreached := ""
		for _, n := range next {
			way := l.resolved[n]
			hops, unreached = append(hops, way.hops...), cmp.Or(unreached, way.err)
		}
		*last = planned{next: next, route: routes.Through(hops, metric), unreached: unreached}
	}
	if why := l.refusal(prefix); why != "" || len(last.route.Hops) == 0 {
		l.refused[prefix] = cmp.Or(why, last.unreached)
		l.table.Unwant(prefix)
		return
	}
	delete(l.refused, prefix)
	l.table.Want(prefix, last.route)
}

// resolveNextHops finds the way to each next hop. It says whether one has changed. Routes whose interface had a new life are
// written again.
func (d *Driver) resolveNextHops(l *hopRoutes, now time.Time) (changed bool) {
	if l.serial == d.plan.serial && len(l.resolved) == len(l.uses) && now.Before(l.due) {
		return false
	}
	l.due = now.Add(lookAtWays)
	for next := range l.uses {
		var way resolution
		var err error
		if way.hops, err = d.find(l, next); err != nil {
			way.err = err.Error()
		}
		for _, hop := range way.hops {
			way.life += d.plan.links[hop.Interface].Life
		}
		before, known := l.resolved[next]
		if known && before.equal(way) {
			continue
		}
		if known && before.life != way.life {
			l.rewrite(next)
		}
		l.resolved[next], changed = way, true
	}
	return changed
}

// rewrite has the routes with a next hop written again.
func (l *hopRoutes) rewrite(next netip.Addr) {
	for prefix, hops := range l.announced {
		if _, wanted := l.table.Wants(prefix); wanted && slices.Contains(hops, next) {
			l.table.Rewrite(prefix)
		}
	}
}

// refusal says why an announced prefix is not wanted at all. It is empty if the prefix is fine.
func (l *hopRoutes) refusal(prefix netip.Prefix) string {
	a := prefix.Addr()
	switch {
	case prefix.Bits() == 0 && l.adjacent:
		return "a default route leads to no single node: " + l.remedy
	case prefix.Bits() == 0:
		return "" // the Speaker hands a default route over only if a BGPFilter accepts it
	case a.IsLoopback(), a.IsLinkLocalUnicast(), a.IsMulticast(), a.IsUnspecified():
		return "the prefix is not for unicast between hosts: " + l.remedy
	}
	if l.isClosed(prefix) {
		return "programClusterRoutes of BGPConfiguration default keeps learned routes to pools out of the kernel"
	}
	if r, covered := l.covered(prefix); covered {
		return fmt.Sprintf("it covers %v, %s: %s", r.prefix, r.why, l.remedy)
	}
	return ""
}

// isExpected says that a refused route is no problem: it is to a pool to which there shall be none, or to a single address that the host
// reaches without it. The former node of a workload may still announce its address, and routers often announce addresses of peers.
func (l *hopRoutes) isExpected(prefix netip.Prefix) bool {
	_, covered := l.covered(prefix)
	return !l.adjacent && prefix.IsSingleIP() && covered || l.isClosed(prefix)
}
