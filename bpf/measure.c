//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* Programs that only tests and benchmarks run. No part of the agent. */
#include "classify.h"

/* A question to `classify_only`, and its answer. */
struct probe {
	struct packet packet;
	__u64 rule;
	__u32 mask;
	__u32 judgement; /* enum judgement */
};

/* Where `rotate` writes a number that counts up, network order, so that each run sees another connection. */
struct rotation {
	__u32 offset;
	__u32 first;
	__u32 count;
	__u32 next;
};

MAP(probes, BPF_MAP_TYPE_ARRAY, __u32, struct probe, 1, BPF_F_MMAPABLE);
MAP(rotations, BPF_MAP_TYPE_ARRAY, __u32, struct rotation, 1, BPF_F_MMAPABLE);
MAP(rotated, BPF_MAP_TYPE_PROG_ARRAY, __u32, __u32, 1, 0);

/* Does nothing. Each measurement is reported net of it. */
SEC("tcx/ingress")
int noop(struct __sk_buff *skb)
{
	return TCX_NEXT;
}

/* Judges the packet in `probes` by the mask beside it: the classifier without the rest. */
SEC("tcx/ingress")
int classify_only(struct __sk_buff *skb)
{
	struct job job = {};
	__u32 zero = 0;
	struct probe *probe = bpf_map_lookup_elem(&probes, &zero);

	if (!probe)
		return -1;
	job.packet = probe->packet;
	probe->judgement = classify(&job, probe->mask);
	probe->rule = job.rule;
	return probe->judgement;
}

/* Makes the packet that of another connection and hands it to the program in `rotated`, if there is one. */
SEC("tcx/ingress")
int rotate(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct rotation *r = bpf_map_lookup_elem(&rotations, &zero);
	__be32 number;

	if (!r)
		return -1;
	number = bpf_htonl(r->first + r->next);
	r->next = r->next + 1 >= r->count ? 0 : r->next + 1;
	bpf_skb_store_bytes(skb, r->offset, &number, sizeof(number), 0);
	bpf_tail_call(skb, &rotated, 0);
	return TCX_NEXT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
