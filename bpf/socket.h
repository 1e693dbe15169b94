/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Connections of this host that began before anybody tracked them: its sockets know them. */
#pragma once

#include "flow.h"
#include "guard.h"

/* What the sockets of this host say about the connection of a packet that has no entry. */
enum held {
	HELD_NOT,
	HELD_OPENED_HERE,
	HELD_OPENED_THERE,
};

/* A connection as its socket knows it: who opened it, and the state of an entry for it. */
#define held_as(opener, state) ((opener) | (state) << 8)
#define held_opener(held) ((held) & 0xff)
#define held_state(held) ((held) >> 8)

/* The ends of a packet as the kernel looks sockets up: from the other end to this host. Returns the size. */
static __always_inline __u32 socket_tuple(struct bpf_sock_tuple *tuple, const struct packet *p, bool egress)
{
	const __u8 *there = egress ? p->dst : p->src, *here = egress ? p->src : p->dst;
	__be16 there_port = egress ? p->dport : p->sport, here_port = egress ? p->sport : p->dport;

	if (p->flags & PACKET_IPV6) {
		__builtin_memcpy(tuple->ipv6.saddr, there, 16);
		__builtin_memcpy(tuple->ipv6.daddr, here, 16);
		tuple->ipv6.sport = there_port;
		tuple->ipv6.dport = here_port;
		return sizeof(tuple->ipv6);
	}
	tuple->ipv4.saddr = *(u32_alias *)(there + 12);
	tuple->ipv4.daddr = *(u32_alias *)(here + 12);
	tuple->ipv4.sport = there_port;
	tuple->ipv4.dport = here_port;
	return sizeof(tuple->ipv4);
}

/* Makes the tuple that of nobody's connection to the same end of this host: only who waits for anybody fits it. */
static __always_inline void from_nobody(struct bpf_sock_tuple *tuple, bool ipv6)
{
	if (ipv6)
		tuple->ipv6.sport = 0;
	else
		tuple->ipv4.sport = 0;
}

/* State of a TCP socket, -1 if there is none. */
static __always_inline int tcp_socket(struct __sk_buff *skb, struct bpf_sock_tuple *tuple, __u32 size)
{
	struct bpf_sock *sk = bpf_skc_lookup_tcp(skb, tuple, size, BPF_F_CURRENT_NETNS, 0);
	int state;

	if (!sk)
		return -1;
	state = sk->state;
	bpf_sk_release(sk);
	return state;
}

static __always_inline int udp_socket(struct __sk_buff *skb, struct bpf_sock_tuple *tuple, __u32 size)
{
	struct bpf_sock *sk = bpf_sk_lookup_udp(skb, tuple, size, BPF_F_CURRENT_NETNS, 0);
	int state;

	if (!sk)
		return -1;
	state = sk->state;
	bpf_sk_release(sk);
	return state;
}

/*
 * Whether a socket of this host has exactly this connection, and who opened it, as far as can be told: the other end,
 * if a socket waits on the same port of this host for anybody.
 */
__noinline int held_by_socket(struct __sk_buff *skb, struct packet *p, __u32 egress)
{
	struct bpf_sock_tuple tuple = {};
	__u32 size;
	int state;

	if (!p)
		return HELD_NOT;
	size = socket_tuple(&tuple, p, egress);
	if (p->proto == IPPROTO_UDP) {
		if (udp_socket(skb, &tuple, size) != BPF_TCP_ESTABLISHED) /* it is not connected */
			return HELD_NOT;
		from_nobody(&tuple, p->flags & PACKET_IPV6);
		return held_as(udp_socket(skb, &tuple, size) < 0 ? HELD_OPENED_HERE : HELD_OPENED_THERE, FLOW_UDP);
	}
	state = tcp_socket(skb, &tuple, size);
	if (state < 0 || state == BPF_TCP_LISTEN)
		return HELD_NOT;
	if (state == BPF_TCP_SYN_SENT)
		return held_as(HELD_OPENED_HERE, FLOW_TCP_OPENING);
	if (state == BPF_TCP_SYN_RECV || state == BPF_TCP_NEW_SYN_RECV)
		return held_as(HELD_OPENED_THERE, FLOW_TCP_OPENING);
	state = state == BPF_TCP_TIME_WAIT ? FLOW_TCP_FINS : FLOW_TCP_ESTABLISHED;
	from_nobody(&tuple, p->flags & PACKET_IPV6);
	return held_as(tcp_socket(skb, &tuple, size) < 0 ? HELD_OPENED_HERE : HELD_OPENED_THERE, state);
}

/* May a socket of this host know more than we do about a packet without an entry? One that begins a connection: no. */
static __always_inline bool is_midway(const struct packet *p, bool egress)
{
	if (p->proto == IPPROTO_TCP)
		return !is_syn(p);
	return p->proto == IPPROTO_UDP && !egress;
}
