package bpf

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/gopacket/layers"

	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/internal/lab/packet"
)

const (
	broadcastMAC = "\xff\xff\xff\xff\xff\xff"
	aliceMAC     = "\x02\x00\x00\x00\x00\x01"
	otherMAC     = "\x02\x00\x00\x00\x00\x09"
)

// to gives a frame another destination.
func to(mac string, frame []byte) []byte { return slices.Concat([]byte(mac), frame[6:]) }

// bridged makes v1 a port of a bridge with a workload that has alice's addresses. mac says that the endpoint names its MAC.
func (r *router) bridged(in, out uint32, mac bool) layout.Iface {
	r.Helper()
	i := r.workload(r.v1, 5, in, out, alice, alice6)
	i.Flags |= layout.IfaceBridged
	if mac {
		i.Flags |= layout.IfaceCheckMAC
		i.Mac = senderMAC
	}
	r.iface(i)
	return i
}

// bootp makes a DHCP message: op 1 from a client, 2 from a server. chaddr is the client's hardware address.
func bootp(source, dest string, op byte, chaddr string) []byte {
	ports := map[byte][2]layers.UDPPort{1: {68, 67}, 2: {67, 68}}[op]
	body := append([]byte{op, 1, 6, 0}, make([]byte, 24)...)
	body = append(body, chaddr...)
	body = append(body, make([]byte, 236-len(body))...)
	header := packet.Bytes(&layers.UDP{SrcPort: ports[0], DstPort: ports[1], Length: uint16(8 + len(body))})
	return newFrame(source, dest, 17, append(header, body...)).bytes()
}

const everybody = "255.255.255.255"

func TestABridgedWorkloadSends(t *testing.T) {
	r := newRouter(t)
	lldp := to("\x01\x80\xc2\x00\x00\x0e", append(ethernet(senderMAC, 0x88cc), make([]byte, 50)...))
	ipx := append(ethernet(senderMAC, 0x8137), make([]byte, 50)...)
	for _, mac := range []bool{false, true} {
		r.bridged(0, r.allowAll(), mac)
		for _, c := range []struct {
			name   string
			packet []byte
			want   Reason
		}{
			{"own address", udp(alice, bob, 1, 2), PassPolicy},
			{"other address", udp(carol, bob, 1, 2), DropSource},
			{"broadcast", to(broadcastMAC, udp(alice, "10.9.0.255", 1, 2)), PassPolicy},
			{"multicast", to("\x01\x00\x5e\x00\x00\xfb", udp(alice, "224.0.0.251", 5353, 5353)), PassPolicy},
			{"multicast in a frame for one station", udp(alice, "224.0.0.251", 5353, 5353), PassPolicy},
			{"multicast from another address", to(broadcastMAC, udp(carol, everybody, 1, 2)), DropSource},
			{"to its host", udp(alice, here, 1, 2), DropToHost},
			{"gratuitous ARP", to(broadcastMAC, arp(alice, alice)), PassNeighbour},
			{"gratuitous ARP for another", to(broadcastMAC, arp(carol, carol)), DropARP},
			{"solicitation of a neighbour whose MAC it knows", neighbour(alice6, carol6, 135, carol6, 255), PassNeighbour},
			{"advertisement to a neighbour", neighbour(alice6, carol6, 136, alice6, 255), PassNeighbour},
			{"advertisement for another", neighbour(alice6, bob6, 136, carol6, 255), DropNeighbour},
			{"router advertisement", to("\x33\x33\x00\x00\x00\x01", neighbour("fe80::5", "ff02::1", 134, "::", 255)), DropRouter},
			{"redirect", neighbour("fe80::5", carol6, 137, "::", 255), DropRouter},
			{"DHCP request", to(broadcastMAC, bootp("0.0.0.0", everybody, 1, aliceMAC)), PassDHCP},
			{"DHCP request to rebind", to(broadcastMAC, bootp(alice, everybody, 1, aliceMAC)), PassDHCP},
			{"DHCP request to renew, for policy", bootp(alice, bob, 1, aliceMAC), PassPolicy},
			{"DHCP request in another's address", to(broadcastMAC, bootp(carol, everybody, 1, aliceMAC)), DropSource},
			{"DHCP request for another client", to(broadcastMAC, bootp("0.0.0.0", everybody, 1, otherMAC)), map[bool]Reason{true: DropMAC, false: PassDHCP}[mac]},
			{"DHCP answer", to(broadcastMAC, bootp(alice, everybody, 2, otherMAC)), DropDHCPServer},
			{"DHCP answer from another port", udp(alice, carol, 1067, 68), DropDHCPServer},
			{"DHCP, IPv6", to("\x33\x33\x00\x01\x00\x02", udp("fe80::5", "ff02::1:2", 546, 547)), PassDHCP},
			{"DHCP answer, IPv6", udp("fe80::5", "fe80::9", 547, 546), DropDHCPServer},
			{"DHCP, IPv6, in the host's name", udp("fe80::5", bob6, 546, 547), DropDHCP},
			{"multicast DNS from a link-local address", udp("fe80::5", "ff02::fb", 5353, 5353), DropLinkLocal},
			{"LLDP", lldp, DropLinkControl},
			{"IP to an address of link control", to("\x01\x80\xc2\x00\x00\x00", udp(alice, bob, 1, 2)), DropLinkControl},
			{"IPX", ipx, DropNotIP},
		} {
			r.name = c.name
			r.want(r.in(r.v1, c.packet), c.want)
		}
		r.forgetAll()
	}
}

func TestOtherProtocolsOfABridgedWorkload(t *testing.T) {
	r := newRouter(t)
	i := r.bridged(r.allowAll(), r.allowAll(), true)
	i.Flags |= layout.IfaceAllowNotIP
	r.iface(i)
	ipx := append(ethernet(senderMAC, 0x8137), make([]byte, 50)...)
	forged := append(ethernet([6]byte{2, 0, 0, 0, 0, 9}, 0x8137), make([]byte, 50)...)
	r.want(r.in(r.v1, ipx), PassNotIP)
	r.want(r.in(r.v1, forged), DropMAC)
	r.want(r.in(r.v1, to("\x01\x80\xc2\x00\x00\x0e", ipx)), DropLinkControl)
	r.want(r.in(r.v1, append(ethernet(senderMAC, 0x8137, 7), make([]byte, 50)...)), DropTagged)
	r.want(r.out(r.v1, to(aliceMAC, ipx)), PassNotIP)
	r.want(r.out(r.v1, to(broadcastMAC, ipx)), PassNotIP)
	r.want(r.out(r.v1, to(otherMAC, ipx)), DropFlooded)
}

// A workload whose port is a tagged member of a VLAN may use tags; the packets behind them are judged as others. Two tags never pass.
func TestTagsOfABridgedWorkload(t *testing.T) {
	r := newRouter(t)
	i := r.bridged(r.only(7000), r.only(7000), true)
	tagged := func(source, dest string, port uint16, tags ...uint16) []byte {
		f := newFrame(source, dest, 17, udpHeader(1, port))
		f.tags = tags
		return f.bytes()
	}
	tagOf := func(frame []byte) []byte { return slices.Concat(frame[:12], []byte{0x81, 0, 0, 20}, frame[12:]) }
	r.want(r.in(r.v1, tagged(alice, bob, 7000, 20)), DropTagged)
	i.Flags |= layout.IfaceAllowTags
	r.iface(i)
	for _, c := range []struct {
		name   string
		packet []byte
		want   Reason
	}{
		{"allowed", tagged(alice, bob, 7000, 20), PassPolicy},
		{"allowed, IPv6", tagged(alice6, bob6, 7000, 20), PassPolicy},
		{"denied", tagged(alice, bob, 7001, 20), DropPolicy},
		{"from another address", tagged(carol, bob, 7000, 20), DropSource},
		{"two tags", tagged(alice, bob, 7000, 20, 30), DropTagged},
		{"ARP", tagOf(arp(alice, bob)), PassNeighbour},
		{"ARP for another", tagOf(arp(carol, bob)), DropARP},
		{"solicitation", tagOf(neighbour(alice6, carol6, 135, carol6, 255)), PassNeighbour},
		{"advertisement for another", tagOf(neighbour(alice6, bob6, 136, carol6, 255)), DropNeighbour},
		{"DHCP", tagOf(to(broadcastMAC, bootp("0.0.0.0", everybody, 1, aliceMAC))), PassDHCP},
	} {
		r.name = c.name
		r.want(r.in(r.v1, c.packet), c.want)
	}
	r.forgetAll()
	r.want(r.out(r.v1, to(aliceMAC, tagged(bob, alice, 7000, 20))), PassPolicy)
	r.want(r.out(r.v1, to(aliceMAC, tagged(bob, alice, 7001, 20))), DropPolicy)
	r.want(r.out(r.v1, to(aliceMAC, tagged(bob, alice, 7000, 20, 30))), DropTagged)
}

// A bridge hands a port frames that are not for its station. They pass no policy, and no connection has them.
func TestABridgedWorkloadReceives(t *testing.T) {
	r := newRouter(t)
	for _, mac := range []bool{false, true} {
		r.bridged(r.only(7000), 0, mac)
		byMAC := map[bool]Reason{true: DropFlooded, false: PassPolicy}[mac]
		byAddress := map[bool]Reason{true: PassPolicy, false: DropFlooded}[mac]
		for _, c := range []struct {
			name   string
			packet []byte
			want   Reason
		}{
			{"to it", to(aliceMAC, udp(bob, alice, 1, 7000)), PassPolicy},
			{"to it, denied", to(aliceMAC, udp(bob, alice, 1, 7001)), DropPolicy},
			{"to another MAC", to(otherMAC, udp(bob, alice, 2, 7000)), byMAC},
			{"to another address", to(aliceMAC, udp(bob, carol, 3, 7000)), byAddress},
			{"to another station", to(otherMAC, udp(bob, carol, 4, 7000)), DropFlooded},
			{"to another station, IPv6", to(otherMAC, udp(bob6, carol6, 4, 7000)), DropFlooded},
			{"broadcast", to(broadcastMAC, udp(bob, "10.9.0.255", 1, 7000)), PassPolicy},
			{"broadcast, denied", to(broadcastMAC, udp(bob, everybody, 1, 7001)), DropPolicy},
			{"multicast", to("\x33\x33\x00\x00\x00\xfb", udp(bob6, "ff02::fb", 1, 7000)), PassPolicy},
			{"multicast, denied", to("\x33\x33\x00\x00\x00\xfb", udp(bob6, "ff02::fb", 1, 7001)), DropPolicy},
			{"ARP", to(broadcastMAC, arp(bob, alice)), PassNeighbour},
			{"router advertisement", to("\x33\x33\x00\x00\x00\x01", neighbour("fe80::9", "ff02::1", 134, "::", 255)), PassNeighbour},
			{"DHCP answer", to(aliceMAC, bootp(bob, alice, 2, aliceMAC)), PassDHCP},
			{"DHCP answer to all", to(broadcastMAC, bootp(bob, everybody, 2, aliceMAC)), PassDHCP},
			{"DHCP answer to another client", to(broadcastMAC, bootp(bob, everybody, 2, otherMAC)), map[bool]Reason{true: DropPolicy, false: PassDHCP}[mac]},
			{"DHCP question on the port of answers", to(broadcastMAC, udp(bob, everybody, 67, 68)), DropPolicy},
			{"DHCP answer, IPv6", to(aliceMAC, udp("fe80::9", "fe80::5", 547, 546)), PassDHCP},
			{"DHCP answer, IPv6, from afar", to(aliceMAC, udp(bob6, alice6, 547, 546)), DropPolicy},
		} {
			r.name = c.name
			r.want(r.out(r.v1, c.packet), c.want)
		}
		for _, c := range r.connections() {
			if c.Replier.Port() != 7000 || c.Replier.Addr() != netip.MustParseAddr(alice) && (!mac || c.Replier.Addr() != netip.MustParseAddr(carol)) {
				t.Errorf("a connection for a packet that was dropped or for many stations: %+v", c)
			}
		}
		r.forgetAll()
	}
}

// Routed workloads have DHCP as before: their address comes from their endpoint.
func TestARoutedWorkloadHasNoDHCP(t *testing.T) {
	r := newRouter(t)
	r.workload(r.v1, 5, r.denyAll(), r.allowAll(), alice, alice6)
	r.want(r.in(r.v1, to(broadcastMAC, bootp("0.0.0.0", everybody, 1, aliceMAC))), DropDHCP)
	r.want(r.in(r.v1, udp("fe80::5", "ff02::1:2", 546, 547)), DropDHCP)
	r.want(r.out(r.v1, bootp(bob, alice, 2, aliceMAC)), DropPolicy)
}

// A packet passes a port and then the bridge itself, whose host endpoint judges too. Neither takes the leg of the other, and
// the answers pass at both.
func TestAPortAndItsBridgeDoNotContestALeg(t *testing.T) {
	r := newRouter(t)
	i := r.bridged(r.denyAll(), r.allowAll(), true)
	i.Flags |= layout.IfaceToHost
	r.iface(i)
	br0 := r.up
	r.host(br0, map[int]uint32{layout.StageNormalIn: r.allowAll(), layout.StageNormalOut: r.denyAll()})
	question, answer := udp(alice, here, 9, 53), to(aliceMAC, udp(here, alice, 53, 9))
	r.want(r.in(r.v1, question), PassPolicy)
	r.want(r.in(br0, question), PassPolicy)
	for range 3 {
		r.want(r.in(r.v1, question), PassFlow)
		r.want(r.in(br0, question), PassFlow)
		r.want(r.born(br0, answer), PassFlow)
		r.want(r.born(r.v1, answer), PassFlow)
	}
	r.host(br0, map[int]uint32{layout.StageNormalIn: r.denyAll(), layout.StageNormalOut: r.denyAll()})
	r.shared.AdvanceEpoch()
	r.want(r.in(r.v1, question), PassPolicy)
	r.want(r.in(br0, question), DropRevoked)
	r.want(r.born(br0, answer), DropRevoked)
}
