/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* One packet at one hook, what was decided about it, and who is told. */
#pragma once

#include "maps.h"

/*
 * The stage of packets from this host to its own workload: always allowed. It has no mask. layout.StageBornHere in Go.
 */
#define STAGE_BORN_HERE STAGES

/* What a socket of this host says about a packet without an entry. */
enum of_held {
	HELD_NOTHING,
	HELD_QUESTION, /* from who opened it */
	HELD_ANSWER,
};

/*
 * Everything about the packet in hand. On the stack of the hook, so it must stay small: the verifier allows 512 bytes
 * for all frames together.
 */
struct job {
	struct packet packet;
	struct iface iface;
	__u64 epoch; /* read before anything is classified */
	__u64 rule;  /* that decided */
	__u32 reason;
	__u8 egress;
	__u8 stage;
	__u8 born_here;
	__u8 to_host;
	__u8 held;	 /* enum of_held */
	__u8 held_state; /* of an entry for it */
	__u8 unproven;	 /* `held` is likely, and not proven */
	__u8 unused[5];
};

static __always_inline bool is_workload(const struct job *job)
{
	return job->iface.flags & IFACE_WORKLOAD;
}

/* Is the interface of the workload a port of a bridge? Its neighbours are then other machines too. */
static __always_inline bool is_bridged(const struct job *job)
{
	return job->iface.flags & IFACE_BRIDGED;
}

/* Counts a packet for a reason, on this processor. */
static __always_inline void count_reason(__u32 reason, const struct packet *p)
{
	struct hits *hits = bpf_map_lookup_elem(&reasons, &reason);

	if (!hits)
		return;
	hits->packets += p->segments;
	hits->bytes += p->length;
}

/* Counts a packet for a rule, on this processor. The agent makes the entries; a rule without one is not counted. */
static __always_inline void count_rule(__u64 rule, const struct packet *p)
{
	struct hits *hits = bpf_map_lookup_elem(&rule_hits, &rule);

	if (!hits)
		return;
	hits->packets += p->segments;
	hits->bytes += p->length;
}

#define EVENT_BURST 1000000000ULL /* nanoseconds for which events may be saved up */

/*
 * May this processor emit another event now? Events must not cost the time that a flood of packets leaves. On average
 * one event is due every event_gap; up to EVENT_BURST may be saved up.
 */
static __always_inline bool event_due(__u64 now)
{
	struct settings *s = settings_now();
	__u32 zero = 0;
	__u64 *due = bpf_map_lookup_elem(&event_times, &zero);

	if (!s || !due || !s->event_gap)
		return true;
	if ((__s64)(now - *due) > (__s64)EVENT_BURST)
		*due = now - EVENT_BURST;
	if ((__s64)(now - *due) < (__s64)s->event_gap)
		return false;
	*due += s->event_gap;
	return true;
}

/* Writes an event about the packet in hand to the ring buffer, or counts that it did not. */
__noinline int emit(struct job *job, __u32 kind)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	struct event *event;

	if (!job)
		return 0;
	if (!event_due(now)) {
		count_reason(REASON_NOTE_EVENT_LEFT_OUT, &job->packet);
		return 0;
	}
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		count_reason(REASON_NOTE_EVENT_LOST, &job->packet);
		return 0;
	}
	event->time = now;
	event->rule = job->rule;
	event->endpoint = job->iface.endpoint;
	event->packet = job->packet;
	event->ifindex = job->iface.ifindex;
	event->kind = kind;
	event->reason = job->reason;
	event->stage = job->stage;
	event->egress = job->egress;
	bpf_ringbuf_submit(event, 0);
	return 0;
}

/* Is the log level at least this? */
static __always_inline bool told(__u32 level)
{
	struct settings *s = settings_now();

	return s && s->log_level >= level;
}

/* Keeps the verdict for Go's Run. Only in programs that are loaded for tests and explanations. */
static __always_inline void remember_last(const struct job *job)
{
	__u32 zero = 0;
	struct judged *l;

	if (!testing)
		return;
	l = bpf_map_lookup_elem(&last, &zero);
	if (!l)
		return;
	l->rule = job->rule;
	l->reason = job->reason;
	l->stage = job->stage;
}

/* Drops the packet: counts it, and emits an event if the log level asks for it. */
static __always_inline int drop(struct job *job, __u32 reason)
{
	job->reason = reason;
	count_reason(reason, &job->packet);
	remember_last(job);
	if (told(LOG_DROPS))
		emit(job, EVENT_DROP);
	return TCX_DROP;
}

/* Takes the packet off the network: the agent has a copy. */
static __always_inline int take(struct job *job, __u32 reason)
{
	job->reason = reason;
	count_reason(reason, &job->packet);
	remember_last(job);
	return TCX_DROP;
}

/*
 * Was a packet of a workload judged as one for this host, or as an answer to one of this host? Address translation may
 * still bring other packets to the host; the gate lets only packets with this mark through to it.
 */
static __always_inline bool is_for_host(const struct job *job)
{
	return job->to_host || job->stage == STAGE_BORN_HERE || job->reason == REASON_PASS_NEIGHBOUR ||
	       job->reason == REASON_PASS_DHCP;
}

/*
 * Lets the packet pass to the next program. A packet of a workload gets the mark that the gate asks for: packets
 * without it were not judged.
 */
static __always_inline int pass(struct __sk_buff *skb, struct job *job, __u32 reason)
{
	struct settings *s = settings_now();

	job->reason = reason;
	count_reason(reason, &job->packet);
	remember_last(job);
	if (!job->egress && is_workload(job) && s)
		skb->mark |= s->mark | (is_for_host(job) ? s->to_host_mark : 0);
	return TCX_NEXT;
}
