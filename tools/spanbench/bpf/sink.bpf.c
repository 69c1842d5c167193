// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * The far end of the bench: counts the tester's frames and drops them, or
 * stamps 1 in `every` with the time of its arrival and hands it to an AF_XDP
 * socket.
 *
 * The stamp is taken here, so it does not depend on when the socket's thread
 * looks. One instance is loaded per port.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* The tester's frame, as src/wire/probe.rs has it. */
struct probe {
	__u8 addresses[12];
	__u16 ethertype;
	__u16 pad0;
	__u32 magic;
	__u32 trial;
	__u64 sequence;
	__u64 sent;
	__u64 arrived;
} __attribute__((packed));

#define MAGIC 0x62777073u

struct tally {
	__u64 frames;
	/* The tester's, of a trial that is over. */
	__u64 late;
	__u64 foreign;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tally);
} tallies SEC(".maps");

struct wanted {
	/* The trial whose frames are counted. */
	__u32 trial;
	/* Those whose sequence number is a multiple of this go to the socket; 0: none. */
	__u32 every;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct wanted);
} wanted SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} xsks SEC(".maps");

SEC("xdp")
int sink(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct probe *probe = (void *)(long)ctx->data;
	__u32 key = 0;
	struct tally *tally = bpf_map_lookup_elem(&tallies, &key);
	const struct wanted *now = bpf_map_lookup_elem(&wanted, &key);

	if (!tally || !now)
		return XDP_ABORTED;
	if ((void *)(probe + 1) > end || probe->magic != MAGIC) {
		tally->foreign++;
		return XDP_DROP;
	}
	if (probe->trial != now->trial) {
		tally->late++;
		return XDP_DROP;
	}
	tally->frames++;
	if (now->every == 0 || probe->sequence % now->every != 0)
		return XDP_DROP;
	probe->arrived = bpf_ktime_get_ns();
	return bpf_redirect_map(&xsks, ctx->rx_queue_index, XDP_DROP);
}

char _license[] SEC("license") = "Dual MIT/GPL";
