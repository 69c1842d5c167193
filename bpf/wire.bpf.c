// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * span_wire carries the frames of one port of a wire to the other one, in the
 * driver, and mirrors what the policy selects.
 */
#include <linux/bpf.h>

#define HOOK_CTX struct xdp_md
#include "selector.h"

static __always_inline __u16 hook_vlan(struct xdp_md *ctx)
{
	return vlan_at_hand(ctx, (void *)(long)ctx->data, (void *)(long)ctx->data_end);
}

static __always_inline void hook_note(struct xdp_md *ctx, struct record *record)
{
	record->queue = ctx->rx_queue_index;
	record->flags = 0;
	record->vlan_proto = 0;
	record->vlan_tci = 0;
	record->gso_size = 0;
	record->gso_segs = 0;
}

static __always_inline long hook_load(struct xdp_md *ctx, __u32 from, void *to, __u32 len)
{
	return bpf_xdp_load_bytes(ctx, from, to, len);
}

/*
 * "xdp.frags": frames of several buffers cross too. Only ever attached in the
 * driver, where a device that has no such frames never makes one.
 */
SEC("xdp.frags")
int span_wire(struct xdp_md *ctx)
{
	__u32 processor = bpf_get_smp_processor_id(), len = bpf_xdp_get_buff_len(ctx);
	struct crossing *row = crossing(processor);
	long verdict;

	mirror(ctx, len, processor);
	verdict = bpf_redirect_map(&devices, OTHER, XDP_DROP);
	crossed(row, len, verdict == XDP_REDIRECT);
	return verdict;
}
