package dhcp

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
)

// serverID is the identifier of every agent, because all give the same answers: a workload that has moved renews with the next one.
var serverID = &dhcpv6.DUIDUUID{UUID: [16]byte{0x6d, 0x61, 0x72, 0x67, 0x61, 0x79, 0x4d, 0x67, 0x80, 0x64, 0x68, 0x63, 0x70, 0x76, 0x36, 0x01}}

// answer6 answers a DHCP message for IPv6. A nil answer is silence; note and problem as for answer4.
func (l Link) answer6(q *dhcpv6.Message) (answer *dhcpv6.Message, note string, problem bool) {
	client := q.Options.ClientID()
	if !l.concerns6(q) || client == nil && q.MessageType != dhcpv6.MessageTypeInformationRequest {
		return nil, "", false
	}
	mine := l.Guest.addresses6()
	if len(mine) == 0 {
		return nil, "asks for an IPv6 address, and the endpoint has none", false // clients ask for both families as a rule
	}
	a := &dhcpv6.Message{TransactionID: q.TransactionID, MessageType: dhcpv6.MessageTypeReply}
	a.AddOption(dhcpv6.OptServerID(serverID))
	if client != nil {
		a.AddOption(dhcpv6.OptClientID(client))
	}
	if resolvers := filter(l.Guest.Resolvers, netip.Addr.Is6); len(resolvers) > 0 {
		a.AddOption(dhcpv6.OptDNS(ips(resolvers)...))
	}
	switch q.MessageType {
	case dhcpv6.MessageTypeSolicit:
		note = fmt.Sprintf("gave %v", mine)
		if q.GetOneOption(dhcpv6.OptionRapidCommit) != nil {
			a.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionRapidCommit})
		} else {
			a.MessageType, note = dhcpv6.MessageTypeAdvertise, fmt.Sprintf("offered %v", mine)
		}
		give6(a, q, mine)
	case dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRebind:
		note = fmt.Sprintf("gave %v", mine)
		give6(a, q, mine)
	case dhcpv6.MessageTypeConfirm:
		status := iana.StatusSuccess
		if others := others6(q, mine); len(others) > 0 {
			status, note, problem = iana.StatusNotOnLink, fmt.Sprintf("has %v, and the endpoint has %v", others, mine), true
		}
		a.AddOption(&dhcpv6.OptStatusCode{StatusCode: status})
	case dhcpv6.MessageTypeDecline:
		note, problem = fmt.Sprintf("declined %v: another machine answers for it on its link", asked6(q)), true
		a.AddOption(&dhcpv6.OptStatusCode{StatusCode: iana.StatusSuccess})
	case dhcpv6.MessageTypeRelease:
		a.AddOption(&dhcpv6.OptStatusCode{StatusCode: iana.StatusSuccess})
	case dhcpv6.MessageTypeInformationRequest:
	default:
		return nil, "", false
	}
	return a, note, problem
}

// concerns6 says whether a message is for this server: it names this one, or none (RFC 8415, section 16).
func (l Link) concerns6(q *dhcpv6.Message) bool {
	server := q.Options.ServerID()
	switch q.MessageType {
	case dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRelease, dhcpv6.MessageTypeDecline:
		return server != nil && bytes.Equal(server.ToBytes(), serverID.ToBytes())
	case dhcpv6.MessageTypeInformationRequest:
		return server == nil || bytes.Equal(server.ToBytes(), serverID.ToBytes())
	}
	return server == nil
}

// give6 gives all addresses in the first association of a message, and none in the others. Addresses that the client has and must not
// have end at once. There are no prefixes to delegate.
func give6(a, q *dhcpv6.Message, mine []netip.Addr) {
	for i, association := range q.Options.IANA() {
		answer := &dhcpv6.OptIANA{IaId: association.IaId}
		if i == 0 {
			answer.T1, answer.T2 = renewAfter, rebindAfter
			for _, address := range mine {
				answer.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: address.AsSlice(), PreferredLifetime: lifetime, ValidLifetime: lifetime})
			}
		} else {
			answer.Options.Add(&dhcpv6.OptStatusCode{StatusCode: iana.StatusNoAddrsAvail})
		}
		for _, has := range association.Options.Addresses() {
			if address, ok := netip.AddrFromSlice(has.IPv6Addr); ok && (i > 0 || !slices.Contains(mine, address)) {
				answer.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: has.IPv6Addr})
			}
		}
		a.AddOption(answer)
	}
	for _, association := range q.Options.IAPD() {
		answer := &dhcpv6.OptIAPD{IaId: association.IaId}
		answer.Options.Add(&dhcpv6.OptStatusCode{StatusCode: iana.StatusNoPrefixAvail})
		a.AddOption(answer)
	}
}

// asked6 returns the addresses that a message names.
func asked6(q *dhcpv6.Message) (list []netip.Addr) {
	for _, association := range q.Options.IANA() {
		for _, has := range association.Options.Addresses() {
			if address, ok := netip.AddrFromSlice(has.IPv6Addr); ok {
				list = append(list, address)
			}
		}
	}
	return list
}

func others6(q *dhcpv6.Message, mine []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(asked6(q), func(a netip.Addr) bool { return slices.Contains(mine, a) })
}
