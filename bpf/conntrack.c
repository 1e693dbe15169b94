//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* The kernel's own connection tracking, as something to measure ours against. No part of the agent. */
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>

#include "types.h"

/* Only their names count. */
struct nf_conn {
	unsigned long status;
};

struct nf_conn___init {
	struct nf_conn ct;
};

struct bpf_ct_opts {
	__s32 netns_id;
	__s32 error;
	__u8 l4proto;
	__u8 dir;
	__u8 reserved[2];
};

extern struct nf_conn *bpf_skb_ct_lookup(struct __sk_buff *, struct bpf_sock_tuple *, __u32, struct bpf_ct_opts *,
					 __u32) __ksym;
extern struct nf_conn___init *bpf_skb_ct_alloc(struct __sk_buff *, struct bpf_sock_tuple *, __u32,
					       struct bpf_ct_opts *, __u32) __ksym;
extern struct nf_conn *bpf_ct_insert_entry(struct nf_conn___init *) __ksym;
extern void bpf_ct_set_timeout(struct nf_conn___init *, __u32) __ksym;
extern void bpf_ct_release(struct nf_conn *) __ksym;

#define FOREVER 3600000 /* milliseconds */

/* Reads the ends of a datagram over IPv4 without options. False if it is another packet. */
static __always_inline bool read_tuple(struct __sk_buff *skb, struct bpf_sock_tuple *tuple)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct iphdr *ip = data + ETH_HLEN;
	struct udphdr *udp = (void *)(ip + 1);

	if ((void *)(udp + 1) > end || ip->protocol != IPPROTO_UDP)
		return false;
	tuple->ipv4.saddr = ip->saddr;
	tuple->ipv4.daddr = ip->daddr;
	tuple->ipv4.sport = udp->source;
	tuple->ipv4.dport = udp->dest;
	return true;
}

/* Looks the packet's connection up, as the kernel does for each packet, and does nothing else of what it does then. */
SEC("tcx/ingress")
int conntrack_find(struct __sk_buff *skb)
{
	struct bpf_ct_opts opts = {.netns_id = -1, .l4proto = IPPROTO_UDP};
	struct bpf_sock_tuple tuple = {};
	struct nf_conn *ct;

	if (!read_tuple(skb, &tuple))
		return TCX_DROP;
	ct = bpf_skb_ct_lookup(skb, &tuple, sizeof(tuple.ipv4), &opts, sizeof(opts));
	if (!ct)
		return TCX_DROP;
	bpf_ct_release(ct);
	return TCX_NEXT;
}

/* Makes the kernel track the packet's connection. */
SEC("tcx/ingress")
int conntrack_add(struct __sk_buff *skb)
{
	struct bpf_ct_opts opts = {.netns_id = -1, .l4proto = IPPROTO_UDP};
	struct bpf_sock_tuple tuple = {};
	struct nf_conn___init *made;
	struct nf_conn *ct;

	if (!read_tuple(skb, &tuple))
		return TCX_DROP;
	made = bpf_skb_ct_alloc(skb, &tuple, sizeof(tuple.ipv4), &opts, sizeof(opts));
	if (!made)
		return TCX_DROP;
	bpf_ct_set_timeout(made, FOREVER);
	ct = bpf_ct_insert_entry(made);
	if (!ct)
		return TCX_DROP;
	bpf_ct_release(ct);
	return TCX_NEXT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
