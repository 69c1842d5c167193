// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * A peer to compare with: forwards in the kernel by XDP redirect, and mirrors
 * by XDP broadcast.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* 0: the wire's other port; 1: the monitor port, where there is mirroring. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} ports SEC(".maps");

SEC("xdp")
int forward(struct xdp_md *ctx)
{
	return bpf_redirect_map(&ports, 0, XDP_DROP);
}

SEC("xdp")
int mirror(struct xdp_md *ctx)
{
	return bpf_redirect_map(&ports, 0, BPF_F_BROADCAST);
}

char _license[] SEC("license") = "Dual MIT/GPL";
