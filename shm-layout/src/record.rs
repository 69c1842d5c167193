//! The records of an image: fixed width, little-endian, explicit padding, no pointers. What all have in common is here; those
//! of a snapshot are in [`config`], those of statistics in [`stats`].

use bytemuck::{CheckedBitPattern, NoUninit, Pod, Zeroable};

use crate::WORD;

/// A run of UTF-8 bytes in the STRINGS section.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct StrRef {
    /// Bytes from the section's start.
    pub offset: u32,
    /// Length in bytes.
    pub len: u32,
}

/// `"SPANIMG1"` in memory order.
pub const IMAGE_MAGIC: u64 = u64::from_le_bytes(*b"SPANIMG1");

/// The first 64 bytes of an image.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct SlotHeader {
    /// Odd while the slot is being written. Zero in a copy and in an offline file.
    pub seq: u64,
    /// [`IMAGE_MAGIC`].
    pub magic: u64,
    /// [`crate::ENDIAN_TAG`].
    pub endian: u32,
    /// [`crate::LAYOUT_MAJOR`] of the writer.
    pub layout_major: u16,
    /// [`crate::LAYOUT_MINOR`] of the writer.
    pub layout_minor: u16,
    /// The image's generation; 0 in an image that was never published.
    pub generation: u64,
    /// Bytes of the whole image, this header included.
    pub len: u64,
    /// CRC32 of bytes 8..len, this field taken as zero.
    pub crc32: u32,
    /// Entries of the section table.
    pub section_count: u32,
    /// When it was published, nanoseconds of `CLOCK_MONOTONIC`; 0 in an image that was never published.
    pub published_at: u64,
    /// Zero.
    pub reserved: u64,
}

const _: () = assert!(size_of::<SlotHeader>() == 64);
const _: () = assert!(std::mem::offset_of!(SlotHeader, crc32) == 40);

impl SlotHeader {
    /// Words in the header.
    pub const WORDS: usize = size_of::<SlotHeader>() / WORD;
    /// Byte offset of [`SlotHeader::crc32`].
    pub const CRC_OFFSET: usize = std::mem::offset_of!(SlotHeader, crc32);

    /// The header at the start of `words`; zeroes where there are too few.
    pub fn from_words(words: &[u64]) -> SlotHeader {
        let mut own = [0u64; SlotHeader::WORDS];
        for (to, from) in own.iter_mut().zip(words) {
            *to = *from;
        }
        bytemuck::cast(own)
    }
}

/// Flag of a section that a reader must know or refuse the image.
pub const REQUIRED: u32 = 1;

/// One entry of the section table.
#[derive(Clone, Copy, Debug, Pod, Zeroable, PartialEq, Eq)]
#[repr(C)]
pub struct SectionEntry {
    /// A section kind; [`Record::KIND`] of its records.
    pub kind: u32,
    /// [`REQUIRED`] or 0.
    pub flags: u32,
    /// Bytes from the image's start, a multiple of 8.
    pub offset: u64,
    /// Bytes: `elem_size * elem_count`.
    pub len: u64,
    /// Bytes of one record.
    pub elem_size: u32,
    /// Number of records.
    pub elem_count: u32,
    /// [`Record::SCHEMA_HASH`] of the writer.
    pub schema_hash: u64,
}

const _: () = assert!(size_of::<SectionEntry>() == 40);

/// A record type that has a section of its own.
pub trait Record: CheckedBitPattern + NoUninit {
    /// Identifies the section.
    const KIND: u32;
    /// `name:type` of each field, in order.
    const FIELDS: &'static str;
    /// FNV-1a of [`Record::FIELDS`].
    const SCHEMA_HASH: u64 = fnv1a(Self::FIELDS);
}

/// The 64-bit FNV-1a hash of `text`.
pub const fn fnv1a(text: &str) -> u64 {
    let bytes = text.as_bytes();
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0100_0000_01b3);
        i += 1;
    }
    hash
}

macro_rules! record {
    ($(#[$doc:meta])* $name:ident kind $kind:literal size $size:tt { $($(#[$fdoc:meta])* $field:ident : $ty:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, NoUninit, CheckedBitPattern)]
        #[repr(C)]
        pub struct $name { $($(#[$fdoc])* pub $field: $ty),* }

        const _: () = assert!(size_of::<$name>() == $size);

        impl Record for $name {
            const KIND: u32 = $kind;
            const FIELDS: &'static str = concat!($(stringify!($field), ":", stringify!($ty), ";"),*);
        }
    };
}

/// Whether a node mirrors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, NoUninit, CheckedBitPattern)]
#[repr(u32)]
pub enum Role {
    /// Forwards and mirrors.
    #[default]
    Active = 0,
    /// Forwards only.
    Standby = 1,
}

/// What keeps an entry from mirroring, as far as the snapshot alone tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, NoUninit, CheckedBitPattern)]
#[repr(u32)]
pub enum Placement {
    /// The ingress is a port of a wire.
    #[default]
    OnWire = 0,
    /// The ingress is on no wire: nothing it could mirror ever passes.
    OnNoWire = 1,
}

/// How serious a diagnostic is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, NoUninit, CheckedBitPattern)]
#[repr(u32)]
pub enum Severity {
    /// For information.
    #[default]
    Note = 0,
    /// Something was left out or will not work as written.
    Warning = 1,
}

/// State of a port or an entry as the dataplane sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, NoUninit, CheckedBitPattern)]
#[repr(u32)]
pub enum LiveState {
    /// In use.
    Active = 0,
    /// Not in use; a reason is given.
    #[default]
    Inactive = 1,
}

/// What a port is used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, NoUninit, CheckedBitPattern)]
#[repr(u32)]
pub enum PortRole {
    /// One end of a wire.
    #[default]
    Wire = 0,
    /// Takes clones.
    Monitor = 1,
}

/// Which UMEM partition a gauge row is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, NoUninit, CheckedBitPattern)]
#[repr(u32)]
pub enum PartitionKind {
    /// Frames for receiving and forwarding.
    #[default]
    Primary = 0,
    /// Frames for clones.
    Mirror = 1,
}

pub mod config;
pub mod stats;

pub use config::*;
pub use stats::*;
