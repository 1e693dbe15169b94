package dhcp

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// microsoftRoutes is the option that old clients of Microsoft ask for in place of option 121. It has the same content ([MS-DHCPE], section 2.2.8).
const microsoftRoutes = dhcpv4.GenericOptionCode(249)

// answer4 answers a DHCP message for IPv4. A nil answer is silence. The note says in a few words what happened, for the log and `dump`;
// problem says that the guest wants what it cannot have.
func (l Link) answer4(q *dhcpv4.DHCPv4) (answer *dhcpv4.DHCPv4, note string, problem bool) {
	mine := l.Guest.addresses4()
	relayed := !q.GatewayIPAddr.IsUnspecified() && q.GatewayIPAddr != nil
	if q.OpCode != dhcpv4.OpcodeBootRequest || relayed || len(q.ClientHWAddr) != 6 {
		return nil, "", false
	}
	if !l.Guest.isMAC(q.ClientHWAddr) {
		return nil, fmt.Sprintf("%v asks for an address, but the endpoint has the MAC address %v", q.ClientHWAddr, l.Guest.MAC), true
	}
	if server := q.ServerIdentifier(); server != nil && !server.Equal(net.IP(Gateway.AsSlice())) {
		return nil, "", false // it has chosen another server
	}
	if len(mine) == 0 {
		return nil, "asks for an IPv4 address, and the endpoint has none", true
	}
	switch q.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		return l.reply4(q, dhcpv4.MessageTypeOffer, mine[0]), fmt.Sprintf("offered %v", mine[0]), false
	case dhcpv4.MessageTypeRequest:
		if wanted := wanted4(q); wanted != mine[0] {
			return l.refuse4(q), fmt.Sprintf("asked for %v, and the endpoint has %v", wanted, mine[0]), true
		}
		return l.reply4(q, dhcpv4.MessageTypeAck, mine[0]), fmt.Sprintf("gave %v", mine[0]), false
	case dhcpv4.MessageTypeInform:
		return l.inform4(q), "", false
	case dhcpv4.MessageTypeDecline:
		return nil, fmt.Sprintf("declined %v: another machine answers for it on its link", wanted4(q)), true
	}
	return nil, "", false
}

// wanted4 is the address that a client asks for: option 50 in the first request, its own address in a renewal (RFC 2131, table 4).
func wanted4(q *dhcpv4.DHCPv4) netip.Addr {
	for _, ip := range []net.IP{q.RequestedIPAddress(), q.ClientIPAddr} {
		if a, ok := netip.AddrFromSlice(ip); ok && !a.Unmap().IsUnspecified() {
			return a.Unmap()
		}
	}
	return netip.IPv4Unspecified()
}

// reply4 gives an address. The network of the link is the address alone. A client sends everything to the gateway, to which it gets a
// route of its own (RFC 3442); one that does not know such routes takes the gateway from option 3.
func (l Link) reply4(q *dhcpv4.DHCPv4, kind dhcpv4.MessageType, address netip.Addr) *dhcpv4.DHCPv4 {
	a := begin4(q, kind)
	a.YourIPAddr = address.AsSlice()
	a.UpdateOption(dhcpv4.OptIPAddressLeaseTime(lifetime))
	a.UpdateOption(dhcpv4.OptRenewTimeValue(renewAfter))
	a.UpdateOption(dhcpv4.OptRebindingTimeValue(rebindAfter))
	l.settings4(a, q)
	return a
}

// inform4 gives everything but an address, and no times (RFC 2131, section 4.3.5).
func (l Link) inform4(q *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	a := begin4(q, dhcpv4.MessageTypeAck)
	a.ClientIPAddr = q.ClientIPAddr
	l.settings4(a, q)
	return a
}

func (l Link) refuse4(q *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	a := begin4(q, dhcpv4.MessageTypeNak)
	a.SetBroadcast() // the client has no address that it may use
	return a
}

func begin4(q *dhcpv4.DHCPv4, kind dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	a := &dhcpv4.DHCPv4{
		OpCode: dhcpv4.OpcodeBootReply, HWType: q.HWType, TransactionID: q.TransactionID, Flags: q.Flags, ClientHWAddr: q.ClientHWAddr,
		ClientIPAddr: net.IPv4zero, YourIPAddr: net.IPv4zero, ServerIPAddr: net.IPv4zero, GatewayIPAddr: net.IPv4zero, Options: dhcpv4.Options{},
	}
	a.UpdateOption(dhcpv4.OptMessageType(kind))
	a.UpdateOption(dhcpv4.OptServerIdentifier(Gateway.AsSlice()))
	if id := q.Options.Get(dhcpv4.OptionClientIdentifier); id != nil { // RFC 6842
		a.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionClientIdentifier, id))
	}
	return a
}

func (l Link) settings4(a, q *dhcpv4.DHCPv4) {
	routes := dhcpv4.Routes{
		{Dest: &net.IPNet{IP: Gateway.AsSlice(), Mask: net.CIDRMask(32, 32)}, Router: net.IPv4zero},
		{Dest: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, Router: Gateway.AsSlice()},
	}
	a.UpdateOption(dhcpv4.OptSubnetMask(net.CIDRMask(32, 32)))
	a.UpdateOption(dhcpv4.OptClasslessStaticRoute(routes...))
	if q.ParameterRequestList().Has(microsoftRoutes) {
		a.UpdateOption(dhcpv4.OptGeneric(microsoftRoutes, routes.ToBytes()))
	}
	a.UpdateOption(dhcpv4.OptRouter(Gateway.AsSlice()))
	if resolvers := filter(l.Guest.Resolvers, netip.Addr.Is4); len(resolvers) > 0 {
		a.UpdateOption(dhcpv4.OptDNS(ips(resolvers)...))
	}
	if l.Guest.Hostname != "" {
		a.UpdateOption(dhcpv4.OptHostName(l.Guest.Hostname))
	}
	if l.MTU >= 68 && l.MTU <= 65535 { // RFC 2132, section 5.1
		a.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionInterfaceMTU, []byte{byte(l.MTU >> 8), byte(l.MTU)}))
	}
}
