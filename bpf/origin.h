/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Where a packet on its way out comes from: this host, or another machine. See docs/decisions/0007-proof-of-origin.md. */
#pragma once

#include <linux/if_packet.h>

#include "maps.h"

#define AF_INET 2
#define AF_INET6 10
#define AF_PACKET 17

/*
 * Is the packet from a socket of this host? The kernel takes the socket off every packet that it routes, and drops a
 * routed packet that has one all the same (ip_rcv, ip6_rcv, ip_forward, ip6_forward). A bridge does not: a packet that
 * it forwards may have the socket of a tap, which has another family, or of a container, but then never the packet type
 * PACKET_HOST, which is that of packets sent from here.
 */
static __always_inline bool has_socket_of_host(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	__u32 family;

	if (!sk || skb->pkt_type != PACKET_HOST)
		return false;
	family = sk->family;
	return family == AF_INET || family == AF_INET6 || family == AF_PACKET;
}

/*
 * Does the packet bear the mark that the gate sets on packets that this host sends without a socket? The gate takes it
 * off all packets that are forwarded.
 */
static __always_inline bool has_mark_of_host(struct __sk_buff *skb)
{
	struct settings *s = settings_now();

	return s && s->host_mark && (skb->mark & s->host_mark) == s->host_mark;
}

/*
 * Did this host make the packet that leaves? Only a positive proof counts. An ingress interface proves the contrary,
 * but its absence proves nothing: ip6_copy_metadata (net/ipv6/ip6_output.c) loses it when the kernel fragments a
 * reassembled IPv6 packet again.
 */
static __always_inline bool is_born_here(struct __sk_buff *skb)
{
	return skb->ingress_ifindex == 0 && (has_socket_of_host(skb) || has_mark_of_host(skb));
}
