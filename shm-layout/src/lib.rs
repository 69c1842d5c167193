//! The bytes spanwire's processes share, and the protocol that moves them.
//!
//! Two regions use one layout: `config.shm` carries the mirror snapshot from the control plane to the
//! dataplane, `stats.shm` carries the dataplane's counters back. Each has exactly one writer.
//!
//! ```text
//! region    0        4096          4096 + slot_len              4096 + 4 * slot_len
//!           +--------+-------------+-------------+------+------+
//!           | Header |   slot 0    |   slot 1    |  2   |  3   |   slot = generation mod 4
//!           +--------+-------------+-------------+------+------+
//! Header    magic | endian, major.minor | region_len | slot_len | slots, kind | instance_id
//!           | created_at | crc32 of the above || state | writer pid, start | active | notify | heartbeat | asked
//!
//! slot = image
//!           0     8       16                   24           32    40                 48
//!           +-----+-------+--------------------+------------+-----+------------------+--------------+
//!           | seq | magic | endian,major.minor | generation | len | crc32, #sections | published_at |
//!           +-----+-------+--------------------+------------+-----+------------------+--------------+
//!       64  | section table: {kind, flags, offset, len, elem_size, elem_count, schema_hash} * #sections |
//!           +----------------------------------------------------------------------------------------+
//!           | sections, each 8-aligned: META PORTS WIRES MIRRORS DIAGNOSTICS NATIVE_VLANS PLACES SEEN    |
//!           | LINK_LOSS and STRINGS, or those of statistics                                          |
//!           +----------------------------------------------------------------------------------------+
//! ```
//!
//! Read in the order the data flows:
//! - [`record`]: the fixed-width records of each section, and their schema hashes
//! - [`counters`]: the names, units and meanings of every counter
//! - [`image`]: builds an image, the self-contained content of a slot or of an offline file; `checksum`: its checksum
//! - [`header`]: the region header and where its words are
//! - [`words`]: how words of a region are reached, so that the protocol can be model-checked
//! - [`protocol`]: [`protocol::Writer::publish`] and [`protocol::Reader::read`]
//! - [`view`]: untrusted bytes to a trusted view, in one conversion; [`error`]: why not
//! - [`snapshot`]: the view of a config image, held to the `rules` of its records
//! - [`places`]: where the frames of a mirror entry arrive and its clones leave
//!
//! All integers are little-endian; a region written on a big-endian machine is refused by its marker.
#![forbid(unsafe_code)]

mod checksum;
pub mod counters;
pub mod error;
pub mod header;
pub mod image;
mod pins;
pub mod places;
pub mod protocol;
pub mod record;
mod rules;
pub mod snapshot;
pub mod view;
pub mod words;

/// Layout major version. A reader refuses any other.
pub const LAYOUT_MAJOR: u16 = 1;
/// Layout minor version. A newer minor may add sections, and fields at the end of a record. 1 adds PLACES,
/// NATIVE_VLANS, SEEN, LINK_LOSS, PORT_DEVICES, TAKEN_DOWN, PATHS, ROOM, CLONES, REFUSALS, RINGS and FEATURES.
pub const LAYOUT_MINOR: u16 = 1;
/// The feature of dataplanes whose clones may lie in several mirror frames.
pub const MULTI_BUFFER: &str = "multi-buffer";
/// In so many, at most.
pub const CLONE_FRAMES: u32 = 16;
/// Reads as this value only in the byte order it was written in.
pub const ENDIAN_TAG: u32 = 0x0102_0304;
/// Slots in a region. A reader is lapped only by this many publishes during one copy.
pub const SLOTS: usize = 4;
/// Bytes in a page of a region: the header's size and the alignment of each slot, whatever the pages of the machine are.
pub const PAGE: usize = 4096;
/// Bytes in a word, the unit of every access to a region.
pub const WORD: usize = 8;
