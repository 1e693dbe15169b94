/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Where a packet on its way out comes from: this host, or another machine. See docs/decisions/0007-proof-of-origin.md. */
#pragma once

#include <linux/if_packet.h>

#include "maps.h"

#define AF_INET 2
#define AF_INET6 10
#define AF_PACKET 17

/*
 * The kernel takes the socket off every packet that it routes, and drops a routed packet that has one all the same
 * (ip_rcv, ip6_rcv, ip_forward, ip6_forward). A bridge does not: what it carries may have the socket of a tap, whose
 * family is another, or of a container, but never the packet type of what is sent from here.
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

/* The gate sets this mark on what this host sends without a socket, and takes it off all that it forwards. */
static __always_inline bool has_mark_of_host(struct __sk_buff *skb)
{
	struct settings *s = settings_now();

	return s && s->host_mark && (skb->mark & s->host_mark) == s->host_mark;
}

/*
 * Did this host make the packet that it sends? Only what proves it did. An interface of entry proves the contrary, but
 * none proves nothing: the kernel forgets it when it divides a reassembled packet over IPv6 (ip6_copy_metadata).
 */
static __always_inline bool is_born_here(struct __sk_buff *skb)
{
	return skb->ingress_ifindex == 0 && (has_socket_of_host(skb) || has_mark_of_host(skb));
}
