/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Who may speak to whom: stages, and the approval of connections leg by leg. */
#pragma once

#include "classify.h"
#include "flow.h"
#include "guard.h"
#include "origin.h"
#include "socket.h"

/*
 * Would the kernel forward this packet, rather than keep it or drop it? Asks the routing table, without the neighbour.
 */
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

/* Is this host the destination of a packet that came in? */
__noinline int is_to_host(struct __sk_buff *skb, struct packet *p)
{
	if (!p)
		return 0;
	return is_multicast(p) || is_host_address(p->dst) || !is_forwarded(skb, p);
}

/*
 * Does a packet from a workload go to this host? A bridge may take it anywhere, also where no route leads, so only the
 * addresses of the host count there; the gate drops other packets of the port that arrive at the host all the same.
 */
static __always_inline bool reaches_host(struct __sk_buff *skb, struct job *job)
{
	return is_bridged(job) ? is_host_address(job->packet.dst) : is_to_host(skb, &job->packet);
}

/* The stage of a packet that leaves by this interface. */
static __always_inline __u8 egress_stage(const struct job *job)
{
	if (is_workload(job))
		return job->born_here ? STAGE_BORN_HERE : STAGE_NORMAL_IN;
	return job->born_here ? STAGE_NORMAL_OUT : STAGE_FORWARD_OUT;
}

/*
 * The stage of a packet that comes in by this interface. If both stages have the same mask, the lookup that tells local
 * from forwarded packets is left out.
 */
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

/* Notes the reason of a verdict that no rule gave. deny() does the same. */
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

/*
 * Judges a packet, in the direction that it has now, by the policy of one stage; policy before DNAT comes first where
 * it applies. Sets rule, stage and reason of the job.
 */
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

/* Turns a packet into one of the other direction of its connection. Turned twice, it is as it was. */
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

/* Judges a packet at a stage, turned into the other direction or not. */
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

/* Is this leg an approval, of any epoch, for this interface and this endpoint? */
static __always_inline bool is_own(const struct leg *leg, const struct job *job)
{
	return leg->way != LEG_NONE && leg->ifindex == job->iface.ifindex && leg->endpoint == job->iface.endpoint;
}

/*
 * Would the packet be judged at the stage at which the leg was approved? Only packets that leave in the direction of
 * the leg can have changed their stage. An answer has the stage of its question: address translation beside us may make
 * it look like another. On the way in the stage follows from the destination alone, and the agent advances the epoch
 * when the addresses of the host change.
 */
static __always_inline bool is_same_stage(const struct leg *leg, const struct job *job, __u8 way)
{
	return leg->way != way || !job->egress || leg->stage == egress_stage(job);
}

/* Writes the approval that the job has now into a leg. */
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

/* Makes the entry of a new connection, without legs. */
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
 * The table for a new connection. Connections that an opener makes beyond its share go to the crowd's table, where they
 * push out one another: the first ones of every other opener stay.
 */
static __always_inline __u8 table_of_new(const struct job *job, const struct settings *s, __u64 now)
{
	bool swap = tables_of(s) == FLOW_TABLES_SWAP;

	if (open_another(opener_of(job), now))
		return swap ? TABLE_NEW_OLD : TABLE_NEW;
	return swap ? TABLE_CROWD_OLD : TABLE_CROWD;
}

/* Does the packet open a new connection on the ports of one that is over? */
static __always_inline bool begins_anew(const struct flow *f, const struct packet *p)
{
	return is_syn(p) && (f->state == FLOW_TCP_FINS || f->state == FLOW_TCP_RESET || is_revoked(f));
}

/*
 * Writes the approval of this hook's leg, or a new entry with it. It writes the copy, as a whole, and not the element
 * in place: the element may have been recycled for another connection, which must not inherit an approval.
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

/* Marks a leg as revoked, in the copy of its connection, and writes the copy back. */
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
 * Asks the sockets of this host about a packet that has no entry and does not open a connection. So a first start on a
 * busy host, an idle hour or a lost table ends no connection that policy allows.
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

/*
 * May a workload reach this host with a connection that its policy allows? If not at all, a workload that is a BGP peer
 * reaches the speaker nevertheless, at the address for that. `turned` says that the packet in hand goes the other way
 * than the connection.
 */
static __always_inline bool may_reach_host(const struct job *job, bool turned)
{
	const struct packet *p = &job->packet;
	__u8 *local;

	if (job->iface.flags & IFACE_TO_HOST)
		return true;
	if (!job->iface.peering_port || p->proto != IPPROTO_TCP)
		return false;
	if ((turned ? p->sport : p->dport) != bpf_htons(job->iface.peering_port))
		return false;
	local = bpf_map_lookup_elem(&locals, turned ? p->src : p->dst);
	return local && *local == LOCAL_PEERING;
}

/* The stage in which the connection was opened, if the packet in hand is an answer. */
static __always_inline __u32 opened_stage(const struct job *job)
{
	if (job->egress)
		return is_workload(job) ? STAGE_NORMAL_OUT : STAGE_NORMAL_IN;
	return is_workload(job) ? STAGE_BORN_HERE : STAGE_NORMAL_OUT;
}

/* Judges a connection that a socket holds in the direction in which it was opened, which is not that of the packet. */
static __always_inline int judge_held(struct job *job)
{
	int result = judge_turned(job, opened_stage(job), true);

	job->to_host = job->egress && is_workload(job);
	if (result == JUDGE_ALLOW && job->to_host && !may_reach_host(job, true))
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
	job->to_host = reaches_host(skb, job);
	if (job->to_host && !may_reach_host(job, false))
		return deny(job, REASON_DROP_TO_HOST);
	return result;
}

/* Judges the question that the packet in hand, which leaves by this interface, answers: it would have come in here. */
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
	if (result == JUDGE_ALLOW && leg->to_host && !may_reach_host(job, leg->way != way))
		return deny(job, REASON_DROP_TO_HOST);
	return result;
}

/*
 * The stage of a question that would have left by this interface, for an answer that comes in there. Only the leg by
 * which the question left knows whether it was born here.
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
 * Judges an answer where its question did not pass: that took another interface, or came before any program was
 * attached. Policy must allow the question here.
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

/* Copies the findings out of a job. restore() puts them back. */
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

/* Judges a packet of a connection that a socket holds, as the question or answer that the socket says it is. */
static __always_inline int judge_as_held(struct __sk_buff *skb, struct job *job)
{
	return job->held == HELD_ANSWER ? judge_held(job) : judge_own(skb, job);
}

/*
 * Judges a packet of a connection that a socket holds, while nothing proves who opened it: policy must allow one of the
 * directions. The likelier one comes first; if neither is allowed, its reason is reported.
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
 * Judges a TCP segment in the middle of a connection that has no entry and no socket here: it was forwarded before any
 * program was attached, or its entry was lost. Policy must allow the segment in its own direction. Only a SYN-ACK
 * proves who opened the connection: its sender did not. If policy allows both directions, the end with the lesser port
 * is taken for the replier, as it is for nearly every service. The recorded direction is the one that is judged when
 * policy changes.
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

/*
 * Judges a packet as the first of its connection at this hook. `unknown` says that the connection has no entry at all.
 */
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
 * Do packets of the leg still go where they went when it was approved: to this host, or on? This is asked before a leg
 * is judged again, because the epoch also advances when the addresses of the host change. It is asked for answers too:
 * the approval that an answer renews would otherwise hold for a question that goes elsewhere now.
 */
static __always_inline bool is_same_place(struct __sk_buff *skb, struct job *job, const struct leg *leg, __u8 way)
{
	bool answer = leg->way != way, same;

	if (!!job->egress != answer) /* they leave by this interface */
		return true;
	if (answer)
		turn(&job->packet);
	if (is_workload(job))
		same = !!leg->to_host == reaches_host(skb, job);
	else
		same = leg->stage == ingress_stage(skb, job);
	if (answer)
		turn(&job->packet);
	return same;
}
