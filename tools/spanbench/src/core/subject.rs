//! One case on one shard, or the bare copy beside it, a slice of batches at a time.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use memmap2::MmapMut;
use spanwire::xsk::area;

use super::Plan;
use super::case::{Case, Does, Packets};
use crate::rig::{Monitor, Rig, RigError, RingRig};

/// Frames given to the shard before each timed breath: a full batch.
pub(super) const BATCH: usize = 64;
/// Batches of a slice that are timed: short beside what slows a machine for a while.
const TIMED: usize = 256;
/// Batches before them that are not, at least: once through a rig's rings, or through the pools of a copy, which the
/// other cases have driven from the caches.
const LEAD: usize = 64;
/// Frames of a slice that count.
pub(super) const SLICE: u64 = (TIMED * BATCH) as u64;

/// What came of a slice, on one shard or on several at once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slice {
    /// Frames that count.
    pub frames: u64,
    /// Clones of them.
    pub clones: u64,
    /// Time of the shards' breaths, together, ns.
    pub spent_ns: u64,
    /// Time of the whole slice with the fake kernel's part, of all shards together, ns.
    pub whole_ns: u64,
}

impl Slice {
    /// Mean over the frames of all shards.
    pub(super) fn ns_per_frame(&self) -> f64 {
        self.spent_ns as f64 / self.frames as f64
    }

    /// This and what other shards did at the same time.
    pub(super) fn and(self, other: Slice) -> Slice {
        Slice {
            frames: self.frames + other.frames,
            clones: self.clones + other.clones,
            spent_ns: self.spent_ns + other.spent_ns,
            whole_ns: self.whole_ns + other.whole_ns,
        }
    }
}

/// One batch.
struct Turn {
    given: usize,
    crossed: usize,
    clones: usize,
    took: Duration,
}

/// What takes batches.
enum Work {
    Forward(Box<Rig>),
    Clone(Box<RingRig>),
    Copy(Pools),
}

/// A case, or the bare copy, with all that it needs alive.
pub(super) struct Subject {
    work: Work,
    packet: Vec<u8>,
    packets: Packets,
    /// Frames given so far, those included that do not count.
    pub given: u64,
    /// Of them, those that came out.
    pub crossed: u64,
}

impl Subject {
    /// A shard of its own for a case.
    ///
    /// # Errors
    /// [`RigError`].
    pub(super) fn case(case: Case, bytes: u32, plan: &Plan) -> Result<Subject, RigError> {
        let mirror = case.mirror.unwrap_or(plan.mirror);
        let work = match case.does {
            Does::Forward(rate) => Work::Forward(Box::new(Rig::new(plan.primary, mirror, rate, case.monitor)?)),
            Does::Clone => Work::Clone(Box::new(RingRig::new(mirror, case.monitor)?)),
        };
        Ok(Self::new(work, bytes, plan))
    }

    /// One of the [`COPIES`](super::case::COPIES).
    ///
    /// # Errors
    /// [`RigError`].
    pub(super) fn copy(number: usize, bytes: u32, plan: &Plan) -> Result<Subject, RigError> {
        let primary = match number {
            0 => plan.primary,
            _ => Rig::new(plan.primary, plan.mirror, None, Monitor::Healthy)?.in_use(),
        };
        Ok(Self::new(Work::Copy(Pools::new(primary, plan.mirror)?), bytes, plan))
    }

    fn new(work: Work, bytes: u32, plan: &Plan) -> Subject {
        Subject { work, packet: datagram(bytes), packets: plan.packets, given: 0, crossed: 0 }
    }

    /// Takes the batches of a slice. `histogram` gets the time of each timed one, ns.
    pub(super) fn slice(&mut self, histogram: &mut Histogram<u64>) -> Slice {
        let mut slice = Slice::default();
        let mut begin = Instant::now();
        let lead = match &self.work {
            Work::Forward(_) | Work::Clone(_) => LEAD,
            Work::Copy(pools) => LEAD.max(pools.from.len() / Rig::FRAME / BATCH),
        };
        for number in 0..lead + TIMED {
            if number == lead {
                begin = Instant::now();
            }
            let Turn { given, crossed, clones, took } = match &mut self.work {
                Work::Forward(rig) => forward(rig, &self.packet, self.packets),
                Work::Clone(rig) => clone(rig, &self.packet),
                Work::Copy(pools) => pools.turn(&self.packet, self.packets),
            };
            self.given += given as u64;
            self.crossed += crossed as u64;
            if number >= lead {
                let took = took.as_nanos() as u64;
                slice.frames += given as u64;
                slice.clones += clones as u64;
                slice.spent_ns += took;
                histogram.saturating_record(took);
            }
        }
        slice.whole_ns = begin.elapsed().as_nanos() as u64;
        slice
    }
}

/// A frame of UDP over IPv4, its checksums filled in: a clone from a ring has its headers read for one that is not.
fn datagram(bytes: u32) -> Vec<u8> {
    let [ip, udp] = [14, 34].map(|before| (bytes.saturating_sub(before) as u16).to_be_bytes());
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00];
    frame.extend([0x45, 0, ip[0], ip[1], 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([0x13, 0x88, 0x13, 0x89, udp[0], udp[1], 0xa5, 0xa5]);
    frame.resize(bytes as usize, 0xa5);
    frame
}

/// Only the breath is timed, not what a device does.
fn forward(rig: &mut Rig, packet: &[u8], packets: Packets) -> Turn {
    let given = match packets {
        Packets::Untouched => rig.receive(packet.len() as u32, BATCH),
        Packets::Written => rig.receive_written(packet, BATCH),
    };
    let start = Instant::now();
    rig.shard.breathe();
    let took = start.elapsed();
    let (crossed, clones) = rig.transmit();
    Turn { given, crossed, clones, took }
}

/// Only the breath is timed, not what a selector does: it has just written the records, on the same processor. What was
/// taken from the ring has crossed, whether or not a clone came of it.
fn clone(rig: &mut RingRig, packet: &[u8]) -> Turn {
    let given = rig.select(packet, BATCH);
    let start = Instant::now();
    rig.shard.breathe();
    let took = start.elapsed();
    let crossed = if rig.shard.has_news() { 0 } else { given };
    Turn { given, crossed, clones: rig.transmit(), took }
}

/// Memory of the kind a rig has, to copy every frame and do nothing else: from where a device would put it to where a
/// clone would lie, in the order of a rig's rings and its free list.
struct Pools {
    from: MmapMut,
    to: MmapMut,
    next: usize,
}

impl Pools {
    fn new(primary: u32, mirror: u32) -> Result<Pools, RigError> {
        let pool = |frames: u32| area::memory(frames as usize * Rig::FRAME);
        Ok(Pools { from: pool(primary)?, to: pool(mirror)?, next: 0 })
    }

    /// Only the copies are timed, not that of a device.
    fn turn(&mut self, packet: &[u8], packets: Packets) -> Turn {
        let len = packet.len();
        let sources = |at: usize, pool: usize| (at + Rig::HEADROOM, (at + Rig::FRAME) % pool);
        if packets == Packets::Written {
            let mut at = self.next;
            for _ in 0..BATCH {
                let (source, next) = sources(at, self.from.len());
                self.from[source..source + len].copy_from_slice(packet);
                at = next;
            }
        }
        let start = Instant::now();
        for clone in 0..BATCH {
            let (source, next) = sources(self.next, self.from.len());
            let target = clone * Rig::FRAME % self.to.len();
            self.to[target..target + len].copy_from_slice(&self.from[source..source + len]);
            self.next = next;
        }
        std::hint::black_box(&mut self.to);
        Turn { given: BATCH, crossed: BATCH, clones: BATCH, took: start.elapsed() }
    }
}
