// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * span_tc carries the frames of one port of a wire to the other one as the
 * kernel has them, super-frames and checksums to be finished included, and
 * mirrors what the policy selects.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#define HOOK_CTX struct __sk_buff
#define hook_load bpf_skb_load_bytes
#include "selector.h"

SEC("tc")
int span_tc(struct __sk_buff *skb)
{
	__u32 peer = constants.peer;
	struct crossing *row = crossing();
	struct seen frame = { .len = skb->len, .vlan = NO_VLAN };
	__be16 at[2];

	/* A receive queue is noted counted from 1; 0 is none. */
	frame.queue = skb->queue_mapping ? skb->queue_mapping - 1 : 0;
	if (skb->vlan_present) {
		frame.flags = RECORD_TAGGED;
		frame.vlan_proto = bpf_ntohs(skb->vlan_proto);
		frame.vlan_tci = skb->vlan_tci;
		frame.vlan = skb->vlan_tci & 0x0fff;
	} else if (!bpf_skb_load_bytes(skb, 12, at, sizeof(at))) {
		frame.vlan = vlan_of(at);
	}
	frame.gso_size = skb->gso_size;
	frame.gso_segs = skb->gso_segs;
	if (frame.gso_size)
		frame.flags |= RECORD_SUPER;
	mirror(skb, &frame);
	if (row) {
		if (peer) {
			row->frames++;
			row->bytes += frame.len;
		} else {
			row->no_peer++;
		}
	}
	return peer ? bpf_redirect(peer, 0) : TC_ACT_SHOT;
}
