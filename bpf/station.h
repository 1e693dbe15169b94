/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Whose an address is: the workload's, this host's, or nobody's beyond the link. */
#pragma once

#include "parse.h"
#include "verdict.h"

/* Is this an address of this host? */
static __always_inline bool is_host_address(const __u8 *addr)
{
	return bpf_map_lookup_elem(&locals, addr) != NULL;
}

/* Is this ::? 0.0.0.0 is ::ffff:0.0.0.0 here, and is not. */
static __always_inline bool is_unspecified(const __u8 *addr)
{
	return *(u64_alias *)addr == 0 && *(u64_alias *)(addr + 8) == 0;
}

/* Is this an IPv4 address, ::ffff:0:0/96? */
static __always_inline bool is_ipv4(const __u8 *addr)
{
	return *(u64_alias *)addr == 0 && *(u32_alias *)(addr + 8) == bpf_htonl(0xffff);
}

/*
 * May an address be one machine's on a network? Not the unspecified one, those of a loopback, link-local and multicast
 * ones: no workload has them beyond its own link, even if a network of its endpoint contains them.
 */
static __always_inline bool is_of_one_machine(const __u8 *addr)
{
	if (is_ipv4(addr))
		return addr[12] != 0 && addr[12] != 127 && addr[12] < 224 && !(addr[12] == 169 && addr[13] == 254);
	if (*(u64_alias *)addr == 0)
		return false;
	return addr[0] != 0xff && !(addr[0] == 0xfe && (addr[1] & 0xc0) == 0x80);
}

/*
 * Is the address in a network that the endpoint may send from besides its addresses? Never one of this host: with it the
 * workload would speak in the host's name.
 */
static __always_inline bool is_in_source_net(const struct job *job, const __u8 *addr)
{
	struct source_net_key key = {.prefixlen = 160, .ifindex = job->iface.ifindex};

	__builtin_memcpy(key.addr, addr, 16);
	return bpf_map_lookup_elem(&source_nets, &key) && is_of_one_machine(addr) && !is_host_address(addr);
}

/* Is this one of the addresses that the workload may send from? */
static __always_inline bool owns(const struct job *job, const __u8 *addr)
{
	struct source_key key = {.ifindex = job->iface.ifindex};

	__builtin_memcpy(key.addr, addr, 16);
	if (bpf_map_lookup_elem(&sources, &key))
		return true;
	return (job->iface.flags & IFACE_SOURCE_NETS) && is_in_source_net(job, addr);
}

/* Is this an address in fe80::/10? */
static __always_inline bool is_link_local(const __u8 *addr)
{
	return addr[0] == 0xfe && (addr[1] & 0xc0) == 0x80;
}

/* Is this an IPv6 multicast address of scope 2, the link, or less (RFC 4291 section 2.7)? */
static __always_inline bool is_link_multicast(const __u8 *addr)
{
	return addr[0] == 0xff && (addr[1] & 0x0f) <= 2;
}

/* Does the packet go to a multicast address, or to the limited broadcast address? */
static __always_inline bool is_multicast(const struct packet *p)
{
	if (p->flags & PACKET_IPV6)
		return p->dst[0] == 0xff;
	return (p->dst[12] & 0xf0) == 0xe0 || *(u32_alias *)(p->dst + 12) == 0xffffffff;
}

/* Are two MAC addresses equal? */
static __always_inline bool same_mac(const void *a, const __u8 *mac)
{
	const __u8 *b = a;

	return b[0] == mac[0] && b[1] == mac[1] && b[2] == mac[2] && b[3] == mac[3] && b[4] == mac[4] && b[5] == mac[5];
}

/* Does the frame come from the MAC address that the endpoint names, if it names one? */
static __always_inline bool right_mac(struct __sk_buff *skb, const struct job *job)
{
	struct {
		__be16 half[3];
	} from;

	if (!(job->iface.flags & IFACE_CHECK_MAC) || (job->iface.flags & IFACE_LAYER3))
		return true;
	return READ(skb, 6, from) && same_mac(&from, job->iface.mac);
}
