/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Layouts that the agent and the program share. Each is written once, here; the Go types are generated from it.
 *
 * Every address is 16 bytes, an IPv4 address as ::ffff:a.b.c.d. Ports and addresses are in network order inside keys
 * of flows and fragments, everything else is in host order.
 */
#pragma once

#include "types.h"

/* ---- classifier: what a rule, a class and a mask look like ---- */

#define BLOCK_WORDS 64
#define BLOCK_SLOTS (BLOCK_WORDS * 64)
#define MAX_BLOCKS 32

enum dimension {
	DIM_SOURCE,
	DIM_DEST,
	DIM_SERVICE,
	DIM_SOURCE_PORT,
	DIMS,
};

enum action {
	ACTION_ALLOW = 1,
	ACTION_DENY,
	ACTION_PASS, /* go on at slot.next */
	ACTION_LOG,  /* emit an event, go on at the next slot */
};

/* A slot is a rule's place in the node's one order of rules. */
struct slot {
	__u64 rule; /* stable identity of the rule, for counters, flows and events */
	__u32 next; /* ACTION_PASS: the first slot of the next tier */
	__u8 action;
	__u8 unused[3];
};

/*
 * A vector holds one bit for each slot, in blocks; the array `vectors` has `blocks` entries for each vector:
 * entry v * blocks + b. Vector 0 is empty. A mask is a vector of which only `pos` counts.
 */
struct vector {
	__u64 summary; /* bit w: words[w].pos of the chunk is not zero */
	__u32 chunk;   /* index into `chunks`; chunk 0 is all zero */
	__u32 unused;
};

struct chunk_word {
	__u64 pos;  /* slots whose positive conditions the class meets */
	__u64 veto; /* slots whose negative condition the class violates */
};

struct chunk {
	struct chunk_word words[BLOCK_WORDS];
};

/* Slots that a dimension does not constrain, or only negatively; one entry for each block. */
struct wild {
	__u64 summary[DIMS];
	__u64 words[BLOCK_WORDS][DIMS];
};

/*
 * The class of an address, as a pair of vectors. The key is repeated because a hash element may be recycled under a
 * reader: read dest, source, then addr, and start over when addr is not the one that was looked up.
 */
struct address_class {
	__u8 addr[16];
	__u32 source;
	__u32 dest;
};

struct net_key {
	__u32 prefixlen; /* 0 to 128 */
	__u8 addr[16];
};

/*
 * Services stand in one line: 65,536 destination ports for each of TCP, UDP, SCTP and UDPLite, then 65,536 points
 * type * 256 + code for each of ICMP and ICMPv6, then one point for each protocol number (used by all protocols that
 * are not among these six). Source ports likewise: the four protocols with ports, then one point for everything else.
 */
enum service_base {
	SERVICE_TCP = 0 << 16,
	SERVICE_UDP = 1 << 16,
	SERVICE_SCTP = 2 << 16,
	SERVICE_UDPLITE = 3 << 16,
	SERVICE_ICMP = 4 << 16,
	SERVICE_ICMPV6 = 5 << 16,
	SERVICE_OTHER = 6 << 16,
	SERVICES = (6 << 16) + 256,
	SOURCE_PORT_NONE = 4 << 16,
	SOURCE_PORTS = (4 << 16) + 1,
};

#define PAGE_POINTS 256

/* Points of `services` and `source_ports` in pages: an array element of less than 8 bytes would waste the rest. */
struct point_page {
	__u32 vector[PAGE_POINTS];
};

/* ---- endpoints ---- */

enum stage {
	STAGE_NORMAL_IN, /* towards the endpoint: to the workload, or from the wire to this host */
	STAGE_NORMAL_OUT,
	STAGE_FORWARD_IN,
	STAGE_FORWARD_OUT,
	STAGE_PREDNAT_IN,
	STAGE_UNTRACKED_IN,
	STAGE_UNTRACKED_OUT,
	STAGES,
};

enum iface_flag {
	IFACE_WORKLOAD = 1 << 0, /* else it belongs to the host */
	IFACE_CHECK_MAC = 1 << 1,
	IFACE_ALLOW_VXLAN = 1 << 2,
	IFACE_ALLOW_IPIP = 1 << 3,
	IFACE_TO_HOST = 1 << 4,	 /* the workload may reach this host once its egress policy allows */
	IFACE_CLOSED = 1 << 5,	 /* broken or beyond a limit: drop everything, say why */
};

/* Written in one piece: this write is the commit of a policy change for the endpoint. */
struct iface {
	__u64 endpoint; /* stable identity of the endpoint */
	__u32 ifindex;	/* the key again, see address_class */
	__u32 flags;
	__u32 mask[STAGES]; /* vectors; 0: no policy at this stage */
	__u8 mac[6];
	__u8 unused[6];
};

/* An address that a workload may send from. */
struct source_key {
	__u32 ifindex;
	__u8 addr[16];
};
