package interfaces

import (
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/dataplane/notify"
)

// Attributes of RTM_NEWNETCONF, linux/netconf.h.
const (
	netconfIfindex    = 1
	netconfForwarding = 2
	netconfRPFilter   = 3
	netconfProxy      = 5
)

// ListenSettings calls changed, from another goroutine, when a setting may no longer be as Sysctls wants it. The kernel tells of
// forwarding, the reverse path filter, proxy ARP and proxy NDP, and of no others.
func ListenSettings(changed func()) (*notify.Listener, error) {
	return notify.Listen(unix.NETLINK_ROUTE, []uint{unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF}, nil, notify.Handler{
		Heard: func(messages []syscall.NetlinkMessage) {
			for _, m := range messages {
				if m.Header.Type == unix.RTM_NEWNETCONF && isUnwanted(m.Data) {
					changed()
					return
				}
			}
		},
		Lost: changed,
	})
}

// isUnwanted says whether a setting got a value that Sysctls gives to no interface. A message about a change has one setting; one
// about a new interface has all, and is skipped.
func isUnwanted(data []byte) bool {
	const family = 4 // struct netconfmsg, padded
	if len(data) < family {
		return false
	}
	attributes, err := nl.ParseRouteAttr(data[family:])
	if err != nil || len(attributes) != 2 {
		return false
	}
	for _, a := range attributes {
		if len(a.Value) != 4 {
			continue
		}
		value := nl.NativeEndian().Uint32(a.Value)
		switch a.Attr.Type {
		case netconfForwarding, netconfProxy:
			return value == 0
		case netconfRPFilter:
			return value != 2
		}
	}
	return false
}
