package dataplane

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/routes"
	"github.com/margay-project/margay/dataplane/table"
)

// learned brings the routes that BGP neighbours announce into the kernel.
type learned struct {
	kernel *routes.LearnedRoutes
	table  *table.Table[netip.Prefix, routes.LearnedRoute]

	announced map[netip.Prefix][]netip.Addr // the next hops of each prefix, as neighbours announce them
	uses      map[netip.Addr]int            // by next hop: the prefixes that have it
	complete  bool                          // neighbours have announced everything: routes that only a former process knew may go

	pending   map[netip.Prefix]struct{} // to be planned
	serial    int                       // of the plan that planLearned saw last
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

func (d *Driver) openLearned() error {
	kernel, err := routes.NewLearnedRoutes()
	if err != nil {
		return err
	}
	d.learned = learned{
		kernel: kernel, announced: map[netip.Prefix][]netip.Addr{}, uses: map[netip.Addr]int{},
		pending: map[netip.Prefix]struct{}{}, resolved: map[netip.Addr]resolution{}, refused: map[netip.Prefix]string{},
	}
	d.learned.table = table.New("learned routes", stepped[netip.Prefix, routes.LearnedRoute]{d, "learned route", kernel},
		routes.LearnedRoute.Equal)
	return nil
}

// Learn notes changed routes of BGP neighbours: the next hops of each prefix, none for a prefix that was withdrawn. complete says
// that neighbours have announced all their routes; before that, routes of a former process stay. Apply brings them into the
// kernel.
func (d *Driver) Learn(changes map[netip.Prefix][]netip.Addr, complete bool) {
	l := &d.learned
	l.complete = complete
	for prefix, hops := range changes {
		for _, hop := range l.announced[prefix] {
			if l.uses[hop]--; l.uses[hop] == 0 {
				delete(l.uses, hop)
				delete(l.resolved, hop)
			}
		}
		for _, hop := range hops {
			l.uses[hop]++
		}
		l.pending[prefix] = struct{}{}
		if len(hops) > 0 {
			l.announced[prefix] = hops
		} else {
			delete(l.announced, prefix)
		}
	}
}

// keepLearned brings learned routes into the kernel.
func (d *Driver) keepLearned(now time.Time) error {
	d.planLearned(now)
	return d.learned.table.Reconcile(now, d.learned.complete)
}

// planLearned tells the table which learned routes are wanted. Usually it looks only at those that have changed. It looks at all
// of them when the way to a next hop has changed, or the prefixes that neighbours may not take over.
func (d *Driver) planLearned(now time.Time) {
	l := &d.learned
	changed := d.resolveNextHops(now)
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
	for prefix := range l.pending {
		d.planLearnedRoute(prefix)
	}
	clear(l.pending)
}

func (d *Driver) planLearnedRoute(prefix netip.Prefix) {
	l := &d.learned
	next, announced := l.announced[prefix]
	if !announced {
		delete(l.refused, prefix)
		l.table.Unwant(prefix)
		return
	}
	var hops []routes.Hop
	why, unreached := l.refusal(prefix), ""
	for _, n := range next {
		way := l.resolved[n]
		hops, unreached = append(hops, way.hops...), cmp.Or(unreached, way.err)
	}
	if why != "" || len(hops) == 0 {
		l.refused[prefix] = cmp.Or(why, unreached)
		l.table.Unwant(prefix)
		return
	}
	delete(l.refused, prefix)
	l.table.Want(prefix, routes.Through(hops))
}

// resolveNextHops finds the way to each next hop. It says whether one has changed. Routes whose interface had a new life are
// written again.
func (d *Driver) resolveNextHops(now time.Time) (changed bool) {
	l := &d.learned
	if l.serial == d.plan.serial && len(l.resolved) == len(l.uses) && now.Before(l.due) {
		return false
	}
	l.due = now.Add(lookAtWays)
	for next := range l.uses {
		var way resolution
		var err error
		if way.hops, err = l.kernel.Resolve(next); err != nil {
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
			d.rewriteLearned(next)
		}
		l.resolved[next], changed = way, true
	}
	return changed
}

// rewriteLearned has the routes with a next hop written again.
func (d *Driver) rewriteLearned(next netip.Addr) {
	for prefix, hops := range d.learned.announced {
		if _, wanted := d.learned.table.Wants(prefix); wanted && slices.Contains(hops, next) {
			d.learned.table.Rewrite(prefix)
		}
	}
}

// protectedPrefix is an address or network that no route of a neighbour may replace, and why.
type protectedPrefix struct {
	prefix netip.Prefix
	why    string
	// exact is for addresses and blocks to which this node has routes of its own: these win over the routes of larger networks.
	// Other addresses are reached by routes that others made, so no network that contains them is accepted either.
	exact bool
}

// protectedPrefixes returns the addresses of this host, its workloads, etcd and BGP peers, and the blocks of this node.
func (d *Driver) protectedPrefixes() (list []protectedPrefix) {
	protect := func(p netip.Prefix, why string, exact bool) {
		if p.IsValid() && !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() {
			list = append(list, protectedPrefix{p.Masked(), why, exact})
		}
	}
	single := func(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a.WithZone(""), a.BitLen()) }
	for id, e := range d.state.Endpoints {
		for _, a := range e.Addresses {
			protect(single(a), "an address of "+id.Kind+" "+id.Name, true)
		}
	}
	for _, a := range d.plan.links.Addresses() {
		protect(single(a), "an address of this host", true)
	}
	for _, a := range d.uplinks.etcd {
		protect(single(a), "an address of etcd", false)
	}
	for _, p := range d.state.BGP.Peers {
		protect(single(p.Address), "the address of a BGP peer", false)
	}
	for prefix, route := range d.state.Routes {
		if route.Kind == calc.BlockHole {
			protect(prefix, "a block of this node", true)
		}
	}
	slices.SortFunc(list, func(a, b protectedPrefix) int {
		return cmp.Or(a.prefix.Addr().Compare(b.prefix.Addr()), cmp.Compare(a.prefix.Bits(), b.prefix.Bits()), cmp.Compare(a.why, b.why))
	})
	return slices.Compact(list)
}

// covered finds a protectedPrefix that forbids a prefix. A smaller prefix inside of a protected block is fine: it is the address of a
// workload that has moved.
func (l *learned) covered(prefix netip.Prefix) (protectedPrefix, bool) {
	at, _ := slices.BinarySearchFunc(l.protected, prefix.Addr(), func(r protectedPrefix, a netip.Addr) int { return r.prefix.Addr().Compare(a) })
	for _, r := range l.protected[at:] {
		if !prefix.Contains(r.prefix.Addr()) {
			break
		}
		if prefix == r.prefix || !r.exact && prefix.Bits() <= r.prefix.Bits() {
			return r, true
		}
	}
	return protectedPrefix{}, false
}

// refusal says why an announced prefix is not wanted at all. It is empty if the prefix is fine.
func (l *learned) refusal(prefix netip.Prefix) string {
	a := prefix.Addr()
	switch {
	case prefix.Bits() == 0:
		return "felix uses no default route of a neighbour"
	case a.IsLoopback(), a.IsLinkLocalUnicast(), a.IsMulticast(), a.IsUnspecified():
		return "the prefix is not for unicast between hosts: filter it on the peer that announces it"
	}
	if r, covered := l.covered(prefix); covered {
		return fmt.Sprintf("it covers %v, %s: filter it on the peer that announces it", r.prefix, r.why)
	}
	return ""
}

// isExpected says that a refused route is no problem: routers often announce a default route, and the address of a workload of this
// node may still be announced by the node from which it came.
func (l *learned) isExpected(prefix netip.Prefix) bool {
	_, covered := l.covered(prefix)
	return prefix.Bits() == 0 || prefix.IsSingleIP() && covered
}

// problems names the learned routes that are missing in the kernel and that no local address explains.
func (l *learned) problems() (texts []string) {
	const few = 5
	prefixes := slices.SortedFunc(maps.Keys(l.refused), netip.Prefix.Compare)
	prefixes = slices.DeleteFunc(prefixes, l.isExpected)
	for i, prefix := range prefixes {
		if i == few {
			return append(texts, fmt.Sprintf("%d more learned routes are not in the kernel: margayctl dump routes lists them", len(prefixes)-few))
		}
		texts = append(texts, fmt.Sprintf("the learned route to %v is not in the kernel: %s", prefix, l.refused[prefix]))
	}
	return texts
}
