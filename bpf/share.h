/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Shares: nobody fills the tables of connections alone. */
#pragma once

#include "verdict.h"

/* ---- of proven connections ---- */

/* May the endpoint have another proven connection? `most` is 0 if there is no bound. */
static __always_inline bool has_share(__u64 endpoint, __u32 most)
{
	struct share *share = bpf_map_lookup_elem(&shares, &endpoint);

	return !share || !most || share->used < most;
}

/* Counts another proven connection of an endpoint. */
static __always_inline void take_share(__u64 endpoint)
{
	struct share *share = bpf_map_lookup_elem(&shares, &endpoint);
	struct share first = {.used = 1};

	if (share)
		__sync_fetch_and_add(&share->used, 1);
	else
		bpf_map_update_elem(&shares, &endpoint, &first, BPF_NOEXIST);
}

/* ---- of connections that are not proven yet ---- */

/* Destinations behind an interface of the host are divided into 2^DESTINATION_BITS groups. */
#define DESTINATION_BITS 5

/*
 * The opener of the connection that begins with this packet, as a key of `openings`. A workload has one key for
 * connections that it opens, and one for those that others open to it. An interface of the host has one key for
 * connections that this host opens, and one for each group of addresses to which others open connections.
 */
static __always_inline __u64 opener_of(const struct job *job)
{
	const struct packet *p = &job->packet;
	__u64 opener = (__u64)job->iface.ifindex << 8, to;

	if (is_workload(job))
		return opener | job->egress;
	if (job->born_here)
		return opener;
	to = (*(u64_alias *)p->dst ^ *(u64_alias *)(p->dst + 8)) * 0x9e3779b97f4a7c15ULL;
	return opener | (1 + (to >> (64 - DESTINATION_BITS)));
}

/* Counts another connection of an opener. 1 if it is within the opener's share for this window. */
__noinline int open_another(__u64 opener, __u64 now)
{
	struct opening first = {.window = now >> OPENING_WINDOW_SHIFT, .count = 1};
	struct settings *s = settings_now();
	struct opening *o;

	if (!s)
		return 0;
	o = bpf_map_lookup_elem(&openings, &opener);
	if (!o)
		return !bpf_map_update_elem(&openings, &opener, &first, BPF_ANY);
	if (o->window != first.window) {
		*o = first;
		return 1;
	}
	return __sync_fetch_and_add(&o->count, 1) < s->opening_share;
}

/*
 * Tells every program that flows_crowd may have entries. Writes only if that is news: the settings are in a cache line
 * that all processors read.
 */
static __always_inline void note_crowd(void)
{
	struct settings *s = settings_now();

	if (s && READ_ONCE(s->crowding) != CROWDED)
		WRITE_ONCE(s->crowding, CROWDED);
}
