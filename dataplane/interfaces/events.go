package interfaces

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/dataplane/fib"
)

// apply returns the interfaces after these events. It does not change links, and skips messages that it cannot parse. Each new life
// of an interface gets the next number of life.
func apply(links Links, life *uint64, messages []syscall.NetlinkMessage) Links {
	next := maps.Clone(links)
	for _, m := range messages {
		switch m.Header.Type {
		case unix.RTM_NEWLINK, unix.RTM_DELLINK:
			applyLink(next, life, m)
		case unix.RTM_NEWADDR, unix.RTM_DELADDR:
			applyAddress(next, m)
		}
	}
	return next
}

func applyLink(links Links, life *uint64, m syscall.NetlinkMessage) {
	// Bridges and IPv6 send their own settings in the same kind of message. Only the general one has all attributes.
	if len(m.Data) < unix.SizeofIfInfomsg || m.Data[0] != unix.AF_UNSPEC {
		return
	}
	header := unix.NlMsghdr{Type: m.Header.Type, Flags: m.Header.Flags, Len: m.Header.Len, Seq: m.Header.Seq, Pid: m.Header.Pid}
	described, err := netlink.LinkDeserialize(&header, m.Data)
	if err != nil {
		return
	}
	link := linkOf(described)
	old, known := links[link.Index]
	if m.Header.Type == unix.RTM_DELLINK {
		delete(links, link.Index)
		return
	}
	link.Addresses, link.Life, link.VLANs = old.Addresses, old.Life, old.VLANs
	if !known || (old.Up && !link.Up) {
		*life++
		link.Life = *life
	}
	links[link.Index] = link
}

func applyAddress(links Links, m syscall.NetlinkMessage) {
	if len(m.Data) < unix.SizeofIfAddrmsg {
		return
	}
	msg := nl.DeserializeIfAddrmsg(m.Data)
	attributes, err := nl.ParseRouteAttr(m.Data[msg.Len():])
	if err != nil {
		return
	}
	var address netip.Addr
	for _, a := range attributes {
		// IPv4 puts the interface's address into IFA_LOCAL, and may put that of a peer into IFA_ADDRESS. IPv6 uses IFA_ADDRESS,
		// and IFA_LOCAL only if there is a peer.
		if a.Attr.Type == unix.IFA_LOCAL || (a.Attr.Type == unix.IFA_ADDRESS && !address.IsValid()) {
			address, _ = netip.AddrFromSlice(a.Value)
		}
	}
	link, known := links[int(msg.Index)]
	if !known || !address.IsValid() {
		return
	}
	others := slices.DeleteFunc(slices.Clone(link.Addresses), func(a netip.Addr) bool { return a == address })
	if m.Header.Type == unix.RTM_NEWADDR {
		others = append(others, address)
		slices.SortFunc(others, netip.Addr.Compare)
	}
	link.Addresses = others
	links[link.Index] = link
}

func linkOf(described netlink.Link) Link {
	a := described.Attrs()
	kind := described.Type()
	if kind == "device" {
		kind = ""
	}
	return Link{
		Index: a.Index, Name: a.Name, AltNames: a.AltNames, Alias: a.Alias, Kind: kind, Master: a.MasterIndex, On: madeOn(a, kind), MAC: a.HardwareAddr.String(), MTU: a.MTU,
		Up: a.Flags&net.FlagUp != 0, Loopback: a.Flags&net.FlagLoopback != 0,
		FiltersVLANs: filtersVLANs(described),
		Layer3:       a.EncapType != "ether" && a.EncapType != "loopback",
	}
}

// madeOn returns the index of the interface on which this one was made; 0: none. For a veth the same attribute names its peer. An
// interface in another network namespace has an index of that namespace, which means nothing here.
func madeOn(a *netlink.LinkAttrs, kind string) int {
	if kind == "veth" || kind == "netkit" || a.NetNsID >= 0 || a.ParentIndex == a.Index {
		return 0
	}
	return a.ParentIndex
}

// list lists all interfaces and their addresses. It leaves Uplink false.
func list(handle *netlink.Handle) (Links, error) {
	described, err := fib.Again(handle.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	addresses, err := fib.Again(func() ([]netlink.Addr, error) { return handle.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	links := Links{}
	for _, d := range described {
		link := linkOf(d)
		links[link.Index] = link
	}
	for _, a := range addresses {
		link, known := links[a.LinkIndex]
		address, ok := netip.AddrFromSlice(a.IP)
		if !known || !ok {
			continue
		}
		link.Addresses = append(link.Addresses, address.Unmap())
		slices.SortFunc(link.Addresses, netip.Addr.Compare)
		links[link.Index] = link
	}
	return withVLANs(links, handle.BridgeVlanList)
}
