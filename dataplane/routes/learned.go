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

// LearnedProtocol is the protocol number of routes from BGP neighbours. They have one of their own, so neither listing nor
// removing them touches the routes to local workloads, and the other way round. No other known program uses it.
const LearnedProtocol = 87

// learnedMetric ranks learned routes behind every route to the same prefix that an operator or the kernel made: the kernel's
// default is 0 for IPv4 and 1024 for IPv6.
const learnedMetric = 2048

// LearnedRoute is a route from BGP neighbours: with several hops, packets are spread over them.
type LearnedRoute struct {
	Hops []Hop // sorted
}

// Through returns the route with these hops, each once.
func Through(hops []Hop) LearnedRoute {
	slices.SortFunc(hops, compareHops)
	return LearnedRoute{Hops: slices.Compact(hops)}
}

// Hop is a next hop on the network of an interface.
type Hop struct {
	Gateway   netip.Addr
	Interface int
}

// Equal says whether two routes have the same hops.
func (r LearnedRoute) Equal(o LearnedRoute) bool { return slices.Equal(r.Hops, o.Hops) }

func (r LearnedRoute) String() string {
	var hops []string
	for _, h := range r.Hops {
		hops = append(hops, fmt.Sprintf("via %v (interface %d)", h.Gateway, h.Interface))
	}
	return strings.Join(hops, ", ")
}

// LearnedRoutes is the table.Target for routes from BGP neighbours, in the main table. It belongs to the network namespace of
// the thread that made it.
type LearnedRoutes struct {
	handle *netlink.Handle
	reader *fib.Reader
	held   map[netip.Prefix]struct{} // routes of ours in the kernel, as far as is known
}

// NewLearnedRoutes opens the kernel's routing table.
func NewLearnedRoutes() (*LearnedRoutes, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink for learned routes: %w", err)
	}
	reader, err := fib.NewReader()
	if err != nil {
		handle.Close()
		return nil, err
	}
	return &LearnedRoutes{handle: handle, reader: reader, held: map[netip.Prefix]struct{}{}}, nil
}

// Close releases the netlink sockets. The routes stay.
func (l *LearnedRoutes) Close() {
	l.handle.Close()
	l.reader.Close()
}

// Put makes or changes a route. A route of another program to the same prefix with the same metric is left alone.
func (l *LearnedRoutes) Put(prefix netip.Prefix, r LearnedRoute) error {
	route := learnedRoute(prefix, r)
	if _, ours := l.held[prefix]; ours {
		return l.handle.RouteReplace(route)
	}
	// RouteAdd is exclusive: it fails if there is a route with this metric.
	switch err := l.handle.RouteAdd(route); {
	case errors.Is(err, unix.EEXIST):
		return fmt.Errorf("%w with the metric %d: remove that route", ErrConflict, learnedMetric)
	case err != nil:
		return err
	}
	l.held[prefix] = struct{}{}
	return nil
}

// Delete removes our route to the prefix.
func (l *LearnedRoutes) Delete(prefix netip.Prefix) error {
	for {
		err := l.handle.RouteDel(&netlink.Route{
			Dst: ipNet(prefix), Table: unix.RT_TABLE_MAIN, Protocol: LearnedProtocol, Priority: learnedMetric, Scope: netlink.SCOPE_NOWHERE,
		})
		if errors.Is(err, unix.ESRCH) {
			delete(l.held, prefix)
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// List returns all routes with LearnedProtocol.
func (l *LearnedRoutes) List() (map[netip.Prefix]LearnedRoute, error) {
	found := map[netip.Prefix]LearnedRoute{}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := l.reader.Of(LearnedProtocol, family)
		if err != nil {
			return nil, fmt.Errorf("list learned routes: %w", err)
		}
		for _, route := range routes {
			if prefix, ok := prefixOf(route, family); ok {
				r := found[prefix]
				r.Hops = append(r.Hops, hopsOf(route)...)
				slices.SortFunc(r.Hops, compareHops)
				found[prefix] = r
			}
		}
	}
	clear(l.held)
	for prefix := range found {
		l.held[prefix] = struct{}{}
	}
	return found, nil
}

func learnedRoute(prefix netip.Prefix, r LearnedRoute) *netlink.Route {
	route := &netlink.Route{Dst: ipNet(prefix), Table: unix.RT_TABLE_MAIN, Protocol: LearnedProtocol, Priority: learnedMetric}
	if len(r.Hops) == 1 {
		route.Gw, route.LinkIndex = r.Hops[0].Gateway.AsSlice(), r.Hops[0].Interface
		return route
	}
	for _, h := range r.Hops {
		route.MultiPath = append(route.MultiPath, &netlink.NexthopInfo{Gw: h.Gateway.AsSlice(), LinkIndex: h.Interface})
	}
	return route
}

func hopsOf(route netlink.Route) (hops []Hop) {
	add := func(gateway []byte, index int) {
		if a, ok := netip.AddrFromSlice(gateway); ok {
			hops = append(hops, Hop{a.Unmap(), index})
		}
	}
	add(route.Gw, route.LinkIndex)
	for _, h := range route.MultiPath {
		add(h.Gw, h.LinkIndex)
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
func (l *LearnedRoutes) Resolve(next netip.Addr) ([]Hop, error) {
	routes, err := l.handle.RouteGetWithOptions(next.AsSlice(), &netlink.RouteGetOptions{FIBMatch: true})
	if err != nil {
		return nil, fmt.Errorf("there is no route to the next hop %v: add one, or have the peer announce itself as the next hop", next)
	}
	var hops []Hop
	for _, route := range routes {
		if route.Protocol == LearnedProtocol || route.Protocol == netlink.RouteProtocol(Protocol(0)) {
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
	return Through(hops).Hops, nil
}
