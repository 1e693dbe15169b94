/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The first rule that matches: bit vectors over the slots, see layout.h. */
#pragma once

#include <linux/in.h>

#include "parse.h"
#include "verdict.h"

#define NO_SLOT ((__u32)-1)

/* The vectors of a packet's classes, by dimension. */
struct classes {
	__u32 source;
	__u32 dest;
	__u32 service;
	__u32 source_port;
	__u32 wants_source_port;
};

/*
 * Position of the lowest set bit of a number that is not 0. Without branches or a loop, because the verifier would walk
 * every path; BPF has no instruction for it.
 */
static __always_inline __u32 lowest_bit(__u64 x)
{
	x = (x & -x) - 1;
	x -= (x >> 1) & 0x5555555555555555ULL;
	x = (x & 0x3333333333333333ULL) + ((x >> 2) & 0x3333333333333333ULL);
	x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
	return (x * 0x0101010101010101ULL) >> 56;
}

/* The vector of a point in `services` or `source_ports`; 0, the empty one, if there is none. */
static __always_inline __u32 page_of(void *map, __u32 point)
{
	__u32 index = point / PAGE_POINTS;
	struct point_page *page = bpf_map_lookup_elem(map, &index);

	return page ? page->vector[point % PAGE_POINTS] : 0;
}

/* The first point of a protocol with ports. Both lines have the same order. */
static __always_inline __u32 port_line(__u8 proto)
{
	switch (proto) {
	case IPPROTO_TCP:
		return SERVICE_TCP;
	case IPPROTO_UDP:
		return SERVICE_UDP;
	case IPPROTO_SCTP:
		return SERVICE_SCTP;
	default:
		return SERVICE_UDPLITE;
	}
}

/* The point of a packet in `services`. classifier.Service is the same in Go. */
static __always_inline __u32 service_point(const struct packet *p)
{
	if (has_ports(p->proto))
		return port_line(p->proto) + bpf_ntohs(p->dport);
	if (p->proto == IPPROTO_ICMP)
		return SERVICE_ICMP + p->icmp_type * 256 + p->icmp_code;
	if (p->proto == IPPROTO_ICMPV6)
		return SERVICE_ICMPV6 + p->icmp_type * 256 + p->icmp_code;
	return SERVICE_OTHER + p->proto;
}

/* The point of a packet in `source_ports`. classifier.SourcePort is the same in Go. */
static __always_inline __u32 source_port_point(const struct packet *p)
{
	return has_ports(p->proto) ? port_line(p->proto) + bpf_ntohs(p->sport) : SOURCE_PORT_NONE;
}

/*
 * The class of an address: of the host, else of the longest prefix that contains it, else none. Returns the vector as a
 * source in the lower 32 bits, as a destination in the upper ones. Not inline, so that the verifier checks it once and
 * the second call finds its code in the cache.
 *
 * A hash element may be recycled for another address while it is read (see struct address_class), so it counts only if
 * its address is still the right one after the vectors were read. If not, another lookup finds the new element. Three
 * tries bound the loop for the verifier; after them the packet gets the class of its network, which is the class of the
 * address before it had an element of its own. Elements of the trie are not recycled within a run of the program:
 * trie_update_elem and trie_delete_elem free them after an RCU grace period.
 */
__noinline __u64 class_of(struct address *addr)
{
	struct address_class *c;
	struct net_key net;
	__u32 source, dest;
	int try;

	if (!addr)
		return 0;
	for (try = 0; try < 3; try++) {
		c = bpf_map_lookup_elem(&hosts, addr);
		if (!c)
			break;
		dest = READ_ONCE(c->dest);
		source = READ_ONCE(c->source);
		barrier();
		if (same_address(c->addr, addr->addr))
			return source | (__u64)dest << 32;
	}
	net.prefixlen = 128;
	__builtin_memcpy(net.addr, addr, 16);
	c = bpf_map_lookup_elem(&nets, &net);
	return c ? c->source | (__u64)c->dest << 32 : 0;
}

/* One block of a vector. */
static __always_inline struct vector *vector_at(__u32 vector, __u32 block)
{
	__u32 index = vector * blocks + block;

	return bpf_map_lookup_elem(&vectors, &index);
}

/* The words of a block. Chunk 0 is all zero. */
static __always_inline struct chunk *chunk_at(__u32 index)
{
	return bpf_map_lookup_elem(&chunks, &index);
}

/*
 * First slot of a block, at or after `from`, that the mask has and whose rule the packet meets; NO_SLOT if there is
 * none. Not inline: the verifier then checks the loop over words once, and not for each block.
 *
 * The summaries are read before the words, and the agent writes them in the other order: a bit of a summary may lead to
 * a word that is zero, but no word is missed. Slots of the mask are complete before the mask is written.
 */
__noinline __u32 first_in_block(struct classes *c, __u32 mask, __u32 block, __u32 from)
{
	struct vector *applies, *source, *dest, *service, *port = NULL;
	struct chunk *in_applies, *in_source, *in_dest, *in_service, *in_port = NULL;
	struct wild *any;
	__u64 words;
	int i;

	applies = vector_at(mask, block);
	if (!applies || !c)
		return NO_SLOT;
	words = applies->summary;
	if (from >= (block + 1) * BLOCK_SLOTS)
		return NO_SLOT;
	if (from > block * BLOCK_SLOTS)
		words &= ~0ULL << (from / 64 % 64);
	if (!words)
		return NO_SLOT;
	any = bpf_map_lookup_elem(&wilds, &block);
	source = vector_at(c->source, block);
	dest = vector_at(c->dest, block);
	service = vector_at(c->service, block);
	if (!any || !source || !dest || !service)
		return NO_SLOT;
	words &= any->summary[DIM_SOURCE] | source->summary;
	words &= any->summary[DIM_DEST] | dest->summary;
	words &= any->summary[DIM_SERVICE] | service->summary;
	if (c->wants_source_port) {
		port = vector_at(c->source_port, block);
		if (!port)
			return NO_SLOT;
		words &= any->summary[DIM_SOURCE_PORT] | port->summary;
	}
	if (!words)
		return NO_SLOT;
	in_applies = chunk_at(applies->chunk);
	in_source = chunk_at(source->chunk);
	in_dest = chunk_at(dest->chunk);
	in_service = chunk_at(service->chunk);
	if (!in_applies || !in_source || !in_dest || !in_service)
		return NO_SLOT;
	if (port) {
		in_port = chunk_at(port->chunk);
		if (!in_port)
			return NO_SLOT;
	}
	for (i = 0; i < BLOCK_WORDS && words; i++) {
		__u32 w = lowest_bit(words);
		__u64 bits;

		words &= words - 1;
		HIDE(w);
		w &= BLOCK_WORDS - 1;
		bits = in_applies->words[w].pos;
		if (w == from / 64 % 64 && from > block * BLOCK_SLOTS)
			bits &= ~0ULL << (from % 64);
		bits &= (any->words[w][DIM_SOURCE] | in_source->words[w].pos) & ~in_source->words[w].veto;
		bits &= (any->words[w][DIM_DEST] | in_dest->words[w].pos) & ~in_dest->words[w].veto;
		bits &= (any->words[w][DIM_SERVICE] | in_service->words[w].pos) & ~in_service->words[w].veto;
		if (in_port)
			bits &= (any->words[w][DIM_SOURCE_PORT] | in_port->words[w].pos) & ~in_port->words[w].veto;
		if (bits)
			return block * BLOCK_SLOTS + w * 64 + lowest_bit(bits);
	}
	return NO_SLOT;
}

/*
 * First slot of all blocks, at or after `from`. `blocks` is a constant of the generation; MAX_BLOCKS bounds the loop
 * for the verifier.
 */
__noinline __u32 first_slot(struct classes *c, __u32 mask, __u32 from)
{
	struct vector *applies;
	__u32 block, slot;

	if (!c)
		return NO_SLOT;
	for (block = from / BLOCK_SLOTS; block < MAX_BLOCKS && block < blocks; block++) {
		applies = vector_at(mask, block);
		if (!applies || !applies->summary)
			continue;
		slot = first_in_block(c, mask, block, from);
		if (slot != NO_SLOT)
			return slot;
	}
	return NO_SLOT;
}

/* Finds the classes of a packet. Few masks have rules about source ports, so that lookup is made only for those. */
static __always_inline void classes_of(struct classes *c, struct packet *p, __u32 mask)
{
	struct vector *applies = vector_at(mask, 0);

	c->source = class_of((struct address *)p->src);
	c->dest = class_of((struct address *)p->dst) >> 32;
	c->service = page_of(&services, service_point(p));
	c->source_port = 0;
	c->wants_source_port = applies && applies->source_ports;
	if (c->wants_source_port)
		c->source_port = page_of(&source_ports, source_port_point(p));
}

/*
 * Judges a packet by the rules of a mask, and notes the deciding rule in the job. JUDGE_UNDECIDED if no rule allows or
 * denies it. Counts each rule that matches, and emits the events of Log rules. Each Pass and Log continues the search,
 * at most MAX_CONTINUATIONS times: the agent closes endpoints that would need more.
 */
__noinline int classify(struct job *job, __u32 mask)
{
	struct classes c;
	struct slot *s;
	__u32 from = 0, slot;
	int i;

	if (!job)
		return JUDGE_DENY;
	classes_of(&c, &job->packet, mask);
	for (i = 0; i <= MAX_CONTINUATIONS; i++) {
		slot = first_slot(&c, mask, from);
		if (slot == NO_SLOT) {
			job->rule = 0;
			return JUDGE_UNDECIDED;
		}
		s = bpf_map_lookup_elem(&slots, &slot);
		if (!s)
			break;
		job->rule = s->rule;
		count_rule(s->rule, &job->packet);
		if (s->action == ACTION_ALLOW)
			return JUDGE_ALLOW;
		if (s->action == ACTION_PASS) {
			from = s->next;
		} else if (s->action == ACTION_LOG) {
			if (job->packet.segments) /* else it is a mere question */
				emit(job, EVENT_LOG);
			from = slot + 1;
		} else {
			job->reason = REASON_DROP_POLICY;
			return JUDGE_DENY;
		}
	}
	job->reason = REASON_DROP_CONTINUATIONS;
	return JUDGE_DENY;
}
