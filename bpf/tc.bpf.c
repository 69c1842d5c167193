// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * span_tc carries the frames of one port of a wire to the other one as the
 * kernel has them, super-frames and checksums to be finished included, and
 * mirrors what the policy selects.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#define HOOK_CTX struct __sk_buff
#include "selector.h"

static __always_inline __u16 hook_vlan(struct __sk_buff *skb)
{
	if (skb->vlan_present)
		return skb->vlan_tci & 0x0fff;
	return vlan_at_hand(skb, (void *)(long)skb->data, (void *)(long)skb->data_end);
}

static __always_inline void hook_note(struct __sk_buff *skb, struct record *record)
{
	__u32 queue = skb->queue_mapping, flags = 0;

	/* A receive queue is noted counted from 1; 0 is none. */
	record->queue = queue ? queue - 1 : 0;
	if (skb->vlan_present)
		flags |= RECORD_TAGGED;
	record->vlan_proto = bpf_ntohs(skb->vlan_proto);
	record->vlan_tci = skb->vlan_tci;
	if (skb->gso_size)
		flags |= RECORD_SUPER;
	record->gso_size = skb->gso_size;
	record->gso_segs = skb->gso_segs;
	record->flags = flags;
}

static __always_inline long hook_load(struct __sk_buff *skb, __u32 from, void *to, __u32 len)
{
	return bpf_skb_load_bytes(skb, from, to, len);
}

SEC("tc")
int span_tc(struct __sk_buff *skb)
{
	__u32 processor = bpf_get_smp_processor_id(), len = skb->len, at = OTHER;
	struct crossing *row = crossing(processor);
	const __u32 *device;

	mirror(skb, len, processor);
	device = bpf_map_lookup_elem(&devices, &at);
	/* It is looked up where the port is by now: elsewhere it is another one's. */
	at = OWN;
	if (constants.device && !bpf_map_lookup_elem(&devices, &at))
		device = 0;
	/* The tag that the kernel took off is on the wire. */
	crossed(row, skb->vlan_present ? len + 4 : len, device != 0);
	return device ? bpf_redirect(*device, 0) : TC_ACT_SHOT;
}
