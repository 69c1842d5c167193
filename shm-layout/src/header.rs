//! The region header: one page, written before the region gets its name, its state words changed in place.

use bytemuck::{Pod, Zeroable};

use crate::error::LayoutError;
use crate::{ENDIAN_TAG, LAYOUT_MAJOR, LAYOUT_MINOR, PAGE, SLOTS, WORD};

/// `"SPANWIRE"` in memory order.
pub const REGION_MAGIC: u64 = u64::from_le_bytes(*b"SPANWIRE");

/// What a region carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum RegionKind {
    /// Snapshots, from the control plane to the dataplane.
    Config = 1,
    /// Counters and states, from the dataplane to its readers.
    Stats = 2,
}

/// The header's value of `state` while the region is in use.
pub const STATE_LIVE: u64 = 1;
/// The header's value of `state` once another inode has taken the region's name.
pub const STATE_SUPERSEDED: u64 = 2;

/// The first page of a region.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Header {
    /// [`REGION_MAGIC`].
    pub magic: u64,
    /// [`ENDIAN_TAG`] in the writer's byte order.
    pub endian: u32,
    /// [`LAYOUT_MAJOR`] of the writer.
    pub layout_major: u16,
    /// [`LAYOUT_MINOR`] of the writer.
    pub layout_minor: u16,
    /// Bytes in the whole region.
    pub region_len: u64,
    /// Bytes in a slot, a multiple of [`PAGE`].
    pub slot_len: u64,
    /// [`SLOTS`].
    pub slot_count: u32,
    /// A [`RegionKind`].
    pub kind: u32,
    /// Random at each creation: generations are compared only within one instance.
    pub instance_id: u64,
    /// Creation time, nanoseconds since the Unix epoch.
    pub created_at: u64,
    /// CRC32 of the fields above.
    pub static_crc: u32,
    /// Zero.
    pub reserved0: u32,
    /// [`STATE_LIVE`] or [`STATE_SUPERSEDED`].
    pub state: u64,
    /// Process id of the last writer.
    pub writer_pid: u64,
    /// Start time of that process, clock ticks since boot: tells it from a reuse of its pid.
    pub writer_start: u64,
    /// The newest complete generation; 0 before the first publish.
    pub active: u64,
    /// Changes at each publish; its low half is the futex word readers wait on.
    pub notify: u64,
    /// The last publish, nanoseconds of `CLOCK_BOOTTIME`.
    pub heartbeat: u64,
    /// Zero, always: its low half is the futex word the writer of a stats region waits on until a reader wakes it,
    /// which takes no write.
    pub asked: u64,
    /// Zero.
    pub reserved1: [u64; 497],
}

const _: () = assert!(size_of::<Header>() == PAGE);
const _: () = assert!(std::mem::offset_of!(Header, static_crc) == 56);
const _: () = assert!(std::mem::offset_of!(Header, notify) == 96);

/// Word index of [`Header::state`].
pub const STATE: usize = std::mem::offset_of!(Header, state) / WORD;
/// Word index of [`Header::writer_pid`].
pub const WRITER_PID: usize = std::mem::offset_of!(Header, writer_pid) / WORD;
/// Word index of [`Header::writer_start`].
pub const WRITER_START: usize = std::mem::offset_of!(Header, writer_start) / WORD;
/// Word index of [`Header::active`].
pub const ACTIVE: usize = std::mem::offset_of!(Header, active) / WORD;
/// Word index of [`Header::notify`].
pub const NOTIFY: usize = std::mem::offset_of!(Header, notify) / WORD;
/// Word index of [`Header::heartbeat`].
pub const HEARTBEAT: usize = std::mem::offset_of!(Header, heartbeat) / WORD;
/// Word index of [`Header::asked`].
pub const ASKED: usize = std::mem::offset_of!(Header, asked) / WORD;

/// The unchanging facts of a region, read from a header that holds together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes in a slot.
    pub slot_len: usize,
    /// Identity of this creation of the region.
    pub instance_id: u64,
}

impl Geometry {
    /// Bytes in the whole region.
    pub const fn region_len(&self) -> usize {
        PAGE + SLOTS * self.slot_len
    }

    /// Word index of the slot that holds `generation`.
    pub const fn slot_word(&self, generation: u64) -> usize {
        (PAGE + (generation % SLOTS as u64) as usize * self.slot_len) / WORD
    }
}

impl Header {
    /// A header for a new, empty region.
    pub fn new(kind: RegionKind, slot_len: usize, instance_id: u64, created_at: u64) -> Header {
        let mut header = Header {
            magic: REGION_MAGIC,
            endian: ENDIAN_TAG,
            layout_major: LAYOUT_MAJOR,
            layout_minor: LAYOUT_MINOR,
            region_len: (PAGE + SLOTS * slot_len) as u64,
            slot_len: slot_len as u64,
            slot_count: SLOTS as u32,
            kind: kind as u32,
            instance_id,
            created_at,
            state: STATE_LIVE,
            ..Header::zeroed()
        };
        header.static_crc = header.compute_crc();
        header
    }

    fn compute_crc(&self) -> u32 {
        crc32fast::hash(&bytemuck::bytes_of(self)[..std::mem::offset_of!(Header, static_crc)])
    }

    /// Checks the unchanging fields against each other and against the file's length.
    ///
    /// # Errors
    /// The first field that does not hold, with what was found and what is supported.
    pub fn geometry(&self, kind: RegionKind, file_len: u64) -> Result<Geometry, LayoutError> {
        if self.magic != REGION_MAGIC {
            return Err(LayoutError::Magic { found: self.magic });
        }
        if self.endian != ENDIAN_TAG {
            return Err(LayoutError::Endian { found: self.endian });
        }
        if self.layout_major != LAYOUT_MAJOR {
            return Err(LayoutError::LayoutMajor { found: self.layout_major, supported: LAYOUT_MAJOR });
        }
        if self.static_crc != self.compute_crc() {
            return Err(LayoutError::Crc { found: self.static_crc, computed: self.compute_crc() });
        }
        if self.kind != kind as u32 {
            return Err(LayoutError::Field { field: "header.kind", found: u64::from(self.kind) });
        }
        if self.slot_count != SLOTS as u32 {
            return Err(LayoutError::Field { field: "header.slot_count", found: u64::from(self.slot_count) });
        }
        if self.reserved0 != 0 || self.asked != 0 || self.reserved1.iter().any(|&w| w != 0) {
            return Err(LayoutError::Field { field: "header.reserved", found: 1 });
        }
        let slot_len = usize::try_from(self.slot_len).unwrap_or(usize::MAX);
        if slot_len == 0 || !slot_len.is_multiple_of(PAGE) || slot_len > MAX_SLOT {
            return Err(LayoutError::Field { field: "header.slot_len", found: self.slot_len });
        }
        let geometry = Geometry { slot_len, instance_id: self.instance_id };
        if self.region_len != geometry.region_len() as u64 {
            return Err(LayoutError::Field { field: "header.region_len", found: self.region_len });
        }
        if file_len < self.region_len {
            return Err(LayoutError::Truncated { len: file_len, need: self.region_len });
        }
        Ok(geometry)
    }
}

/// The largest slot a reader accepts, bytes: bounds what a damaged length can make it allocate.
pub const MAX_SLOT: usize = 256 << 20;
