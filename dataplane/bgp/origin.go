package bgp

import (
	"net/netip"
	"slices"

	api "github.com/osrg/gobgp/v3/api"
)

// Way is a best path to a prefix: the peer that announces it, and the next hop.
type Way struct {
	Neighbour, NextHop netip.Addr // with a zone, if it is on the network of an interface
}

func compareWays(a, b Way) int {
	if c := a.NextHop.Compare(b.NextHop); c != 0 {
		return c
	}
	return a.Neighbour.Compare(b.Neighbour)
}

// origin is a set of ways, and how many prefixes have exactly this set. Prefixes share origins: there are as many as there are
// sets of routers.
type origin struct {
	ways     []Way        // sorted
	hops     []netip.Addr // of the ways, sorted, each once
	prefixes int
}

// origins holds the ways to each learned prefix.
type origins struct {
	of  map[netip.Prefix]*origin
	all map[string]*origin // by originKey

	last *origin // that was set: the next prefix often has the same
}

func newOrigins() origins {
	return origins{of: map[netip.Prefix]*origin{}, all: map[string]*origin{}}
}

// set replaces the ways to a prefix, and returns their next hops, which prefixes share. With none, the prefix is forgotten.
func (o *origins) set(prefix netip.Prefix, ways []Way) (hops []netip.Addr) {
	if before := o.of[prefix]; before != nil {
		if before.prefixes--; before.prefixes == 0 {
			delete(o.all, originKey(before.ways))
		}
	}
	if len(ways) == 0 {
		delete(o.of, prefix)
		return nil
	}
	now := o.last
	if now == nil || now.prefixes == 0 || !slices.Equal(now.ways, ways) {
		now = o.named(ways)
	}
	now.prefixes++
	o.of[prefix], o.last = now, now
	return now.hops
}

// named returns the origin with these ways, which it makes if it is new.
func (o *origins) named(ways []Way) *origin {
	key := originKey(ways)
	if o.all[key] == nil {
		o.all[key] = &origin{ways: slices.Clone(ways), hops: hopsOf(ways)}
	}
	return o.all[key]
}

func (o *origins) clear() {
	clear(o.of)
	clear(o.all)
	o.last = nil
}

func originKey(ways []Way) string {
	key := make([]byte, 0, 32*len(ways))
	for _, w := range ways {
		key = w.Neighbour.AppendTo(key)
		key = w.NextHop.AppendTo(append(key, '>'))
		key = append(key, ' ')
	}
	return string(key)
}

// hopsOf returns the next hops of ways, sorted, each once.
func hopsOf(ways []Way) (hops []netip.Addr) {
	for _, w := range ways {
		if !slices.Contains(hops, w.NextHop) {
			hops = append(hops, w.NextHop)
		}
	}
	slices.SortFunc(hops, netip.Addr.Compare)
	return hops
}

// neighbourOf returns the peer of a path. It is false for a path of ours.
func neighbourOf(path *api.Path) (netip.Addr, bool) {
	a, err := netip.ParseAddr(path.GetNeighborIp())
	return a, err == nil
}

// InUse counts, for each peer, the prefixes that the kernel has with a next hop from it. The owner of the Speaker brings routes there, so
// it says which learned prefixes are missing, and which next hops have a way. InUse looks at each set of routers and at each missing
// prefix, not at all routes.
func (s *Speaker) InUse(missing []netip.Prefix, reached []netip.Addr) map[netip.Addr]int {
	l := s.learned
	l.mu.Lock()
	defer l.mu.Unlock()
	lacking, ways := map[*origin]int{}, map[netip.Addr]bool{}
	for _, prefix := range missing {
		if o := l.origins.of[prefix]; o != nil {
			lacking[o]++
		}
	}
	for _, next := range reached {
		ways[next] = true
	}
	counts := map[netip.Addr]int{}
	for _, o := range l.origins.all {
		counted := map[netip.Addr]bool{}
		for _, w := range o.ways {
			if !counted[w.Neighbour] && ways[w.NextHop] {
				counted[w.Neighbour] = true
				counts[w.Neighbour] += o.prefixes - lacking[o]
			}
		}
	}
	return counts
}
