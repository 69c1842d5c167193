// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * What the kernel loses of the frames that span_wire sends on, by its own
 * word: three of its tracepoints. They tell of a batch or of a failure, not of
 * each frame, and of the devices of all network namespaces. All batches pay
 * for who looks at them, so spanwired has that only where nothing else tells.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "abi.h"

/* Of the kernel's structures what is read here. libbpf looks up where that is in this kernel, by its BTF. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ns_common {
	unsigned int inum;
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct net_device {
	int ifindex;
	possible_net_t nd_net;
};

#pragma clang attribute pop

/* The network namespace of the ports, by its inode. */
const volatile __u32 space = 0;

/* By the ifindex of the port that received the frames. spanwired adds the rows, and removes them. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, struct loss);
} losses SEC(".maps");

static __always_inline struct loss *loss_of(const struct net_device *from)
{
	struct loss *row;
	__u32 ifindex;

	if (!from)
		return 0;
	ifindex = from->ifindex;
	row = bpf_map_lookup_elem(&losses, &ifindex);
	/* Another namespace may have a device of the same number. */
	return row && from->nd_net.net->ns.inum == space ? row : 0;
}

/* What a driver was given at once, to send, is sent, or some of it is not. */
SEC("tp_btf/xdp_devmap_xmit")
int BPF_PROG(span_unsent, const struct net_device *from, const struct net_device *to, int sent, int drops)
{
	struct loss *row;

	if (drops <= 0)
		return 0;
	row = loss_of(from);
	if (row)
		row->unsent += drops;
	return 0;
}

/* A frame could not be sent on. */
SEC("tp_btf/xdp_redirect_err")
int BPF_PROG(span_refused, const struct net_device *from)
{
	struct loss *row = loss_of(from);

	if (row) {
		row->refused++;
		row->told = 1;
	}
	return 0;
}

/*
 * A driver could not do with a frame what it was to. Of one that could not be
 * sent on many drivers tell here too, right after the kernel has: that is the
 * same frame.
 */
SEC("tp_btf/xdp_exception")
int BPF_PROG(span_aborted, const struct net_device *from)
{
	struct loss *row = loss_of(from);

	if (!row)
		return 0;
	if (row->told)
		row->told = 0;
	else
		row->aborted++;
	return 0;
}

/* "Dual MIT/GPL" is a spelling the kernel takes as GPL-compatible. */
char _license[] SEC("license") = "Dual MIT/GPL";
