package main

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/dataplane/fib"
)

// readMachine reads the addresses of this machine.
func readMachine(etcd []netip.Addr) (machine, error) {
	m := machine{etcd: etcd, defaults: sync.OnceValues(readDefaults), source: sourceTo, lookUp: lookUp}
	request := nl.NewNetlinkRequest(unix.RTM_GETADDR, unix.NLM_F_DUMP)
	request.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	messages, err := request.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWADDR)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return m, fmt.Errorf("list the addresses of this machine: %w", err)
	}
	names := map[int]string{}
	for _, message := range messages {
		a, ok := parseAddress(message)
		if !ok {
			continue
		}
		if _, known := names[a.index]; !known {
			if link, err := net.InterfaceByIndex(a.index); err == nil {
				names[a.index] = link.Name
			}
		}
		a.iface = names[a.index]
		m.addresses = append(m.addresses, a)
	}
	return m, nil
}

// IFA_PROTO of linux/if_addr.h, and RTPROT_KEEPALIVED of linux/rtnetlink.h. keepalived marks its virtual addresses so since version
// 2.2.8, on Linux 5.18 and later.
const (
	attributeProtocol  = 11
	protocolKeepalived = 18
)

// parseAddress reads a message about an address of an interface.
func parseAddress(message []byte) (a ifaceAddress, ok bool) {
	if len(message) < unix.SizeofIfAddrmsg {
		return a, false
	}
	header := nl.DeserializeIfAddrmsg(message)
	attributes, err := nl.ParseRouteAttr(message[header.Len():])
	if err != nil {
		return a, false
	}
	var addr netip.Addr
	flags := uint32(header.Flags)
	for _, attribute := range attributes {
		switch value := attribute.Value; attribute.Attr.Type {
		case unix.IFA_LOCAL:
			addr, _ = netip.AddrFromSlice(value)
		case unix.IFA_ADDRESS: // for IPv4 the address of the peer, if there is one
			if !addr.IsValid() {
				addr, _ = netip.AddrFromSlice(value)
			}
		case unix.IFA_FLAGS:
			if len(value) >= 4 {
				flags = binary.NativeEndian.Uint32(value)
			}
		case attributeProtocol:
			a.floating = len(value) > 0 && value[0] == protocolKeepalived
		}
	}
	a.index, a.prefix = int(header.Index), netip.PrefixFrom(addr.Unmap(), int(header.Prefixlen))
	a.floating = a.floating || flags&unix.IFA_F_DEPRECATED != 0
	if addr.Is4() {
		a.secondary = flags&unix.IFA_F_SECONDARY != 0
	} else { // for IPv6 the same bit means temporary
		a.temporary = flags&(unix.IFA_F_TEMPORARY|unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0
	}
	return a, addr.IsValid()
}

// readDefaults reads the default routes. It walks all routes of the host, so it must be called seldom.
func readDefaults() (hops []hop, err error) {
	reader, err := fib.NewReader()
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	routes, err := reader.Defaults()
	if err != nil {
		return nil, err
	}
	// Whole default routes before halves, the main table before others, then the metric.
	slices.SortStableFunc(routes, func(a, b fib.Default) int {
		other := func(d fib.Default) int {
			if d.Table == unix.RT_TABLE_MAIN {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()), cmp.Compare(other(a), other(b)), cmp.Compare(a.Metric, b.Metric))
	})
	for _, route := range routes {
		for i, index := range route.Interfaces {
			hops = append(hops, hop{
				family4: route.Prefix.Addr().Is4(), index: index, gateway: route.Gateways[i], source: route.Source,
			})
		}
	}
	return hops, nil
}

// sourceTo asks the kernel for the source of packets to an address.
func sourceTo(to netip.Addr) netip.Addr {
	routes, err := netlink.RouteGet(to.AsSlice())
	if err != nil || len(routes) == 0 {
		return netip.Addr{}
	}
	source, _ := netip.AddrFromSlice(routes[0].Src)
	return source.Unmap()
}

func lookUp(name string) []netip.Addr {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return nil
	}
	for i, addr := range found {
		found[i] = addr.Unmap()
	}
	return found
}
