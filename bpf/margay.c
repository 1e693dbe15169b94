//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
#include "layout.h"

struct slot *unused_slot __attribute__((unused));
struct vector *unused_vector __attribute__((unused));
struct chunk_word *unused_chunk_word __attribute__((unused));
struct chunk *unused_chunk __attribute__((unused));
struct wild *unused_wild __attribute__((unused));
struct address_class *unused_address_class __attribute__((unused));
struct net_key *unused_net_key __attribute__((unused));
struct point_page *unused_point_page __attribute__((unused));
struct iface *unused_iface __attribute__((unused));
struct source_key *unused_source_key __attribute__((unused));
enum dimension *unused_dimension __attribute__((unused));
enum action *unused_action __attribute__((unused));
enum service_base *unused_service_base __attribute__((unused));
enum stage *unused_stage __attribute__((unused));
enum iface_flag *unused_iface_flag __attribute__((unused));

SEC("tcx/ingress")
int ingress(struct __sk_buff *skb)
{
	return -1;
}

char _license[] SEC("license") = "Dual BSD/GPL";
