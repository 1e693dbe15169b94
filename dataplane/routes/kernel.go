package routes

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/dataplane/fib"
)

// ErrConflict says that a route of another program stands in the place of ours.
var ErrConflict = errors.New("another program has a route to this prefix")

// holeMetric ranks black holes behind every other route to the same prefix.
const holeMetric = 1 << 20

// Kernel is the main routing table as a table.Target. It belongs to the network namespace of the thread that made it.
type Kernel struct {
	handle     *netlink.Handle
	reader     *fib.Reader
	protocols  []int                            // that are ours: the default one, and the configured one
	former     []int                            // that were configured before, see Recall
	isWorkload func(index int) bool             // whether an interface is or was a workload's
	held       map[netip.Prefix]netlink.Route   // the only route of ours to each prefix, as far as is known
	stale      map[netip.Prefix][]netlink.Route // the routes of ours with former numbers, as they were last listed
	// wrong has our routes to a prefix if there are several, or if one is not as this package makes it.
	wrong map[netip.Prefix][]netlink.Route
}

// NewKernel opens the kernel's routing table. isWorkload says whether an interface, by index, is or was a workload's.
func NewKernel(isWorkload func(index int) bool) (*Kernel, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink for routes: %w", err)
	}
	reader, err := fib.NewReader()
	if err != nil {
		handle.Close()
		return nil, err
	}
	return &Kernel{
		handle: handle, reader: reader, protocols: []int{Protocol(0)}, wrong: map[netip.Prefix][]netlink.Route{},
		isWorkload: isWorkload, held: map[netip.Prefix]netlink.Route{}, stale: map[netip.Prefix][]netlink.Route{},
	}, nil
}

// Close releases the netlink sockets. The routes stay.
func (k *Kernel) Close() {
	k.handle.Close()
	k.reader.Close()
}

// Use says that routes with this protocol are ours from now on. It reports whether that is new: the routes must then be listed again.
func (k *Kernel) Use(protocol int) bool {
	now := slices.Compact([]int{Protocol(0), protocol})
	if slices.Equal(now, k.protocols) {
		return false
	}
	before := k.protocols
	k.protocols = now
	k.former = slices.DeleteFunc(k.former, func(p int) bool { return p == protocol })
	for _, p := range before {
		k.Recall(p)
	}
	return true
}

// Recall says that routes of former times may have this protocol number. Other programs may use it now, so only routes are ours that look
// like those that this package makes.
func (k *Kernel) Recall(protocol int) {
	if !slices.Contains(k.protocols, protocol) && !slices.Contains(k.former, protocol) {
		k.former = append(k.former, protocol)
	}
}

// Protocols returns the protocol numbers of our routes, without those of former times.
func (k *Kernel) Protocols() []int { return k.protocols }

// Former returns the protocol numbers that our routes had before, sorted.
func (k *Kernel) Former() []int { return slices.Sorted(slices.Values(k.former)) }

// Put makes one route. Routes of other programs are left alone.
func (k *Kernel) Put(prefix netip.Prefix, r Route) error {
	route := kernelRoute(prefix, r)
	// RouteAdd is exclusive. Without that, IPv6 would add a second next hop to another program's route, and IPv4 would replace it.
	err := k.handle.RouteAdd(route)
	if errors.Is(err, unix.EEXIST) {
		err = k.replace(prefix, route)
	}
	if err != nil {
		return err
	}
	if _, wrong := k.wrong[prefix]; wrong {
		if err := k.removeWrong(prefix, route.Priority, r); err != nil {
			return err
		}
	}
	return k.removeFormer(prefix, route)
}

// removeFormer removes the route that the prefix had with another metric.
func (k *Kernel) removeFormer(prefix netip.Prefix, now *netlink.Route) error {
	former, there := k.held[prefix]
	if there && former.Priority == 0 && now.Priority != 0 {
		// Asked to delete a route without a metric, the kernel takes the one with the smallest. That must not be the new one.
		best, found := k.reader.Best(prefix)
		there = found && best.Priority == 0 && k.ours(best)
	}
	if there && former.Priority != now.Priority {
		if err := k.handle.RouteDel(&former); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("remove the route with the former metric %d: %w", former.Priority, err)
		}
	}
	k.held[prefix] = *now
	return nil
}

// replace replaces the route with the same metric, if that is ours.
func (k *Kernel) replace(prefix netip.Prefix, route *netlink.Route) error {
	best, found := k.reader.Best(prefix)
	switch {
	case !found || best.Priority != route.Priority: // the route in the way is not the one that the kernel uses
		own, err := k.at(prefix)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(own, func(r netlink.Route) bool { return r.Priority == route.Priority }) {
			return fmt.Errorf("%w: remove that route, or give the workload another address", ErrConflict)
		}
	case !k.ours(best):
		return fmt.Errorf("%w (protocol %d): remove that route, or give the workload another address", ErrConflict, best.Protocol)
	}
	return k.handle.RouteReplace(route)
}

// removeWrong removes our other routes to the prefix.
func (k *Kernel) removeWrong(prefix netip.Prefix, metric int, keep Route) error {
	for _, other := range k.wrong[prefix] {
		if other.Priority != metric || routeOf(other) != keep {
			if err := k.handle.RouteDel(&other); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("remove the former route: %w", err)
			}
		}
	}
	delete(k.wrong, prefix)
	return nil
}

func (k *Kernel) ours(route netlink.Route) bool {
	return slices.Contains(k.protocols, int(route.Protocol)) || slices.Contains(k.former, int(route.Protocol)) && k.looksOurs(route)
}

// looksOurs says whether this package may have made a route: a black hole with its metric, a route to the gateway's address, or a route to
// a single address by the interface of a workload.
func (k *Kernel) looksOurs(route netlink.Route) bool {
	prefix, ok := prefixOf(route, route.Family)
	if !ok || route.Dst == nil {
		return false
	}
	r := routeOf(route)
	if route.Priority != kernelRoute(prefix, r).Priority {
		return false
	}
	return r.Kind == BlackHole || r.Kind == Gateway || r.Kind == Workload && prefix.IsSingleIP() && k.isWorkload(r.Interface)
}

// Delete removes every route of ours to the prefix.
func (k *Kernel) Delete(prefix netip.Prefix) error {
	for _, protocol := range k.protocols {
		for {
			err := k.handle.RouteDel(&netlink.Route{
				Dst: ipNet(prefix), Table: unix.RT_TABLE_MAIN, Protocol: netlink.RouteProtocol(protocol),
				Scope: netlink.SCOPE_NOWHERE, // any
			})
			if errors.Is(err, unix.ESRCH) {
				break
			}
			if err != nil {
				return err
			}
		}
	}
	for _, route := range k.stale[prefix] {
		if err := k.handle.RouteDel(&route); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("remove the route with the former protocol number %d: %w", route.Protocol, err)
		}
	}
	delete(k.stale, prefix)
	delete(k.held, prefix)
	return nil
}

// List returns all routes of ours.
func (k *Kernel) List() (map[netip.Prefix]Route, error) {
	all := map[netip.Prefix][]netlink.Route{}
	clear(k.stale)
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		own, err := k.own(family)
		if err != nil {
			return nil, err
		}
		for _, route := range own {
			if prefix, ok := prefixOf(route, family); ok {
				all[prefix] = append(all[prefix], route)
				if slices.Contains(k.former, int(route.Protocol)) {
					k.stale[prefix] = append(k.stale[prefix], route)
				}
			}
		}
	}
	found := map[netip.Prefix]Route{}
	clear(k.wrong)
	clear(k.held)
	for prefix, routes := range all {
		r := routeOf(routes[0])
		if len(routes) > 1 {
			r.Kind = Foreign
		} else {
			k.held[prefix] = routes[0]
		}
		if found[prefix] = r; r.Kind == Foreign {
			k.wrong[prefix] = routes
		}
	}
	return found, nil
}

// own returns our routes of one family.
func (k *Kernel) own(family int) (routes []netlink.Route, err error) {
	for _, protocol := range slices.Concat(k.protocols, k.former) {
		some, err := k.reader.Of(protocol, family)
		if err != nil {
			return nil, fmt.Errorf("list routes of protocol %d: %w", protocol, err)
		}
		routes = append(routes, slices.DeleteFunc(some, func(r netlink.Route) bool { return !k.ours(r) })...)
	}
	return routes, nil
}

// at returns our routes to exactly this prefix.
func (k *Kernel) at(prefix netip.Prefix) ([]netlink.Route, error) {
	family := familyOf(prefix)
	own, err := k.own(family)
	return slices.DeleteFunc(own, func(r netlink.Route) bool {
		p, ok := prefixOf(r, family)
		return !ok || p != prefix
	}), err
}

// defaultMetric is the metric that the kernel gives to a route without one.
func defaultMetric(prefix netip.Prefix) int {
	if prefix.Addr().Is6() {
		return 1024 // IP6_RT_PRIO_USER, linux/ipv6_route.h
	}
	return 0
}

func kernelRoute(prefix netip.Prefix, r Route) *netlink.Route {
	route := &netlink.Route{
		Dst: ipNet(prefix), Table: unix.RT_TABLE_MAIN, Protocol: netlink.RouteProtocol(r.Protocol), LinkIndex: r.Interface,
	}
	route.Priority = defaultMetric(prefix) // given also for IPv6, so routes can be compared
	if r.Kind == Workload {
		route.Priority = r.Metric
	}
	switch {
	case r.Kind == BlackHole:
		route.Type, route.Priority = unix.RTN_BLACKHOLE, holeMetric
	case prefix.Addr().Is4():
		route.Scope = netlink.SCOPE_LINK
	}
	return route
}

// routeOf reads a route back. A route that this package would not make like this is Foreign.
func routeOf(route netlink.Route) Route {
	r := Route{Protocol: int(route.Protocol), Interface: route.LinkIndex}
	switch {
	case route.Type == unix.RTN_BLACKHOLE && route.Priority == holeMetric:
		r.Kind, r.Interface = BlackHole, 0
	case route.Type == unix.RTN_UNICAST && route.Gw == nil && len(route.MultiPath) == 0:
		r.Kind, r.Metric = Workload, route.Priority
		if ip, ok := netip.AddrFromSlice(route.Dst.IP); ok && ip.Unmap() == GatewayAddress {
			r.Kind, r.Metric = Gateway, 0
		}
	}
	return r
}

func ipNet(prefix netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())}
}

func prefixOf(route netlink.Route, family int) (netip.Prefix, bool) {
	if route.Dst == nil {
		zero := netip.IPv4Unspecified()
		if family == netlink.FAMILY_V6 {
			zero = netip.IPv6Unspecified()
		}
		return netip.PrefixFrom(zero, 0), true
	}
	addr, ok := netip.AddrFromSlice(route.Dst.IP)
	ones, _ := route.Dst.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), ones), ok
}

func familyOf(prefix netip.Prefix) int {
	if prefix.Addr().Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}
