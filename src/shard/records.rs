//! Records of clone rings: what the kernel selected becomes clones.
//!
//! ```text
//!   clone ring ──> at most 64 records ──> runs of one entry, output and queue ──> clones
//!        ^ room given back ─────────────────────────────────────────────────────────┘
//! ```
//!
//! A record needs no table: it says whose it is and where its clone goes. One of an older table, or of a newer one than
//! the shard has yet, is treated like all others. One that takes several frames, for which there is no room now, waits for as
//! long as that helps, and those behind it too.

use arrayvec::ArrayVec;

use super::clone::Clones;
use super::original::Original;
use super::port::Port;
use super::rx::BATCH;
use super::spread::frames_of;
use super::targets::Targets;
use crate::checksum::complete_checksum;
use crate::counters::{ENTRY_SLOTS, ShardBlock};
use crate::kernel::abi::RecordHead;
use crate::kernel::rings::{Record, Ring};
use crate::segment::Segments;
use crate::xsk::Doorbell;
use crate::xsk::abi::{ETH_HLEN, VLAN_HLEN};

/// Clones what a ring has, at most [`BATCH`] records of it, and gives their room back. Returns how many there were.
#[inline(never)]
pub fn take<D: Doorbell>(
    ring: &mut Ring,
    targets: &mut Targets,
    ports: &mut [Port<D>],
    clones: &mut Clones,
    block: &ShardBlock,
) -> usize {
    let mut cursor = ring.position();
    let mut batch: ArrayVec<(Whose, Recorded<'_>), BATCH> = ArrayVec::new();
    let (size, mut before) = (clones.store.area().frame_size(), 0u32);
    while !batch.is_full() {
        let mut ahead = cursor;
        let Some(record) = ring.next(&mut ahead) else {
            // Also behind what was nothing.
            cursor = ahead;
            break;
        };
        let (whose, original) = (Whose::of(&record), Recorded::of(&record));
        let takes = match frames_of(&&original, size) {
            1 => Some(1),
            frames => {
                let target = targets.of(whose.output, whose.queue, ports, &clones.lanes);
                clones.takes(ports, target, frames, before, ring.is_crowded())
            }
        };
        let Some(takes) = takes else { break };
        cursor = ahead;
        before += takes;
        batch.push((whose, original));
    }
    let taken = batch.len();
    for run in batch.chunk_by(|(one, _), (next, _)| one == next) {
        let Whose { slot, output, queue } = run[0].0;
        // No selector has been told of such a ledger.
        if slot as usize >= ENTRY_SLOTS {
            continue;
        }
        let target = targets.of(output, queue, ports, &clones.lanes);
        let tally = clones.make(ports, target, slot, run.iter().map(|(_, original)| original), run.len() as u32);
        block.entry(slot).commit(|row| tally.enter(row));
    }
    drop(batch);
    ring.release(cursor);
    taken
}

/// Whose a record is, and where its clone goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Whose {
    slot: u32,
    output: u32,
    queue: u32,
}

impl Whose {
    #[inline]
    fn of(record: &Record<'_>) -> Whose {
        let RecordHead { slot, output, queue, .. } = record.head;
        Whose { slot, output, queue }
    }
}

/// A record, to be cloned.
#[derive(Debug)]
struct Recorded<'a> {
    form: Form<'a>,
    /// Goes back behind the addresses.
    tag: Option<[u8; VLAN_HLEN as usize]>,
}

/// How a frame leaves.
#[derive(Debug)]
enum Form<'a> {
    /// As it is.
    Whole(&'a [u8]),
    /// A super-frame: as what a device would make of it.
    Segments(Segments<'a>),
    /// A super-frame of which nobody knows what a device would make.
    Unknown,
}

/// Bytes of an Ethernet header before its type: the addresses.
const ADDRESSES: usize = ETH_HLEN as usize - 2;

impl<'a> Recorded<'a> {
    #[inline]
    fn of(record: &Record<'a>) -> Recorded<'a> {
        let form = match record.segment_size() {
            None => Form::Whole(record.frame),
            Some(size) => Segments::of(record.frame, size).map_or(Form::Unknown, Form::Segments),
        };
        Recorded { form, tag: record.tag() }
    }

    /// With the tag, if there is one; 0 of what has no place for it.
    #[inline]
    fn tagged(&self, len: usize) -> u32 {
        match self.tag {
            Some(_) if len < ADDRESSES => 0,
            Some(_) => len as u32 + VLAN_HLEN,
            None => len as u32,
        }
    }

    /// Writes a frame without its tag.
    fn write_untagged(&self, frame: u32, to: &mut [u8]) -> bool {
        match &self.form {
            Form::Whole(bytes) if bytes.len() == to.len() => {
                to.copy_from_slice(bytes);
                // Left to hardware that it will not meet. Of a finished one little more than the header is read.
                complete_checksum(to);
                true
            }
            Form::Segments(segments) => segments.write(frame, to).is_some(),
            Form::Whole(_) | Form::Unknown => false,
        }
    }
}

impl Original for &Recorded<'_> {
    #[inline]
    fn len(&self) -> u32 {
        self.len_of(0)
    }

    #[inline]
    fn frames(&self) -> u32 {
        match &self.form {
            Form::Segments(segments) => segments.count(),
            Form::Whole(_) | Form::Unknown => 1,
        }
    }

    #[inline]
    fn len_of(&self, frame: u32) -> u32 {
        match &self.form {
            Form::Whole(bytes) => self.tagged(bytes.len()),
            Form::Segments(segments) => self.tagged(segments.len(frame)),
            Form::Unknown => u32::MAX,
        }
    }

    #[inline]
    fn room(_count: u32) -> u32 {
        u32::MAX
    }

    #[inline]
    fn write(&self, frame: u32, to: &mut [u8]) -> bool {
        let Some(tag) = self.tag else { return self.write_untagged(frame, to) };
        let Some(behind) = to.get_mut(tag.len()..).filter(|behind| behind.len() >= ADDRESSES) else { return false };
        let written = self.write_untagged(frame, behind);
        // The addresses before it.
        to.copy_within(tag.len()..tag.len() + ADDRESSES, 0);
        to[ADDRESSES..ADDRESSES + tag.len()].copy_from_slice(&tag);
        written
    }
}
