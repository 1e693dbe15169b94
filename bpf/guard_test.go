package bpf

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/internal/lab"
)

// allowAll makes a mask that allows everything.
func (r *rig) allowAll() uint32 { return r.mask(rule{id: 1000, action: layout.ActionAllow}) }

// denyAll makes a mask that denies everything.
func (r *rig) denyAll() uint32 { return r.mask(rule{id: 1001, action: layout.ActionDeny}) }

func TestWorkloadSendsOnlyInItsOwnName(t *testing.T) {
	r := newRouter(t)
	r.workload(r.v1, 5, 0, r.allowAll(), alice, alice6)
	group := func(f *frame) []byte { return f.bytes() }
	tagged := newFrame(alice, bob, 17, udpHeader(1, 2))
	tagged.tags = []uint16{5}
	for _, c := range []struct {
		name   string
		packet []byte
		want   Reason
	}{
		{"own address", udp(alice, bob, 1, 2), PassPolicy},
		{"own address, IPv6", udp(alice6, bob6, 1, 2), PassPolicy},
		{"other address", udp("10.9.0.9", bob, 1, 2), DropSource},
		{"other address, IPv6", udp("2001:db8::9", bob6, 1, 2), DropSource},
		{"unspecified address", udp("0.0.0.0", "255.255.255.255", 1, 2), DropSource},
		{"DHCP", udp("0.0.0.0", "255.255.255.255", 68, 67), DropDHCP},
		{"DHCP, IPv6", udp("fe80::1", "ff02::1:2", 546, 547), DropDHCP},
		{"DHCP for another", udp(carol, "255.255.255.255", 68, 67), DropSource},
		{"link-local address", udp("fe80::1", bob6, 1, 2), DropLinkLocal},
		{"multicast DNS", udp("fe80::5", "ff02::fb", 5353, 5353), DropLinkLocal},
		{"VLAN tag", group(tagged), DropTagged},
		{"ARP for itself", arp(alice, "10.9.0.254"), PassNeighbour},
		{"ARP probe for itself", arp("0.0.0.0", alice), PassNeighbour},
		{"ARP for another", arp(carol, alice), DropARP},
		{"ARP probe for another", arp("0.0.0.0", carol), DropARP},
		{"short ARP", arp(alice, carol)[:30], DropARP},
		{"neither IP nor ARP", append(ethernet([6]byte{2, 0, 0, 0, 0, 1}, 0x88cc), make([]byte, 50)...), DropNotIP},
		{"solicitation", neighbour(alice6, "ff02::1:ff00:1", 135, "2001:db8:9::fe", 255), PassNeighbour},
		{"duplicate address detection", neighbour("::", "ff02::1:ff00:1", 135, alice6, 255), PassNeighbour},
		{"detection for another", neighbour("::", "ff02::1:ff00:1", 135, carol6, 255), DropNeighbour},
		{"solicitation that was forwarded", neighbour(alice6, "ff02::1:ff00:1", 135, "2001:db8:9::fe", 64), DropNeighbour},
		{"solicitation from another", neighbour(carol6, "ff02::1:ff00:1", 135, alice6, 255), DropNeighbour},
		{"advertisement", neighbour(alice6, "fe80::1", 136, alice6, 255), PassNeighbour},
		{"advertisement of link-local", neighbour("fe80::5", "fe80::1", 136, "fe80::5", 255), PassNeighbour},
		{"advertisement for another", neighbour(alice6, "fe80::1", 136, carol6, 255), DropNeighbour},
		{"advertisement for the host", neighbour(alice6, "fe80::1", 136, here6, 255), DropNeighbour},
		{"router solicitation", neighbour("fe80::5", "ff02::2", 133, "::", 255), PassNeighbour},
		{"router advertisement", neighbour(alice6, "ff02::1", 134, "::", 255), DropRouter},
		{"redirect", neighbour(alice6, here6, 137, "::", 255), DropRouter},
		{"IPv4 redirect", newFrame(alice, here, 1, icmpHeader(5, 1, 0)).bytes(), DropRouter},
		{"multicast report", neighbour("fe80::5", "ff02::16", 131, "ff02::16", 1), PassNeighbour},
		{"multicast report of version 2", neighbour("fe80::5", "ff02::16", 143, "::", 1), PassNeighbour},
		{"multicast report before it has an address", neighbour("::", "ff02::16", 143, "::", 1), PassNeighbour},
		{"multicast report with another hop limit", neighbour("fe80::5", "ff02::16", 143, "::", 2), DropNeighbour},
		{"multicast report from an address of its own", neighbour(alice6, "ff02::16", 143, "::", 1), DropNeighbour},
		{"multicast report to afar", neighbour(alice6, bob6, 131, "ff02::16", 1), DropNeighbour},
		{"VXLAN", udp(alice, bob, 1, 4789), DropTunnel},
		{"IPIP", newFrame(alice, bob, 4, make([]byte, 40)).bytes(), DropTunnel},
		{"to its host", udp(alice, here, 1, 2), DropToHost},
		{"to its host, IPv6", udp(alice6, here6, 1, 2), DropToHost},
		{"to a multicast group", udp(alice, "224.0.0.251", 5353, 5353), DropToHost},
	} {
		r.name = c.name
		r.want(r.in(r.v1, c.packet), c.want)
	}
}

func TestWorkloadFlagsPermitOnlyTheirKindOfPacket(t *testing.T) {
	r := newRouter(t)
	i := r.workload(r.v1, 5, 0, r.allowAll(), alice)
	i.Flags |= layout.IfaceAllowVXLAN | layout.IfaceAllowIPIP | layout.IfaceToHost
	r.iface(i)
	r.want(r.in(r.v1, udp(alice, bob, 1, 4789)), PassPolicy)
	r.want(r.in(r.v1, newFrame(alice, bob, 4, make([]byte, 40)).bytes()), PassPolicy)
	r.want(r.in(r.v1, udp(alice, here, 1, 2)), PassPolicy)
}

func TestWorkloadKeepsItsMAC(t *testing.T) {
	r := newRouter(t)
	i := r.workload(r.v1, 5, 0, r.allowAll(), alice)
	i.Flags |= layout.IfaceCheckMAC
	i.Mac = [6]uint8{2, 0, 0, 0, 0, 1}
	r.iface(i)
	r.want(r.in(r.v1, udp(alice, bob, 1, 2)), PassPolicy)
	r.want(r.in(r.v1, arp(alice, carol)), PassNeighbour)
	forged := newFrame(alice, bob, 17, udpHeader(1, 2))
	forged.mac[5] = 9
	r.want(r.in(r.v1, forged.bytes()), DropMAC)
	lying := arp(alice, carol)
	lying[14+8+5] = 9 // the sender's address within
	r.want(r.in(r.v1, lying), DropARP)
}

func TestWorkloadIsClosedWithoutPolicy(t *testing.T) {
	r := newRouter(t)
	r.want(r.in(r.v1, udp(alice, bob, 1, 2)), DropNoInterface)
	i := r.workload(r.v1, 5, 0, 0, alice)
	r.want(r.in(r.v1, udp(alice, bob, 1, 2)), DropNoPolicy)
	r.want(r.out(r.v1, udp(bob, alice, 1, 2)), DropNoPolicy)
	i.Mask[layout.StageNormalOut] = r.allowAll()
	i.Mask[layout.StageNormalIn] = i.Mask[layout.StageNormalOut]
	r.iface(i)
	r.want(r.in(r.v1, udp(alice, bob, 1, 2)), PassPolicy)
	i.Flags |= layout.IfaceClosed
	r.iface(i)
	r.want(r.in(r.v1, udp(alice, bob, 1, 2)), DropClosed)
	r.want(r.in(r.v1, arp(alice, carol)), DropClosed)
}

func TestPacketsToWorkloads(t *testing.T) {
	r := newRouter(t)
	r.workload(r.v1, 5, r.denyAll(), 0, alice)
	r.want(r.born(r.v1, arp(here, alice)), PassNeighbour)
	r.want(r.born(r.v1, neighbour("fe80::1", "ff02::1:ff00:1", 135, alice6, 255)), PassNeighbour)
	r.want(r.born(r.v1, udp(here, alice, 1, 2)), PassFromHost)
	r.want(r.in(r.v1, udp(alice, here, 2, 1)), PassFlow)
	r.want(r.out(r.v1, udp(bob, alice, 1, 2)), DropPolicy)
	r.want(r.out(r.v1, append(ethernet([6]byte{2}, 0x88cc), make([]byte, 50)...)), DropNotIP)
}

func TestPassedPacketsOfWorkloadsAreMarked(t *testing.T) {
	r := newRouter(t)
	r.shared.Settings.Mark = 0x40000
	r.workload(r.v1, 5, r.allowAll(), r.allowAll(), alice)
	for _, p := range [][]byte{udp(alice, bob, 1, 2), udp(alice, bob, 1, 2), arp(alice, carol)} {
		if o := r.in(r.v1, p); !o.Allowed || o.Mark != 0x40000 {
			t.Errorf("%+v, want it marked", o)
		}
	}
	if o := r.out(r.v1, udp(bob, alice, 1, 9)); !o.Allowed || o.Mark != 0 {
		t.Errorf("%+v, want it without mark", o)
	}
	if o := r.in(r.v1, udp(carol, bob, 1, 2)); o.Allowed || o.Mark != 0 {
		t.Errorf("%+v, want it without mark", o)
	}
}

// extensions makes n destination option headers.
func extensions(n int, last uint8) []byte {
	var b []byte
	for i := range n {
		next := uint8(60)
		if i == n-1 {
			next = last
		}
		b = append(b, next, 0, 1, 4, 0, 0, 0, 0)
	}
	return b
}

func TestParse(t *testing.T) {
	r := newRouter(t)
	// One rule for each kind of packet: the deciding rule shows how the packet was read.
	r.workload(r.v1, 5, 0, r.mask(
		rule{id: 1, action: layout.ActionAllow, service: layout.ServiceTCP + 80 + 1},
		rule{id: 2, action: layout.ActionAllow, service: layout.ServiceUDP + 80 + 1},
		rule{id: 3, action: layout.ActionAllow, service: layout.ServiceSCTP + 80 + 1},
		rule{id: 4, action: layout.ActionAllow, service: layout.ServiceUDPLite + 80 + 1},
		rule{id: 5, action: layout.ActionAllow, service: layout.ServiceICMP + 8*256 + 1},
		rule{id: 6, action: layout.ActionAllow, service: layout.ServiceICMPv6 + 128*256 + 1},
		rule{id: 7, action: layout.ActionAllow, service: layout.ServiceOther + 47 + 1},
		rule{id: 8, action: layout.ActionDeny},
	), alice, alice6)
	with := func(f *frame, change func(*frame)) []byte { change(f); return f.bytes() }
	chain := func(n int) []byte {
		return with(newFrame(alice6, bob6, 17, udpHeader(uint16(10+n), 80)), func(f *frame) { f.first, f.headers = 60, extensions(n, 17) })
	}
	shortened := udp(alice, bob, 9, 80)
	shortened[14] = 0x44
	mapped := udp("::ffff:10.9.0.1", bob6, 1, 80)
	mappedTo := udp(alice6, "::ffff:10.9.0.1", 1, 80)
	for _, c := range []struct {
		name   string
		packet []byte
		want   Reason
		rule   uint64
	}{
		{"TCP", tcp(alice, bob, 9, 80, "S", 1, 0), PassPolicy, 1},
		{"TCP over IPv6", tcp(alice6, bob6, 9, 80, "S", 1, 0), PassPolicy, 1},
		{"UDP", udp(alice, bob, 9, 80), PassPolicy, 2},
		{"SCTP", newFrame(alice, bob, 132, udpHeader(9, 80)).bytes(), PassPolicy, 3},
		{"UDPLite", newFrame(alice, bob, 136, udpHeader(9, 80)).bytes(), PassPolicy, 4},
		{"ping", echo(alice, bob, false, 3), PassPolicy, 5},
		{"ping, IPv6", echo(alice6, bob6, false, 3), PassPolicy, 6},
		{"GRE", newFrame(alice, bob, 47, make([]byte, 20)).bytes(), PassPolicy, 7},
		{"other port", udp(alice, bob, 9, 81), DropPolicy, 8},
		{"ICMP of IPv6 in IPv4", newFrame(alice, bob, 58, icmpHeader(128, 0, 1)).bytes(), PassPolicy, 6},
		{"IPv4 options", with(newFrame(alice, bob, 17, udpHeader(10, 80)), func(f *frame) { f.options = make([]byte, 40) }), PassPolicy, 2},
		{"one extension header", chain(1), PassPolicy, 2},
		{"eight extension headers", chain(8), PassPolicy, 2},
		{"nine extension headers", chain(9), DropHeaderChain, 0},
		{"no room for TCP", newFrame(alice, bob, 6, make([]byte, 19)).bytes(), DropMalformed, 0},
		{"no room for UDP", newFrame(alice, bob, 17, make([]byte, 7)).bytes(), DropMalformed, 0},
		{"no room for IPv4 options", with(newFrame(alice, bob, 17, nil), func(f *frame) { f.options = make([]byte, 40) })[:40], DropMalformed, 0},
		{"header shorter than IPv4", shortened, DropMalformed, 0},
		{"length beyond the packet", with(newFrame(alice, bob, 17, udpHeader(9, 80)), func(f *frame) { f.totalDelta = 1 }), DropMalformed, 0},
		{"length beyond the packet, IPv6", with(newFrame(alice6, bob6, 17, udpHeader(9, 80)), func(f *frame) { f.totalDelta = 1 }), DropMalformed, 0},
		{"mapped source", mapped, DropMapped, 0},
		{"mapped destination", mappedTo, DropMapped, 0},
		{"later fragment", with(newFrame(alice, bob, 17, udpHeader(9, 80)), func(f *frame) { f.offset = 100 }), DropFragment, 0},
		{"tiny first fragment", with(newFrame(alice, bob, 6, make([]byte, 16)), func(f *frame) { f.more = true }), DropTinyFragment, 0},
		{"TCP fragment at 1", with(newFrame(alice, bob, 6, make([]byte, 40)), func(f *frame) { f.offset = 1 }), DropTinyFragment, 0},
	} {
		r.name = c.name
		o := r.in(r.v1, c.packet)
		r.want(o, c.want)
		if o.Rule != c.rule {
			t.Errorf("%s: rule %d decided, want %d", c.name, o.Rule, c.rule)
		}
	}
}

func TestListenerMessagesToAWorkloadComeFromTheLink(t *testing.T) {
	r := newRouter(t)
	r.workload(r.v1, 5, r.denyAll(), 0, alice6)
	for _, kind := range []uint8{130, 131, 132, 143} {
		for _, c := range []struct {
			name         string
			source, dest string
			hops         uint8
			want         Reason
		}{
			{"on the link", "fe80::9", "ff02::1", 1, PassNeighbour},
			{"on the link, of nobody yet", "::", "ff02::16", 1, PassNeighbour},
			{"forwarded", bob6, alice6, 1, DropPolicy},
			{"forwarded to a group", bob6, "ff02::1", 1, DropPolicy},
			{"forwarded with a source of the link", "fe80::9", alice6, 1, DropPolicy},
			{"forwarded to a group of the site with a source of the link", "fe80::9", "ff05::2", 1, DropPolicy},
			{"another hop limit", "fe80::9", "ff02::1", 2, DropPolicy},
		} {
			r.name = fmt.Sprintf("%s, type %d", c.name, kind)
			r.want(r.out(r.v1, neighbour(c.source, c.dest, kind, "ff05::2", c.hops)), c.want)
		}
		r.name = "born here"
		r.want(r.born(r.v1, neighbour("fe80::1", "ff05::2", kind, "ff05::2", 1)), PassNeighbour)
	}
}

// TestForwardedListenerMessagesAreJudged sends them through the kernel, so that the hop limit is used up on the way.
func TestForwardedListenerMessagesAreJudged(t *testing.T) {
	r := newRouter(t)
	a := r.wire(t, "v1", alice, alice6)
	c := r.wire(t, "v2", carol, carol6)
	b := r.wire(t, "up", bob, bob6)
	r.workload(r.v1, 5, r.only(7000), r.allowAll(), alice6)
	r.workload(r.v2, 6, r.denyAll(), r.allowAll(), carol6)
	r.attached(t, r.v1, r.v2)
	for source, from := range map[string]*lab.Wire{bob6: b, carol6: c} {
		for _, kind := range []uint8{130, 131, 132, 143} {
			from.Send(neighbour(source, alice6, kind, "ff05::2", 2))
		}
		from.Send(newFrame(source, alice6, 17, append(append16(nil, 900, 7000, 11, 0), "end"...)).bytes())
		for _, frame := range a.Until("end") {
			if protocol(58, 0, 130)(frame) || protocol(58, 0, 131)(frame) || protocol(58, 0, 132)(frame) ||
				protocol(58, 0, 143)(frame) && bytes.Contains(frame, as16(netip.MustParseAddr(source))) {
				t.Errorf("from %s: arrived in spite of policy: %x", source, frame)
			}
		}
	}
}

func TestAnswersFromTunnelPortsAreNoTunnels(t *testing.T) {
	r := newRouter(t)
	r.workload(r.v1, 5, r.allowAll(), r.allowAll(), alice, alice6)
	for _, ends := range [][2]string{{alice, bob}, {alice6, bob6}} {
		r.want(r.out(r.v1, udp(ends[1], ends[0], 4789, 53)), PassPolicy)
		r.want(r.in(r.v1, udp(ends[0], ends[1], 53, 4789)), PassFlow)
		r.want(r.in(r.v1, udp(ends[0], ends[1], 54, 4789)), DropTunnel)
	}
	ipip := func(source, dest string) []byte { return newFrame(source, dest, 4, make([]byte, 40)).bytes() }
	r.want(r.out(r.v1, ipip(bob, alice)), PassPolicy)
	r.want(r.in(r.v1, ipip(alice, bob)), PassFlow)
	r.want(r.in(r.v1, ipip(alice, "192.0.2.6")), DropTunnel)
}

func TestATunnelEndsWhenItIsNoLongerAllowed(t *testing.T) {
	r := newRouter(t)
	i := r.workload(r.v1, 5, 0, r.allowAll(), alice)
	i.Flags |= layout.IfaceAllowVXLAN
	r.iface(i)
	r.want(r.in(r.v1, udp(alice, bob, 1, 4789)), PassPolicy)
	i.Flags &^= layout.IfaceAllowVXLAN
	r.iface(i)
	r.shared.AdvanceEpoch()
	r.want(r.in(r.v1, udp(alice, bob, 1, 4789)), DropRevoked)
}

// A workload may send from the networks of its endpoint besides its addresses. It cannot take an address of its host, nor one that is no
// machine's, whatever these networks contain.
func TestWorkloadSendsFromItsNetworks(t *testing.T) {
	r := newRouter(t)
	i := r.workload(r.v1, 5, 0, r.allowAll(), alice, alice6)
	nets := func(index uint32, list ...string) {
		for _, n := range list {
			must(r, r.SourceNets.Put(SourceNetKeyOf(index, netip.MustParsePrefix(n)), 1))
		}
	}
	nets(r.v1, "192.0.2.8/29", "2001:db8:77::/64")
	nets(r.v2, "198.51.100.0/24")
	r.name = "without the flag"
	r.want(r.in(r.v1, udp("192.0.2.9", bob, 1, 2)), DropSource)
	i.Flags |= layout.IfaceSourceNets
	r.iface(i)
	for _, c := range []struct {
		name   string
		packet []byte
		want   Reason
	}{
		{"in the network", udp("192.0.2.9", bob, 1, 2), PassPolicy},
		{"its own address", udp(alice, bob, 1, 2), PassPolicy},
		{"beside the network", udp("192.0.2.16", bob, 1, 2), DropSource},
		{"in the network, IPv6", udp("2001:db8:77::9", bob6, 1, 2), PassPolicy},
		{"beside the network, IPv6", udp("2001:db8:78::9", bob6, 1, 2), DropSource},
		{"a network of another workload", udp("198.51.100.9", bob, 1, 2), DropSource},
		{"ARP for an address in the network", arp("192.0.2.9", "192.0.2.9"), PassNeighbour},
		{"ARP beside the network", arp("192.0.2.17", "192.0.2.17"), DropARP},
		{"advertisement for an address in the network", neighbour("2001:db8:77::9", "fe80::1", 136, "2001:db8:77::9", 255), PassNeighbour},
	} {
		r.name = c.name
		r.want(r.in(r.v1, c.packet), c.want)
	}
	nets(r.v1, "0.0.0.0/0", "::/0")
	for _, c := range []struct {
		name   string
		packet []byte
		want   Reason
	}{
		{"any address", udp("203.0.113.9", bob, 1, 2), PassPolicy},
		{"any address, IPv6", udp("2001:db8:9999::9", bob6, 1, 2), PassPolicy},
		{"the host's", udp(here, bob, 1, 2), DropSource},
		{"the host's, IPv6", udp(here6, bob6, 1, 2), DropSource},
		{"ARP for the host's", arp(here, here), DropARP},
		{"unspecified", udp("0.0.0.0", bob, 1, 2), DropSource},
		{"loopback", udp("127.0.0.1", bob, 1, 2), DropSource},
		{"loopback, IPv6", udp("::1", bob6, 1, 2), DropSource},
		{"unspecified, IPv6", udp("::", bob6, 1, 2), DropSource},
		{"link-local", udp("169.254.7.7", bob, 1, 2), DropSource},
		{"link-local, IPv6", udp("fe80::77", bob6, 1, 2), DropLinkLocal},
		{"multicast", udp("224.0.0.1", bob, 1, 2), DropSource},
		{"broadcast", udp("255.255.255.255", bob, 1, 2), DropSource},
		{"multicast, IPv6", udp("ff02::1", bob6, 1, 2), DropSource},
	} {
		r.name = "everything allowed: " + c.name
		r.want(r.in(r.v1, c.packet), c.want)
	}
}
