package neighbour

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// TellRouter sends a router advertisement on an interface, from its link-local address (RFC 4861, section 4.2). It is for routers that find
// their BGP neighbour by it. The lifetime of 0 says that this host is no default router, and no prefix is on the link.
func TellRouter(on Interface) error {
	err := on.send(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6, routerAdvertisement(on), &unix.SockaddrInet6{
		Addr: netip.IPv6LinkLocalAllNodes().As16(), ZoneId: uint32(on.Index),
	})
	if err != nil {
		return fmt.Errorf("tell the network of %s this host's link-local address: %w", on.Name, err)
	}
	return nil
}

// routerAdvertisement is an ICMPv6 message without its checksum, which the kernel fills in. All fields of the router are 0: unspecified.
func routerAdvertisement(on Interface) []byte {
	const kind, sourceLinkLayer = 134, 1
	message := make([]byte, 16)
	message[0] = kind
	if len(on.MAC) == 6 {
		message = append(append(message, sourceLinkLayer, 1), on.MAC...)
	}
	return message
}
