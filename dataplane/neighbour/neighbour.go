// Package neighbour tells the neighbours on a network that packets to a workload's address now go to this host.
//
// Hosts and routers reach a workload by a route to its host, so they never resolve the workload's address, and nothing needs to be told.
// A network whose own prefix contains the address is the exception: there neighbours ask for the address itself, and the host answers
// in place of the workload if it is a proxy on that interface. After a move their caches, and the tables of switches, still name the
// former host. An unsolicited message corrects them (ARP announcement: RFC 5227, section 3; neighbour advertisement: RFC 4861,
// section 7.2.6).
//
// It also tells routers on a link without other addresses that this host is there (TellRouter).
package neighbour

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Interface is one on whose network addresses may be told.
type Interface struct {
	Index int
	Name  string
	MAC   net.HardwareAddr
}

// Tell sends a message about each address on every interface of the list where this host answers for it. It returns how many it sent.
func Tell(addresses []netip.Addr, on []Interface) (sent int, err error) {
	var errs []error
	for _, i := range on {
		answers := i.answers(addresses)
		for _, a := range addresses {
			if !answers.include(a) {
				continue
			}
			if err := i.tell(a); err != nil {
				errs = append(errs, fmt.Errorf("tell the network of %s that %v is here: %w", i.Name, a, err))
			} else {
				sent++
			}
		}
	}
	return sent, errors.Join(errs...)
}

// answers says for which addresses this host answers on an interface: the interface's network contains the address, and the kernel is
// a proxy there. For IPv6 it must be one for this very address (ip -6 neigh add proxy).
type answers struct {
	networks []netip.Prefix // of the families of which the kernel is a proxy
	proxied  map[netip.Addr]bool
}

// answers reads the interface once for all addresses. Of a family that no address has, it reads nothing.
func (i Interface) answers(addresses []netip.Addr) (a answers) {
	if slices.ContainsFunc(addresses, netip.Addr.Is4) && i.setting("ipv4/conf/%s/proxy_arp") {
		a.networks = i.networks(netlink.FAMILY_V4)
	}
	if !slices.ContainsFunc(addresses, netip.Addr.Is6) || !i.setting("ipv6/conf/%s/proxy_ndp") {
		return a
	}
	a.networks = append(a.networks, i.networks(netlink.FAMILY_V6)...)
	a.proxied = map[netip.Addr]bool{}
	entries, err := netlink.NeighProxyList(i.Index, netlink.FAMILY_V6)
	if err != nil {
		return a
	}
	for _, e := range entries {
		if found, ok := netip.AddrFromSlice(e.IP); ok {
			a.proxied[found] = true
		}
	}
	return a
}

func (a answers) include(address netip.Addr) bool {
	return (address.Is4() || a.proxied[address]) && slices.ContainsFunc(a.networks, func(n netip.Prefix) bool { return n.Contains(address) })
}

// setting says whether a setting is on, for this interface or for all.
func (i Interface) setting(path string) bool {
	for _, name := range []string{i.Name, "all"} {
		text, err := os.ReadFile("/proc/sys/net/" + fmt.Sprintf(path, name))
		if err == nil && strings.TrimSpace(string(text)) == "1" {
			return true
		}
	}
	return false
}

// networks returns the networks of the interface's own addresses, without link-local ones. What cannot be read is no network.
func (i Interface) networks(family int) (list []netip.Prefix) {
	own, err := netlink.AddrList(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: i.Index}}, family)
	if err != nil {
		return nil
	}
	for _, o := range own {
		if o.IPNet == nil || o.IP.IsLinkLocalUnicast() {
			continue
		}
		addr, ok := netip.AddrFromSlice(o.IP)
		length, _ := o.Mask.Size()
		if ok {
			list = append(list, netip.PrefixFrom(addr.Unmap(), length))
		}
	}
	return list
}

func (i Interface) tell(a netip.Addr) error {
	if a.Is4() {
		return i.send(unix.AF_PACKET, unix.SOCK_RAW, 0, arpAnnouncement(a, i.MAC), &unix.SockaddrLinklayer{
			Protocol: swapped(unix.ETH_P_ARP), Ifindex: i.Index, Halen: 6, Addr: [8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		})
	}
	return i.send(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6, advertisement(a, i.MAC), &unix.SockaddrInet6{
		Addr: netip.MustParseAddr("ff02::1").As16(), ZoneId: uint32(i.Index),
	})
}

func (i Interface) send(domain, kind, protocol int, packet []byte, to unix.Sockaddr) error {
	fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if domain == unix.AF_INET6 { // receivers drop what a router could have forwarded (RFC 4861, section 7.1.2)
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255)
	}
	return errors.Join(err, unix.Sendto(fd, packet, 0, to))
}

// swapped is a number in network order, as the kernel wants it in a socket address.
func swapped(v uint16) uint16 { return v<<8 | v>>8 }

// arpAnnouncement is an Ethernet frame with a request from the address for itself, which changes the entries that neighbours have.
func arpAnnouncement(a netip.Addr, mac net.HardwareAddr) []byte {
	broadcast := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	frame := append(append(broadcast, mac...), 0x08, 0x06) // Ethernet type ARP
	frame = append(frame, 0, 1, 0x08, 0, 6, 4, 0, 1)       // Ethernet, IPv4, lengths of addresses, request
	frame = append(append(frame, mac...), a.AsSlice()...)
	return append(append(frame, 0, 0, 0, 0, 0, 0), a.AsSlice()...)
}

// advertisement is an ICMPv6 message without its checksum, which the kernel fills in. It overrides the entries that neighbours have.
func advertisement(a netip.Addr, mac net.HardwareAddr) []byte {
	const kind, override, targetLinkLayer = 136, 0x20, 2
	message := append([]byte{kind, 0, 0, 0, override, 0, 0, 0}, a.AsSlice()...)
	return append(append(message, targetLinkLayer, 1), mac...)
}
