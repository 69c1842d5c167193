// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * A peer to compare with: forwards in the kernel by tc redirect, and mirrors
 * by clone_redirect.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* Set by the loader. */
volatile const struct {
	__u32 wire;
	__u32 monitor;
} ports;

SEC("tc")
int forward(struct __sk_buff *skb)
{
	return bpf_redirect(ports.wire, 0);
}

SEC("tc")
int mirror(struct __sk_buff *skb)
{
	bpf_clone_redirect(skb, ports.monitor, 0);
	return bpf_redirect(ports.wire, 0);
}

char _license[] SEC("license") = "Dual MIT/GPL";
