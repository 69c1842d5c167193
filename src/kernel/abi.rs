//! What the selector (`bpf/abi.h`) and spanwired tell each other. A test holds the two together by the objects' BTF.

use std::sync::atomic::{AtomicU32, AtomicU64};

use bytemuck::{Pod, Zeroable};

/// `struct constants`: what the loader says of an instance of a program.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Constants {
    /// The port's number: its row in a bank, less one.
    pub port: u32,
    /// Processors there can be.
    pub processors: u32,
    /// The wire's other port, ifindex, for tc; 0 for none.
    pub peer: u32,
    /// Zero.
    pub reserved: u32,
}

/// `struct bank_header`: the first row of a bank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BankHeader {
    /// Of the table it was made from.
    pub serial: u64,
    /// Rows of the bank.
    pub rows: u32,
    /// Of them ports.
    pub ports: u32,
}

/// `struct port_row`. Members are numbers of rows; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct PortRow {
    /// The tap of the frames that none of its VLANs has.
    pub plain: u32,
    /// First of [`VLAN_ROWS`] rows.
    pub vlans: u32,
    /// First of the taps that the index counts from 1.
    pub taps: u32,
    /// Zero.
    pub reserved: u32,
}

/// `struct tap_row`: a mirror entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct TapRow {
    /// Of its ledger.
    pub slot: u32,
    /// At least 1.
    pub rate: u32,
    /// The monitor port, ifindex in the snapshot.
    pub output: u32,
    /// Zero.
    pub reserved: u32,
}

/// Rows of a port's index of VLANs, eight to a row.
pub const VLAN_ROWS: u32 = 512;

/// `struct cell`: the ledger of an entry on a processor, which alone writes it. Later members count some of what earlier
/// ones count, and are written after them.
#[derive(Debug, Zeroable)]
#[repr(C)]
pub struct Cell {
    /// Frames to pass before the next one is selected.
    pub until: AtomicU32,
    reserved: AtomicU32,
    /// Frames that are the entry's.
    pub observed: AtomicU64,
    /// Of them selected.
    pub selected: AtomicU64,
    /// Of those not in the ring: it was full.
    pub ring_full: AtomicU64,
    /// Of those longer than any record.
    pub oversize: AtomicU64,
    /// Of those not to be read.
    pub unreadable: AtomicU64,
    pad: [AtomicU64; 2],
}

/// Slots of ledgers in one inner map of `cells`.
pub const CHUNK_SLOTS: u32 = 64;

/// `struct crossing`: what crossed from a port on a processor, which alone writes it.
#[derive(Debug, Zeroable)]
#[repr(C)]
pub struct Crossing {
    /// Frames sent on.
    pub frames: AtomicU64,
    /// Their bytes.
    pub bytes: AtomicU64,
    /// Frames for which there was no other port.
    pub no_peer: AtomicU64,
    pad: [AtomicU64; 5],
}

/// `struct bell`: whether who reads a processor's ring is to be woken.
#[derive(Debug, Zeroable)]
#[repr(C)]
pub struct Bell {
    /// 1 while it sleeps.
    pub asleep: AtomicU32,
    pad: [AtomicU32; 15],
}

/// The kernel took a VLAN tag off the frame.
pub const RECORD_TAGGED: u32 = 1 << 0;
/// A super-frame.
pub const RECORD_SUPER: u32 = 1 << 1;

/// `struct record`: the head of a clone on its way to spanwired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct RecordHead {
    /// Of the bank that selected it.
    pub serial: u64,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time: u64,
    /// Of the entry's ledger.
    pub slot: u32,
    /// The monitor port, ifindex in the snapshot.
    pub output: u32,
    /// Bytes of the frame, which follow.
    pub len: u32,
    /// The receive queue.
    pub queue: u32,
    /// [`RECORD_TAGGED`], [`RECORD_SUPER`].
    pub flags: u32,
    /// The tag's ethertype.
    pub vlan_proto: u16,
    /// Its control information.
    pub vlan_tci: u16,
    /// Payload bytes of a super-frame's segments.
    pub gso_size: u32,
    /// How many there are.
    pub gso_segs: u32,
    /// Zero.
    pub pad: [u64; 2],
}

/// The longest frame that a record takes.
pub const RECORD_LONGEST: usize = 65600;

const _: () = assert!(size_of::<BankHeader>() == 16 && size_of::<PortRow>() == 16 && size_of::<TapRow>() == 16);
const _: () = assert!(size_of::<Cell>() == 64 && size_of::<Crossing>() == 64 && size_of::<Bell>() == 64);
const _: () = assert!(size_of::<RecordHead>() == 64);
