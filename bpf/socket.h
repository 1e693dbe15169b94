/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Connections of this host that began before anybody tracked them: its sockets know them. */
#pragma once

#include "flow.h"
#include "guard.h"

#include <bpf/bpf_core_read.h>

/* The answer of the sockets of this host about the connection of a packet that has no entry. */
enum held {
	HELD_NOT,
	HELD_OPENED_HERE,
	HELD_OPENED_THERE,
};

/* Nothing proves who opened the connection: what is said of it is likely, no more. */
#define HELD_UNPROVEN (1 << 16)

/* A connection as its socket knows it: who opened it, and the state of an entry for it. */
#define held_as(opener, state) ((opener) | (state) << 8)
#define held_opener(held) ((held) & 0xff)
#define held_state(held) ((held) >> 8 & 0xff)

/* The fields that we read of the kernel's own sockets. The loader finds the fields in the kernel that runs. */
struct inet_bind_bucket {
	signed char fastreuse;
} __attribute__((preserve_access_index));

struct ipv6_pinfo {
	int mcast_oif;
} __attribute__((preserve_access_index));

struct inet_sock {
	struct ipv6_pinfo *pinet6;
	int mc_index;
} __attribute__((preserve_access_index));

struct inet_connection_sock {
	struct inet_sock icsk_inet;
	struct inet_bind_bucket *icsk_bind_hash;
} __attribute__((preserve_access_index));

struct tcp_sock {
	struct inet_connection_sock inet_conn;
} __attribute__((preserve_access_index));

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

/*
 * Who opened the connection of a TCP socket, where something in the socket proves it.
 *
 * Opened there: a socket that was accepted keeps the interface by which its opener's packet came (tcp_v4_syn_recv_sock,
 * tcp_v6_syn_recv_sock), in the field for the interface of multicast, which no stream can set.
 *
 * Opened here: connect() has chosen the local port and marked it as its own (__inet_hash_connect).
 *
 * Neither is true of a socket that was bound to a port and then connected, of one that took a connection over from another
 * machine (TCP_REPAIR), and of one that only waits for late segments (TIME_WAIT).
 */
static __always_inline int opener_of_socket(struct bpf_sock *sk)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	struct inet_sock *inet;

	if (!tcp)
		return HELD_NOT;
	inet = &tcp->inet_conn.icsk_inet;
	if (inet->mc_index)
		return HELD_OPENED_THERE;
	if (bpf_core_field_exists(inet->pinet6) && inet->pinet6->mcast_oif)
		return HELD_OPENED_THERE;
	return tcp->inet_conn.icsk_bind_hash->fastreuse < 0 ? HELD_OPENED_HERE : HELD_NOT;
}

/* State of a TCP socket, -1 if there is none, and who opened its connection. */
static __always_inline int tcp_socket(struct __sk_buff *skb, struct bpf_sock_tuple *tuple, __u32 size, int *opener)
{
	struct bpf_sock *sk = bpf_skc_lookup_tcp(skb, tuple, size, BPF_F_CURRENT_NETNS, 0);
	int state;

	*opener = HELD_NOT;
	if (!sk)
		return -1;
	state = sk->state;
	*opener = opener_of_socket(sk);
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
 * Does a connected socket hold the flow of this datagram, that came in? Nothing there tells who began. Where another
 * socket waits for anybody on the same port, this one was made for somebody who came.
 */
static __always_inline __u32 held_by_datagrams(struct __sk_buff *skb, struct bpf_sock_tuple *tuple, __u32 size, bool ipv6)
{
	if (udp_socket(skb, tuple, size) != BPF_TCP_ESTABLISHED) /* it is not connected */
		return HELD_NOT;
	from_nobody(tuple, ipv6);
	if (udp_socket(skb, tuple, size) >= 0)
		return held_as(HELD_OPENED_THERE, FLOW_UDP);
	return held_as(HELD_OPENED_HERE | HELD_UNPROVEN, FLOW_UDP);
}

/*
 * Whether a socket of this host has exactly this connection, and who opened it. Where nothing proves that, a socket that
 * waits on the same port for anybody makes it likely that the other end did.
 */
__noinline int held_by_socket(struct __sk_buff *skb, struct packet *p, __u32 egress)
{
	struct bpf_sock_tuple tuple = {};
	int state, opener, other;
	__u32 size;

	if (!p)
		return HELD_NOT;
	size = socket_tuple(&tuple, p, egress);
	if (p->proto == IPPROTO_UDP)
		return held_by_datagrams(skb, &tuple, size, p->flags & PACKET_IPV6);
	state = tcp_socket(skb, &tuple, size, &opener);
	if (state < 0 || state == BPF_TCP_LISTEN)
		return HELD_NOT;
	if (state == BPF_TCP_NEW_SYN_RECV)
		return held_as(HELD_OPENED_THERE, FLOW_TCP_OPENING);
	if (state == BPF_TCP_SYN_SENT)
		return held_as(HELD_OPENED_HERE, FLOW_TCP_OPENING);
	if (opener == HELD_NOT) {
		from_nobody(&tuple, p->flags & PACKET_IPV6);
		opener = HELD_UNPROVEN;
		opener |= tcp_socket(skb, &tuple, size, &other) < 0 ? HELD_OPENED_HERE : HELD_OPENED_THERE;
	}
	if (state == BPF_TCP_SYN_RECV)
		return held_as(opener, FLOW_TCP_OPENING);
	return held_as(opener, state == BPF_TCP_TIME_WAIT ? FLOW_TCP_FINS : FLOW_TCP_ESTABLISHED);
}

/*
 * May a socket of this host know more than we do about a packet without an entry? Not about one that begins a
 * connection. A datagram that leaves may always be one.
 */
static __always_inline bool is_midway(const struct packet *p, bool egress)
{
	if (p->proto == IPPROTO_TCP)
		return !is_syn(p);
	return p->proto == IPPROTO_UDP && !egress;
}
