package routes

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrConflict says that a route which is not ours stands where ours should.
var ErrConflict = errors.New("another route is there")

// holeMetric puts black holes behind every other route to the same prefix.
const holeMetric = 1 << 20

// Kernel is the main routing table as a table.Target. It belongs to the network namespace of the thread that made it.
type Kernel struct {
	handle    *netlink.Handle
	protocols []int // that are ours

	// odd are prefixes with routes of ours that we would not make like this: two, or of another kind.
	odd map[netip.Prefix]struct{}
}

// NewKernel opens the kernel's routing table. More protocols are ours once a route with them is put.
func NewKernel() (*Kernel, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink for routes: %w", err)
	}
	return &Kernel{handle: handle, protocols: []int{Protocol(0)}, odd: map[netip.Prefix]struct{}{}}, nil
}

// Close releases the netlink socket. The routes stay.
func (k *Kernel) Close() { k.handle.Close() }

// Own says that routes with this protocol are ours.
func (k *Kernel) Own(protocol int) {
	if !slices.Contains(k.protocols, protocol) {
		k.protocols = append(k.protocols, protocol)
	}
}

// Put makes one route. What another program put there is left alone.
func (k *Kernel) Put(prefix netip.Prefix, r Route) error {
	k.Own(r.Protocol)
	route := kernelRoute(prefix, r)
	// Exclusive: without it IPv6 adds a second next hop to a stranger's route, and IPv4 replaces it.
	err := k.handle.RouteAdd(route)
	if errors.Is(err, unix.EEXIST) {
		err = k.replace(prefix, route)
	}
	if err != nil {
		return err
	}
	if _, odd := k.odd[prefix]; odd {
		return k.tidy(prefix, route)
	}
	return nil
}

// replace puts a route where one with the same metric is, if that is ours.
func (k *Kernel) replace(prefix netip.Prefix, route *netlink.Route) error {
	there, err := k.at(prefix)
	if err != nil {
		return err
	}
	for _, other := range there {
		if other.Priority == route.Priority && !k.ours(other) {
			return fmt.Errorf("%w, made by protocol %d: remove it, or give the workload another address", ErrConflict, other.Protocol)
		}
	}
	return k.handle.RouteReplace(route)
}

// tidy removes our other routes to the prefix.
func (k *Kernel) tidy(prefix netip.Prefix, keep *netlink.Route) error {
	there, err := k.at(prefix)
	if err != nil {
		return err
	}
	for _, other := range there {
		if k.ours(other) && (other.Priority != keep.Priority || routeOf(other) != routeOf(*keep)) {
			if err := k.handle.RouteDel(&other); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("remove what was there before: %w", err)
			}
		}
	}
	delete(k.odd, prefix)
	return nil
}

func (k *Kernel) ours(route netlink.Route) bool {
	return slices.Contains(k.protocols, int(route.Protocol))
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
	return nil
}

// List returns all routes of ours.
func (k *Kernel) List() (map[netip.Prefix]Route, error) {
	found := map[netip.Prefix]Route{}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		all, err := k.dump(family, &netlink.Route{}, 0)
		if err != nil {
			return nil, err
		}
		for _, route := range all {
			prefix, ok := prefixOf(route, family)
			if !ok || !k.ours(route) {
				continue
			}
			r := routeOf(route)
			if _, twice := found[prefix]; twice {
				r.Kind = Foreign
			}
			if found[prefix] = r; r.Kind == Foreign {
				k.odd[prefix] = struct{}{}
			}
		}
	}
	return found, nil
}

// at returns the routes to exactly this prefix, whoever made them.
func (k *Kernel) at(prefix netip.Prefix) ([]netlink.Route, error) {
	return k.dump(familyOf(prefix), &netlink.Route{Dst: ipNet(prefix)}, netlink.RT_FILTER_DST)
}

// dump repeats a listing that the kernel interrupted because something changed.
func (k *Kernel) dump(family int, filter *netlink.Route, mask uint64) (routes []netlink.Route, err error) {
	for range 10 {
		routes, err = k.handle.RouteListFiltered(family, filter, mask)
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return routes, err
}

func kernelRoute(prefix netip.Prefix, r Route) *netlink.Route {
	route := &netlink.Route{
		Dst: ipNet(prefix), Table: unix.RT_TABLE_MAIN, Protocol: netlink.RouteProtocol(r.Protocol), LinkIndex: r.Interface,
	}
	if prefix.Addr().Is6() {
		route.Priority = 1024 // what the kernel takes when none is given; named, so that routes can be compared
	}
	switch {
	case r.Kind == BlackHole:
		route.Type, route.Priority = unix.RTN_BLACKHOLE, holeMetric
	case prefix.Addr().Is4():
		route.Scope = netlink.SCOPE_LINK
	}
	return route
}

// routeOf reads a route back; one that we would not have made like this is Foreign.
func routeOf(route netlink.Route) Route {
	r := Route{Protocol: int(route.Protocol), Interface: route.LinkIndex}
	switch {
	case route.Type == unix.RTN_BLACKHOLE && route.Priority == holeMetric:
		r.Kind, r.Interface = BlackHole, 0
	case route.Type == unix.RTN_UNICAST && route.Gw == nil && len(route.MultiPath) == 0:
		r.Kind = Workload
		if ip, ok := netip.AddrFromSlice(route.Dst.IP); ok && ip.Unmap() == GatewayAddress {
			r.Kind = Gateway
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
