// Package peering keeps the addresses of this host at which workloads speak BGP with it, on the interfaces of these workloads.
//
// The same address is on several interfaces. The kernel delivers packets to it from each of them. Nothing else changes for the host:
//
//   - It is a single address, so no route to a network comes with it.
//   - IPv4: its scope is host, so the kernel never chooses it as the source of packets to the workload, which it would on the way out by this
//     interface (inet_select_addr in net/ipv4/devinet.c).
//   - IPv6: its preferred lifetime is 0, which has the same effect (RFC 6724, rule 3), and there is no duplicate address detection: other
//     interfaces have it too.
//
// The kernel notes who made an address (IFA_PROTO), so a later process recognises those of a former one. Addresses of other programs are
// left alone.
package peering

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Protocol marks our addresses in the kernel. Numbers up to 3 are the kernel's own (linux/if_addr.h).
const Protocol = 86

// Attributes of RTM_NEWADDR, linux/if_addr.h.
const (
	ifaFlags = 8
	ifaProto = 11
)

// ErrConflict says that the interface has the address already, from another program.
var ErrConflict = errors.New("another program has given the interface this address: remove it there, or choose another localWorkloadPeeringIPV4 or " +
	"localWorkloadPeeringIPV6 in BGPConfiguration")

// Place is an address on an interface.
type Place struct {
	Interface int // index
	Address   netip.Addr
}

func (p Place) String() string { return fmt.Sprintf("%v on interface %d", p.Address, p.Interface) }

// Kernel is a table.Target for the addresses, in the network namespace of the calling thread.
type Kernel struct{}

// Put gives an interface an address.
func (Kernel) Put(p Place, _ struct{}) error {
	request := nl.NewNetlinkRequest(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	message := messageFor(p)
	flags := uint32(0)
	if p.Address.Is4() {
		message.Scope = unix.RT_SCOPE_HOST
	} else {
		flags = unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE
	}
	request.AddData(message)
	addAddress(request, p.Address)
	request.AddData(nl.NewRtAttr(ifaFlags, nl.Uint32Attr(flags)))
	request.AddData(nl.NewRtAttr(ifaProto, []byte{Protocol}))
	if p.Address.Is6() {
		request.AddData(nl.NewRtAttr(unix.IFA_CACHEINFO, deprecated()))
	}
	_, err := request.Execute(unix.NETLINK_ROUTE, 0)
	if errors.Is(err, unix.EEXIST) {
		held, err := list()
		if err != nil {
			return err
		}
		if held[p] != Protocol {
			return ErrConflict
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("give the interface the address: %w", err)
	}
	return nil
}

// deprecated is a struct ifa_cacheinfo: the address stays for ever, and is not preferred.
func deprecated() []byte {
	info := make([]byte, 16)
	binary.NativeEndian.PutUint32(info[4:], math.MaxUint32) // ifa_valid
	return info
}

// Delete takes an address of ours off an interface.
func (Kernel) Delete(p Place) error {
	held, err := list()
	if err != nil {
		return err
	}
	if held[p] != Protocol {
		return nil
	}
	request := nl.NewNetlinkRequest(unix.RTM_DELADDR, unix.NLM_F_ACK)
	request.AddData(messageFor(p))
	addAddress(request, p.Address)
	_, err = request.Execute(unix.NETLINK_ROUTE, 0)
	if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// List returns our addresses.
func (Kernel) List() (map[Place]struct{}, error) {
	all, err := list()
	ours := map[Place]struct{}{}
	for p, protocol := range all {
		if protocol == Protocol {
			ours[p] = struct{}{}
		}
	}
	return ours, err
}

func messageFor(p Place) *nl.IfAddrmsg {
	message := nl.NewIfAddrmsg(family(p.Address))
	message.Index, message.Prefixlen = uint32(p.Interface), uint8(p.Address.BitLen())
	return message
}

func addAddress(request *nl.NetlinkRequest, a netip.Addr) {
	request.AddData(nl.NewRtAttr(unix.IFA_LOCAL, a.AsSlice()))
	request.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, a.AsSlice()))
}

func family(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// list returns the single addresses of all interfaces, and who made them.
func list() (map[Place]uint8, error) {
	found := map[Place]uint8{}
	request := nl.NewNetlinkRequest(unix.RTM_GETADDR, unix.NLM_F_DUMP)
	request.AddData(nl.NewIfAddrmsg(unix.AF_UNSPEC))
	messages, err := request.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWADDR)
	if err != nil {
		return nil, fmt.Errorf("list the addresses of interfaces: %w", err)
	}
	for _, m := range messages {
		message := nl.DeserializeIfAddrmsg(m)
		attributes, err := nl.ParseRouteAttr(m[message.Len():])
		if err != nil {
			return nil, fmt.Errorf("list the addresses of interfaces: %w", err)
		}
		p, protocol := Place{Interface: int(message.Index)}, uint8(0)
		for _, a := range attributes {
			switch a.Attr.Type {
			case unix.IFA_LOCAL:
				p.Address, _ = netip.AddrFromSlice(a.Value)
			case unix.IFA_ADDRESS:
				if !p.Address.IsValid() { // of IPv6 addresses, which have no IFA_LOCAL, or before it
					p.Address, _ = netip.AddrFromSlice(a.Value)
				}
			case ifaProto:
				protocol = a.Value[0]
			}
		}
		if p.Address.IsValid() && int(message.Prefixlen) == p.Address.BitLen() {
			found[p] = protocol
		}
	}
	return found, nil
}
