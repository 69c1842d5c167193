//! Why bytes are not what the layout promises.

use thiserror::Error;

use crate::ENDIAN_TAG;

/// Why bytes are not a region or an image this reader can use.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LayoutError {
    /// not this format at all
    #[error("magic is {found:#018x}: this is not a spanwire region or image")]
    Magic {
        /// The value found.
        found: u64,
    },
    /// another byte order
    #[error("endian tag is {found:#010x}, want {ENDIAN_TAG:#010x}: written in another byte order")]
    Endian {
        /// The value found.
        found: u32,
    },
    /// another layout
    #[error("layout major is {found}, supported is {supported}")]
    LayoutMajor {
        /// The value found.
        found: u16,
        /// The value this reader supports.
        supported: u16,
    },
    /// bytes are missing or in excess
    #[error("{len} bytes where {need} are announced")]
    Truncated {
        /// Bytes there are.
        len: u64,
        /// Bytes announced.
        need: u64,
    },
    /// the checksum does not match
    #[error("checksum is {found:#010x}, the bytes give {computed:#010x}")]
    Crc {
        /// The stored checksum.
        found: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// a field holds a value the layout rules out
    #[error("{field} is {found}, which the layout rules out")]
    Field {
        /// Its name.
        field: &'static str,
        /// Its value.
        found: u64,
    },
    /// a section cannot be used
    #[error("section of kind {kind}: {what}")]
    Section {
        /// Its kind.
        kind: u32,
        /// What does not hold.
        what: &'static str,
    },
    /// a required section is unknown here
    #[error("section of kind {kind} is required and unknown to this release")]
    UnknownRequired {
        /// Its kind.
        kind: u32,
    },
    /// a record of a section does not hold
    #[error("record {index} of the section of kind {kind}: {what}")]
    Record {
        /// Kind of the section.
        kind: u32,
        /// Index of the record.
        index: usize,
        /// What does not hold.
        what: &'static str,
    },
}
