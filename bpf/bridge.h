/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Ports of a bridge. A bridge also hands a port frames that are not for its station, and frames for many stations at once;
 * and the network behind it has DHCP. See docs/decisions/0019-bridged-endpoints.md.
 */
#pragma once

#include "station.h"

#define DHCP_SERVER 67
#define DHCP_CLIENT 68
#define DHCP6_CLIENT 546
#define DHCP6_SERVER 547

#define BOOTP_REPLY 2
#define BOOTP_CHADDR 28 /* offset of the client's hardware address, RFC 951 */

struct mac {
	__be16 half[3];
};

/* Is this the MAC address of the endpoint? Any is, if the endpoint names none. */
static __always_inline bool is_own_mac(const struct job *job, const struct mac *mac)
{
	return !(job->iface.flags & IFACE_CHECK_MAC) || same_mac(mac, job->iface.mac);
}

/*
 * Does the frame go to many stations: by its MAC address, or by its IP address in a frame for one station? No connection
 * has such a packet: each port that gets it would take the connection for its own.
 */
static __always_inline bool is_for_many(const struct packet *p)
{
	return (p->flags & PACKET_GROUP) || is_multicast(p);
}

/*
 * Is this a frame for another station? A bridge floods frames for stations of which it has not heard yet, and their
 * connections belong to other ports. Without the MAC address of the endpoint, its IP addresses decide.
 */
static __always_inline bool is_for_another(struct __sk_buff *skb, const struct job *job, int parsed)
{
	const struct packet *p = &job->packet;
	struct mac to;

	if (p->flags & PACKET_GROUP)
		return false;
	if (job->iface.flags & IFACE_CHECK_MAC)
		return !READ(skb, 0, to) || !same_mac(&to, job->iface.mac);
	return parsed == PARSED_IP && !is_for_many(p) && !owns(job, p->dst) && !is_link_local(p->dst);
}

/* Does the frame go to one of the addresses of link control: STP, LLDP, LACP, 802.1X (IEEE 802.1Q table 8-1)? */
static __always_inline bool is_link_control_frame(struct __sk_buff *skb)
{
	struct mac to;

	return READ(skb, 0, to) && to.half[0] == bpf_htons(0x0180) && to.half[1] == bpf_htons(0xc200) &&
	       (to.half[2] & bpf_htons(0xfff0)) == 0;
}

/*
 * Checks a frame by its MAC addresses alone, at the port of a bridge. Returns REASON_NONE or the reason to drop it. A
 * function of its own for the verifier.
 */
__noinline int guard_port(struct __sk_buff *skb, struct job *job, int parsed)
{
	if (!job)
		return REASON_DROP_MALFORMED;
	if (job->egress)
		return is_for_another(skb, job, parsed) ? REASON_DROP_FLOODED : REASON_NONE;
	return is_link_control_frame(skb) ? REASON_DROP_LINK_CONTROL : REASON_NONE;
}

/*
 * Is this a DHCP client's message on the link? A client that has an address asks its server, which may be anywhere: that
 * is for policy. It asks every server of the link before it gives the address up.
 */
static __always_inline bool is_dhcp_question(const struct job *job)
{
	const struct packet *p = &job->packet;

	if (p->flags & (PACKET_FIRST_FRAGMENT | PACKET_LATER_FRAGMENT))
		return false;
	if (p->flags & PACKET_IPV6)
		return p->sport == bpf_htons(DHCP6_CLIENT) && p->dport == bpf_htons(DHCP6_SERVER) && is_link_local(p->src) &&
		       !is_host_address(p->src) && is_link_multicast(p->dst);
	return p->sport == bpf_htons(DHCP_CLIENT) && p->dport == bpf_htons(DHCP_SERVER) &&
	       *(u32_alias *)(p->dst + 12) == 0xffffffff && (*(u32_alias *)(p->src + 12) == 0 || owns(job, p->src));
}

/* Is the hardware address in a DHCP message that of the endpoint? */
static __always_inline bool is_of_own_client(struct __sk_buff *skb, const struct job *job)
{
	struct mac client;

	return READ(skb, job->packet.l4 + 8 + BOOTP_CHADDR, client) && is_own_mac(job, &client);
}

/*
 * Checks a datagram of a bridged workload. Returns REASON_NONE if it has nothing to do with DHCP. The workload may be a
 * client, not a server: clients would take their gateway and resolver from it.
 */
static __always_inline int guard_dhcp(struct __sk_buff *skb, const struct job *job)
{
	const struct packet *p = &job->packet;

	if (p->dport == bpf_htons(p->flags & PACKET_IPV6 ? DHCP6_CLIENT : DHCP_CLIENT))
		return REASON_DROP_DHCP_SERVER;
	if (!is_dhcp_question(job))
		return REASON_NONE;
	if (!(p->flags & PACKET_IPV6) && !is_of_own_client(skb, job))
		return REASON_DROP_MAC;
	return REASON_PASS_DHCP;
}

/*
 * Is this the answer of a DHCP server to the workload? It passes without policy, as the question did. A function of its
 * own for the verifier.
 */
__noinline int is_dhcp_answer(struct __sk_buff *skb, struct job *job)
{
	struct packet *p;
	__u8 op;

	if (!job)
		return 0;
	p = &job->packet;
	if (p->flags & (PACKET_FIRST_FRAGMENT | PACKET_LATER_FRAGMENT))
		return 0;
	if (p->flags & PACKET_IPV6)
		return p->sport == bpf_htons(DHCP6_SERVER) && p->dport == bpf_htons(DHCP6_CLIENT) && is_link_local(p->src) &&
		       is_link_local(p->dst);
	if (p->sport != bpf_htons(DHCP_SERVER) || p->dport != bpf_htons(DHCP_CLIENT))
		return 0;
	return READ(skb, p->l4 + 8, op) && op == BOOTP_REPLY && is_of_own_client(skb, job);
}
