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
	__u64 summary;	    /* bit w: words[w].pos of the chunk is not zero */
	__u32 chunk;	    /* index into `chunks`; chunk 0 is all zero */
	__u32 source_ports; /* of a mask, in each block: not zero when some rule of the mask looks at the source port */
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
 * The class of an address, as a pair of vectors. It repeats the key, because the kernel may recycle a hash element for
 * another key while a program reads it: read dest and source, then addr, and look up again if addr is another one.
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
	IFACE_CLOSED = 1 << 5,	 /* drop everything: the endpoint has a problem or is beyond a limit */
	IFACE_LAYER3 = 1 << 6,	 /* its packets have no Ethernet header */
	IFACE_BRIDGED = 1 << 7,	 /* a workload's, and a port of a bridge */
	IFACE_ALLOW_NOT_IP = 1 << 8, /* the bridged workload may speak other protocols than IP and ARP */
	IFACE_ALLOW_TAGS = 1 << 9,   /* the bridged workload may use VLAN tags */
	IFACE_ASK_AGENT = 1 << 10, /* the agent answers DHCP and router solicitations of the workload */
	IFACE_SOURCE_NETS = 1 << 11, /* the workload may send from networks in source_nets */
};

/* Written in one piece: this write is the commit of a policy change for the endpoint. */
struct iface {
	__u64 endpoint; /* stable identity of the endpoint */
	__u32 ifindex;	/* repeats the key, as struct address_class does */
	__u32 flags;
	__u32 mask[STAGES]; /* vectors; 0: no policy at this stage */
	__u8 mac[6];
	__u16 peering_port; /* of the BGP speaker of this host, with which the workload may speak; 0: it may not */
	__u8 unused[4];
};

/* What an address of this host is for. */
enum local {
	LOCAL_HOST = 1,
	LOCAL_PEERING = 2, /* workloads speak BGP with this host there */
};

/* An address that a workload may send from. */
struct source_key {
	__u32 ifindex;
	__u8 addr[16];
};

/* A network that a workload may send from besides its addresses. */
struct source_net_key {
	__u32 prefixlen; /* 32 and the bits of the network: 32 to 160 */
	__u32 ifindex;
	__u8 addr[16];
};

/* ---- packets ---- */

enum packet_flag {
	PACKET_IPV6 = 1 << 0,
	PACKET_FIRST_FRAGMENT = 1 << 1,
	PACKET_LATER_FRAGMENT = 1 << 2,
	PACKET_ICMP_ERROR = 1 << 3, /* quotes a packet */
	PACKET_TAGGED = 1 << 4,	    /* a VLAN tag, in the packet or beside it */
	PACKET_TRACED = 1 << 5,	    /* part of a flow that can be answered with the roles swapped */
	PACKET_ANSWER = 1 << 6,	    /* an ICMP answer: it tells by itself which way it goes */
	PACKET_GROUP = 1 << 7,	    /* in a frame for a group of stations: broadcast or multicast */
};

/* The parts of a packet that the rest of the program needs. Ports of an ICMP query: its identifier, twice. */
struct packet {
	__u8 src[16] __attribute__((aligned(8)));
	__u8 dst[16] __attribute__((aligned(8)));
	__be16 sport;
	__be16 dport;
	__u8 proto;
	__u8 flags;
	__u8 icmp_type;
	__u8 icmp_code;
	__u32 seq;
	__u32 ack;
	__u32 length;
	__u16 segments;
	__u8 tcp_flags;
	__u8 hop_limit;
	__u32 fragment; /* identification of the fragmented packet */
	__u16 l4;	/* offset of the transport header */
	__u8 first_header; /* protocol as the fragment names it, before further extension headers */
	__u8 unused;
};

/* ---- connections ---- */

/* Both directions of a connection have this one key: the lesser end is `low`. */
struct flow_key {
	__u8 low[16] __attribute__((aligned(8)));
	__u8 high[16] __attribute__((aligned(8)));
	__be16 low_port;
	__be16 high_port;
	__u8 proto;
	__u8 kind;   /* ICMP: type of the query */
	__u8 asker;  /* enum flow_asker */
	__u8 unused;
};

/*
 * ICMP queries: which end asks, so that two ends that use one identifier stay apart. And a bit for any connection, which
 * says that the entry is that of bridge ports. A packet may pass such a port and then the bridge itself, the same way;
 * with one entry, each of the two hooks would take the leg from the other with each packet.
 */
enum flow_asker {
	ASKER_LOW = 1,
	ASKER_HIGH = 2,
	ASKER_AT_PORT = 1 << 7,
};

enum flow_state {
	FLOW_TCP_OPENING,
	FLOW_TCP_ESTABLISHED,
	FLOW_TCP_FINS,
	FLOW_TCP_RESET,
	FLOW_UDP,
	FLOW_ICMP,
	FLOW_GENERIC,
	FLOW_STATES,
};

enum flow_flag {
	FLOW_LOW_OPENED = 1 << 0, /* the end `low` sent the first packet */
	FLOW_ANSWERED = 1 << 1,
	FLOW_PROVEN = 1 << 2,
	FLOW_OPENER_FIN = 1 << 3,
	FLOW_REPLIER_FIN = 1 << 4,
	FLOW_REPLIER_RESET = 1 << 5, /* FLOW_TCP_RESET: the end that sent the reset, or is said to have */
};

enum leg_way {
	LEG_NONE,
	LEG_FROM_OPENER, /* approved for packets from the opener; answers may pass the other way */
	LEG_FROM_REPLIER,
};

enum leg_epoch {
	LEG_REVOKED_BIT = 63,
};

/*
 * A connection has a leg on each side of this host. A hook looks at its own leg only: an approval never holds for
 * another endpoint, interface or stage, nor after the epoch has advanced.
 */
struct leg {
	__u64 endpoint;
	__u64 epoch; /* of the approval. With LEG_REVOKED_BIT: the time since which it is not allowed any more */
	__u64 rule;
	__u32 ifindex;
	__u8 stage; /* STAGES: born here on the way to a workload */
	__u8 way;
	__u8 to_host; /* a workload that speaks to this host */
	__u8 unused;
	__u64 packets[2]; /* from the opener, from the replier */
	__u64 bytes[2];
};

enum leg_side {
	LEG_OPENER,  /* the side of the host where the opener is */
	LEG_REPLIER,
	LEGS,
};

struct flow {
	__u64 seen;    /* coarse monotonic clock, nanoseconds */
	__u64 created;
	__u64 tag;     /* hash of the key, by which a reader sees that the element was recycled for another one */
	__u64 owner;   /* of a proven connection: the endpoint in whose share it counts */
	__u32 answer;  /* TCP: sequence number that the replier expects to be acknowledged */
	__u8 state;
	__u8 flags;
	__u8 refused;  /* it could have been proven, but there was no room or no share */
	__u8 unused;
	struct leg legs[LEGS];
};

/* Proven connections of an endpoint. Each sweep counts them anew, so that a wrong count does not last. */
struct share {
	__u32 used;
	__u32 counted; /* by the sweep that is running */
};

/*
 * Connections that an opener has opened in a window of time. The key is the index of the interface, shifted left by 8,
 * plus the opener behind that interface: see opener_of().
 */
struct opening {
	__u32 window; /* the coarse monotonic clock, shifted right by OPENING_WINDOW_SHIFT */
	__u32 count;
};

#define OPENING_WINDOW_SHIFT 32 /* a window takes 2^32 ns, 4.3 s */
#define OPENER_KEPT 14		/* windows in which nothing is opened until an opener is forgotten: a minute */

/*
 * Says whether `flows_crowd` may have entries. A program writes CROWDED when it puts a connection there. The agent writes
 * CROWD_AGING before a sweep, and CROWD_NONE after a sweep that found none, unless a program has written meanwhile.
 */
enum crowding {
	CROWD_NONE,
	CROWD_AGING,
	CROWDED,
};

/* How a program uses its two sets of tables for connections. Programs of two generations may differ at one time. */
enum flow_tables {
	FLOW_TABLES_ONE,   /* the old tables are not in use */
	FLOW_TABLES_SWAP,  /* some links still run a program that knows only the old ones: work there */
	FLOW_TABLES_DRAIN, /* work in the new ones, hits in the old ones move */
};

enum log_level {
	LOG_RULES, /* Log rules only */
	LOG_DROPS, /* also each dropped packet and each flow that policy has ended */
	LOG_VERDICTS, /* also each allowed flow */
};

struct settings {
	__u64 timeout[FLOW_STATES]; /* nanoseconds */
	__u32 mark;		    /* set on packets of workloads that passed */
	__u32 log_level;
	__u32 revoke;		    /* a flow that policy no longer allows ends now */
	__u32 set;	/* serial number of the set of tables in which connections are kept */
	__u32 draining; /* the set before it is not empty yet */
	__u32 share; /* proven connections that one endpoint may have; 0: any number */
	__u32 opening_share; /* connections that one opener may open in a window before the next go to flows_crowd */
	__u32 crowding; /* enum crowding */
	__u32 host_mark; /* the gate sets it on packets of this host that have no socket; 0: there is no such mark */
	__u32 to_host_mark; /* set on packets of workloads that may reach this host */
	__u64 event_gap; /* nanoseconds from event to event of one processor, on average; 0: no bound */
};

/* Input (now) and result of `sweep`. */
struct sweep_result {
	__u64 now; /* coarse monotonic clock, nanoseconds */
	__u64 removed;
	__u64 proven; /* connections that are left */
	__u64 unproven;
	__u64 crowd;   /* of these, in flows_crowd */
	__u64 openers; /* that have opened a connection within OPENER_KEPT windows */
};

/* Input (now) and result of `drain`. */
struct drain_result {
	__u64 now;
	__u64 moved;
	__u64 left; /* connections that stay, for lack of room */
};

/* Ports of a fragmented packet for its later fragments. */
struct fragment_key {
	__u8 src[16] __attribute__((aligned(8)));
	__u8 dst[16] __attribute__((aligned(8)));
	__u32 id;
	__u32 ifindex;
	__u32 proto;
	__u32 egress;
};

struct fragment {
	__be16 sport;
	__be16 dport;
	__u8 proto;
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 flags;
};

/* ---- verdicts ---- */

enum reason {
	REASON_NONE,
	/* passed */
	REASON_PASS_FLOW,
	REASON_PASS_POLICY,
	REASON_PASS_NO_POLICY,
	REASON_PASS_END_OF_FORWARD,
	REASON_PASS_UNTRACKED,
	REASON_PASS_RELATED,
	REASON_PASS_NEIGHBOUR,
	REASON_PASS_NOT_IP,
	REASON_PASS_FROM_HOST,
	REASON_PASS_UNPARSED,
	REASON_PASS_DHCP,
	REASON_PASS_TO_AGENT, /* taken off the network, for the agent to answer */
	/* dropped */
	REASON_DROP_POLICY,
	REASON_DROP_END_OF_POLICY,
	REASON_DROP_REVOKED,
	REASON_DROP_CONTINUATIONS,
	REASON_DROP_NO_POLICY,
	REASON_DROP_NO_INTERFACE,
	REASON_DROP_CLOSED,
	REASON_DROP_TO_HOST,
	REASON_DROP_SOURCE,
	REASON_DROP_MAC,
	REASON_DROP_TAGGED,
	REASON_DROP_NOT_IP,
	REASON_DROP_ARP,
	REASON_DROP_NEIGHBOUR,
	REASON_DROP_ROUTER,
	REASON_DROP_TUNNEL,
	REASON_DROP_MALFORMED,
	REASON_DROP_HEADER_CHAIN,
	REASON_DROP_MAPPED,
	REASON_DROP_FRAGMENT,
	REASON_DROP_TINY_FRAGMENT,
	REASON_DROP_DHCP,
	REASON_DROP_LINK_LOCAL,
	REASON_DROP_DHCP_SERVER,
	REASON_DROP_LINK_CONTROL,
	REASON_DROP_FLOODED,
	REASON_DROP_QUESTION,
	/* beside a verdict */
	REASON_NOTE_FLOWS_FULL,
	REASON_NOTE_SHARE_FULL,
	REASON_NOTE_FLOW_NOT_STORED,
	REASON_NOTE_EVENT_LOST,
	REASON_NOTE_EVENT_LEFT_OUT,
	REASONS,
};

struct hits {
	__u64 packets;
	__u64 bytes;
};

enum event_kind {
	EVENT_DROP,
	EVENT_ALLOW, /* a new flow */
	EVENT_LOG,   /* a Log rule matched */
};

struct event {
	__u64 time; /* coarse monotonic clock, nanoseconds */
	__u64 rule;
	__u64 endpoint;
	struct packet packet;
	__u32 ifindex;
	__u8 kind;
	__u8 reason;
	__u8 stage;
	__u8 egress;
};

/* A frame of a workload that asks for its address or its router. The agent answers it. */
#define QUESTION_BYTES 1600

struct question {
	__u32 ifindex;
	__u32 length;
	__u8 frame[QUESTION_BYTES];
};

/* The verdict on the last packet. Only programs for tests and explanations write it. */
struct judged {
	__u64 rule;
	__u32 reason;
	__u32 stage;
};

enum judgement {
	JUDGE_UNDECIDED,
	JUDGE_ALLOW,
	JUDGE_DENY,
};

#define MAX_CONTINUATIONS 32
