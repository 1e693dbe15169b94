package dhcp

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
)

var (
	guestMAC = net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}
	hostMAC  = net.HardwareAddr{0xee, 0xee, 0, 0, 0, 1}
	otherMAC = net.HardwareAddr{0x52, 0x54, 0, 0, 0, 9}
	addr     = netip.MustParseAddr
)

func link() Link {
	return Link{
		Name: "tap0", MAC: hostMAC, LinkLocal: addr("fe80::1"), MTU: 1450,
		Guest: Guest{
			Addresses: []netip.Addr{addr("10.65.0.1"), addr("fd00:65::1"), addr("fd00:65::2")}, MAC: guestMAC, Hostname: "web-1",
			Resolvers: []netip.Addr{addr("192.0.2.53"), addr("2001:db8::53")},
		},
	}
}

// frameOf makes a frame as a guest sends it.
func frameOf(t testing.TB, from, to string, fromPort, toPort uint16, message []byte) []byte {
	t.Helper()
	ethernet := &layers.Ethernet{SrcMAC: guestMAC, DstMAC: broadcast(), EthernetType: layers.EthernetTypeIPv4}
	udp := &layers.UDP{SrcPort: layers.UDPPort(fromPort), DstPort: layers.UDPPort(toPort)}
	var network gopacket.SerializableLayer
	if src, dst := net.ParseIP(from), net.ParseIP(to); src.To4() != nil {
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: src, DstIP: dst}
		network = ip
		must(t, udp.SetNetworkLayerForChecksum(ip))
	} else {
		ip := &layers.IPv6{Version: 6, HopLimit: 1, NextHeader: layers.IPProtocolUDP, SrcIP: src, DstIP: dst}
		ethernet.EthernetType = layers.EthernetTypeIPv6
		network = ip
		must(t, udp.SetNetworkLayerForChecksum(ip))
	}
	buffer := gopacket.NewSerializeBuffer()
	must(t, gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ethernet, network, udp, gopacket.Payload(message)))
	return buffer.Bytes()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// opened is an answer in its layers, with its checksums verified.
type opened struct {
	ethernet *layers.Ethernet
	network  gopacket.NetworkLayer
	hops     uint8
	payload  []byte
}

func open(t testing.TB, frame []byte) (o opened) {
	t.Helper()
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	if e := p.ErrorLayer(); e != nil {
		t.Fatal(e.Error())
	}
	o.ethernet, o.network = p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet), p.NetworkLayer()
	transport := slices.Concat(o.network.LayerPayload())
	var pseudoSum uint32
	switch ip := o.network.(type) {
	case *layers.IPv4:
		if checksum(0, ip.Contents) != 0 {
			t.Error("the checksum of the IPv4 header is wrong")
		}
		o.hops, pseudoSum = ip.TTL, add(add(uint32(ip.Protocol)+uint32(len(transport)), ip.SrcIP.To4()), ip.DstIP.To4())
	case *layers.IPv6:
		o.hops, pseudoSum = ip.HopLimit, add(add(uint32(ip.NextHeader)+uint32(len(transport)), ip.SrcIP), ip.DstIP)
	}
	if checksum(pseudoSum, transport) != 0 {
		t.Error("the checksum of the transport is wrong")
	}
	o.payload = transport
	if p.Layer(layers.LayerTypeUDP) != nil {
		o.payload = transport[udpSize:]
	}
	return o
}

// ask4 sends a DHCP message and reads the answer; nil: silence.
func ask4(t testing.TB, l Link, from, to string, q *dhcpv4.DHCPv4) (*dhcpv4.DHCPv4, opened, Answer) {
	t.Helper()
	a := l.Answer(frameOf(t, from, to, 68, 67, q.ToBytes()))
	if a.Frame == nil {
		return nil, opened{}, a
	}
	o := open(t, a.Frame)
	reply, err := dhcpv4.FromBytes(o.payload)
	must(t, err)
	return reply, o, a
}

func TestAGuestGetsItsAddressByDHCP(t *testing.T) {
	discover, err := dhcpv4.NewDiscovery(guestMAC)
	must(t, err)
	discover.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionClientIdentifier, []byte("me")))
	offer, o, _ := ask4(t, link(), "0.0.0.0", "255.255.255.255", discover)
	if offer == nil || offer.MessageType() != dhcpv4.MessageTypeOffer || offer.YourIPAddr.String() != "10.65.0.1" {
		t.Fatalf("the offer is %v", offer)
	}
	if !slices.Equal(o.ethernet.SrcMAC, hostMAC) || o.network.NetworkFlow().Src().String() != "169.254.1.1" {
		t.Errorf("the offer is from %v %v", o.ethernet.SrcMAC, o.network.NetworkFlow())
	}
	request, err := dhcpv4.NewRequestFromOffer(offer)
	must(t, err)
	ack, _, answer := ask4(t, link(), "0.0.0.0", "255.255.255.255", request)
	if ack.MessageType() != dhcpv4.MessageTypeAck || answer.Note != "gave 10.65.0.1" || answer.Problem {
		t.Fatalf("the answer is %v, %+v", ack, answer)
	}
	if string(offer.Options.Get(dhcpv4.OptionClientIdentifier)) != "me" {
		t.Error("the client's identifier does not come back")
	}
	for name, pair := range map[string][2]string{
		"mask":     {net.IP(ack.SubnetMask()).String(), "255.255.255.255"},
		"routers":  {ack.Router()[0].String(), "169.254.1.1"},
		"routes":   {ack.ClasslessStaticRoute()[0].String() + "; " + ack.ClasslessStaticRoute()[1].String(), "route to 169.254.1.1/32 via 0.0.0.0; route to 0.0.0.0/0 via 169.254.1.1"},
		"hostname": {ack.HostName(), "web-1"},
		"dns":      {ack.DNS()[0].String(), "192.0.2.53"},
		"lease":    {ack.IPAddressLeaseTime(0).String(), "24h0m0s"},
		"renewal":  {ack.IPAddressRenewalTime(0).String(), "30m0s"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: %s, want %s", name, pair[0], pair[1])
		}
	}
	if mtu := ack.Options.Get(dhcpv4.OptionInterfaceMTU); len(mtu) != 2 || binary.BigEndian.Uint16(mtu) != 1450 {
		t.Errorf("the MTU is %v", mtu)
	}
	renewal, err := dhcpv4.NewRenewFromAck(ack)
	must(t, err)
	if again, o, _ := ask4(t, link(), "10.65.0.1", "169.254.1.1", renewal); again.MessageType() != dhcpv4.MessageTypeAck ||
		o.network.NetworkFlow().Dst().String() != "10.65.0.1" || !slices.Equal(o.ethernet.DstMAC, guestMAC) {
		t.Errorf("the renewal is answered with %v to %v", again, o.network.NetworkFlow())
	}
}

func TestQuestionsThatGetARefusalOrSilence(t *testing.T) {
	message := func(kind dhcpv4.MessageType, change ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
		q, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithHwAddr(guestMAC), dhcpv4.WithMessageType(kind)}, change...)...)
		must(t, err)
		return q
	}
	wants := func(a string) dhcpv4.Modifier {
		return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.ParseIP(a)))
	}
	without := link()
	without.Guest.Addresses = nil
	for _, c := range []struct {
		name    string
		l       Link
		q       *dhcpv4.DHCPv4
		want    dhcpv4.MessageType // none: silence
		note    string
		problem bool
	}{
		{"another address", link(), message(dhcpv4.MessageTypeRequest, wants("10.9.9.9")), dhcpv4.MessageTypeNak, "asked for 10.9.9.9, and the endpoint has 10.65.0.1", true},
		{"no address named", link(), message(dhcpv4.MessageTypeRequest), dhcpv4.MessageTypeNak, "asked for 0.0.0.0", true},
		{"another server", link(), message(dhcpv4.MessageTypeRequest, wants("10.65.0.1"), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(192, 0, 2, 1)))), 0, "", false},
		{"another MAC", link(), message(dhcpv4.MessageTypeDiscover, dhcpv4.WithHwAddr(otherMAC)), 0, "52:54:00:00:00:09 asks for an address, but the endpoint has the MAC address 52:54:00:00:00:01", true},
		{"a relay", link(), message(dhcpv4.MessageTypeDiscover, dhcpv4.WithRelay(net.IPv4(192, 0, 2, 1))), 0, "", false},
		{"a server's message", link(), message(dhcpv4.MessageTypeOffer), 0, "", false},
		{"decline", link(), message(dhcpv4.MessageTypeDecline, wants("10.65.0.1")), 0, "declined 10.65.0.1", true},
		{"release", link(), message(dhcpv4.MessageTypeRelease), 0, "", false},
		{"an endpoint without an address", without, message(dhcpv4.MessageTypeDiscover), 0, "the endpoint has none", true},
	} {
		reply, o, a := ask4(t, c.l, "0.0.0.0", "255.255.255.255", c.q)
		got := dhcpv4.MessageType(0)
		if reply != nil {
			got = reply.MessageType()
		}
		if got != c.want || !strings.Contains(a.Note, c.note) || c.note == "" && a.Note != "" || a.Problem != c.problem {
			t.Errorf("%s: %v, %+v", c.name, got, a)
		}
		if got == dhcpv4.MessageTypeNak && o.network.NetworkFlow().Dst().String() != "255.255.255.255" {
			t.Errorf("%s: the refusal goes to %v", c.name, o.network.NetworkFlow().Dst())
		}
	}
	inform, _, _ := ask4(t, link(), "10.65.0.1", "169.254.1.1", message(dhcpv4.MessageTypeInform, dhcpv4.WithClientIP(net.IPv4(10, 65, 0, 1))))
	if inform == nil || inform.MessageType() != dhcpv4.MessageTypeAck || inform.DNS()[0].String() != "192.0.2.53" || inform.IPAddressLeaseTime(0) != 0 || !inform.YourIPAddr.IsUnspecified() {
		t.Errorf("a guest that has its address gets %v", inform)
	}
}

// ask6 sends a DHCPv6 message and reads the answer; nil: silence.
func ask6(t testing.TB, l Link, q *dhcpv6.Message) (*dhcpv6.Message, Answer) {
	t.Helper()
	a := l.Answer(frameOf(t, "fe80::5", "ff02::1:2", 546, 547, q.ToBytes()))
	if a.Frame == nil {
		return nil, a
	}
	o := open(t, a.Frame)
	if flow := o.network.NetworkFlow(); flow.Src().String() != "fe80::1" || flow.Dst().String() != "fe80::5" {
		t.Errorf("the answer goes %v", flow)
	}
	reply, err := dhcpv6.MessageFromBytes(o.payload)
	must(t, err)
	return reply, a
}

// given lists the addresses of the first association that are in force.
func given(m *dhcpv6.Message) (list []string) {
	for _, a := range m.Options.OneIANA().Options.Addresses() {
		if a.ValidLifetime > 0 {
			list = append(list, a.IPv6Addr.String())
		}
	}
	return list
}

func TestAGuestGetsItsAddressesByDHCPv6(t *testing.T) {
	solicit, err := dhcpv6.NewSolicit(guestMAC)
	must(t, err)
	advertise, _ := ask6(t, link(), solicit)
	if advertise == nil || advertise.MessageType != dhcpv6.MessageTypeAdvertise || !slices.Equal(given(advertise), []string{"fd00:65::1", "fd00:65::2"}) {
		t.Fatalf("the advertisement is %v", advertise)
	}
	request, err := dhcpv6.NewRequestFromAdvertise(advertise)
	must(t, err)
	reply, a := ask6(t, link(), request)
	if reply == nil || reply.MessageType != dhcpv6.MessageTypeReply || !slices.Equal(given(reply), []string{"fd00:65::1", "fd00:65::2"}) || a.Note != "gave [fd00:65::1 fd00:65::2]" {
		t.Fatalf("the reply is %v, %+v", reply, a)
	}
	if dns := reply.Options.DNS(); len(dns) != 1 || dns[0].String() != "2001:db8::53" {
		t.Errorf("the resolvers are %v", dns)
	}
	dhcpv6.WithRapidCommit(solicit)
	if reply, _ := ask6(t, link(), solicit); reply.MessageType != dhcpv6.MessageTypeReply || reply.GetOneOption(dhcpv6.OptionRapidCommit) == nil {
		t.Errorf("a solicitation with rapid commit gets %v", reply)
	}

	// The endpoint has another address now: the old one ends with the renewal.
	moved := link()
	moved.Guest.Addresses = []netip.Addr{addr("fd00:65::7")}
	renew := *request
	renew.MessageType = dhcpv6.MessageTypeRenew
	reply, _ = ask6(t, moved, &renew)
	ended := 0
	for _, a := range reply.Options.OneIANA().Options.Addresses() {
		if a.ValidLifetime == 0 && a.PreferredLifetime == 0 {
			ended++
		}
	}
	if !slices.Equal(given(reply), []string{"fd00:65::7"}) || ended != 2 {
		t.Errorf("the renewal gets %v", reply.Options.OneIANA())
	}
	confirm := &dhcpv6.Message{MessageType: dhcpv6.MessageTypeConfirm, TransactionID: solicit.TransactionID}
	confirm.AddOption(dhcpv6.OptClientID(request.Options.ClientID()))
	confirm.AddOption(request.Options.OneIANA())
	if reply, _ := ask6(t, link(), confirm); reply.Options.Status().StatusCode != iana.StatusSuccess {
		t.Errorf("the right addresses are confirmed with %v", reply)
	}
	if reply, a := ask6(t, moved, confirm); reply.Options.Status().StatusCode != iana.StatusNotOnLink || !a.Problem {
		t.Errorf("former addresses are confirmed with %v", reply)
	}
	elsewhere := *request
	elsewhere.Options = dhcpv6.MessageOptions{Options: slices.Clone(request.Options.Options)}
	elsewhere.UpdateOption(dhcpv6.OptServerID(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: otherMAC}))
	if reply, _ := ask6(t, link(), &elsewhere); reply != nil {
		t.Errorf("a request to another server gets %v", reply)
	}
	nothing := link()
	nothing.LinkLocal = netip.Addr{}
	if reply, _ := ask6(t, nothing, request); reply != nil {
		t.Errorf("a host without a link-local address answers %v", reply)
	}
}

func TestASecondAssociationAndAPrefixGetNothing(t *testing.T) {
	solicit, err := dhcpv6.NewSolicit(guestMAC)
	must(t, err)
	solicit.AddOption(&dhcpv6.OptIANA{IaId: [4]byte{9}})
	solicit.AddOption(&dhcpv6.OptIAPD{IaId: [4]byte{8}})
	reply, _ := ask6(t, link(), solicit)
	associations := reply.Options.IANA()
	if len(associations) != 2 || associations[1].Options.Status().StatusCode != iana.StatusNoAddrsAvail {
		t.Errorf("the associations are %v", associations)
	}
	if prefixes := reply.Options.IAPD(); len(prefixes) != 1 || prefixes[0].Options.Status().StatusCode != iana.StatusNoPrefixAvail {
		t.Errorf("the prefixes are %v", prefixes)
	}
}

func TestARouterSolicitationIsAnswered(t *testing.T) {
	frame := frameOf(t, "fe80::5", "ff02::2", 1, 1, make([]byte, 8))
	frame[14+6], frame[14+40] = protoICMPv6, routerSolicitation
	a := link().Answer(frame)
	o := open(t, a.Frame)
	if o.hops != 255 || !slices.Equal(o.ethernet.DstMAC, guestMAC) || o.network.NetworkFlow().String() != "fe80::1->ff02::1" {
		t.Errorf("the advertisement goes %v, %v, hop limit %d", o.ethernet.DstMAC, o.network.NetworkFlow(), o.hops)
	}
	// RFC 4861, section 4.2: type, code, checksum, hop limit, flags M and O, lifetime.
	if o.payload[0] != 134 || o.payload[4] != 64 || o.payload[5] != 0xc0 || binary.BigEndian.Uint16(o.payload[6:]) != 65535 {
		t.Errorf("the advertisement is % x", o.payload)
	}
	alone := link()
	alone.Guest.Addresses = []netip.Addr{addr("10.65.0.1")}
	if a := alone.Answer(frame); a.Frame != nil {
		t.Error("a guest without an IPv6 address hears of a router")
	}
}

// A hostile guest must not be able to end the agent, nor to get an answer that is no frame for it.
func FuzzAnswer(f *testing.F) {
	discover, _ := dhcpv4.NewDiscovery(guestMAC)
	solicit, _ := dhcpv6.NewSolicit(guestMAC)
	f.Add(frameOf(f, "0.0.0.0", "255.255.255.255", 68, 67, discover.ToBytes()))
	f.Add(frameOf(f, "fe80::5", "ff02::1:2", 546, 547, solicit.ToBytes()))
	f.Fuzz(func(t *testing.T, frame []byte) {
		if a := link().Answer(frame); a.Frame != nil {
			open(t, a.Frame)
		}
	})
}

func TestTheServerWarnsOnceAndForgetsGuestsThatHaveGone(t *testing.T) {
	s := &Server{log: quiet(), socket: -1, links: map[int]Link{}, events: map[int]Event{}}
	l := link()
	l.Guest.Addresses = nil
	s.Serve(map[int]Link{7: l})
	discover, err := dhcpv4.NewDiscovery(guestMAC)
	must(t, err)
	s.Answer(7, frameOf(t, "0.0.0.0", "255.255.255.255", 68, 67, discover.ToBytes()), time.Unix(1000, 0))
	if e := s.Events()[7]; !e.Problem || e.When != time.Unix(1000, 0) {
		t.Errorf("the last word is %+v", e)
	}
	s.Answer(8, []byte("nobody's"), time.Now())
	s.Serve(nil)
	if len(s.Events()) != 0 {
		t.Errorf("words with guests that have gone: %v", s.Events())
	}
}
