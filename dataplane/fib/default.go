package fib

import (
	"encoding/binary"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Default is a default route. Routes to half of all addresses count too: VPNs add 0.0.0.0/1 and 128.0.0.0/1 and leave the proper
// default route in place. So does 2000::/3, all of IPv6 that is assigned (RFC 4291, section 2.4): some routers announce only
// that.
type Default struct {
	Prefix     netip.Prefix
	Table      int
	Metric     int
	Source     netip.Addr // preferred source address; often invalid: the route names none
	Interfaces []int      // by index; several for a multipath route

	// Gateways has the gateway of each of Interfaces, in the same order. It is invalid if there is none, or if it is of the other
	// family.
	Gateways []netip.Addr
}

// longest returns the greatest length of a prefix that counts as a default route.
func longest(family uint8) uint8 {
	if family == unix.AF_INET6 {
		return 3
	}
	return 1
}

// IsDefault says whether a message concerns a default route. It reads only the header.
func IsDefault(message []byte) bool {
	return len(message) >= unix.SizeofRtMsg && message[offsetLength] <= longest(message[offsetFamily]) &&
		(message[offsetFamily] == unix.AF_INET || message[offsetFamily] == unix.AF_INET6) &&
		message[offsetType] == unix.RTN_UNICAST && nl.DeserializeRtMsg(message).Flags&unix.RTM_F_CLONED == 0
}

// Offsets into struct rtmsg (linux/rtnetlink.h).
const (
	offsetFamily = 0
	offsetLength = 1
	offsetType   = 7
)

// ParseDefault reads a message RTM_NEWROUTE or RTM_DELROUTE, without the netlink header. It returns false for other than default
// routes.
func ParseDefault(message []byte) (Default, bool) {
	if !IsDefault(message) {
		return Default{}, false
	}
	header := nl.DeserializeRtMsg(message)
	attributes, err := nl.ParseRouteAttr(message[header.Len():])
	if err != nil {
		return Default{}, false
	}
	to := netip.IPv4Unspecified()
	if header.Family == unix.AF_INET6 {
		to = netip.IPv6Unspecified()
	}
	d := Default{Table: int(header.Table)}
	var gateway netip.Addr
	for _, a := range attributes {
		switch a.Attr.Type {
		case unix.RTA_DST:
			if addr, ok := netip.AddrFromSlice(a.Value); ok {
				to = addr
			}
		case unix.RTA_TABLE:
			d.Table = number(a.Value)
		case unix.RTA_PRIORITY:
			d.Metric = number(a.Value)
		case unix.RTA_PREFSRC:
			d.Source, _ = netip.AddrFromSlice(a.Value)
		case unix.RTA_OIF:
			d.Interfaces = append(d.Interfaces, number(a.Value))
		case unix.RTA_GATEWAY:
			gateway, _ = netip.AddrFromSlice(a.Value)
		case unix.RTA_MULTIPATH:
			d.hops(a.Value)
		}
	}
	if len(d.Gateways) < len(d.Interfaces) { // not a multipath route
		d.Gateways = append(d.Gateways, gateway)
	}
	d.Prefix = netip.PrefixFrom(to, int(header.Dst_len))
	return d, true
}

func number(value []byte) int {
	if len(value) < 4 {
		return 0
	}
	return int(binary.NativeEndian.Uint32(value))
}

// hops reads the hops of a multipath route: a list of struct rtnexthop, each with attributes of its own.
func (d *Default) hops(list []byte) {
	for len(list) >= unix.SizeofRtNexthop {
		hop := nl.DeserializeRtNexthop(list)
		length := (int(hop.RtNexthop.Len) + unix.RTNH_ALIGNTO - 1) &^ (unix.RTNH_ALIGNTO - 1)
		if length < unix.SizeofRtNexthop || length > len(list) {
			return
		}
		var gateway netip.Addr
		attributes, _ := nl.ParseRouteAttr(list[unix.SizeofRtNexthop:length])
		for _, a := range attributes {
			if a.Attr.Type == unix.RTA_GATEWAY {
				gateway, _ = netip.AddrFromSlice(a.Value)
			}
		}
		d.Interfaces, d.Gateways = append(d.Interfaces, int(hop.Ifindex)), append(d.Gateways, gateway)
		list = list[length:]
	}
}
