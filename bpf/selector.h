/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * The selector: what of a port's frames is mirrored, and one copy of each such
 * frame into the clone ring of this processor. The hooks differ in how they
 * read a frame and send it on, and in nothing else.
 *
 * Each port has an instance of a program, with its own constants, `devices` and
 * `crossings`; the other maps are shared by all ports of a directory.
 *
 * Before it includes this a hook defines HOOK_CTX, the program's context, and
 * after it the functions that are declared here as its own.
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

/*
 * The devices of the wire. One that goes, also to another network namespace, the
 * kernel takes out here, so that no frame can go to a stranger with the same
 * ifindex.
 */
enum { OTHER, OWN, DEVICES };

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, DEVICES);
	__type(key, __u32);
	__type(value, __u32);
} devices SEC(".maps");

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

/* The hook's own: the VLAN id of the frame's outermost tag, UNTAGGED or NO_VLAN. */
static __always_inline __u16 hook_vlan(HOOK_CTX *ctx);
/* Writes down what is known of the frame besides its bytes: queue, flags, tag, segments. */
static __always_inline void hook_note(HOOK_CTX *ctx, struct record *record);
/* Copies bytes of the frame; 0 or an error. */
static __always_inline long hook_load(HOOK_CTX *ctx, __u32 from, void *to, __u32 len);

/* The VLAN id by the four bytes behind the addresses. */
static __always_inline __u16 vlan_of(const __be16 *at)
{
	__u16 proto = bpf_ntohs(at[0]);

	if (proto != ETH_P_8021Q && proto != ETH_P_8021AD)
		return UNTAGGED;
	return bpf_ntohs(at[1]) & 0x0fff;
}

/* Likewise, where those bytes may be at hand: `data` up to `end` is the frame's beginning. */
static __always_inline __u16 vlan_at_hand(HOOK_CTX *ctx, const void *data, const void *end)
{
	__be16 at[2];

	if (data + 16 <= end)
		return vlan_of(data + 12);
	return hook_load(ctx, 12, at, sizeof(at)) ? NO_VLAN : vlan_of(at);
}

/* The row of the tap whose frame this is; 0 is none. */
static __always_inline __u32 classify(HOOK_CTX *ctx, void *bank, const struct port_row *row)
{
	struct vlan_row *vlans;
	__u16 vlan;
	__u32 at;

	/* The frame is looked at only where that makes a difference: nothing else on its way needs it in the cache. */
	if (!row->vlans)
		return row->plain;
	vlan = hook_vlan(ctx);
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

/* A record with room for so many bytes. Its size is a constant for the verifier. */
static __always_inline struct record *reserve(void *ring, __u64 len)
{
#define RESERVE_WITHIN(room) \
	if (len <= (room)) \
		return bpf_ringbuf_reserve(ring, sizeof(struct record) + (room), 0);

	RESERVE_WITHIN(64)
	RESERVE_WITHIN(192)
	RESERVE_WITHIN(448)
	RESERVE_WITHIN(960)
	RESERVE_WITHIN(1536)
	RESERVE_WITHIN(4096)
	RESERVE_WITHIN(9216)
	RESERVE_WITHIN(16384)
	RESERVE_WITHIN(32768)
	return bpf_ringbuf_reserve(ring, sizeof(struct record) + RECORD_LONGEST, 0);
}

/* Counts a clone that is lost here: in its ledger, and in all. */
static __always_inline void lose(__u64 *count, __u32 processor)
{
	struct bell *bell = bpf_map_lookup_elem(&bells, &processor);

	(*count)++;
	if (bell)
		bell->lost++;
}

/* Copies a selected frame into the ring of this processor. */
static __always_inline void copy(HOOK_CTX *ctx, __u64 len, void *bank, const struct tap_row *tap, struct cell *cell,
				 __u32 processor)
{
	__u32 at = 0;
	struct bank_header *header = bpf_map_lookup_elem(bank, &at);
	void *ring = bpf_map_lookup_elem(&rings, &processor);
	struct record *record;
	__u64 least = 1;

	/*
	 * The verifier has to see that the very register that is bounded here is the length further down. Before Linux 6.8
	 * it learns nothing of a comparison with 0 for equality, which clang makes of one with a constant 1.
	 */
	asm volatile("" : "+r"(len), "+r"(least));
	if (len > RECORD_LONGEST) {
		lose(&cell->oversize, processor);
		return;
	}
	if (len < least) {
		lose(&cell->unreadable, processor);
		return;
	}
	record = header && ring ? reserve(ring, len) : 0;
	if (!record) {
		lose(&cell->ring_full, processor);
		return;
	}
	record->serial = header->serial;
	record->time = bpf_ktime_get_ns();
	record->slot = tap->slot;
	record->output = tap->output;
	record->len = len;
	hook_note(ctx, record);
	if (hook_load(ctx, 0, record + 1, len)) {
		lose(&cell->unreadable, processor);
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
		return;
	}
	bpf_ringbuf_submit(record, wakeup(processor));
}

/* Mirrors the frame of so many bytes where an entry selects it. It goes on whatever happens here. */
static __always_inline void mirror(HOOK_CTX *ctx, __u32 len, __u32 processor)
{
	__u32 at = 0;
	struct port_row *row;
	struct tap_row *tap;
	struct cell *cell;
	void *bank;

	bank = bpf_map_lookup_elem(&policy, &at);
	if (!bank)
		return;
	at = constants.port + 1;
	row = bpf_map_lookup_elem(bank, &at);
	/* A bank from before this port was has something else there, or nothing. */
	if (!row || row->mark != ~constants.port)
		return;
	at = classify(ctx, bank, row);
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
	copy(ctx, len, bank, tap, cell, processor);
}

/* The row that counts what crosses on this processor. */
static __always_inline struct crossing *crossing(__u32 processor)
{
	return bpf_map_lookup_elem(&crossings, &processor);
}

/* Counts a frame of so many bytes that leaves for the other port, or finds none. */
static __always_inline void crossed(struct crossing *row, __u32 bytes, int has_peer)
{
	if (!row)
		return;
	if (has_peer) {
		row->frames++;
		row->bytes += bytes;
	} else {
		row->no_peer++;
	}
}

/* "Dual MIT/GPL" is a spelling the kernel takes as GPL-compatible. */
char _license[] SEC("license") = "Dual MIT/GPL";

#endif
