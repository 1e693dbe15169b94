//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * The program that judges packets. Policy is data: nothing here changes when a policy does.
 *
 *   parse.h     bytes -> struct packet
 *   origin.h    who made a packet: this host, or another
 *   station.h   whose an address is
 *   bridge.h    ports of a bridge: frames for others and for many, and DHCP
 *   guard.h     what a workload may send at all
 *   question.h  what a workload asks the agent
 *   classify.h  the first rule that matches
 *   share.h     how many connections one may have
 *   flow.h      connections
 *   socket.h    connections of this host that nobody tracked yet
 *   judge.h     stages, approval of connections
 *   verdict.h   verdicts, counters, events
 */
#include "judge.h"
#include "question.h"

/*
 * Copies the policy of an interface. False, with an empty policy, if the interface has none.
 *
 * The map recycles elements (BPF_F_NO_PREALLOC takes them from bpf_mem_alloc): while it is copied, the element may be
 * deleted and become that of another interface. So the copy counts only if the element says before and after that it is
 * of this interface. If not, the agent has just deleted or rewritten the entry, and another lookup finds the new one.
 * Three tries bound the loop for the verifier; a packet that loses three races in a row counts as one of an unknown
 * interface, and is dropped.
 */
static __always_inline bool load_iface(__u32 ifindex, struct iface *iface)
{
	struct iface *i;
	int try;

#pragma unroll
	for (try = 0; try < 3; try++) {
		i = bpf_map_lookup_elem(&interfaces, &ifindex);
		if (!i)
			break;
		*iface = *i;
		barrier();
		if (READ_ONCE(i->ifindex) == ifindex && iface->ifindex == ifindex)
			return true;
	}
	__builtin_memset(iface, 0, sizeof(*iface));
	iface->ifindex = ifindex;
	return false;
}

/* Does any stage of the interface have a mask? For a host's interface: does any host endpoint govern it? */
static __always_inline bool has_policy(const struct iface *i)
{
	return i->mask[0] | i->mask[1] | i->mask[2] | i->mask[3] | i->mask[4] | i->mask[5] | i->mask[6];
}

/* ---- fragments ---- */

/* The key under which the fragments of a packet know each other, at one interface and in one direction. */
static __always_inline void fragment_key_of(struct fragment_key *key, const struct packet *p, __u32 ifindex, __u32 egress)
{
	__builtin_memcpy(key->src, p->src, 16);
	__builtin_memcpy(key->dst, p->dst, 16);
	key->id = p->fragment;
	key->ifindex = ifindex;
	key->proto = p->first_header;
	key->egress = egress;
}

/*
 * Keeps the ports of a first fragment that has passed, for recall_fragment. A function of its own for the verifier: its
 * key and value would not fit on the stack of its callers, which is 512 bytes in all.
 */
__noinline int remember_fragment(struct job *job)
{
	struct fragment_key key;
	struct fragment f = {};
	struct packet *p;

	if (!job)
		return 0;
	p = &job->packet;
	fragment_key_of(&key, p, job->iface.ifindex, job->egress);
	f.sport = p->sport;
	f.dport = p->dport;
	f.proto = p->proto;
	f.icmp_type = p->icmp_type;
	f.icmp_code = p->icmp_code;
	f.flags = p->flags & (PACKET_ICMP_ERROR | PACKET_TRACED | PACKET_ANSWER);
	bpf_map_update_elem(&fragments, &key, &f, BPF_ANY);
	return 0;
}

/* Gives a later fragment the ports of its packet. 0 if the first fragment was not seen or did not pass. */
__noinline int recall_fragment(struct packet *p, __u32 ifindex, __u32 egress)
{
	struct fragment_key key;
	struct fragment *f;

	if (!p)
		return 0;
	fragment_key_of(&key, p, ifindex, egress);
	f = bpf_map_lookup_elem(&fragments, &key);
	if (!f)
		return 0;
	p->sport = f->sport;
	p->dport = f->dport;
	p->proto = f->proto;
	p->icmp_type = f->icmp_type;
	p->icmp_code = f->icmp_code;
	p->flags |= f->flags;
	return 1;
}

/* Is this a later fragment whose first one is unknown? If not, the packet has its ports now. */
static __always_inline bool is_orphan_fragment(struct job *job)
{
	return (job->packet.flags & PACKET_LATER_FRAGMENT) &&
	       !recall_fragment(&job->packet, job->iface.ifindex, job->egress);
}

/* Lets a packet pass, and its later fragments with it. */
static __always_inline int pass_flow(struct __sk_buff *skb, struct job *job, __u32 reason)
{
	if (job->packet.flags & PACKET_FIRST_FRAGMENT)
		remember_fragment(job);
	return pass(skb, job, reason);
}

/* ---- connections ---- */

/* The result of find_related. */
enum related {
	RELATED_NOT,
	RELATED_CURRENT,
	RELATED_STALE, /* the leg, in scratch, has to be judged again */
};

/*
 * Looks for the connection that an ICMP error is about: the one that it quotes, if the quoted packet was sent by the
 * error's destination. The error passes on the approval of that connection's leg, and changes nothing in the entry.
 * Otherwise it is judged like any packet.
 */
__noinline int find_related(struct __sk_buff *skb, struct job *job)
{
	struct scratch *scratch = scratch_here();
	struct settings *s = settings_now();
	struct packet *quoted;
	struct track t;
	struct leg *leg;

	if (!job || !scratch || !s || !parse_quoted(skb, &job->packet, &scratch->quoted))
		return RELATED_NOT;
	quoted = &scratch->quoted;
	/* It came the other way, by the same interface. */
	if ((quoted->flags & PACKET_LATER_FRAGMENT) && !recall_fragment(quoted, job->iface.ifindex, !job->egress))
		return RELATED_NOT;
	if (quoted->flags & PACKET_ICMP_ERROR)
		return RELATED_NOT;
	if (!same_address(scratch->quoted.src, job->packet.dst))
		return RELATED_NOT;
	track_key(&t, &scratch->quoted, is_bridged(job));
	t.now = bpf_ktime_get_coarse_ns();
	find_flow(&t, s, false);
	if (!t.flow)
		return RELATED_NOT;
	take_copy(&t, &scratch->flow);
	if (!t.flow)
		return RELATED_NOT;
	/* The error goes the other way than the packet it quotes. */
	leg = &scratch->flow.legs[(!t.reply ^ job->egress) & 1];
	if (!is_own(leg, job))
		return RELATED_NOT;
	job->rule = leg->rule;
	job->stage = leg->stage;
	job->to_host = leg->to_host;
	if (leg->epoch == job->epoch || !s->revoke)
		return RELATED_CURRENT;
	scratch->flow.legs[0] = *leg;
	scratch->quoted_way = t.reply ? LEG_FROM_REPLIER : LEG_FROM_OPENER;
	return RELATED_STALE;
}

/* Does the error belong to a connection that policy allows now? The job has the approval then. */
static __always_inline bool is_related(struct __sk_buff *skb, struct job *job)
{
	struct scratch *scratch = scratch_here();
	int result = find_related(skb, job);

	if (result != RELATED_STALE || !scratch)
		return result == RELATED_CURRENT;
	scratch->saved = job->packet;
	job->packet = scratch->quoted;
	result = judge_again(job, &scratch->flow.legs[0], scratch->quoted_way);
	job->packet = scratch->saved;
	return result == JUDGE_ALLOW;
}

/*
 * Drops a packet of a flow that has lost its permission at this hook. Its entry stays until it is idle, so that the
 * next packet, from either end and at any interface, is judged in the direction in which the flow was opened. Without
 * the entry, the replier's next packet would open the same flow the other way round.
 */
static __always_inline int revoke(struct job *job, struct track *t, struct flow *f, struct leg *leg)
{
	if (!(leg->epoch & LEG_REVOKED))
		mark_revoked(job, t, f, leg);
	else if (((t->now - leg->epoch) & ~LEG_REVOKED) < REVOKED_KEPT && t->flow->seen != t->now)
		t->flow->seen = t->now;
	if (job->reason != REASON_DROP_TO_HOST)
		job->reason = REASON_DROP_REVOKED;
	return drop(job, job->reason);
}

/*
 * The direction in which a connection is judged at this hook: that of the leg, or of the other leg if this one has
 * none. LEG_NONE if neither has.
 */
static __always_inline __u8 way_of(const struct flow *f, const struct leg *leg)
{
	if (leg->way != LEG_NONE)
		return leg->way;
	return f->legs[LEG_OPENER].way | f->legs[LEG_REPLIER].way;
}

/*
 * Is this a SYN against the direction of a live connection? It passes if policy allows it, and changes nothing in the
 * entry: otherwise its sender could turn the direction in which the connection is judged from then on.
 */
static __always_inline bool turns_round(const struct job *job, const struct flow *f, const struct leg *leg, __u8 way)
{
	return leg && is_syn(&job->packet) && is_own(leg, job) && leg->way != way && !begins_anew(f, &job->packet);
}

/*
 * Judges a packet without a current approval at this hook, and approves its connection. A SYN is always judged in its
 * own direction, whatever entry there is.
 */
static __always_inline int judge_flow(struct __sk_buff *skb, struct job *job, struct track *t, const struct settings *s)
{
	struct scratch *scratch = scratch_here();
	struct leg *leg = NULL;
	__u8 way, leg_way;
	struct flow *f;
	bool midway;
	int result;

	if (!scratch)
		return drop(job, REASON_DROP_CLOSED);
	f = &scratch->flow;
	take_copy(t, f);
	if (t->flow)
		leg = &f->legs[(t->reply ^ job->egress) & 1];
	way = t->reply ? LEG_FROM_REPLIER : LEG_FROM_OPENER;
	midway = leg && !is_syn(&job->packet);
	leg_way = midway ? way_of(f, leg) : way;
	if (midway && is_own(leg, job) && is_same_stage(leg, job, way)) {
		if (is_same_place(skb, job, leg, way))
			result = judge_again(job, leg, way);
		else
			result = leg_way == way ? judge_ingress(skb, job) : judge_question(skb, job);
		if (result != JUDGE_ALLOW)
			return revoke(job, t, f, leg);
	} else if (leg_way != way) {
		result = judge_elsewhere(skb, job, leg);
	} else {
		result = judge_new(skb, job, !t->flow);
	}
	if (result != JUDGE_ALLOW)
		return drop(job, job->reason);
	if (job->packet.flags & PACKET_ICMP_ERROR)
		return pass_flow(skb, job, job->reason);
	if (turns_round(job, f, leg, way))
		return pass_flow(skb, job, job->reason);
	approve(job, t, f, s, leg_way);
	if (s->log_level >= LOG_VERDICTS)
		emit(job, EVENT_ALLOW);
	return pass_flow(skb, job, job->reason);
}

/*
 * Decides a packet by its connection. The fast path: the leg of this hook has an approval of the current epoch, and
 * only its counters are written.
 */
static __always_inline int track(struct __sk_buff *skb, struct job *job)
{
	struct settings *s = settings_now();
	struct track t;
	struct leg *leg;
	__u8 way;

	if (!s)
		return drop(job, REASON_DROP_CLOSED);
	if ((job->packet.flags & PACKET_ICMP_ERROR) && is_related(skb, job))
		return pass_flow(skb, job, REASON_PASS_RELATED);
	track_key(&t, &job->packet, is_bridged(job));
	t.now = bpf_ktime_get_coarse_ns();
	find_flow(&t, s, is_syn(&job->packet));
	if (t.flow) {
		way = t.reply ? LEG_FROM_REPLIER : LEG_FROM_OPENER;
		leg = &t.flow->legs[(t.reply ^ job->egress) & 1];
		if (is_own(leg, job) && (leg->epoch == job->epoch || !s->revoke) && is_same_stage(leg, job, way) &&
		    !is_syn(&job->packet) && t.flow->tag == tag_of(&t.key)) {
			job->rule = leg->rule;
			job->stage = leg->stage;
			job->to_host = leg->to_host;
			advance(&t, leg, &job->packet);
			return pass_flow(skb, job, REASON_PASS_FLOW);
		}
	}
	return judge_flow(skb, job, &t, s);
}

/* ---- hooks ---- */

/* Decides a frame that is neither IP nor ARP. */
static __always_inline int handle_not_ip(struct __sk_buff *skb, struct job *job)
{
	if (!is_workload(job))
		return pass(skb, job, REASON_PASS_NOT_IP);
	if (!(job->iface.flags & IFACE_ALLOW_NOT_IP))
		return drop(job, REASON_DROP_NOT_IP);
	if (!job->egress && (job->packet.flags & PACKET_TAGGED) && !(job->iface.flags & IFACE_ALLOW_TAGS))
		return drop(job, REASON_DROP_TAGGED);
	if (!job->egress && !right_mac(skb, job))
		return drop(job, REASON_DROP_MAC);
	return pass(skb, job, REASON_PASS_NOT_IP);
}

/* Decides a packet that is not IP, or that cannot be read. */
static __always_inline int handle_other(struct __sk_buff *skb, struct job *job, int parsed)
{
	bool workload = is_workload(job);

	if (parsed == PARSED_ARP)
		return pass(skb, job, REASON_PASS_NEIGHBOUR);
	if (parsed == PARSED_OTHER)
		return handle_not_ip(skb, job);
	if (workload || has_policy(&job->iface))
		return drop(job, parsed - PARSED_BAD);
	return pass(skb, job, REASON_PASS_UNPARSED);
}

/* Judges a packet by the untracked stage, which comes before connections and makes none. */
static __always_inline int judge_untracked(struct job *job)
{
	__u32 stage = job->egress ? STAGE_UNTRACKED_OUT : STAGE_UNTRACKED_IN;
	__u32 mask = job->iface.mask[stage];

	if (!mask || is_workload(job))
		return JUDGE_UNDECIDED;
	job->stage = stage;
	return classify(job, mask);
}

/*
 * Judges a packet for many stations at the port of a bridge, each by itself: it belongs to no connection. Its copy for this
 * host, if there is one, is for the gate.
 */
static __always_inline int handle_group(struct __sk_buff *skb, struct job *job)
{
	int result = judge(job, job->egress ? egress_stage(job) : STAGE_NORMAL_OUT);

	return result == JUDGE_ALLOW ? pass_flow(skb, job, job->reason) : drop(job, job->reason);
}

/* Decides an IP packet that the sender may send at all. */
static __always_inline int handle_ip(struct __sk_buff *skb, struct job *job)
{
	int result;

	if (!is_workload(job) && !has_policy(&job->iface))
		return pass(skb, job, REASON_PASS_NO_POLICY);
	if ((!is_workload(job) || job->egress) && is_neighbour_message(job))
		return pass(skb, job, REASON_PASS_NEIGHBOUR);
	if (is_bridged(job)) {
		if (job->egress && job->packet.proto == IPPROTO_UDP && is_dhcp_answer(skb, job))
			return pass(skb, job, REASON_PASS_DHCP);
		if (is_for_many(&job->packet))
			return handle_group(skb, job);
	}
	result = judge_untracked(job);
	if (result == JUDGE_ALLOW)
		return pass_flow(skb, job, REASON_PASS_UNTRACKED);
	if (result == JUDGE_DENY)
		return drop(job, job->reason);
	return track(skb, job);
}

/*
 * Decides one packet at one hook. The epoch is read before the policy of the interface: an approval then never bears a
 * later epoch than the policy that gave it. See struct leg.
 */
static __always_inline int handle(struct __sk_buff *skb, bool egress)
{
	struct job job;
	__u32 zero = 0;
	__u64 *now;
	bool known;
	int parsed, reason;

	now = bpf_map_lookup_elem(&epoch, &zero);
	job.epoch = now ? READ_ONCE(*now) : 0; /* before the interface's policy: see struct leg */
	known = load_iface(skb->ifindex, &job.iface);
	job.rule = 0;
	job.reason = REASON_NONE;
	job.egress = egress;
	job.stage = 0;
	job.to_host = 0;
	job.held = HELD_NOTHING;
	job.held_state = 0;
	job.unproven = 0;
	job.born_here = egress && is_born_here(skb);
	parsed = parse(skb, &job.packet, job.iface.flags);
	if (!known)
		return drop(&job, REASON_DROP_NO_INTERFACE);
	if (job.iface.flags & IFACE_CLOSED)
		return drop(&job, REASON_DROP_CLOSED);
	if (is_bridged(&job) && egress != !!(job.packet.flags & PACKET_GROUP)) {
		reason = guard_port(skb, &job, parsed);
		if (reason)
			return drop(&job, reason);
	}
	if (is_workload(&job) && !egress && parsed <= PARSED_ARP) {
		if (is_orphan_fragment(&job))
			return drop(&job, REASON_DROP_FRAGMENT);
		reason = guard_or_ask(skb, &job, parsed, guard(skb, &job, parsed));
		if (reason == REASON_PASS_TO_AGENT)
			return take(&job, reason);
		if (reason == REASON_PASS_NEIGHBOUR || reason == REASON_PASS_DHCP)
			return pass(skb, &job, reason);
		if (reason)
			return drop(&job, reason);
	} else if (parsed != PARSED_IP) {
		return handle_other(skb, &job, parsed);
	} else if (is_orphan_fragment(&job) && (is_workload(&job) || has_policy(&job.iface))) {
		return drop(&job, REASON_DROP_FRAGMENT);
	}
	return handle_ip(skb, &job);
}

SEC("tcx/ingress")
int ingress(struct __sk_buff *skb)
{
	return handle(skb, false);
}

SEC("tcx/egress")
int egress(struct __sk_buff *skb)
{
	return handle(skb, true);
}

/* ---- run by the agent ---- */

/* Counters of one run of sweep. The callbacks of bpf_for_each_map_elem get a pointer to it. */
struct sweep_run {
	__u64 now;
	__u64 removed;
	__u64 proven;
	__u64 unproven;
	__u64 openers;
};

/* Deletes a connection that has expired; counts one that has not, and the share of its owner. */
static long sweep_flow(void *map, const void *key, struct flow *f, struct sweep_run *run)
{
	struct settings *s = settings_now();
	struct share *share;
	__u64 owner = f->owner;

	if (s && expired(f, s, run->now)) {
		bpf_map_delete_elem(map, key);
		run->removed++;
		return 0;
	}
	if (!(f->flags & FLOW_PROVEN)) {
		run->unproven++;
	} else {
		run->proven++;
		share = bpf_map_lookup_elem(&shares, &owner);
		if (share)
			share->counted++;
	}
	return 0;
}

/* Ends the count of a share. Connections that were proven while the sweep ran are counted by the next sweep. */
static long settle_share(void *map, const void *key, struct share *share, struct sweep_run *run)
{
	share->used = share->counted;
	share->counted = 0;
	if (!share->used)
		bpf_map_delete_elem(map, key);
	return 0;
}

/* Counts an opener, or forgets one that has opened nothing for OPENER_KEPT windows. */
static long settle_opening(void *map, const void *key, struct opening *opening, struct sweep_run *run)
{
	/* Another processor may have written a later window than ours. */
	if ((__s32)((__u32)(run->now >> OPENING_WINDOW_SHIFT) - opening->window) <= OPENER_KEPT)
		run->openers++;
	else
		bpf_map_delete_elem(map, key);
	return 0;
}

/*
 * Deletes connections that have expired, and counts the others. Lookups ignore expired connections before that; this
 * frees their memory. The agent runs it every few seconds.
 */
SEC("syscall")
int sweep(struct sweep_result *result)
{
	struct sweep_run run = {.now = result->now};
	__u64 settled;

	bpf_for_each_map_elem(&flows, sweep_flow, &run, 0);
	bpf_for_each_map_elem(&flows_new, sweep_flow, &run, 0);
	bpf_for_each_map_elem(&flows_old, sweep_flow, &run, 0);
	bpf_for_each_map_elem(&flows_new_old, sweep_flow, &run, 0);
	settled = run.unproven;
	bpf_for_each_map_elem(&flows_crowd, sweep_flow, &run, 0);
	bpf_for_each_map_elem(&flows_crowd_old, sweep_flow, &run, 0);
	bpf_for_each_map_elem(&shares, settle_share, &run, 0);
	bpf_for_each_map_elem(&openings, settle_opening, &run, 0);
	result->removed = run.removed;
	result->proven = run.proven;
	result->unproven = run.unproven;
	result->crowd = run.unproven - settled;
	result->openers = run.openers;
	return 0;
}

/* Counters of one run of drain, and the table that entries move to. */
struct drain_run {
	__u64 now;
	__u64 moved;
	__u64 left;
	__u32 to;
};

/*
 * Moves a connection out of an old table. A packet that meets the connection at the same time moves it too; the later
 * of the two finds it in the new table (EEXIST). The copies are on the stack: packets may interrupt this run on its
 * processor and use the scratch.
 */
static long drain_flow(void *map, const void *from, struct flow *old, struct drain_run *run)
{
	struct settings *s = settings_now();
	struct flow_key key = *(const struct flow_key *)from;
	struct flow f = *old;
	long err = 0;

	if (f.tag != tag_of(&key)) { /* recycled under us: it has moved, or gone */
		run->left++;
		return 0;
	}
	if (s && !expired(&f, s, run->now)) {
		err = store(run->to, &key, &f, BPF_NOEXIST);
		run->moved += !err;
	}
	if (!err || err == -EEXIST)
		bpf_map_delete_elem(map, &key);
	else
		run->left++;
	return 0;
}

/* Moves connections from the old tables to the new ones. Those for which there is no room stay, and keep working. */
SEC("syscall")
int drain(struct drain_result *result)
{
	struct drain_run run = {.now = result->now};

	run.to = TABLE_PROVEN;
	bpf_for_each_map_elem(&flows_old, drain_flow, &run, 0);
	run.to = TABLE_NEW;
	bpf_for_each_map_elem(&flows_new_old, drain_flow, &run, 0);
	run.to = TABLE_CROWD;
	bpf_for_each_map_elem(&flows_crowd_old, drain_flow, &run, 0);
	result->moved = run.moved;
	result->left = run.left;
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
