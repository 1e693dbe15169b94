/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Who may speak to whom: stages, and the approval of connections leg by leg. */
#pragma once

#include "classify.h"
#include "flow.h"
#include "guard.h"
#include "origin.h"
#include "socket.h"

/* Would the kernel forward this packet, rather than keep it? */
static __always_inline bool is_forwarded(struct __sk_buff *skb, const struct packet *p)
{
	struct bpf_fib_lookup fib = {.ifindex = skb->ifindex};
	long result;

	if (p->flags & PACKET_IPV6) {
		fib.family = AF_INET6;
		__builtin_memcpy(fib.ipv6_src, p->src, 16);
		__builtin_memcpy(fib.ipv6_dst, p->dst, 16);
	} else {
		fib.family = AF_INET;
		fib.ipv4_src = *(u32_alias *)(p->src + 12);
		fib.ipv4_dst = *(u32_alias *)(p->dst + 12);
	}
	fib.l4_protocol = p->proto;
	fib.sport = p->sport;
	fib.dport = p->dport;
	result = bpf_fib_lookup(skb, &fib, sizeof(fib), BPF_FIB_LOOKUP_SKIP_NEIGH);
	return result == BPF_FIB_LKUP_RET_SUCCESS || result == BPF_FIB_LKUP_RET_NO_NEIGH ||
	       result == BPF_FIB_LKUP_RET_FRAG_NEEDED || result == BPF_FIB_LKUP_RET_UNSUPP_LWT;
}

static __always_inline bool is_multicast(const struct packet *p)
{
	if (p->flags & PACKET_IPV6)
		return p->dst[0] == 0xff;
	return (p->dst[12] & 0xf0) == 0xe0 || *(u32_alias *)(p->dst + 12) == 0xffffffff;
}

/* Is this host the destination of a packet that came in? */
__noinline int is_to_host(struct __sk_buff *skb, struct packet *p)
{
	if (!p)
		return 0;
	return is_multicast(p) || is_host_address(p->dst) || !is_forwarded(skb, p);
}

static __always_inline __u8 egress_stage(const struct job *job)
{
	if (is_workload(job))
		return job->born_here ? STAGE_BORN_HERE : STAGE_NORMAL_IN;
	return job->born_here ? STAGE_NORMAL_OUT : STAGE_FORWARD_OUT;
}

/* The stage of a packet that comes in. The lookup that tells local from forward is left out where it tells nothing. */
static __always_inline __u8 ingress_stage(struct __sk_buff *skb, struct job *job)
{
	if (is_workload(job))
		return STAGE_NORMAL_OUT;
	if (job->iface.mask[STAGE_NORMAL_IN] == job->iface.mask[STAGE_FORWARD_IN])
		return STAGE_NORMAL_IN;
	return is_to_host(skb, &job->packet) ? STAGE_NORMAL_IN : STAGE_FORWARD_IN;
}

/* The stage of a packet in its own direction. */
static __always_inline __u8 own_stage(struct __sk_buff *skb, struct job *job)
{
	return job->egress ? egress_stage(job) : ingress_stage(skb, job);
}

static __always_inline int allow(struct job *job, __u32 reason)
{
	job->reason = reason;
	return JUDGE_ALLOW;
}

static __always_inline int deny(struct job *job, __u32 reason)
{
	job->reason = reason;
	return JUDGE_DENY;
}

/* Judges the packet as it stands by the policy of one stage. */
__noinline int judge(struct job *job, __u32 stage)
{
	__u32 mask;
	int result;

	if (!job)
		return JUDGE_DENY;
	job->rule = 0;
	job->stage = stage;
	job->reason = REASON_PASS_POLICY;
	if (stage == STAGE_BORN_HERE && is_workload(job))
		return allow(job, REASON_PASS_FROM_HOST);
	if (stage >= STAGES)
		return deny(job, REASON_DROP_NO_POLICY);
	mask = job->iface.mask[STAGE_PREDNAT_IN];
	if (mask && !is_workload(job) && (stage == STAGE_NORMAL_IN || stage == STAGE_FORWARD_IN)) {
		result = classify(job, mask);
		if (result != JUDGE_UNDECIDED)
			return result;
	}
	if (is_workload(job) && stage == STAGE_NORMAL_OUT && is_forbidden_tunnel(job))
		return deny(job, REASON_DROP_TUNNEL);
	mask = job->iface.mask[stage];
	if (!mask)
		return is_workload(job) ? deny(job, REASON_DROP_NO_POLICY) : allow(job, REASON_PASS_NO_POLICY);
	result = classify(job, mask);
	if (result != JUDGE_UNDECIDED)
		return result;
	if (stage == STAGE_FORWARD_IN || stage == STAGE_FORWARD_OUT)
		return allow(job, REASON_PASS_END_OF_FORWARD);
	return deny(job, REASON_DROP_END_OF_POLICY);
}

/* Turns a packet into one of the other direction of its connection. */
static __always_inline void turn(struct packet *p)
{
	__u64 low = *(u64_alias *)p->src, high = *(u64_alias *)(p->src + 8);
	__be16 port = p->sport;
	__u8 query = query_of(p->proto, p->icmp_type);

	__builtin_memcpy(p->src, p->dst, 16);
	*(u64_alias *)p->dst = low;
	*(u64_alias *)(p->dst + 8) = high;
	p->sport = p->dport;
	p->dport = port;
	if (!(p->flags & PACKET_TRACED))
		return;
	p->flags ^= PACKET_ANSWER;
	if (query != p->icmp_type)
		p->icmp_type = query;
	else if (p->proto == IPPROTO_ICMP && query == 8)
		p->icmp_type = 0;
	else
		p->icmp_type = query + 1;
}

/* Judges a connection in the direction in which a leg was, or would have been, approved. */
static __always_inline int judge_turned(struct job *job, __u32 stage, bool turned)
{
	int result;

	if (turned)
		turn(&job->packet);
	result = judge(job, stage);
	if (turned)
		turn(&job->packet);
	return result;
}

/* A leg of this interface and endpoint, whatever its epoch. */
static __always_inline bool is_own(const struct leg *leg, const struct job *job)
{
	return leg->way != LEG_NONE && leg->ifindex == job->iface.ifindex && leg->endpoint == job->iface.endpoint;
}

/*
 * The stage of the leg is still the stage of the packet. Answers take the stage of what they answer: address
 * translation beside us may make it look like another. On the way in the stage follows from the destination alone,
 * and whoever changes the addresses of the host advances the epoch.
 */
static __always_inline bool is_same_stage(const struct leg *leg, const struct job *job, __u8 way)
{
	return leg->way != way || !job->egress || leg->stage == egress_stage(job);
}

static __always_inline void write_leg(struct leg *leg, const struct job *job, __u8 way)
{
	leg->endpoint = job->iface.endpoint;
	leg->epoch = job->epoch;
	leg->rule = job->rule;
	leg->ifindex = job->iface.ifindex;
	leg->stage = job->stage;
	leg->way = way;
	leg->to_host = job->to_host;
}

/* Does the packet that begins an entry go from the replier to the opener? */
static __always_inline bool begins_with_answer(const struct job *job)
{
	return job->packet.flags & PACKET_ANSWER || job->held == HELD_ANSWER;
}

static __always_inline void begin_flow(struct flow *f, const struct track *t, const struct job *job)
{
	bool answer = begins_with_answer(job);

	__builtin_memset(f, 0, sizeof(*f));
	f->created = t->now;
	f->state = job->held ? job->held_state : first_state(&job->packet);
	if (is_self(&t->key) || !!t->from_low != answer)
		f->flags = FLOW_LOW_OPENED;
}

/*
 * The table for a new connection. Those that somebody opens beyond a share are kept apart, where they push out one
 * another: the first ones of everybody else stay.
 */
static __always_inline __u8 table_of_new(const struct job *job, const struct settings *s, __u64 now)
{
	bool swap = tables_of(s) == FLOW_TABLES_SWAP;

	if (open_another(opener_of(job), now))
		return swap ? TABLE_NEW_OLD : TABLE_NEW;
	return swap ? TABLE_CROWD_OLD : TABLE_CROWD;
}

/* A new connection on the ports of one that is over. */
static __always_inline bool begins_anew(const struct flow *f, const struct packet *p)
{
	return is_syn(p) && (f->state == FLOW_TCP_FINS || f->state == FLOW_TCP_RESET || is_revoked(f));
}

/*
 * Writes the approval of this hook's leg, way as given. It goes through the copy and not in place: the element may
 * have been recycled for another connection, which must not inherit an approval.
 */
static __always_inline void approve(struct job *job, struct track *t, struct flow *f, const struct settings *s, __u8 way)
{
	struct packet *p = &job->packet;
	__u32 side, reply;

	if (t->flow && !begins_anew(f, p)) {
		reply = t->reply;
	} else {
		if (t->flow)
			erase(t->table, &t->key);
		begin_flow(f, t, job);
		t->table = table_of_new(job, s, t->now);
		reply = begins_with_answer(job) && !is_self(&t->key);
		/* A connection of a socket was judged in the direction in which it was opened. */
		way = reply && !job->held ? LEG_FROM_REPLIER : LEG_FROM_OPENER;
	}
	f->seen = t->now;
	f->tag = tag_of(&t->key);
	side = (reply ^ job->egress) & 1;
	write_leg(&f->legs[side], job, way);
	f->legs[side].packets[reply & 1] += p->segments;
	f->legs[side].bytes[reply & 1] += p->length;
	if (tells_of_end(f, p))
		note_tcp(f, p, reply);
	if (!(f->flags & FLOW_PROVEN) && reply)
		note_answer(f, p);
	if (store(t->table, &t->key, f, BPF_ANY))
		count_reason(REASON_NOTE_FLOW_NOT_STORED, p);
}

/* Is this host one end of the packet's connection? */
static __always_inline bool is_local(struct __sk_buff *skb, struct job *job)
{
	if (job->egress)
		return job->born_here;
	if (is_workload(job))
		return is_host_address(job->packet.dst);
	return ingress_stage(skb, job) == STAGE_NORMAL_IN;
}

/* Marks a leg as revoked, in the copy of its connection, and writes that back. */
static __always_inline void mark_revoked(struct job *job, struct track *t, struct flow *f, struct leg *leg)
{
	leg->epoch = LEG_REVOKED | t->now;
	leg->rule = job->rule;
	leg->stage = job->stage;
	leg->to_host = job->to_host;
	f->seen = t->now;
	if (store(t->table, &t->key, f, BPF_ANY))
		count_reason(REASON_NOTE_FLOW_NOT_STORED, &job->packet);
}

/*
 * Asks the sockets of this host about a packet in its own stage that has no entry: a first start on a busy host, an
 * idle hour or a lost table end no connection that policy allows.
 */
static __always_inline void ask_sockets(struct __sk_buff *skb, struct job *job)
{
	__u32 held;

	if (!is_midway(&job->packet, job->egress) || !is_local(skb, job))
		return;
	held = held_by_socket(skb, &job->packet, job->egress);
	if (held_opener(held) == HELD_NOT)
		return;
	job->held_state = held_state(held);
	job->unproven = !!(held & HELD_UNPROVEN);
	job->held = (held_opener(held) == HELD_OPENED_HERE) == !!job->egress ? HELD_QUESTION : HELD_ANSWER;
}

/* The stage in which the other end, or this host, opened the connection that the packet in hand answers to. */
static __always_inline __u32 opened_stage(const struct job *job)
{
	if (job->egress)
		return is_workload(job) ? STAGE_NORMAL_OUT : STAGE_NORMAL_IN;
	return is_workload(job) ? STAGE_BORN_HERE : STAGE_NORMAL_OUT;
}

/* Judges the connection that a socket holds, in the direction in which it was opened: not that of the packet. */
static __always_inline int judge_held(struct job *job)
{
	int result = judge_turned(job, opened_stage(job), true);

	job->to_host = job->egress && is_workload(job);
	if (result == JUDGE_ALLOW && job->to_host && !(job->iface.flags & IFACE_TO_HOST))
		return deny(job, REASON_DROP_TO_HOST);
	return result;
}

/* Judges a packet that comes in by this interface. */
static __always_inline int judge_ingress(struct __sk_buff *skb, struct job *job)
{
	int result = judge(job, ingress_stage(skb, job));

	job->to_host = 0;
	if (result != JUDGE_ALLOW || !is_workload(job))
		return result;
	job->to_host = is_to_host(skb, &job->packet);
	if (job->to_host && !(job->iface.flags & IFACE_TO_HOST))
		return deny(job, REASON_DROP_TO_HOST);
	return result;
}

/* Judges what the packet in hand, that leaves by this interface, answers: a packet that would have come in by it. */
static __always_inline int judge_question(struct __sk_buff *skb, struct job *job)
{
	int result;

	turn(&job->packet);
	result = judge_ingress(skb, job);
	turn(&job->packet);
	return result;
}

/* Judges a packet in its own direction. */
static __always_inline int judge_own(struct __sk_buff *skb, struct job *job)
{
	if (!job->egress)
		return judge_ingress(skb, job);
	job->to_host = 0;
	return judge(job, egress_stage(job));
}

/* Judges a leg of this hook again, because the epoch has advanced since it was approved. */
static __always_inline int judge_again(struct job *job, const struct leg *leg, __u8 way)
{
	int result = judge_turned(job, leg->stage, leg->way != way);

	job->to_host = leg->to_host;
	if (result == JUDGE_ALLOW && leg->to_host && !(job->iface.flags & IFACE_TO_HOST))
		return deny(job, REASON_DROP_TO_HOST);
	return result;
}

/*
 * The stage of a question that would have left by this interface, when its answer comes in there. That the question was
 * born here is known only from the leg by which it left.
 */
static __always_inline __u32 question_stage(const struct job *job, const struct leg *leg)
{
	__u32 stage = leg && leg->way != LEG_NONE ? leg->stage : STAGE_FORWARD_OUT;
	bool born_here = stage == STAGE_NORMAL_OUT || stage == STAGE_BORN_HERE;

	if (is_workload(job))
		return born_here ? STAGE_BORN_HERE : STAGE_NORMAL_IN;
	return born_here ? STAGE_NORMAL_OUT : STAGE_FORWARD_OUT;
}

/*
 * An answer comes where its question did not pass: by another interface, or before anybody looked. Would the question
 * have been allowed here?
 */
static __always_inline int judge_elsewhere(struct __sk_buff *skb, struct job *job, const struct leg *leg)
{
	if (job->egress)
		return judge_question(skb, job);
	job->to_host = 0;
	return judge_turned(job, question_stage(job, leg), true);
}

/* The findings about a packet in one direction, while it is judged in the other. */
struct findings {
	__u64 rule;
	__u32 reason;
	__u8 stage;
	__u8 to_host;
	__u8 held;
};

static __always_inline struct findings findings_of(const struct job *job)
{
	struct findings f = {
		.rule = job->rule,
		.reason = job->reason,
		.stage = job->stage,
		.to_host = job->to_host,
		.held = job->held,
	};

	return f;
}

static __always_inline void restore(struct job *job, const struct findings *f)
{
	job->rule = f->rule;
	job->reason = f->reason;
	job->stage = f->stage;
	job->to_host = f->to_host;
	job->held = f->held;
}

/* Judges the packet of a connection that a socket holds as what it is said to be. */
static __always_inline int judge_as_held(struct __sk_buff *skb, struct job *job)
{
	return job->held == HELD_ANSWER ? judge_held(job) : judge_own(skb, job);
}

/*
 * Judges the packet of a connection that a socket holds, while nothing tells who opened it: policy has to allow it in one
 * direction or the other. The likelier one comes first. Where neither is allowed, it is that which is told.
 */
static __always_inline int judge_either(struct __sk_buff *skb, struct job *job)
{
	int result = judge_as_held(skb, job);
	struct findings likely;

	if (result == JUDGE_ALLOW)
		return result;
	likely = findings_of(job);
	job->held = job->held == HELD_ANSWER ? HELD_QUESTION : HELD_ANSWER;
	result = judge_as_held(skb, job);
	if (result != JUDGE_ALLOW)
		restore(job, &likely);
	return result;
}

/*
 * Judges a segment in the middle of a connection that has no entry and no socket here: it was forwarded before anybody
 * looked, or the entry was lost. Policy has to allow it as it is. Nothing else proves who opened the connection but a
 * SYN-ACK, which its opener did not send. Where policy allows both directions, the end with the lesser port is taken for
 * the replier, as it is for nearly every service: what is recorded is judged when policy changes.
 */
static __always_inline int judge_midway(struct __sk_buff *skb, struct job *job)
{
	bool answer = is_syn_ack(&job->packet);
	int result = judge_own(skb, job);
	struct findings own;

	if (result != JUDGE_ALLOW || (!answer && bpf_ntohs(job->packet.sport) >= bpf_ntohs(job->packet.dport)))
		return result;
	own = findings_of(job);
	job->held = HELD_ANSWER;
	job->held_state = FLOW_TCP_OPENING;
	result = is_local(skb, job) ? judge_held(job) : judge_elsewhere(skb, job, NULL);
	if (result == JUDGE_ALLOW || answer)
		return result;
	restore(job, &own);
	return JUDGE_ALLOW;
}

/* Judges a packet as the first of its connection at this hook. */
static __always_inline int judge_new(struct __sk_buff *skb, struct job *job, bool unknown)
{
	if (unknown)
		ask_sockets(skb, job);
	if (job->unproven)
		return judge_either(skb, job);
	if (job->held != HELD_NOTHING)
		return judge_as_held(skb, job);
	if (unknown && job->packet.proto == IPPROTO_TCP && !is_syn(&job->packet))
		return judge_midway(skb, job);
	return judge_own(skb, job);
}

/*
 * Packets of the leg still go where they went when it was approved: to this host, or on. Asked before a leg is judged
 * again, for the epoch advances with the addresses of the host; and for answers too, or the approval that an answer
 * renews would hold for a question that goes elsewhere now.
 */
static __always_inline bool is_same_place(struct __sk_buff *skb, struct job *job, const struct leg *leg, __u8 way)
{
	bool answer = leg->way != way, same;

	if (!!job->egress != answer) /* they leave by this interface */
		return true;
	if (answer)
		turn(&job->packet);
	if (is_workload(job))
		same = !!leg->to_host == !!is_to_host(skb, &job->packet);
	else
		same = leg->stage == ingress_stage(skb, job);
	if (answer)
		turn(&job->packet);
	return same;
}
