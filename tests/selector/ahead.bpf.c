// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * ahead makes of a frame what only a device could: longer than a trial run
 * takes, with a receive queue, its tag taken off. Then it goes on with the
 * selector, as if that had been tried with such a frame.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} next SEC(".maps");

SEC("tc")
int ahead(struct __sk_buff *skb)
{
	/* The queue counted from 1; ethertype and control information of the tag; the length, 0 for as it is. */
	__u32 queue = skb->cb[0], tag = skb->cb[1], len = skb->cb[2];

	if (len && bpf_skb_change_tail(skb, len, 0))
		return TC_ACT_UNSPEC;
	if (tag && bpf_skb_vlan_push(skb, bpf_htons(tag >> 16), tag & 0xffff))
		return TC_ACT_UNSPEC;
	skb->queue_mapping = queue;
	bpf_tail_call(skb, &next, 0);
	return TC_ACT_UNSPEC;
}

char _license[] SEC("license") = "Dual MIT/GPL";
