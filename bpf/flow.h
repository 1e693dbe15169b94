/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Connections: their key, their tables, their state. Who may approve one is judge.h's subject. */
#pragma once

#include "parse.h"
#include "share.h"

/* The table in which a connection was found. The old ones stand in the same order, TABLE_PROVEN_OLD further. */
enum flow_table {
	TABLE_PROVEN,
	TABLE_NEW,
	TABLE_CROWD, /* unproven too, of those who open more than their share */
	TABLE_PROVEN_OLD,
	TABLE_NEW_OLD,
	TABLE_CROWD_OLD,
};

/* The mark of a leg that has lost its permission; the rest of its epoch is the time when it did. */
#define LEG_REVOKED (1ULL << LEG_REVOKED_BIT)

/*
 * Denied packets keep a revoked connection from being idle for this long, in nanoseconds. A TCP sender gives up earlier
 * (tcp_retries2 in the kernel's ip-sysctl.rst: 924 s). Without a bound, two ends that always use the same ports could
 * never open a connection the other way.
 */
#define REVOKED_KEPT (16 * 60 * 1000000000ULL)

/* The connection of a packet, as far as there is one. */
struct track {
	struct flow_key key;
	__u64 now;
	struct flow *flow; /* none: no connection, or an expired one */
	__u8 table;
	__u8 from_low;	   /* the packet comes from the end `low` */
	__u8 reply;	   /* it goes from the replier to the opener */
};

/*
 * Does the packet come from the lesser end: lesser by address, then by port? The order is by 64-bit words in the
 * machine's byte order; any fixed order would do.
 */
static __always_inline bool from_low(const struct packet *p)
{
	__u64 src = *(u64_alias *)p->src, dst = *(u64_alias *)p->dst;

	if (src != dst)
		return src < dst;
	src = *(u64_alias *)(p->src + 8);
	dst = *(u64_alias *)(p->dst + 8);
	if (src != dst)
		return src < dst;
	return p->sport <= p->dport;
}

/* Is this a flow of one end to itself, on one port? It has no direction: all its packets count as the opener's. */
static __always_inline bool is_self(const struct flow_key *key)
{
	return key->low_port == key->high_port && same_address(key->low, key->high);
}

/*
 * Sets the key of the packet's connection, the same for both directions, and from which end the packet comes. `at_port`
 * says that the hook is at a bridge port.
 */
static __always_inline void track_key(struct track *t, const struct packet *p, bool at_port)
{
	struct flow_key *key = &t->key;

	t->from_low = from_low(p);
	if (t->from_low) {
		__builtin_memcpy(key->low, p->src, 16);
		__builtin_memcpy(key->high, p->dst, 16);
		key->low_port = p->sport;
		key->high_port = p->dport;
	} else {
		__builtin_memcpy(key->low, p->dst, 16);
		__builtin_memcpy(key->high, p->src, 16);
		key->low_port = p->dport;
		key->high_port = p->sport;
	}
	key->proto = p->proto;
	key->kind = 0;
	key->asker = at_port ? ASKER_AT_PORT : 0;
	key->unused = 0;
	if (p->proto == IPPROTO_ICMP || p->proto == IPPROTO_ICMPV6) {
		bool low_asks = !!t->from_low != !!(p->flags & PACKET_ANSWER);

		key->kind = query_of(p->proto, p->icmp_type);
		if (p->flags & PACKET_TRACED)
			key->asker |= low_asks || is_self(key) ? ASKER_LOW : ASKER_HIGH;
	}
}

/*
 * A hash of the key, which the entry carries: a reader sees by it that the element has been recycled for another
 * connection.
 */
static __always_inline __u64 tag_of(const struct flow_key *key)
{
	const u64_alias *k = (const u64_alias *)key;

	return k[0] * 0x9e3779b97f4a7c15ULL + k[1] * 0xc2b2ae3d27d4eb4fULL + k[2] * 0x165667b19e3779f9ULL +
	       k[3] * 0xd6e8feb86659fd93ULL + k[4] * 0xff51afd7ed558ccdULL;
}

/* Has the connection been idle for longer than the timeout of its state? It then counts as absent. */
static __always_inline bool expired(const struct flow *f, const struct settings *s, __u64 now)
{
	__u32 state = f->state;

	if (state >= FLOW_STATES)
		return true;
	/* Another processor may have written a later time than ours. */
	return (__s64)(now - f->seen) > (__s64)s->timeout[state];
}

/*
 * How this program uses its two sets of tables: see enum flow_tables. `set` is the set that it was loaded with, s->set
 * the one in which all programs work now.
 */
static __always_inline __u32 tables_of(const struct settings *s)
{
	if (s->set < set)
		return FLOW_TABLES_SWAP;
	return s->draining ? FLOW_TABLES_DRAIN : FLOW_TABLES_ONE;
}

/* Does the segment open a TCP connection? */
static __always_inline bool is_syn(const struct packet *p)
{
	return p->proto == IPPROTO_TCP && (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

/* Does the segment accept a TCP connection? */
static __always_inline bool is_syn_ack(const struct packet *p)
{
	return p->proto == IPPROTO_TCP && (p->tcp_flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK);
}

/* Has one of the legs lost its permission? */
static __always_inline bool is_revoked(const struct flow *f)
{
	return (f->legs[LEG_OPENER].epoch | f->legs[LEG_REPLIER].epoch) & LEG_REVOKED;
}

/*
 * Writes to the crowd's table, and says so in the settings: no program looks into the table while it is said to be
 * empty.
 */
static __always_inline long store_in_crowd(const struct flow_key *key, const struct flow *f, __u64 flags)
{
	long err;

	note_crowd(); /* first: whoever looks for the connection must not miss it */
	err = bpf_map_update_elem(&flows_crowd, key, f, flags);
	note_crowd(); /* and again: a sweep may have found the table empty in between */
	return err;
}

/*
 * Writes an entry to a table. Returns 0 or the error of bpf_map_update_elem. A switch and not an array of maps: a map
 * must be a constant for the verifier to know its key and value.
 */
static __always_inline long store(__u32 table, const struct flow_key *key, const struct flow *f, __u64 flags)
{
	switch (table) {
	case TABLE_PROVEN:
		return bpf_map_update_elem(&flows, key, f, flags);
	case TABLE_NEW:
		return bpf_map_update_elem(&flows_new, key, f, flags);
	case TABLE_CROWD:
		return store_in_crowd(key, f, flags);
	case TABLE_PROVEN_OLD:
		return bpf_map_update_elem(&flows_old, key, f, flags);
	case TABLE_NEW_OLD:
		return bpf_map_update_elem(&flows_new_old, key, f, flags);
	default:
		return bpf_map_update_elem(&flows_crowd_old, key, f, flags);
	}
}

/* Deletes an entry of a table, if it is there. */
static __always_inline void erase(__u32 table, const struct flow_key *key)
{
	switch (table) {
	case TABLE_PROVEN:
		bpf_map_delete_elem(&flows, key);
		break;
	case TABLE_NEW:
		bpf_map_delete_elem(&flows_new, key);
		break;
	case TABLE_CROWD:
		bpf_map_delete_elem(&flows_crowd, key);
		break;
	case TABLE_PROVEN_OLD:
		bpf_map_delete_elem(&flows_old, key);
		break;
	case TABLE_NEW_OLD:
		bpf_map_delete_elem(&flows_new_old, key);
		break;
	default:
		bpf_map_delete_elem(&flows_crowd_old, key);
	}
}

/* The scratch of this processor. */
static __always_inline struct scratch *scratch_here(void)
{
	__u32 zero = 0;
	return bpf_map_lookup_elem(&scratches, &zero);
}

/*
 * Puts a copy of a connection into another table, and deletes it from the one where it was. An entry that is there
 * already stays: another processor was faster, and may have changed it since. Returns 0 or a negative error: -EEXIST
 * for such an entry, -E2BIG for a full table.
 */
__noinline int move_flow(struct flow_key *key, struct flow *f, __u32 from, __u32 to)
{
	struct scratch *scratch = scratch_here();
	long err;

	if (!key || !f || !scratch)
		return -1;
	scratch->flow = *f;
	if (scratch->flow.tag != tag_of(key))
		return -1;
	err = store(to, key, &scratch->flow, BPF_NOEXIST);
	if (!err || err == -EEXIST)
		erase(from, key);
	return err;
}

/* Looks for a key in a table. */
static __always_inline struct flow *lookup_table(__u32 table, const struct flow_key *key)
{
	switch (table) {
	case TABLE_PROVEN:
		return bpf_map_lookup_elem(&flows, key);
	case TABLE_NEW:
		return bpf_map_lookup_elem(&flows_new, key);
	case TABLE_CROWD:
		return bpf_map_lookup_elem(&flows_crowd, key);
	case TABLE_PROVEN_OLD:
		return bpf_map_lookup_elem(&flows_old, key);
	case TABLE_NEW_OLD:
		return bpf_map_lookup_elem(&flows_new_old, key);
	default:
		return bpf_map_lookup_elem(&flows_crowd_old, key);
	}
}

/* Looks for a connection in one table, and notes the table. */
static __always_inline struct flow *find_in(struct track *t, __u32 table)
{
	t->table = table;
	return lookup_table(table, &t->key);
}

/*
 * Looks for a connection in the old tables. While older programs still need it there (FLOW_TABLES_SWAP) it stays;
 * afterwards (FLOW_TABLES_DRAIN) the hit moves to the new tables.
 */
static __always_inline struct flow *find_old(struct track *t, __u32 tables)
{
	struct flow *f = find_in(t, TABLE_PROVEN_OLD);
	int err;

	if (!f)
		f = find_in(t, TABLE_NEW_OLD);
	if (!f)
		f = find_in(t, TABLE_CROWD_OLD);
	if (!f || tables != FLOW_TABLES_DRAIN)
		return f;
	err = move_flow(&t->key, f, t->table, t->table - TABLE_PROVEN_OLD);
	if (err && err != -EEXIST)
		return f; /* no room: it works where it is */
	t->table -= TABLE_PROVEN_OLD;
	return lookup_table(t->table, &t->key);
}

/*
 * Looks again for a connection that was in none of the tables. It may have moved from one to another meanwhile. Or it
 * was written anew: htab_map_update_elem (kernel/bpf/hashtab.c) puts the new element at the head of its bucket, where a
 * lookup under way has passed, and then deletes the old one. Without this second look, an answer would be taken for a
 * new connection, the other way round. Each table is asked before the one to which its entries move.
 */
static __always_inline struct flow *find_moved(struct track *t, const struct settings *s)
{
	struct flow *f = NULL;

	if (tables_of(s) != FLOW_TABLES_ONE) {
		f = find_in(t, TABLE_NEW_OLD);
		if (!f)
			f = find_in(t, TABLE_CROWD_OLD);
		if (!f)
			f = find_in(t, TABLE_PROVEN_OLD);
	}
	if (!f)
		f = find_in(t, TABLE_NEW);
	if (!f && s->crowding)
		f = find_in(t, TABLE_CROWD);
	if (!f)
		f = find_in(t, TABLE_PROVEN);
	return f;
}

/* Does the packet go from the replier to the opener? */
static __always_inline bool is_reply(const struct track *t, const struct flow *f)
{
	return !!(f->flags & FLOW_LOW_OPENED) != !!t->from_low && !is_self(&t->key);
}

/*
 * Finds the connection of the key in t: sets t->flow, t->table and t->reply. An expired connection is deleted and
 * counts as absent. `opening` says that the packet opens one, so that a second look is needless.
 */
static __always_inline void find_flow(struct track *t, const struct settings *s, bool opening)
{
	struct flow *f = find_in(t, TABLE_PROVEN);
	__u32 tables = tables_of(s);

	if (!f)
		f = find_in(t, TABLE_NEW);
	if (!f && s->crowding)
		f = find_in(t, TABLE_CROWD);
	if (!f && tables != FLOW_TABLES_ONE)
		f = find_old(t, tables);
	if (!f && !opening)
		f = find_moved(t, s);
	t->flow = NULL;
	t->reply = 0;
	if (!f)
		return;
	if (expired(f, s, t->now)) {
		erase(t->table, &t->key);
		return;
	}
	t->flow = f;
	t->reply = is_reply(t, f);
}

/*
 * Looks for the connection anew after its element was recycled: the connection was written to another element, or it is
 * gone. Not inline: find_flow is large, and the verifier then checks it once.
 */
static __noinline void find_again(struct track *t)
{
	struct settings *s = settings_now();

	t->flow = NULL;
	if (s)
		find_flow(t, s, false);
}

/* Copies the connection. False if the element was recycled for another one before or while it was copied. */
static __always_inline bool copy_flow(struct track *t, struct flow *copy)
{
	__u64 tag = tag_of(&t->key);

	if (!t->flow)
		return false;
	*copy = *t->flow;
	barrier();
	if (copy->tag != tag || READ_ONCE(t->flow->tag) != tag) /* it was recycled, or was being so */
		return false;
	t->reply = is_reply(t, copy);
	return true;
}

/*
 * Copies the connection, because its element may be recycled while the packet is judged by what it says. One more look
 * finds an entry that was written anew. If the connection is gone, t->flow is NULL.
 */
static __always_inline void take_copy(struct track *t, struct flow *copy)
{
	if (!t->flow || copy_flow(t, copy))
		return;
	find_again(t);
	if (copy_flow(t, copy))
		return;
	t->flow = NULL;
	t->reply = 0;
}

/* The state in which a connection begins. */
static __always_inline __u8 first_state(const struct packet *p)
{
	switch (p->proto) {
	case IPPROTO_TCP:
		return FLOW_TCP_OPENING;
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
		return FLOW_UDP;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return FLOW_ICMP;
	default:
		return FLOW_GENERIC;
	}
}

/*
 * How far behind the first answer an acknowledgement may be, in sequence numbers. The less, the harder it is to guess
 * one: a sender that does not see the answer hits it once in 2^14 packets.
 */
#define ACK_WINDOW (1 << 18)

/*
 * Notes the first answer. For TCP, also the sequence number that an opener must acknowledge to prove that it has seen
 * it.
 */
static __always_inline void note_answer(struct flow *f, const struct packet *p)
{
	if (!(f->flags & FLOW_ANSWERED) || (p->tcp_flags & TCP_SYN))
		f->answer = p->seq + !!(p->tcp_flags & TCP_SYN);
	f->flags |= FLOW_ANSWERED;
}

/*
 * Does the opener's packet prove that it has received the answer? A sender of forged source addresses does not see
 * answers. Protocols without acknowledgements prove it by any further packet.
 */
static __always_inline bool proves(const struct flow *f, const struct packet *p)
{
	if (!(f->flags & FLOW_ANSWERED))
		return false;
	return p->proto != IPPROTO_TCP || ((p->tcp_flags & TCP_ACK) && p->ack - f->answer < ACK_WINDOW);
}

/* Does the packet say something about the end of its connection, or about a reset that may have been forged? */
static __always_inline bool tells_of_end(const struct flow *f, const struct packet *p)
{
	return p->proto == IPPROTO_TCP && ((p->tcp_flags & (TCP_RST | TCP_FIN)) || f->state == FLOW_TCP_RESET);
}

/*
 * Ends the state FLOW_TCP_RESET if the end that is said to have sent the reset goes on sending. A reset is easily
 * forged, as no sequence numbers are kept here. Packets of the other end prove nothing: they may have been under way.
 */
static __always_inline void take_reset_back(struct flow *f, bool reply)
{
	if (f->state != FLOW_TCP_RESET || !!(f->flags & FLOW_REPLIER_RESET) != reply)
		return;
	f->state = f->flags & FLOW_PROVEN || f->refused ? FLOW_TCP_ESTABLISHED : FLOW_TCP_OPENING;
}

/* Follows the end of a TCP connection: a reset, or a FIN from both ends. */
static __always_inline void note_tcp(struct flow *f, const struct packet *p, bool reply)
{
	if (p->tcp_flags & TCP_RST) {
		f->state = FLOW_TCP_RESET;
		f->flags = reply ? f->flags | FLOW_REPLIER_RESET : f->flags & ~FLOW_REPLIER_RESET;
		return;
	}
	take_reset_back(f, reply);
	if (p->tcp_flags & TCP_FIN)
		f->flags |= reply ? FLOW_REPLIER_FIN : FLOW_OPENER_FIN;
	if ((f->flags & FLOW_OPENER_FIN) && (f->flags & FLOW_REPLIER_FIN) && f->state != FLOW_TCP_RESET)
		f->state = FLOW_TCP_FINS;
}

/*
 * Moves a connection to the table of proven ones, if there is room for it and its endpoint has a share left. Returns 0,
 * or the reason to count if there is none. The caller tries again at most once a tick after that (f->refused).
 */
__noinline int prove(struct flow_key *key, struct flow *f, __u32 table, __u64 endpoint)
{
	struct settings *s = settings_now();
	__u8 flags;
	__u32 to;
	int err;

	if (!key || !f || !s)
		return 0;
	f->refused = 1; /* for now */
	if (f->state == FLOW_TCP_OPENING) /* with or without room: it has its time */
		f->state = FLOW_TCP_ESTABLISHED;
	if (!has_share(endpoint, s->share))
		return REASON_NOTE_SHARE_FULL;
	to = tables_of(s) == FLOW_TABLES_SWAP ? TABLE_PROVEN_OLD : TABLE_PROVEN;
	flags = f->flags;
	f->flags |= FLOW_PROVEN;
	f->owner = endpoint;
	err = move_flow(key, f, table, to);
	if (err == -EEXIST) /* another processor has just proven it */
		return 0;
	if (err) {
		f->flags = flags;
		return REASON_NOTE_FLOWS_FULL;
	}
	take_share(endpoint);
	return 0;
}

/*
 * Counts a packet that passed on an approved leg. The counters are not exact when several processors carry one
 * connection: an atomic addition would cost more than all the rest here.
 */
static __always_inline void advance(struct track *t, struct leg *leg, const struct packet *p)
{
	struct flow *f = t->flow;
	__u32 reply = t->reply & 1;
	bool tick = f->seen != t->now;
	int note;

	leg->packets[reply] += p->segments;
	leg->bytes[reply] += p->length;
	if (tick)
		f->seen = t->now;
	if (p->flags & PACKET_LATER_FRAGMENT)
		return;
	if (tells_of_end(f, p))
		note_tcp(f, p, reply);
	if (f->flags & FLOW_PROVEN)
		return;
	if (reply) {
		note_answer(f, p);
	} else if (proves(f, p) && (tick || !f->refused)) {
		note = prove(&t->key, f, t->table, leg->endpoint);
		if (note)
			count_reason(note, p);
	}
}
