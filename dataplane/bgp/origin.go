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
	ways     []Way // sorted
	prefixes int
}

// origins holds the ways to each learned prefix.
type origins struct {
	of  map[netip.Prefix]*origin
	all map[string]*origin // by originKey
}

func newOrigins() origins {
	return origins{of: map[netip.Prefix]*origin{}, all: map[string]*origin{}}
}

// set replaces the ways to a prefix. With none, the prefix is forgotten.
func (o *origins) set(prefix netip.Prefix, ways []Way) {
	if before := o.of[prefix]; before != nil {
		if before.prefixes--; before.prefixes == 0 {
			delete(o.all, originKey(before.ways))
		}
	}
	if len(ways) == 0 {
		delete(o.of, prefix)
		return
	}
	key := originKey(ways)
	now := o.all[key]
	if now == nil {
		now = &origin{ways: slices.Clone(ways)}
		o.all[key] = now
	}
	now.prefixes++
	o.of[prefix] = now
}

func (o *origins) clear() {
	clear(o.of)
	clear(o.all)
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

// Kernel says which learned routes the kernel has. Its owner brings them there.
type Kernel interface {
	// Missing calls f with each learned prefix that the kernel does not have.
	Missing(f func(netip.Prefix))
	// Reaches says whether a next hop has a way.
	Reaches(next netip.Addr) bool
}

// InUse counts, for each peer, the prefixes that the kernel has with a next hop from it. It looks at each set of routers
// and at each missing prefix, not at all routes.
func (s *Speaker) InUse(kernel Kernel) map[netip.Addr]int {
	l := s.learned
	l.mu.Lock()
	defer l.mu.Unlock()
	missing := map[*origin]int{}
	kernel.Missing(func(prefix netip.Prefix) {
		if o := l.origins.of[prefix]; o != nil {
			missing[o]++
		}
	})
	counts := map[netip.Addr]int{}
	for _, o := range l.origins.all {
		counted := map[netip.Addr]bool{}
		for _, w := range o.ways {
			if !counted[w.Neighbour] && kernel.Reaches(w.NextHop) {
				counted[w.Neighbour] = true
				counts[w.Neighbour] += o.prefixes - missing[o]
			}
		}
	}
	return counts
}
