/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * The selector: what of a port's frames is mirrored, and one copy of each such
 * frame into the clone ring of this processor. The hooks differ in how they
 * read a frame and send it on, and in nothing else.
 *
 * Each port has an instance of a program, with its own constants and its own
 * `crossings`; the other maps are shared by all ports of a directory.
 *
 * A hook defines, before it includes this:
 *   HOOK_CTX                            the program's context
 *   hook_load(ctx, offset, to, len)     copies bytes of the frame; 0 or an error
 */
#ifndef SPANWIRE_SELECTOR_H
#define SPANWIRE_SELECTOR_H

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "abi.h"

/* What the loader says of this instance. */
const volatile struct constants constants = { .processors = 1 };

/* The bank in force. Whoever puts another one there waits until no packet sees the older one. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_ARRAY);
		__uint(map_flags, BPF_F_INNER_MAP);
		__uint(max_entries, 1);
		__uint(key_size, sizeof(__u32));
		__uint(value_size, sizeof(struct bank_header));
	});
} policy SEC(".maps");

/* The ledgers, CHUNK_SLOTS to a map, the rows of a slot's processors beside each other. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_ARRAY);
		__uint(map_flags, BPF_F_MMAPABLE);
		__uint(max_entries, CHUNK_SLOTS);
		__uint(key_size, sizeof(__u32));
		__uint(value_size, sizeof(struct cell));
	});
} cells SEC(".maps");

/* The clone rings, by processor. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_RINGBUF);
		__uint(max_entries, 4096);
	});
} rings SEC(".maps");

/* By processor. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bell);
} bells SEC(".maps");

/* What crossed from this port, by processor. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct crossing);
} crossings SEC(".maps");

#define ETH_P_8021Q 0x8100
#define ETH_P_8021AD 0x88a8
/* The id of frames without a tag and of priority-tagged ones. */
#define UNTAGGED 0
/* The id that no VLAN has: of frames too short to tell. */
#define NO_VLAN 4095

/* What the selector is told of a frame. */
struct seen {
	__u32 len;
	__u32 queue;
	/* The VLAN id of its outermost tag, UNTAGGED or NO_VLAN. */
	__u16 vlan;
	__u16 vlan_proto;
	__u16 vlan_tci;
	__u16 flags;
	__u32 gso_size;
	__u32 gso_segs;
};

/* The VLAN id by the four bytes behind the addresses. */
static __always_inline __u16 vlan_of(const __be16 *at)
{
	__u16 proto = bpf_ntohs(at[0]);

	if (proto != ETH_P_8021Q && proto != ETH_P_8021AD)
		return UNTAGGED;
	return bpf_ntohs(at[1]) & 0x0fff;
}

/* The row of the tap whose frame this is; 0 is none. */
static __always_inline __u32 classify(void *bank, const struct port_row *row, __u16 vlan)
{
	struct vlan_row *vlans;
	__u32 at;

	if (!row->vlans)
		return row->plain;
	at = row->vlans + (vlan >> 3);
	vlans = bpf_map_lookup_elem(bank, &at);
	if (!vlans)
		return row->plain;
	at = vlans->at[vlan & 7];
	return at ? row->taps + at - 1 : row->plain;
}

static __always_inline struct cell *cell_of(__u32 slot, __u32 processor)
{
	__u32 at = slot / CHUNK_SLOTS;
	void *chunk = bpf_map_lookup_elem(&cells, &at);

	if (!chunk)
		return 0;
	at = slot % CHUNK_SLOTS * constants.processors + processor;
	return bpf_map_lookup_elem(chunk, &at);
}

/*
 * Whether the reader of this processor's ring sleeps. An atomic exchange-add,
 * because it must not pass the reservation before it: the reader says that it
 * sleeps, then looks at the ring.
 */
static __always_inline __u64 wakeup(__u32 processor)
{
	struct bell *bell = bpf_map_lookup_elem(&bells, &processor);

	if (bell && __sync_fetch_and_add(&bell->asleep, 0))
		return BPF_RB_FORCE_WAKEUP;
	return BPF_RB_NO_WAKEUP;
}

/*
 * Copies the frame into a record with room for so many bytes. A record's size
 * is a constant for the verifier, which also wants the length bounded anew
 * behind the compiler's back.
 */
static __always_inline void copy(HOOK_CTX *ctx, const struct seen *frame, const struct tap_row *tap, struct cell *cell,
				 __u64 serial, void *ring, __u32 processor, const __u32 room)
{
	struct record *record = bpf_ringbuf_reserve(ring, sizeof(*record) + room, 0);
	__u64 len = frame->len;

	if (!record) {
		cell->ring_full++;
		return;
	}
	record->serial = serial;
	record->time = bpf_ktime_get_ns();
	record->slot = tap->slot;
	record->output = tap->output;
	record->len = len;
	record->queue = frame->queue;
	record->flags = frame->flags;
	record->vlan_proto = frame->vlan_proto;
	record->vlan_tci = frame->vlan_tci;
	record->gso_size = frame->gso_size;
	record->gso_segs = frame->gso_segs;
	asm volatile("" : "+r"(len));
	if (len == 0 || len > room || hook_load(ctx, 0, record + 1, len)) {
		cell->unreadable++;
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
		return;
	}
	bpf_ringbuf_submit(record, wakeup(processor));
}

#define COPY_WITHIN(room) \
	if (frame->len <= (room)) { \
		copy(ctx, frame, tap, cell, header->serial, ring, processor, room); \
		return; \
	}

/* Mirrors the frame where an entry selects it. It goes on whatever happens here. */
static __always_inline void mirror(HOOK_CTX *ctx, const struct seen *frame)
{
	__u32 processor = bpf_get_smp_processor_id();
	__u32 at = 0;
	struct bank_header *header;
	struct port_row *row;
	struct tap_row *tap;
	struct cell *cell;
	void *bank, *ring;

	bank = bpf_map_lookup_elem(&policy, &at);
	if (!bank)
		return;
	at = constants.port + 1;
	row = bpf_map_lookup_elem(bank, &at);
	if (!row)
		return;
	at = classify(bank, row, frame->vlan);
	if (!at)
		return;
	tap = bpf_map_lookup_elem(bank, &at);
	if (!tap)
		return;
	cell = cell_of(tap->slot, processor);
	if (!cell)
		return;
	cell->observed++;
	if (cell->until) {
		cell->until--;
		return;
	}
	cell->until = tap->rate - 1;
	cell->selected++;
	at = 0;
	header = bpf_map_lookup_elem(bank, &at);
	ring = bpf_map_lookup_elem(&rings, &processor);
	if (!header || !ring) {
		cell->ring_full++;
		return;
	}
	COPY_WITHIN(64)
	COPY_WITHIN(192)
	COPY_WITHIN(448)
	COPY_WITHIN(960)
	COPY_WITHIN(1536)
	COPY_WITHIN(4096)
	COPY_WITHIN(9216)
	COPY_WITHIN(16384)
	COPY_WITHIN(32768)
	COPY_WITHIN(RECORD_LONGEST)
	cell->oversize++;
}

/* The row that counts what crosses here. */
static __always_inline struct crossing *crossing(void)
{
	__u32 processor = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&crossings, &processor);
}

/* "Dual MIT/GPL" is a spelling the kernel takes as GPL-compatible. */
char _license[] SEC("license") = "Dual MIT/GPL";

#endif
