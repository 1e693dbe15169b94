package routes

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/dataplane/fib"
)

// Protocol numbers of routes with next hops. Each kind has one of its own, so neither listing nor removing them touches other routes
// of ours. No other known program uses them.
const (
	LearnedProtocol = 87 // routes of BGP peers
	NodeProtocol    = 88 // routes to other nodes that follow from their blocks
	PeerProtocol    = 89 // routes to BGP peers by the gateways that their BGPPeers name
)

// LearnedMetric ranks learned routes behind every route to the same prefix that an operator or the kernel made: the kernel's
// default is 0 for IPv4 and 1024 for IPv6.
const LearnedMetric = 2048

// HopRoute is a route by other hosts: with several hops, packets are spread over them.
type HopRoute struct {
	Hops   []Hop // sorted
	Metric int
}

// Through returns the route with these hops, each once.
func Through(hops []Hop, metric int) HopRoute {
	slices.SortFunc(hops, compareHops)
	return HopRoute{Hops: slices.Compact(hops), Metric: metric}
}

// Hop is a next hop on the network of an interface.
type Hop struct {
	Gateway   netip.Addr // without zone
	Interface int
}

// Equal says whether two routes are the same.
func (r HopRoute) Equal(o HopRoute) bool { return r.Metric == o.Metric && slices.Equal(r.Hops, o.Hops) }

func (r HopRoute) String() string {
	var hops []string
	for _, h := range r.Hops {
		hops = append(hops, fmt.Sprintf("via %v (interface %d)", h.Gateway, h.Interface))
	}
	return strings.Join(hops, ", ")
}

// HopRoutes is the table.Target for the routes of one protocol number, in the main table. It belongs to the network namespace of
// the thread that made it.
type HopRoutes struct {
	protocol int
	ours     func(protocol int) bool // whether routes with this protocol are felix's
	lookup   *netlink.Handle
	reader   *fib.Reader
	batcher  *batcher
	held     map[netip.Prefix]int   // metrics of the routes of ours in the kernel, as far as is known
	more     map[netip.Prefix][]int // further metrics of prefixes that have several routes of ours
}

// NewHopRoutes opens the kernel's routing table. ours says which protocol numbers felix's routes have.
func NewHopRoutes(protocol int, ours func(protocol int) bool) (*HopRoutes, error) {
	h := &HopRoutes{protocol: protocol, ours: ours, held: map[netip.Prefix]int{}, more: map[netip.Prefix][]int{}}
	var err error
	if h.lookup, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("open netlink for routes: %w", err)
	}
	if h.reader, err = fib.NewReader(); err != nil {
		h.lookup.Close()
		return nil, err
	}
	if h.batcher, err = newBatcher(); err != nil {
		h.lookup.Close()
		h.reader.Close()
		return nil, fmt.Errorf("open netlink for routes: %w", err)
	}
	return h, nil
}

// Close releases the netlink sockets. The routes stay.
func (h *HopRoutes) Close() {
	h.lookup.Close()
	h.reader.Close()
	h.batcher.socket.Close()
}

// Port identifies this process in the kernel's notifications about its changes.
func (h *HopRoutes) Port() uint32 { return h.batcher.port }

// Put makes or changes a route. A route of another program to the same prefix with the same metric is left alone.
func (h *HopRoutes) Put(prefix netip.Prefix, r HopRoute) error {
	return h.PutAll([]netip.Prefix{prefix}, []HopRoute{r})[0]
}

// PutAll makes or changes routes, and returns the error of each.
func (h *HopRoutes) PutAll(prefixes []netip.Prefix, routes []HopRoute) []error {
	changes := make([]change, len(prefixes))
	for i, p := range prefixes {
		changes[i] = change{p, routes[i].Hops, h.protocol, routes[i].Metric, unix.NLM_F_CREATE | unix.NLM_F_EXCL}
		// Only a route that is known as ours is replaced: the kernel would replace those of other programs too.
		if metric, ours := h.held[p]; ours && metric == routes[i].Metric {
			changes[i].flags = unix.NLM_F_CREATE | unix.NLM_F_REPLACE
		}
	}
	errs := h.batcher.send(changes)
	for i, p := range prefixes {
		if errors.Is(errs[i], unix.EEXIST) && h.isOurs(p, routes[i].Metric) {
			changes[i].flags = unix.NLM_F_CREATE | unix.NLM_F_REPLACE
			errs[i] = h.batcher.send(changes[i : i+1])[0]
		}
		switch {
		case errors.Is(errs[i], unix.EEXIST):
			errs[i] = fmt.Errorf("%w with the metric %d: remove that route", ErrConflict, routes[i].Metric)
		case errs[i] == nil:
			errs[i] = h.removeOthers(p, routes[i].Metric)
			h.held[p] = routes[i].Metric // those that could not be removed are in more
		}
	}
	return errs
}

// isOurs says whether the best route to a prefix is ours and has this metric.
func (h *HopRoutes) isOurs(prefix netip.Prefix, metric int) bool {
	best, found := h.reader.Best(prefix)
	return found && int(best.Protocol) == h.protocol && best.Priority == metric
}

// removeOthers removes the routes of ours to a prefix that have another metric. After an error, more has those that are left.
func (h *HopRoutes) removeOthers(prefix netip.Prefix, keep int) error {
	metrics := h.more[prefix]
	if metric, held := h.held[prefix]; held {
		metrics = append(metrics, metric)
	}
	for i, metric := range metrics {
		if metric == keep {
			continue
		}
		if err := h.batcher.send([]change{{prefix: prefix, protocol: h.protocol, metric: metric}})[0]; err != nil && !errors.Is(err, unix.ESRCH) {
			h.more[prefix] = metrics[i:]
			return fmt.Errorf("remove the route with the metric %d: %w", metric, err)
		}
	}
	delete(h.more, prefix)
	return nil
}

// Delete removes our routes to the prefix.
func (h *HopRoutes) Delete(prefix netip.Prefix) error {
	return h.DeleteAll([]netip.Prefix{prefix})[0]
}

// DeleteAll removes our routes to the prefixes, and returns the error of each.
func (h *HopRoutes) DeleteAll(prefixes []netip.Prefix) []error {
	changes := make([]change, len(prefixes))
	for i, p := range prefixes {
		changes[i] = change{prefix: p, protocol: h.protocol, metric: h.held[p]} // without a metric, the kernel takes the first one
	}
	errs := h.batcher.send(changes)
	for i, p := range prefixes {
		if errors.Is(errs[i], unix.ESRCH) {
			errs[i] = nil
		}
		if _, several := h.more[p]; several && errs[i] == nil {
			errs[i] = h.removeOthers(p, -1)
		}
		if errs[i] == nil {
			delete(h.held, p)
		}
	}
	return errs
}

// Forget notes that another program has removed the route to a prefix.
func (h *HopRoutes) Forget(prefix netip.Prefix) { delete(h.held, prefix) }

// List returns all routes with the protocol number. One to a prefix with several has no metric, so it differs from every wanted one.
func (h *HopRoutes) List() (map[netip.Prefix]HopRoute, error) {
	found := map[netip.Prefix]HopRoute{}
	clear(h.held)
	clear(h.more)
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := h.reader.Of(h.protocol, family)
		if err != nil {
			return nil, fmt.Errorf("list routes of protocol %d: %w", h.protocol, err)
		}
		for _, route := range routes {
			prefix, ok := prefixOf(route, family)
			if !ok {
				continue
			}
			r, again := found[prefix]
			if metric, known := h.held[prefix]; !known {
				h.held[prefix], r.Metric = route.Priority, route.Priority
			} else if again && metric != route.Priority {
				h.more[prefix], r.Metric = append(h.more[prefix], route.Priority), 0
			}
			r.Hops = append(r.Hops, hopsOf(route)...)
			slices.SortFunc(r.Hops, compareHops)
			found[prefix] = r
		}
	}
	return found, nil
}

func hopsOf(route netlink.Route) (hops []Hop) {
	add := func(gateway []byte, other netlink.Destination, index int) {
		if via, ok := other.(*netlink.Via); ok { // of the other address family
			gateway = via.Addr
		}
		if a, ok := netip.AddrFromSlice(gateway); ok {
			hops = append(hops, Hop{a.Unmap(), index})
		}
	}
	add(route.Gw, route.Via, route.LinkIndex)
	for _, h := range route.MultiPath {
		add(h.Gw, h.Via, h.LinkIndex)
	}
	return hops
}

func compareHops(a, b Hop) int {
	if c := a.Gateway.Compare(b.Gateway); c != 0 {
		return c
	}
	return a.Interface - b.Interface
}

// Resolve finds the hops by which packets to a next hop leave: the next hop itself if it is on the network of an interface,
// otherwise the gateways on the way there. Routes of ours do not count: a next hop must not be reached by what it announces.
func (h *HopRoutes) Resolve(next netip.Addr) ([]Hop, error) {
	routes, err := h.lookup.RouteGetWithOptions(next.AsSlice(), &netlink.RouteGetOptions{FIBMatch: true})
	if err != nil {
		return nil, fmt.Errorf("there is no route to the next hop %v: add one, or have the peer announce itself as the next hop", next)
	}
	var hops []Hop
	for _, route := range routes {
		if h.ours(int(route.Protocol)) {
			return nil, fmt.Errorf("the next hop %v is reached only by routes of felix: add a route to it, or have the peer announce itself as the next hop", next)
		}
		if route.Type != unix.RTN_UNICAST {
			return nil, fmt.Errorf("the next hop %v is an address of this host, or packets to it are dropped: correct it on the peer", next)
		}
		found := hopsOf(route)
		if len(found) == 0 {
			found = []Hop{{next, route.LinkIndex}}
		}
		hops = append(hops, found...)
	}
	return Through(hops, 0).Hops, nil
}

// Neighbour finds the interface on whose network a node is. Packets to it must not need a router: no router knows the node's blocks.
func (h *HopRoutes) Neighbour(node netip.Addr) ([]Hop, error) {
	hops, err := h.Resolve(node)
	if err != nil || len(hops) != 1 || hops[0].Gateway != node {
		return nil, fmt.Errorf("the address %v of its node is on no network of this host's interfaces that are up: correct the prefix length of "+
			"the address in this host's Node, or bring the interface up", node)
	}
	return hops, nil
}

// Gateway finds the interface on whose network the gateway to a BGP peer is.
func (h *HopRoutes) Gateway(gateway netip.Addr) ([]Hop, error) {
	hops, err := h.Resolve(gateway)
	if err != nil || len(hops) != 1 || hops[0].Gateway != gateway {
		return nil, fmt.Errorf("the gateway %v is on no network of this host's interfaces that are up: correct reachableBy of the BGPPeer, "+
			"or bring the interface up", gateway)
	}
	return hops, nil
}
