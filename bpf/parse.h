/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* From bytes to struct packet. Nothing here assumes that a header lies in the linear part of the packet. */
#pragma once

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>

#include "maps.h"

/*
 * Headers lie below this offset, and IPv6 has at most so many extension headers: both bound the verifier's work. A
 * packet beyond is dropped where policy applies.
 */
#define MAX_OFFSET 1024
#define MAX_EXTENSIONS 8

/* Protocol numbers of VLAN tags, host order. */
#define ETH_P_8021Q_ 0x8100
#define ETH_P_8021AD_ 0x88a8

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* Results of parse(). */
enum parsed {
	PARSED_IP,
	PARSED_ARP,
	PARSED_OTHER, /* neither IP nor ARP */
	PARSED_BAD,   /* and at these and above: the reason */
};

#define parsed_bad(reason) (PARSED_BAD + (reason))

/*
 * Copies a header out of the packet. False if the packet is too short. Most headers are in the linear part, where a
 * direct read is cheap; bpf_skb_load_bytes reads the others. The verifier accepts a read only if the
 * program has compared the same pointer with the end of the packet: HIDE keeps the compiler from comparing another one.
 */
#define READ(skb, offset, header) \
	({ \
		__u32 off_ = (offset); \
		bool read_ = false; \
		if (off_ < MAX_OFFSET) { \
			void *at_ = (void *)(long)(skb)->data + off_; \
			HIDE(at_); \
			if (at_ + sizeof(header) <= (void *)(long)(skb)->data_end) { \
				(header) = *(typeof(header) *)at_; \
				read_ = true; \
			} else { \
				read_ = !bpf_skb_load_bytes(skb, off_, &(header), sizeof(header)); \
			} \
		} \
		read_; \
	})

/* The first eight bytes of UDP, UDPLite and SCTP headers, as far as they are the same. */
struct ports {
	__be16 source;
	__be16 dest;
	__be16 length;
	__be16 checksum;
};

/* The first eight bytes of ICMP and ICMPv6; id and sequence are those of queries. */
struct icmp {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be16 id;
	__be16 sequence;
};

/*
 * The first eight bytes of an IPv6 extension header. `length` is in units of eight bytes, without the first; in an
 * authentication header of four bytes, without the first two (RFC 4302).
 */
struct extension {
	__u8 next;
	__u8 length;
	__be16 offset; /* in a fragment header */
	__be32 id;
};

/* Writes an IPv4 address, in network order, as ::ffff:a.b.c.d. */
static __always_inline void map_ipv4(__u8 *to, __be32 addr)
{
	*(u64_alias *)to = 0;
	*(u32_alias *)(to + 8) = bpf_htonl(0xffff);
	*(u32_alias *)(to + 12) = addr;
}

/* Is the address in ::ffff:0:0/96? No such address may be on the wire in an IPv6 packet. */
static __always_inline bool is_mapped(const __u8 *addr)
{
	return *(u64_alias *)addr == 0 && *(u32_alias *)(addr + 8) == bpf_htonl(0xffff);
}

/* Are two addresses equal? */
static __always_inline bool same_address(const __u8 *a, const __u8 *b)
{
	return *(u64_alias *)a == *(u64_alias *)b && *(u64_alias *)(a + 8) == *(u64_alias *)(b + 8);
}

/* Does the protocol have ports in the first four bytes of its header? */
static __always_inline bool has_ports(__u8 proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_SCTP || proto == IPPROTO_UDPLITE;
}

/* The query that an ICMP type belongs to, for the kinds that have an answer; else the type itself. */
static __always_inline __u8 query_of(__u8 proto, __u8 type)
{
	if (proto == IPPROTO_ICMP) {
		if (type == 0)
			return 8;
		if (type == 14 || type == 16 || type == 18)
			return type - 1;
	} else if (type == 129 || type == 140) {
		return type - 1;
	}
	return type;
}

/*
 * Is this the type of an ICMP query: echo, timestamp, information or address mask; in ICMPv6 echo or node information?
 */
static __always_inline bool is_query(__u8 proto, __u8 type)
{
	if (proto == IPPROTO_ICMP)
		return type == 8 || type == 13 || type == 15 || type == 17;
	return type == 128 || type == 139;
}

/* Does an ICMP message of this type quote the packet that it is about? */
static __always_inline bool is_icmp_error(__u8 proto, __u8 type)
{
	if (proto == IPPROTO_ICMP)
		return type == 3 || type == 11 || type == 12;
	return type >= 1 && type <= 4;
}

/* Notes type and code. The identifier of a query counts as both its ports, so that queries are connections. */
static __always_inline void note_icmp(struct packet *p, const struct icmp *icmp)
{
	__u8 query = query_of(p->proto, icmp->type);

	p->icmp_type = icmp->type;
	p->icmp_code = icmp->code;
	if (p->proto != (p->flags & PACKET_IPV6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP))
		return; /* means nothing in the other version of IP */
	if (is_icmp_error(p->proto, icmp->type)) {
		p->flags |= PACKET_ICMP_ERROR;
	} else if (is_query(p->proto, query)) {
		p->sport = icmp->id;
		p->dport = icmp->id;
		p->flags |= PACKET_TRACED;
		if (query != icmp->type)
			p->flags |= PACKET_ANSWER;
	}
}

/* Reads a TCP header. Returns 0 or the reason why the packet is bad; the other parsers do the same. */
static __always_inline int parse_tcp(struct __sk_buff *skb, struct packet *p)
{
	struct tcphdr tcp;

	if (!READ(skb, p->l4, tcp))
		return REASON_DROP_MALFORMED;
	p->sport = tcp.source;
	p->dport = tcp.dest;
	p->seq = bpf_ntohl(tcp.seq);
	p->ack = bpf_ntohl(tcp.ack_seq);
	p->tcp_flags = ((__u8 *)&tcp)[13];
	return 0;
}

static __always_inline int parse_ports(struct __sk_buff *skb, struct packet *p)
{
	struct ports ports;

	if (!READ(skb, p->l4, ports))
		return REASON_DROP_MALFORMED;
	p->sport = ports.source;
	p->dport = ports.dest;
	return 0;
}

static __always_inline int parse_icmp(struct __sk_buff *skb, struct packet *p)
{
	struct icmp icmp;

	if (!READ(skb, p->l4, icmp))
		return REASON_DROP_MALFORMED;
	note_icmp(p, &icmp);
	return 0;
}

/*
 * Reads the transport header; `payload` is the length from there to the end of the packet. A first fragment must hold
 * all of it: a filter could be evaded otherwise (RFC 1858).
 */
static __always_inline int parse_transport(struct __sk_buff *skb, struct packet *p, __u32 payload)
{
	int bad = 0;

	if (p->flags & PACKET_LATER_FRAGMENT)
		return 0;
	if ((p->flags & PACKET_FIRST_FRAGMENT) && payload < (p->proto == IPPROTO_TCP ? sizeof(struct tcphdr) : 8) &&
	    (has_ports(p->proto) || p->proto == IPPROTO_ICMP || p->proto == IPPROTO_ICMPV6))
		return REASON_DROP_TINY_FRAGMENT;
	if (p->proto == IPPROTO_TCP)
		bad = parse_tcp(skb, p);
	else if (has_ports(p->proto))
		bad = parse_ports(skb, p);
	else if (p->proto == IPPROTO_ICMP || p->proto == IPPROTO_ICMPV6)
		bad = parse_icmp(skb, p);
	return bad;
}

/* Reads an IPv4 header and the transport header. */
static __always_inline int parse_ipv4(struct __sk_buff *skb, struct packet *p, __u32 off)
{
	struct iphdr ip;
	__u32 header, total, offset;

	if (!READ(skb, off, ip))
		return REASON_DROP_MALFORMED;
	header = (((__u8 *)&ip)[0] & 15) * 4;
	total = bpf_ntohs(ip.tot_len);
	if (((__u8 *)&ip)[0] >> 4 != 4 || header < sizeof(ip))
		return REASON_DROP_MALFORMED;
	if (total == 0) /* a GSO packet beyond 64 KiB */
		total = skb->len - off;
	if (total < header || off + total > skb->len)
		return REASON_DROP_MALFORMED;
	map_ipv4(p->src, ip.saddr);
	map_ipv4(p->dst, ip.daddr);
	p->proto = ip.protocol;
	p->first_header = ip.protocol;
	p->hop_limit = ip.ttl;
	p->l4 = off + header;
	offset = bpf_ntohs(ip.frag_off) & 0x1fff;
	if (offset) {
		p->flags |= PACKET_LATER_FRAGMENT;
		if (offset == 1 && ip.protocol == IPPROTO_TCP)
			return REASON_DROP_TINY_FRAGMENT;
	} else if (ip.frag_off & bpf_htons(0x2000)) {
		p->flags |= PACKET_FIRST_FRAGMENT;
	}
	p->fragment = bpf_ntohs(ip.id);
	return parse_transport(skb, p, total - header);
}

/* Is this an IPv6 header that another header follows? */
static __always_inline bool is_extension(__u8 header)
{
	return header == IPPROTO_HOPOPTS || header == IPPROTO_ROUTING || header == IPPROTO_DSTOPTS ||
	       header == IPPROTO_FRAGMENT || header == IPPROTO_AH;
}

/* Notes a fragment header. A later fragment ends the chain: what follows is no header. */
static __always_inline int note_fragment(struct packet *p, const struct extension *e)
{
	__u32 offset = bpf_ntohs(e->offset) >> 3;

	p->fragment = bpf_ntohl(e->id);
	p->first_header = e->next;
	if (offset) {
		p->flags |= PACKET_LATER_FRAGMENT;
		if (offset == 1 && e->next == IPPROTO_TCP)
			return REASON_DROP_TINY_FRAGMENT;
	} else if (e->offset & bpf_htons(1)) {
		p->flags |= PACKET_FIRST_FRAGMENT;
	}
	return 0;
}

/* Walks the extension headers from *off to the transport header. Sets p->proto and *off. */
static __always_inline int parse_extensions(struct __sk_buff *skb, struct packet *p, __u32 *off)
{
	struct extension e;
	__u32 size;
	int i, bad;

	for (i = 0; i < MAX_EXTENSIONS; i++) {
		if (!is_extension(p->proto) || (p->flags & PACKET_LATER_FRAGMENT))
			return 0;
		if (!READ(skb, *off, e))
			return REASON_DROP_MALFORMED;
		size = (e.length + 1) * 8;
		if (p->proto == IPPROTO_AH)
			size = (e.length + 2) * 4;
		if (p->proto == IPPROTO_FRAGMENT) {
			size = sizeof(e);
			bad = note_fragment(p, &e);
			if (bad)
				return bad;
		}
		p->proto = e.next;
		*off += size;
		if (*off >= MAX_OFFSET)
			return REASON_DROP_HEADER_CHAIN;
	}
	return is_extension(p->proto) ? REASON_DROP_HEADER_CHAIN : 0;
}

/* Reads an IPv6 header, its extension headers and the transport header. */
static __always_inline int parse_ipv6(struct __sk_buff *skb, struct packet *p, __u32 off)
{
	struct ipv6hdr ip;
	__u32 end, total;
	int bad;

	if (!READ(skb, off, ip))
		return REASON_DROP_MALFORMED;
	total = bpf_ntohs(ip.payload_len);
	end = off + sizeof(ip) + total;
	if (total == 0) /* a jumbogram, or a GSO packet beyond 64 KiB */
		end = skb->len;
	if (((__u8 *)&ip)[0] >> 4 != 6 || end > skb->len)
		return REASON_DROP_MALFORMED;
	p->flags |= PACKET_IPV6;
	__builtin_memcpy(p->src, &ip.saddr, 16);
	__builtin_memcpy(p->dst, &ip.daddr, 16);
	if (is_mapped(p->src) || is_mapped(p->dst))
		return REASON_DROP_MAPPED;
	p->proto = ip.nexthdr;
	p->first_header = ip.nexthdr;
	p->hop_limit = ip.hop_limit;
	off += sizeof(ip);
	if (is_extension(p->proto)) {
		bad = parse_extensions(skb, p, &off);
		if (bad)
			return bad;
	}
	if (off > end)
		return REASON_DROP_MALFORMED;
	p->l4 = off;
	return parse_transport(skb, p, end - off);
}

/* No protocol: the frame has two VLAN tags. */
#define TWO_TAGS (1 << 16)

/*
 * Reads the Ethernet header and at most one VLAN tag in the packet; the kernel keeps another one beside the packet.
 * Returns the protocol in host order; 0 if the packet is too short. A frame of or to a workload may have one tag in all.
 */
static __always_inline __u32 parse_ethernet(struct __sk_buff *skb, struct packet *p, __u32 iface_flags, __u32 *off)
{
	bool workload = iface_flags & IFACE_WORKLOAD;
	struct {
		__be16 half[7];
	} eth;
	struct {
		__be16 id, proto;
	} tag;
	__u32 proto;

	if (!READ(skb, 0, eth))
		return 0;
	*off = ETH_HLEN;
	proto = bpf_ntohs(eth.half[6]);
	if (*(__u8 *)&eth & 1)
		p->flags |= PACKET_GROUP;
	if (skb->vlan_present)
		p->flags |= PACKET_TAGGED;
	if (proto != ETH_P_8021Q_ && proto != ETH_P_8021AD_)
		return proto;
	if (workload && (p->flags & PACKET_TAGGED))
		return TWO_TAGS;
	p->flags |= PACKET_TAGGED;
	if (!READ(skb, ETH_HLEN, tag))
		return 0;
	*off += sizeof(tag);
	proto = bpf_ntohs(tag.proto);
	if (workload && (proto == ETH_P_8021Q_ || proto == ETH_P_8021AD_))
		return TWO_TAGS;
	return proto;
}

/* Fills the packet and says what it is: see enum parsed. Not inline, as ingress and egress share it. */
__noinline int parse(struct __sk_buff *skb, struct packet *p, __u32 iface_flags)
{
	__u32 proto, off = 0;
	int bad;

	if (!p)
		return parsed_bad(REASON_DROP_MALFORMED);
	__builtin_memset(p, 0, sizeof(*p));
	p->length = skb->len;
	p->segments = skb->gso_segs ? skb->gso_segs : 1;
	if (iface_flags & IFACE_LAYER3)
		proto = bpf_ntohs(skb->protocol);
	else
		proto = parse_ethernet(skb, p, iface_flags, &off);
	switch (proto) {
	case ETH_P_IP:
		bad = parse_ipv4(skb, p, off);
		break;
	case ETH_P_IPV6:
		bad = parse_ipv6(skb, p, off);
		break;
	case ETH_P_ARP:
		p->l4 = off;
		return PARSED_ARP;
	case TWO_TAGS:
		return parsed_bad(REASON_DROP_TAGGED);
	case 0:
	case ETH_P_8021Q_:
	case ETH_P_8021AD_:
		return parsed_bad(REASON_DROP_MALFORMED);
	default:
		return PARSED_OTHER;
	}
	return bad ? parsed_bad(bad) : PARSED_IP;
}

/* Reads the IPv4 header of a quoted packet. Returns the offset behind it; 0 if it is no such header. */
static __always_inline __u32 quoted_ipv4(struct __sk_buff *skb, struct packet *q, __u32 off)
{
	struct iphdr ip;
	__u32 header;

	if (!READ(skb, off, ip))
		return 0;
	header = (((__u8 *)&ip)[0] & 15) * 4;
	if (((__u8 *)&ip)[0] >> 4 != 4 || header < sizeof(ip))
		return 0;
	map_ipv4(q->src, ip.saddr);
	map_ipv4(q->dst, ip.daddr);
	q->proto = ip.protocol;
	q->first_header = ip.protocol;
	q->fragment = bpf_ntohs(ip.id);
	if (ip.frag_off & bpf_htons(0x1fff))
		q->flags |= PACKET_LATER_FRAGMENT;
	return off + header;
}

/*
 * Reads the IPv6 header of a quoted packet and its extension headers. Returns the offset behind them; 0 if they are
 * bad.
 */
static __always_inline __u32 quoted_ipv6(struct __sk_buff *skb, struct packet *q, __u32 off)
{
	struct ipv6hdr ip;

	if (!READ(skb, off, ip) || ((__u8 *)&ip)[0] >> 4 != 6)
		return 0;
	__builtin_memcpy(q->src, &ip.saddr, 16);
	__builtin_memcpy(q->dst, &ip.daddr, 16);
	q->flags = PACKET_IPV6;
	q->proto = ip.nexthdr;
	q->first_header = ip.nexthdr;
	off += sizeof(ip);
	if (is_extension(q->proto) && parse_extensions(skb, q, &off))
		return 0;
	return off;
}

/*
 * Reads the packet that an ICMP error quotes. 0 if the quote is too short to name a connection. A later fragment has no
 * ports in it: recall_fragment knows them.
 */
__noinline int parse_quoted(struct __sk_buff *skb, struct packet *error, struct packet *q)
{
	struct ports ports;
	struct icmp icmp;
	__u32 off;

	if (!error || !q)
		return 0;
	__builtin_memset(q, 0, sizeof(*q));
	off = error->l4 + sizeof(icmp);
	off = error->flags & PACKET_IPV6 ? quoted_ipv6(skb, q, off) : quoted_ipv4(skb, q, off);
	if (!off)
		return 0;
	if (q->flags & PACKET_LATER_FRAGMENT)
		return 1;
	if (has_ports(q->proto)) {
		if (!READ(skb, off, ports))
			return 0;
		q->sport = ports.source;
		q->dport = ports.dest;
	} else if (q->proto == IPPROTO_ICMP || q->proto == IPPROTO_ICMPV6) {
		if (!READ(skb, off, icmp))
			return 0;
		note_icmp(q, &icmp);
	}
	return 1;
}
