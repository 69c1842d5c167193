// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * span_rx hands the frames of one port to the AF_XDP sockets of that port.
 *
 * One instance of this object is loaded per port. A port's sockets live in
 * that instance's own map, so no port can reach, crowd out or tear down
 * another one, and the queue number alone is the key.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/*
 * Receive queue -> AF_XDP socket. The loader sets max_entries to the port's
 * queue count; 1 is only what the object says before that.
 */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} xsks SEC(".maps");

/*
 * SEC("xdp"), not "xdp.frags": a frame must fit one UMEM frame. The kernel then
 * refuses a native attach at an MTU that would need several buffers, which is
 * an error at start instead of frames lost later.
 *
 * The redirect falls back to XDP_PASS: a queue with no socket (not opened
 * yet, or its process died, which empties the slot) is left to the kernel.
 * A lookup before the redirect would only repeat what the helper does.
 */
SEC("xdp")
int span_rx(struct xdp_md *ctx)
{
	return bpf_redirect_map(&xsks, ctx->rx_queue_index, XDP_PASS);
}

/* "Dual MIT/GPL" is a spelling the kernel takes as GPL-compatible. */
char _license[] SEC("license") = "Dual MIT/GPL";
