// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/* Programs of somebody else: each gives every frame it meets to the host's own stack. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

SEC("tc")
int foreign_tc(struct __sk_buff *skb)
{
	return TC_ACT_OK;
}

SEC("xdp")
int foreign_xdp(struct xdp_md *ctx)
{
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual MIT/GPL";
