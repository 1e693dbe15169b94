/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Limits of all workloads, before any policy: a workload sends nothing in another's name. */
#pragma once

#include "bridge.h"

#define VXLAN_PORT 4789

struct arp {
	__be16 half[4];	   /* hardware type, protocol type, lengths, operation */
	__be16 sender_mac[3];
	__be16 sender[2];
	__be16 target_mac[3];
	__be16 target[2];
};

/*
 * The address in a neighbour solicitation or advertisement, behind its first eight bytes (RFC 4861). In words of 64
 * bits, so that a copy is aligned.
 */
struct target {
	__u64 half[2];
};

/*
 * Is this ARP message about an address of the workload? A probe, which has no sender address yet (RFC 5227), must ask
 * for one of them.
 */
static __always_inline bool arp_allowed(struct __sk_buff *skb, const struct job *job)
{
	__u8 addr[16] __attribute__((aligned(8)));
	struct arp arp;
	__be32 sender;

	if (!READ(skb, job->packet.l4, arp))
		return false;
	if (arp.half[0] != bpf_htons(1) || arp.half[1] != bpf_htons(ETH_P_IP) || arp.half[2] != bpf_htons(0x0604))
		return false;
	if ((job->iface.flags & IFACE_CHECK_MAC) && !same_mac(arp.sender_mac, job->iface.mac))
		return false;
	sender = arp.sender[0] | (__be32)arp.sender[1] << 16;
	if (!sender)
		sender = arp.target[0] | (__be32)arp.target[1] << 16;
	map_ipv4(addr, sender);
	return owns(job, addr);
}

/* Is this multicast listener discovery: query, report or done (RFC 2710), or a report of version 2 (RFC 3810)? */
static __always_inline bool is_listener_message(const struct packet *p)
{
	return (p->icmp_type >= 130 && p->icmp_type <= 132) || p->icmp_type == 143;
}

/*
 * Is this message of the link itself, and was not forwarded? A hop limit of 255 proves it (RFC 4861). A hop limit of 1,
 * which listener messages have, does not; but they come from a link-local address or from none (RFC 2710 section 3, RFC
 * 3590, RFC 3810 section 5), which no router forwards. On the way out they were made here, or stay on a bridge.
 */
static __always_inline bool is_of_link(const struct job *job)
{
	const struct packet *p = &job->packet;

	if (!is_listener_message(p))
		return p->hop_limit == 255;
	if (p->hop_limit != 1 || !(is_unspecified(p->src) || is_link_local(p->src)))
		return false;
	return !job->egress || job->born_here || is_link_multicast(p->dst) || is_link_local(p->dst);
}

/* Is this neighbour, router or multicast listener discovery that belongs to the link? */
static __always_inline bool is_neighbour_message(const struct job *job)
{
	const struct packet *p = &job->packet;

	if (p->proto != IPPROTO_ICMPV6 || !(p->flags & PACKET_IPV6) || p->flags & (PACKET_FIRST_FRAGMENT | PACKET_LATER_FRAGMENT))
		return false;
	return (is_listener_message(p) || (p->icmp_type >= 133 && p->icmp_type <= 136)) && is_of_link(job);
}

/* Is this a router advertisement or a redirect? */
static __always_inline bool is_router_message(const struct packet *p)
{
	if (p->flags & PACKET_IPV6)
		return p->proto == IPPROTO_ICMPV6 && (p->icmp_type == 134 || p->icmp_type == 137);
	return p->proto == IPPROTO_ICMP && p->icmp_type == 5;
}

/*
 * May a workload send this message of the link? It must be about an address of its own, or about one that means nothing
 * beyond the link; not about an address of the host. A routed workload has no neighbour but the host.
 */
static __always_inline bool neighbour_allowed(struct __sk_buff *skb, const struct job *job)
{
	const struct packet *p = &job->packet;
	struct target t;
	__u8 target[16] __attribute__((aligned(8)));
	bool own_target;

	if (!is_bridged(job) && !is_link_multicast(p->dst) && !is_link_local(p->dst) && !is_host_address(p->dst))
		return false;
	if (!is_unspecified(p->src) && !is_link_local(p->src) && !owns(job, p->src))
		return false;
	if (is_link_local(p->src) && is_host_address(p->src))
		return false;
	if (p->icmp_type != 135 && p->icmp_type != 136)
		return true;
	if (!READ(skb, p->l4 + 8, t))
		return false;
	__builtin_memcpy(target, &t, 16);
	own_target = owns(job, target) || (is_link_local(target) && !is_host_address(target));
	return own_target || (p->icmp_type == 135 && !is_unspecified(p->src));
}

/* Is this one of the messages that a workload may send to the host whatever its policy is? */
static __always_inline bool is_link_control(const struct packet *p)
{
	return p->proto == IPPROTO_ICMPV6 && (p->flags & PACKET_IPV6) &&
	       (is_listener_message(p) || p->icmp_type == 133 || p->icmp_type == 135 || p->icmp_type == 136);
}

/*
 * Is this a DHCP request? A routed workload has its address from its endpoint, and nobody answers. The request is a forged
 * source like any other, but an image that is set to DHCP sends it at each start, so it is counted for a reason of its
 * own.
 */
static __always_inline bool is_dhcp(const struct packet *p)
{
	if (p->proto != IPPROTO_UDP)
		return false;
	if (p->flags & PACKET_IPV6)
		return is_link_local(p->src) && p->sport == bpf_htons(546) && p->dport == bpf_htons(547);
	return *(u32_alias *)(p->src + 12) == 0 && p->sport == bpf_htons(68) && p->dport == bpf_htons(67);
}

/*
 * Does the packet open a tunnel that the workload may not open? Answers to other tunnels do not, nor answers to a
 * client that uses the port of VXLAN.
 */
static __always_inline bool is_forbidden_tunnel(const struct job *job)
{
	const struct packet *p = &job->packet;

	if (p->proto == IPPROTO_IPIP)
		return !(job->iface.flags & IFACE_ALLOW_IPIP);
	return p->proto == IPPROTO_UDP && p->dport == bpf_htons(VXLAN_PORT) && !(job->iface.flags & IFACE_ALLOW_VXLAN);
}

/*
 * Checks what a workload may send at all. Returns REASON_NONE if policy decides, a reason to pass without policy, or one
 * to drop the packet.
 */
__noinline int guard(struct __sk_buff *skb, struct job *job, int parsed)
{
	struct packet *p;
	int reason;

	if (!job)
		return REASON_DROP_MALFORMED;
	p = &job->packet;
	if ((p->flags & PACKET_TAGGED) && !(job->iface.flags & IFACE_ALLOW_TAGS))
		return REASON_DROP_TAGGED;
	if (!right_mac(skb, job))
		return REASON_DROP_MAC;
	if (parsed == PARSED_ARP)
		return arp_allowed(skb, job) ? REASON_PASS_NEIGHBOUR : REASON_DROP_ARP;
	if (is_router_message(p))
		return REASON_DROP_ROUTER;
	if (is_link_control(p)) {
		if (!is_neighbour_message(job) || !neighbour_allowed(skb, job))
			return REASON_DROP_NEIGHBOUR;
		return REASON_PASS_NEIGHBOUR;
	}
	if (is_bridged(job) && p->proto == IPPROTO_UDP) {
		reason = guard_dhcp(skb, job);
		if (reason)
			return reason;
	}
	if (owns(job, p->src))
		return REASON_NONE;
	if (is_dhcp(p))
		return REASON_DROP_DHCP;
	return is_link_local(p->src) && !is_host_address(p->src) ? REASON_DROP_LINK_LOCAL : REASON_DROP_SOURCE;
}
