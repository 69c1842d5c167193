// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * span_wire carries the frames of one port of a wire to the other one, in the
 * driver, and mirrors what the policy selects.
 */
#include <linux/bpf.h>

#define HOOK_CTX struct xdp_md
#define hook_load bpf_xdp_load_bytes
#include "selector.h"

/*
 * The wire's other port. Of the devices the kernel removes it takes them out
 * here, so that no frame can go to a stranger with the same ifindex.
 */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} peer SEC(".maps");

/*
 * "xdp.frags": frames of several buffers cross too. Only ever attached in the
 * driver, where a device that has no such frames never makes one.
 */
SEC("xdp.frags")
int span_wire(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct crossing *row = crossing();
	struct seen frame = { .queue = ctx->rx_queue_index, .vlan = NO_VLAN };
	long verdict;

	frame.len = bpf_xdp_get_buff_len(ctx);
	if (data + 16 <= end)
		frame.vlan = vlan_of(data + 12);
	mirror(ctx, &frame);
	verdict = bpf_redirect_map(&peer, 0, XDP_DROP);
	if (row) {
		if (verdict == XDP_REDIRECT) {
			row->frames++;
			row->bytes += frame.len;
		} else {
			row->no_peer++;
		}
	}
	return verdict;
}
