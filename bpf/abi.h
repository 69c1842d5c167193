/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * What the selector and spanwired tell each other. src/kernel/abi.rs has the
 * same structures; a test holds the two together by the object's BTF.
 */
#ifndef SPANWIRE_ABI_H
#define SPANWIRE_ABI_H

#include <linux/types.h>

/*
 * Of these structures as they are pinned. Another number whenever one of them
 * changes: what is pinned is then taken off by exchanging programs, and not
 * read.
 */
#define LAYOUT 2

/* Numbers that both sides know. An enum, so that they are in the object's BTF. */
enum numbers {
	/* Of a port's index of VLANs, eight to a row. */
	VLAN_ROWS = 512,
	/* Slots of ledgers in one inner map of `cells`. */
	CHUNK_SLOTS = 64,
	/* The kernel took a VLAN tag off the frame. */
	RECORD_TAGGED = 1 << 0,
	/* A super-frame. */
	RECORD_SUPER = 1 << 1,
	/* The longest frame that a record takes: a super-frame of 64 KiB and its headers. */
	RECORD_LONGEST = 65600,
};

/*
 * A bank: one generation of the policy, an array of rows of 16 bytes that is
 * never written once packets can see it. Row 0 is the header, row n + 1 that of
 * port n; behind them indexes of VLANs and taps, where the rows that refer to
 * them say.
 */
struct bank_header {
	/* Of the table that it was made from. */
	__u64 serial;
	__u32 rows;
	__u32 ports;
};

/* A port. Row numbers; 0 is none. */
struct port_row {
	/* The tap of the frames that none of its VLANs has. */
	__u32 plain;
	/* First of VLAN_ROWS rows: its index by VLAN. */
	__u32 vlans;
	/* First of the taps that the index counts from 1. */
	__u32 taps;
	/* ~n: no row of another kind has that here, so that a bank from before port n was is not misread. */
	__u32 mark;
};

/* Eight VLANs' places among the port's taps, counted from 1; 0 is none. */
struct vlan_row {
	__u16 at[8];
};

/* A mirror entry. */
struct tap_row {
	/* Of its ledger. */
	__u32 slot;
	/* 1 in so many frames; at least 1. */
	__u32 rate;
	/* The monitor port, ifindex in the snapshot. */
	__u32 output;
	__u32 reserved;
};

/*
 * The ledger of one entry on one processor, which alone writes it. Later
 * members count some of what earlier ones count, and are written after them.
 */
struct cell {
	/* Frames to pass before the next one is selected. */
	__u32 until;
	__u32 reserved;
	__u64 observed;
	__u64 selected;
	/* Selected, and not in the ring: it was full. */
	__u64 ring_full;
	/* Selected, and longer than any record. */
	__u64 oversize;
	/* Selected, and could not be read. */
	__u64 unreadable;
	__u64 pad[2];
};

/* What crossed from one port on one processor, which alone writes it. */
struct crossing {
	__u64 frames;
	/* Tags that the kernel took off included. */
	__u64 bytes;
	/* Frames for which there was no other port. */
	__u64 no_peer;
	/* In the first row: the frames of all rows that spanwired has seen. It writes this. */
	__u64 seen;
	__u64 pad[4];
};

/* What was lost of the frames from one port on one processor, which alone writes it (loss.bpf.c). */
struct loss {
	/* Not sent on. */
	__u64 refused;
	/* Not taken by the other port's driver. */
	__u64 unsent;
	/* Dropped by the driver that received them. */
	__u64 aborted;
	/* Whether the last of the refused may still be told of as of one dropped by the driver. */
	__u64 told;
};

/* Whether who reads a processor's ring is to be woken, and what did not get into it. */
struct bell {
	/* spanwired writes this. */
	__u32 asleep;
	__u32 reserved;
	/* In the first row: of `lost` of all rows what spanwired has seen. It writes this. */
	__u64 seen;
	/* Clones of all entries that this processor has selected and not put into its ring. It alone writes this. */
	__u64 lost;
	__u64 pad[5];
};

/* A clone on its way to spanwired; `len` bytes of the frame follow. */
struct record {
	/* Of the bank that selected it. */
	__u64 serial;
	/* CLOCK_MONOTONIC, nanoseconds. */
	__u64 time;
	__u32 slot;
	__u32 output;
	__u32 len;
	/* Its receive queue. */
	__u32 queue;
	/* RECORD_… */
	__u32 flags;
	/* The tag that the kernel took off the frame, where it is RECORD_TAGGED. */
	__u16 vlan_proto;
	__u16 vlan_tci;
	/* Of a super-frame (RECORD_SUPER): payload bytes of its segments. */
	__u32 gso_size;
	__u32 gso_segs;
	__u64 pad[2];
};

/* What the loader says of an instance of the program. */
struct constants {
	/* The port's number: its row in a bank, less one. */
	__u32 port;
	/* Rows of `crossings`, and of each ledger: processors there can be. */
	__u32 processors;
	/* Its own device, ifindex, where `devices` has it too; else 0. */
	__u32 device;
	__u32 reserved;
	/* None of them, and here for the BTF alone: the test that compares abi.rs with it finds the types by this. */
	enum numbers numbers[0];
	struct bank_header banks[0];
	struct port_row ports[0];
	struct vlan_row vlans[0];
	struct tap_row taps[0];
	struct cell cells[0];
	struct record records[0];
};

#endif
