/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Limits of all workloads, before any policy: a workload sends nothing in another's name. */
#pragma once

#include "parse.h"
#include "verdict.h"

#define VXLAN_PORT 4789

struct arp {
	__be16 half[4];	   /* hardware type, protocol type, lengths, operation */
	__be16 sender_mac[3];
	__be16 sender[2];
	__be16 target_mac[3];
	__be16 target[2];
};

/* A neighbour discovery message after its first eight bytes. */
struct target {
	__u64 half[2];
};

static __always_inline bool owns(const struct job *job, const __u8 *addr)
{
	struct source_key key = {.ifindex = job->iface.ifindex};

	__builtin_memcpy(key.addr, addr, 16);
	return bpf_map_lookup_elem(&sources, &key) != NULL;
}

static __always_inline bool is_host_address(const __u8 *addr)
{
	return bpf_map_lookup_elem(&locals, addr) != NULL;
}

static __always_inline bool is_unspecified(const __u8 *addr)
{
	return *(u64_alias *)addr == 0 && *(u64_alias *)(addr + 8) == 0;
}

static __always_inline bool is_link_local(const __u8 *addr)
{
	return addr[0] == 0xfe && (addr[1] & 0xc0) == 0x80;
}

static __always_inline bool is_link_multicast(const __u8 *addr)
{
	return addr[0] == 0xff && (addr[1] & 0x0f) <= 2;
}

static __always_inline bool same_mac(const void *a, const __u8 *mac)
{
	const __u8 *b = a;

	return b[0] == mac[0] && b[1] == mac[1] && b[2] == mac[2] && b[3] == mac[3] && b[4] == mac[4] && b[5] == mac[5];
}

static __always_inline bool right_mac(struct __sk_buff *skb, const struct job *job)
{
	struct {
		__be16 half[3];
	} from;

	if (!(job->iface.flags & IFACE_CHECK_MAC) || (job->iface.flags & IFACE_LAYER3))
		return true;
	return READ(skb, 6, from) && same_mac(&from, job->iface.mac);
}

/* ARP speaks for the workload's own addresses only; a probe (no sender yet) asks for one of them. */
static __always_inline bool arp_allowed(struct __sk_buff *skb, const struct job *job)
{
	__u8 addr[16] __attribute__((aligned(8)));
	struct arp arp;
	__be32 sender;

	if (!READ(skb, ETH_HLEN, arp))
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

/* Multicast listener discovery: query, report, done (RFC 2710), report of version 2 (RFC 3810). */
static __always_inline bool is_listener_message(const struct packet *p)
{
	return (p->icmp_type >= 130 && p->icmp_type <= 132) || p->icmp_type == 143;
}

/*
 * A hop limit of 255 proves that a message was not forwarded (RFC 4861), a hop limit of 1 does not: those of listeners
 * come from an address of the link or from none (RFC 2710 section 3, RFC 3590, RFC 3810 section 5), which no router
 * forwards. On the way out this host has made them, or they stay on a bridge.
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

/* Messages of the link itself: neighbour and router discovery, multicast listener discovery. */
static __always_inline bool is_neighbour_message(const struct job *job)
{
	const struct packet *p = &job->packet;

	if (p->proto != IPPROTO_ICMPV6 || !(p->flags & PACKET_IPV6) || p->flags & (PACKET_FIRST_FRAGMENT | PACKET_LATER_FRAGMENT))
		return false;
	return (is_listener_message(p) || (p->icmp_type >= 133 && p->icmp_type <= 136)) && is_of_link(job);
}

static __always_inline bool is_router_message(const struct packet *p)
{
	if (p->flags & PACKET_IPV6)
		return p->proto == IPPROTO_ICMPV6 && (p->icmp_type == 134 || p->icmp_type == 137);
	return p->proto == IPPROTO_ICMP && p->icmp_type == 5;
}

/* A workload's message of the link is about an address of its own, or one that means nothing beyond the link. */
static __always_inline bool neighbour_allowed(struct __sk_buff *skb, const struct job *job)
{
	const struct packet *p = &job->packet;
	struct target t;
	__u8 target[16] __attribute__((aligned(8)));
	bool own_target;

	if (!is_link_multicast(p->dst) && !is_link_local(p->dst) && !is_host_address(p->dst))
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

/* Is this one of the kinds that a workload may send to the host whatever its policy? */
static __always_inline bool is_link_control(const struct packet *p)
{
	return p->proto == IPPROTO_ICMPV6 && (p->flags & PACKET_IPV6) &&
	       (is_listener_message(p) || p->icmp_type == 133 || p->icmp_type == 135 || p->icmp_type == 136);
}

/*
 * A workload's address comes from its endpoint and nobody asks for it: such a request is as much a forged source as
 * any other, but an image that is set to DHCP sends it at each start, so it has a reason of its own.
 */
static __always_inline bool is_dhcp(const struct packet *p)
{
	if (p->proto != IPPROTO_UDP)
		return false;
	if (p->flags & PACKET_IPV6)
		return is_link_local(p->src) && p->sport == bpf_htons(546) && p->dport == bpf_htons(547);
	return *(u32_alias *)(p->src + 12) == 0 && p->sport == bpf_htons(68) && p->dport == bpf_htons(67);
}

/* A tunnel that a workload may not open. Answers of others' tunnels and to clients on such a port are none. */
static __always_inline bool is_forbidden_tunnel(const struct job *job)
{
	const struct packet *p = &job->packet;

	if (p->proto == IPPROTO_IPIP)
		return !(job->iface.flags & IFACE_ALLOW_IPIP);
	return p->proto == IPPROTO_UDP && p->dport == bpf_htons(VXLAN_PORT) && !(job->iface.flags & IFACE_ALLOW_VXLAN);
}

/* Why the packet may not leave its workload, or REASON_NONE, or REASON_PASS_NEIGHBOUR if nothing else is to be asked. */
__noinline int guard(struct __sk_buff *skb, struct job *job, int parsed)
{
	struct packet *p;

	if (!job)
		return REASON_DROP_MALFORMED;
	p = &job->packet;
	if (p->flags & PACKET_TAGGED)
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
	if (owns(job, p->src))
		return REASON_NONE;
	if (is_dhcp(p))
		return REASON_DROP_DHCP;
	return is_link_local(p->src) && !is_host_address(p->src) ? REASON_DROP_LINK_LOCAL : REASON_DROP_SOURCE;
}
