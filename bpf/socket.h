/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Connections of this host that began before anybody tracked them: its sockets know them. */
#pragma once

#include "flow.h"
#include "guard.h"

#include <bpf/bpf_core_read.h>

/* The answer of this host's sockets about a connection that has no entry: does one hold it, and who opened it? */
enum held {
	HELD_NOT,
	HELD_OPENED_HERE,
	HELD_OPENED_THERE,
};

/* Added to an answer that is likely, but that nothing proves. */
#define HELD_UNPROVEN (1 << 16)

/* An answer with the state of the entry to make. */
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

/*
 * The ends of a packet as the kernel looks sockets up: from the other end to this host. Returns the size of the tuple.
 */
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

/*
 * Clears the other end's port. Only a listening or unconnected socket matches the tuple then: no connection has port 0.
 */
static __always_inline void from_nobody(struct bpf_sock_tuple *tuple, bool ipv6)
{
	if (ipv6)
		tuple->ipv6.sport = 0;
	else
		tuple->ipv4.sport = 0;
}

/*
 * Who opened the connection of a TCP socket, as far as a field of the socket proves it.
 *
 * Opened there: tcp_v4_syn_recv_sock (net/ipv4/tcp_ipv4.c) and tcp_v6_syn_recv_sock (net/ipv6/tcp_ipv6.c) note the
 * interface by which the opener's packet came in the field for multicast interfaces. No other code sets that field for
 * a stream socket.
 *
 * Opened here: connect() has chosen the local port, and __inet_hash_connect (net/ipv4/inet_hashtables.c) has marked its
 * bind bucket with fastreuse -1.
 *
 * HELD_NOT, for neither: a socket that was bound to a port before it was connected, one that took a connection over
 * from another machine (TCP_REPAIR), and one that waits for late segments (TIME_WAIT).
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

/*
 * State of the TCP socket of a tuple, -1 if there is none. Sets who opened its connection. The verifier wants the
 * reference released on every path, so the state is copied.
 */
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

/* State of the UDP socket of a tuple, -1 if there is none. */
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
 * Does a connected UDP socket hold the flow of a datagram that came in? Nothing in the socket tells who began. If
 * another socket listens on the same port, this one was made for a peer that came.
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
 * Does a socket of this host hold exactly this connection, and who opened it? If nothing proves that, a socket that
 * listens on the same port makes it likely that the other end did.
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
 * May a socket know more than the tables about a packet without an entry? Not if the packet opens a connection. A
 * datagram that leaves may always open one.
 */
static __always_inline bool is_midway(const struct packet *p, bool egress)
{
	if (p->proto == IPPROTO_TCP)
		return !is_syn(p);
	return p->proto == IPPROTO_UDP && !egress;
}
