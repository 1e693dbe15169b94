package fib

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Reader reads routing tables. It belongs to the network namespace of the thread that made it. It may be used by several
// goroutines, one after the other.
type Reader struct {
	lookup *netlink.Handle
	dump   *netlink.Handle  // strict: the kernel filters
	raw    *nl.SocketHandle // strict, for dumps that are read as bytes
}

// NewReader opens the sockets.
func NewReader() (*Reader, error) {
	lookup, err1 := netlink.NewHandle(unix.NETLINK_ROUTE)
	dump, err2 := netlink.NewHandle(unix.NETLINK_ROUTE)
	raw, err3 := nl.Subscribe(unix.NETLINK_ROUTE) // to no group
	r := &Reader{lookup: lookup, dump: dump}
	if raw != nil {
		r.raw = &nl.SocketHandle{Socket: raw}
	}
	err := errors.Join(err1, err2, err3)
	if err == nil {
		err = r.beStrict()
	}
	if err != nil {
		r.Close()
		return nil, fmt.Errorf("open netlink for routes: %w", err)
	}
	return r, nil
}

// beStrict makes the kernel apply the filter of a dump. Otherwise it sends all routes of all tables (Linux 4.20 and later,
// net/ipv4/fib_frontend.c, inet_dump_fib).
func (r *Reader) beStrict() error {
	return errors.Join(
		r.dump.SetStrictCheck(true),
		unix.SetsockoptInt(r.raw.Socket.GetFd(), unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1),
	)
}

// Close releases the sockets.
func (r *Reader) Close() {
	for _, handle := range []*netlink.Handle{r.lookup, r.dump} {
		if handle != nil {
			handle.Close()
		}
	}
	if r.raw != nil {
		r.raw.Close()
	}
}

// Of returns the routes of one family in the main table that have this protocol number. The kernel leaves out all others. With
// netlink.ErrDumpInterrupted some routes may be missing.
func (r *Reader) Of(protocol, family int) ([]netlink.Route, error) {
	filter := &netlink.Route{Table: unix.RT_TABLE_MAIN, Protocol: netlink.RouteProtocol(protocol)}
	return Again(func() ([]netlink.Route, error) {
		return r.dump.RouteListFiltered(family, filter, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL)
	})
}

// Best returns the route of the main table to exactly this prefix that the kernel would use. It returns false if there is none, and
// also if the lookup ends elsewhere: a rule leads to another table, or the route is a black hole. Then only a listing can tell.
func (r *Reader) Best(prefix netip.Prefix) (netlink.Route, bool) {
	found, err := r.lookup.RouteGetWithOptions(prefix.Addr().AsSlice(), &netlink.RouteGetOptions{FIBMatch: true})
	// The kernel keeps the local table in the main one as long as there are no rules, hence the type.
	if err != nil || len(found) != 1 || found[0].Table != unix.RT_TABLE_MAIN || found[0].Type != unix.RTN_UNICAST || found[0].Dst == nil {
		return netlink.Route{}, false
	}
	addr, _ := netip.AddrFromSlice(found[0].Dst.IP)
	bits, _ := found[0].Dst.Mask.Size()
	return found[0], netip.PrefixFrom(addr.Unmap(), bits) == prefix
}

// Defaults returns the default routes of every table, in the kernel's order: the first of a table is the one that the kernel
// prefers. With netlink.ErrDumpInterrupted some may be missing.
func (r *Reader) Defaults() ([]Default, error) {
	return Again(func() (found []Default, err error) {
		for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
			if err = r.defaults(family, &found); err != nil {
				return found, fmt.Errorf("list default routes: %w", err)
			}
		}
		return found, nil
	})
}

func (r *Reader) defaults(family int, found *[]Default) error {
	request := &nl.NetlinkRequest{
		NlMsghdr: unix.NlMsghdr{
			Len: unix.SizeofNlMsghdr, Type: unix.RTM_GETROUTE, Flags: unix.NLM_F_REQUEST | unix.NLM_F_DUMP,
		},
		Sockets: map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: r.raw},
	}
	request.AddData(&nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(family), Type: unix.RTN_UNICAST}})
	return request.ExecuteIter(unix.NETLINK_ROUTE, unix.RTM_NEWROUTE, func(message []byte) bool {
		if d, ok := ParseDefault(message); ok {
			*found = append(*found, d)
		}
		return true
	})
}

// Again repeats a listing that the kernel interrupted because the list changed meanwhile, up to ten times in all. If the list
// changes all the time, it returns the last listing with netlink.ErrDumpInterrupted.
func Again[T any](list func() ([]T, error)) (entries []T, err error) {
	for range 10 {
		if entries, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return entries, err
}
