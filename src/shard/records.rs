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
    let mut frames = 0;
    while !records.is_full() {
        let mut ahead = cursor;
        let record = ring.next(&mut ahead);
        if record.is_some_and(|record| must_wait(&record, frames, ports, clones)) {
            break;
        }
        // Also behind what was nothing.
        cursor = ahead;
        let Some(record) = record else { break };
        frames += record.frames();
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

/// Whether a super-frame finds no room only for what is taken at once, so many frames before it: it stays in the ring until
/// those are sent. One that found none anyway is taken: nobody knows how long the others behind it would wait.
#[inline]
fn must_wait<D>(record: &Record<'_>, before: u32, ports: &[Port<D>], clones: &Clones) -> bool {
    let frames = record.frames();
    if frames == 1 || before == 0 {
        return false;
    }
    let to = ports.iter().find(|port| port.ifindex == record.head.output);
    let room = to.map_or(0, |port| port.tx_cap.saturating_sub(port.in_tx)).min(clones.store.pool.len() as u32);
    frames <= room && before + frames > room
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
