//! Records of clone rings: what the kernel selected becomes clones.
//!
//! ```text
//!   clone ring ──> at most 64 records ──> runs of one entry, output and queue ──> clones
//!        ^ room given back ─────────────────────────────────────────────────────────┘
//! ```
//!
//! A record needs no table: it says whose it is and where its clone goes. One of an older table, or of a newer one than
//! the shard has yet, is treated like all others.

use arrayvec::ArrayVec;

use super::clone::Clones;
use super::original::Original;
use super::port::Port;
use super::rx::BATCH;
use super::spread::frames_of;
use super::targets::Targets;
use crate::checksum::complete_checksum;
use crate::counters::{ENTRY_SLOTS, ShardBlock};
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
    let mut records: ArrayVec<Record<'_>, BATCH> = ArrayVec::new();
    let (size, mut frames) = (clones.store.area().frame_size(), 0u32);
    while !records.is_full() {
        let mut ahead = cursor;
        let record = ring.next(&mut ahead);
        let takes = record.as_ref().map_or(Some(0), |record| fitting(record, size, frames, ports, clones));
        let Some(takes) = takes else { break };
        // Also behind what was nothing.
        cursor = ahead;
        let Some(record) = record else { break };
        frames += takes;
        records.push(record);
    }
    let taken = records.len();
    let key = |record: &Record<'_>| (record.head.slot, record.head.output, record.head.queue);
    for run in records.chunk_by(|one, next| key(one) == key(next)) {
        let (slot, output, queue) = key(&run[0]);
        // No selector has been told of such a ledger.
        if slot as usize >= ENTRY_SLOTS {
            continue;
        }
        let target = targets.of(output, queue, ports, &clones.lanes);
        let tally = clones.make(ports, target, slot, run.iter().map(Recorded::of), run.len() as u32);
        block.entry(slot).commit(|row| tally.enter(row));
    }
    drop(records);
    ring.release(cursor);
    taken
}

/// Frames that a clone takes behind so many others; `None` where it finds no room only for those: it stays in the ring until they
/// are sent. One that finds none anyway takes none, and is not kept: nobody knows how long the others behind it would wait.
#[inline]
fn fitting<D>(record: &Record<'_>, size: u32, before: u32, ports: &[Port<D>], clones: &Clones) -> Option<u32> {
    let frames = frames_of(&Recorded::of(record), size);
    if frames == 1 {
        return Some(1);
    }
    let to = ports.iter().find(|port| port.ifindex == record.head.output);
    let room = to.map_or(0, |port| port.tx_cap.saturating_sub(port.in_tx)).min(clones.store.pool.len());
    match frames {
        _ if frames > room => Some(0),
        _ if before > 0 && before + frames > room => None,
        _ => Some(frames),
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

impl Original for Recorded<'_> {
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
