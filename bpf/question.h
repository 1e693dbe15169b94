/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Questions of workloads to the agent: DHCP for IPv4 and IPv6, and router solicitations. They go to the agent alone, and
 * not to any other server of this host. The agent answers with frames that pass no hook, so nobody else's answer has to
 * be let through.
 */
#pragma once

#include "guard.h"

#define GATEWAY_ADDRESS 0xa9fe0101   /* 169.254.1.1, routes.GatewayAddress in Go */
#define QUESTION_GAP 50000000ULL    /* nanoseconds from question to question of one interface, on average */
#define QUESTION_BURST 1000000000ULL /* nanoseconds for which questions may be saved up */

/*
 * May this interface ask again now? One workload must not fill the ring for the others. Two processors that write at
 * the same time let one question more through.
 */
static __always_inline bool question_due(__u32 ifindex)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	__u64 *due = bpf_map_lookup_elem(&question_times, &ifindex);
	__u64 next = now + QUESTION_GAP - QUESTION_BURST;

	if (!due)
		return !bpf_map_update_elem(&question_times, &ifindex, &next, BPF_ANY);
	if ((__s64)(now - *due) > (__s64)QUESTION_BURST)
		*due = now - QUESTION_BURST;
	if ((__s64)(now - *due) < 0)
		return false;
	*due += QUESTION_GAP;
	return true;
}

/* Is this DHCP for the agent? A client that has its address renews it from the gateway. */
static __always_inline bool is_dhcp_for_agent(const struct job *job)
{
	const struct packet *p = &job->packet;

	if (p->proto != IPPROTO_UDP)
		return false;
	if (is_dhcp_question(job))
		return true;
	if (p->flags & (PACKET_IPV6 | PACKET_FIRST_FRAGMENT | PACKET_LATER_FRAGMENT))
		return false;
	return p->sport == bpf_htons(DHCP_CLIENT) && p->dport == bpf_htons(DHCP_SERVER) &&
	       *(u32_alias *)(p->dst + 12) == bpf_htonl(GATEWAY_ADDRESS) && owns(job, p->src);
}

static __always_inline bool is_router_solicitation(const struct packet *p)
{
	return p->proto == IPPROTO_ICMPV6 && (p->flags & PACKET_IPV6) && p->icmp_type == 133;
}

/* Copies the frame for the agent. Returns the reason for the packet. */
__noinline int ask_agent(struct __sk_buff *skb, struct job *job)
{
	struct question *q;
	__u32 length = skb->len;

	if (!job || length < ETH_HLEN || length > QUESTION_BYTES || !question_due(job->iface.ifindex))
		return REASON_DROP_QUESTION;
	q = bpf_ringbuf_reserve(&questions, sizeof(*q), 0);
	if (!q)
		return REASON_DROP_QUESTION;
	if (bpf_skb_load_bytes(skb, 0, q->frame, length)) {
		bpf_ringbuf_discard(q, 0);
		return REASON_DROP_QUESTION;
	}
	q->ifindex = job->iface.ifindex;
	q->length = length;
	bpf_ringbuf_submit(q, 0);
	return REASON_PASS_TO_AGENT;
}

/* The reason for a packet that the guard has seen: the guard's, or that of the question if it is one. */
static __always_inline int guard_or_ask(struct __sk_buff *skb, struct job *job, int parsed, int guarded)
{
	bool asks;

	if (!(job->iface.flags & IFACE_ASK_AGENT) || job->iface.flags & IFACE_LAYER3 || parsed != PARSED_IP)
		return guarded;
	if (guarded == REASON_PASS_NEIGHBOUR)
		asks = is_router_solicitation(&job->packet);
	else
		asks = (guarded == REASON_NONE || guarded == REASON_DROP_DHCP) && is_dhcp_for_agent(job);
	return asks ? ask_agent(skb, job) : guarded;
}
