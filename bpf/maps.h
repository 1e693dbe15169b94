/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Every map of the program. Sizes written as 1 here are set by the loader. */
#pragma once

#include "layout.h"

/* Declares a map as libbpf and cilium/ebpf read it from BTF. */
#define MAP(map_name, map_type, key_type, value_type, entries, flags) \
	struct { \
		__uint(type, map_type); \
		__uint(max_entries, entries); \
		__uint(map_flags, flags); \
		__type(key, key_type); \
		__type(value, value_type); \
	} map_name SEC(".maps")

/* An address as a key: 16 bytes, IPv4 as ::ffff:a.b.c.d. */
struct address {
	__u8 addr[16] __attribute__((aligned(8)));
};

/* ---- of a generation: policy ---- */

MAP(slots, BPF_MAP_TYPE_ARRAY, __u32, struct slot, 1, BPF_F_MMAPABLE);
MAP(vectors, BPF_MAP_TYPE_ARRAY, __u32, struct vector, 1, BPF_F_MMAPABLE);
MAP(chunks, BPF_MAP_TYPE_ARRAY, __u32, struct chunk, 1, BPF_F_MMAPABLE);
MAP(wilds, BPF_MAP_TYPE_ARRAY, __u32, struct wild, 1, BPF_F_MMAPABLE);
MAP(services, BPF_MAP_TYPE_ARRAY, __u32, struct point_page, (SERVICES + PAGE_POINTS - 1) / PAGE_POINTS, BPF_F_MMAPABLE);
MAP(source_ports, BPF_MAP_TYPE_ARRAY, __u32, struct point_page, (SOURCE_PORTS + PAGE_POINTS - 1) / PAGE_POINTS,
    BPF_F_MMAPABLE);
MAP(hosts, BPF_MAP_TYPE_HASH, struct address, struct address_class, 1, BPF_F_NO_PREALLOC);
MAP(nets, BPF_MAP_TYPE_LPM_TRIE, struct net_key, struct address_class, 1, BPF_F_NO_PREALLOC);
MAP(interfaces, BPF_MAP_TYPE_HASH, __u32, struct iface, 1, BPF_F_NO_PREALLOC);
MAP(sources, BPF_MAP_TYPE_HASH, struct source_key, __u8, 1, BPF_F_NO_PREALLOC);
MAP(source_nets, BPF_MAP_TYPE_LPM_TRIE, struct source_net_key, __u8, 1, BPF_F_NO_PREALLOC);

/* ---- shared by generations: state ---- */

MAP(flows, BPF_MAP_TYPE_HASH, struct flow_key, struct flow, 1, BPF_F_NO_PREALLOC);
MAP(flows_new, BPF_MAP_TYPE_LRU_HASH, struct flow_key, struct flow, 1, 0);
MAP(flows_crowd, BPF_MAP_TYPE_LRU_HASH, struct flow_key, struct flow, 1, 0);
MAP(flows_old, BPF_MAP_TYPE_HASH, struct flow_key, struct flow, 1, BPF_F_NO_PREALLOC);
MAP(flows_new_old, BPF_MAP_TYPE_LRU_HASH, struct flow_key, struct flow, 1, 0);
MAP(flows_crowd_old, BPF_MAP_TYPE_LRU_HASH, struct flow_key, struct flow, 1, 0);
MAP(openings, BPF_MAP_TYPE_HASH, __u64, struct opening, 65536, BPF_F_NO_PREALLOC);
MAP(shares, BPF_MAP_TYPE_HASH, __u64, struct share, 65536, BPF_F_NO_PREALLOC);
MAP(fragments, BPF_MAP_TYPE_LRU_HASH, struct fragment_key, struct fragment, 8192, 0);
MAP(locals, BPF_MAP_TYPE_HASH, struct address, __u8, 65536, BPF_F_NO_PREALLOC);
MAP(epoch, BPF_MAP_TYPE_ARRAY, __u32, __u64, 1, BPF_F_MMAPABLE);
MAP(config, BPF_MAP_TYPE_ARRAY, __u32, struct settings, 1, BPF_F_MMAPABLE);
MAP(rule_hits, BPF_MAP_TYPE_PERCPU_HASH, __u64, struct hits, 131072, BPF_F_NO_PREALLOC);
MAP(reasons, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct hits, REASONS, 0);

MAP(event_times, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, __u64, 1, 0); /* when the next event would be due */

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} events SEC(".maps");

/* Frames that the agent answers: room for 150 of them. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18);
} questions SEC(".maps");

MAP(question_times, BPF_MAP_TYPE_LRU_HASH, __u32, __u64, 4096, 0); /* by interface: when its next question would be due */

/* ---- of one program: scratch ---- */

/*
 * Room for copies that do not fit on the stack. One for each processor: programs at a hook do not migrate, and do not
 * interrupt each other on a processor.
 */
struct scratch {
	struct flow flow;
	struct packet quoted;
	struct packet saved;
	__u64 quoted_way;
};

MAP(scratches, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct scratch, 1, 0);
MAP(last, BPF_MAP_TYPE_ARRAY, __u32, struct judged, 1, BPF_F_MMAPABLE);

/* ---- constants of a generation ---- */

volatile const __u32 blocks = 1;  /* of a vector */
volatile const __u32 testing = 0; /* write `last` */
volatile const __u32 set = 1;	  /* serial number of `flows` and what belongs to it; that of the old ones is less */

/*
 * Refers to every enum and struct that is not the value of a map. Clang leaves types out of BTF that nothing refers to,
 * and bpf/layout is generated from BTF.
 */
struct names {
	enum dimension dimension;
	enum action action;
	enum service_base service_base;
	enum stage stage;
	enum iface_flag iface_flag;
	enum local local;
	enum packet_flag packet_flag;
	enum flow_asker flow_asker;
	enum flow_state flow_state;
	enum flow_flag flow_flag;
	enum leg_way leg_way;
	enum leg_epoch leg_epoch;
	enum leg_side leg_side;
	enum flow_tables flow_tables;
	enum crowding crowding;
	enum log_level log_level;
	enum reason reason;
	enum event_kind event_kind;
	enum judgement judgement;
	struct chunk_word chunk_word;
	struct leg leg;
	struct event event;
	struct question question;
	struct sweep_result sweep_result;
	struct drain_result drain_result;
};

const struct names *volatile const names = NULL;

/*
 * The settings. The agent changes them while programs run; each field is read as one word. NULL never happens, but the
 * verifier asks for the check.
 */
static __always_inline struct settings *settings_now(void)
{
	__u32 zero = 0;
	return bpf_map_lookup_elem(&config, &zero);
}
