//! Mirroring: sample first, then admit, then copy. Whatever happens here, the frames of the batch go on.

use shm_layout::counters::Entry;

use super::drop::DropReason;
use super::lanes::Lanes;
use super::origin::{Origin, Remote};
use super::port::{Port, Target};
use super::rx::{Batch, Received};
use crate::classify::classify;
use crate::counters::ShardBlock;
use crate::snapshot::table::{PortPolicy, Tap};
use crate::xsk::Doorbell;
use crate::xsk::abi::max_clone_len;
use crate::xsk::area::Area;
use crate::xsk::frame::{Extent, Mirror};
use crate::xsk::store::Store;

/// 1 in `rate`, exactly: `until` frames pass, the next is selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    /// Frames to pass before the next one is selected.
    pub until: u32,
}

impl Sampler {
    /// Whether this frame is selected. `rate` is at least 1.
    #[inline]
    pub fn select(&mut self, rate: u32) -> bool {
        if self.until == 0 {
            self.until = rate - 1;
            true
        } else {
            self.until -= 1;
            false
        }
    }

    /// Passes `n` frames if none of them is to be selected.
    #[inline]
    pub fn skip(&mut self, n: u32) -> bool {
        if self.until >= n {
            self.until -= n;
            true
        } else {
            false
        }
    }
}

/// What happened to the selected frames of a batch, before it goes into the ledger.
#[derive(Debug, Default)]
struct Tally {
    sent: u64,
    /// By [`DropReason`].
    drops: [u64; DropReason::ALL.len()],
}

/// The first of some packets and every so-manieth after it.
#[derive(Clone, Copy)]
struct Picked<'a> {
    /// From the first one that is picked on.
    packets: &'a [Received],
    rate: u32,
}

impl Picked<'_> {
    fn len(&self) -> u32 {
        (self.packets.len() as u32).div_ceil(self.rate)
    }

    /// Clones each and counts what came of it.
    #[inline]
    fn clone_each(self, mut clone: impl FnMut(&Received) -> Result<(), DropReason>) -> Tally {
        let selected = u64::from(self.len());
        let mut tally = Tally::default();
        let mut next = 0;
        while let Some(packet) = self.packets.get(next) {
            next += self.rate as usize;
            if let Err(reason) = clone(packet) {
                if reason.lasts() {
                    let before = (next / self.rate as usize) as u64 - 1;
                    tally.drops[reason as usize] += selected - before;
                    break;
                }
                tally.drops[reason as usize] += 1;
            }
        }
        tally.sent = selected - tally.drops.iter().sum::<u64>();
        tally
    }
}

/// Samples the batch that port `at` received into frames of `area`, and clones what is selected into frames of `clones`.
pub fn sample<D: Doorbell>(
    at: usize,
    (batch, area): (&Batch, &Area),
    ports: &mut [Port<D>],
    clones: &mut Store<Mirror>,
    lanes: &mut Lanes,
    block: &ShardBlock,
) {
    // Out of the port while its monitor ports are borrowed; a move, not a count.
    let Some(policy) = ports[at].policy.take() else { return };
    let mut run = Run { at, ports, area, clones, lanes, block };
    match (&policy.vlans, &policy.plain) {
        (None, Some(tap)) => run.whole_batch(tap, batch.packets()),
        (None, None) => {}
        (Some(_), _) => run.by_tag(&policy, batch.packets()),
    }
    ports[at].policy = Some(policy);
}

/// Where clones go: a [`Target`] that takes some.
enum Way {
    /// To this port of the shard.
    Local(usize),
    /// To a port of another shard.
    Remote(Remote),
}

/// One batch on its way through the samplers.
struct Run<'a, D> {
    at: usize,
    ports: &'a mut [Port<D>],
    area: &'a Area,
    clones: &'a mut Store<Mirror>,
    lanes: &'a mut Lanes,
    block: &'a ShardBlock,
}

impl<D: Doorbell> Run<'_, D> {
    /// Every frame belongs to one entry.
    fn whole_batch(&mut self, tap: &Tap, packets: &[Received]) {
        let cell = self.block.entry(tap.slot);
        let mut sampler = Sampler { until: cell.until() };
        let first = sampler.until as usize;
        let observed = packets.len() as u64;
        if sampler.skip(packets.len() as u32) {
            cell.set_until(sampler.until);
            cell.commit(|row| {
                row.add(Entry::Observed, observed);
            });
            return;
        }
        let picked = Picked { packets: &packets[first..], rate: tap.rate };
        let next = first as u64 + u64::from(picked.len()) * u64::from(tap.rate);
        cell.set_until((next - observed) as u32);
        let selected = u64::from(picked.len());
        let way = match self.way(tap) {
            Ok(way) => way,
            Err(reason) => {
                cell.commit(|row| {
                    row.add(Entry::Observed, observed);
                    row.add(Entry::Selected, selected);
                    reason.enter(row, selected);
                });
                return;
            }
        };
        let tally = self.clone_picked(tap.slot, way, picked);
        // All of it at once, so that the row closes whenever a reader looks.
        cell.commit(|row| {
            row.add(Entry::Observed, observed);
            row.add(Entry::Selected, selected);
            row.add(Entry::InFlight, tally.sent);
            for reason in DropReason::ALL {
                let n = tally.drops[reason as usize];
                if n > 0 {
                    reason.enter(row, n);
                }
            }
        });
    }

    /// Each frame belongs to the entry of its tag.
    fn by_tag(&mut self, policy: &PortPolicy, packets: &[Received]) {
        let area = self.area;
        let entry_of = |(frame, at): &Received| classify(policy, area.packet(frame, *at)).copied();
        let mut rest = packets;
        while let Some(first) = rest.first() {
            let tap = entry_of(first);
            let len = 1 + rest[1..].iter().take_while(|packet| entry_of(packet) == tap).count();
            let (row, behind) = rest.split_at(len);
            if let Some(tap) = tap {
                self.whole_batch(&tap, row);
            }
            rest = behind;
        }
    }

    /// Where an entry's clones can go now, or why none of them can, whatever the packets: what would end that comes
    /// between batches. A monitor in trouble then costs the primary next to nothing.
    fn way(&mut self, tap: &Tap) -> Result<Way, DropReason> {
        let index = match self.ports[self.at].targets.get(tap.output as usize) {
            Some(&Target::Local(index)) => index,
            Some(&Target::Remote(remote)) => return Ok(Way::Remote(remote)),
            Some(Target::NoBinding) => return Err(DropReason::NoBinding),
            Some(Target::Down) | None => return Err(DropReason::OutputDown),
        };
        let monitor = &mut self.ports[index];
        if !monitor.up {
            Err(DropReason::OutputDown)
        } else if !monitor.has_tx_room() {
            Err(DropReason::QueueFullSameWorker)
        } else if self.clones.pool.is_empty() {
            Err(DropReason::NoFrame)
        } else {
            Ok(Way::Local(index))
        }
    }

    /// Copies the picked packets to where their entry's clones go.
    #[inline(never)]
    fn clone_picked(&mut self, slot: u32, way: Way, picked: Picked<'_>) -> Tally {
        let valid = |at: &Extent| if at.len == 0 { Err(DropReason::TxInvalid) } else { Ok(()) };
        let monitor = match way {
            Way::Local(index) => &mut self.ports[index],
            Way::Remote(to) => {
                return picked.clone_each(|(frame, at)| {
                    valid(at)?;
                    self.lanes.send(to, self.area.packet(frame, *at), slot)
                });
            }
        };
        let tag = Origin::own(slot).tag();
        let Store { umem, pool } = &mut *self.clones;
        let longest = max_clone_len(monitor.mtu).min(umem.area().frame_size());
        let mut outlet = monitor.outlet(umem, picked.len());
        let mut free = pool.open();
        picked.clone_each(|(frame, at)| {
            valid(at)?;
            if at.len > longest {
                return Err(DropReason::Oversize);
            }
            if !outlet.has_room() {
                return Err(DropReason::QueueFullSameWorker);
            }
            let mut copy = free.take().ok_or(DropReason::NoFrame)?;
            let packet = self.area.packet(frame, *at);
            match outlet.custody.area().place(packet, &mut copy) {
                Some(placed) if placed.len == at.len => outlet.send(copy, placed, tag),
                _ => {
                    free.put(copy);
                    return Err(DropReason::Oversize);
                }
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the batches, frames 0, N, 2N, … are selected and no other.
        #[test]
        fn one_in_n_is_exact(rate in 1u32..40, total in 0usize..500) {
            let mut sampler = Sampler { until: 0 };
            for frame in 0..total {
                prop_assert_eq!(sampler.select(rate), frame % rate as usize == 0);
            }
        }

        #[test]
        fn skipping_is_the_same_as_not_selecting(rate in 1u32..100, steps in prop::collection::vec(0u32..70, 0..50)) {
            let (mut one, mut all) = (Sampler { until: 0 }, Sampler { until: 0 });
            for n in steps {
                let before = all;
                let picked = (0..n).filter(|_| all.select(rate)).count();
                prop_assert_eq!(one.skip(n), picked == 0);
                if picked > 0 {
                    prop_assert_eq!(one, before, "nothing changed");
                    one = all;
                }
                prop_assert_eq!(one, all);
            }
        }
    }

    #[test]
    fn the_largest_rate_does_not_wrap() {
        let mut sampler = Sampler { until: 0 };
        assert!(sampler.select(u32::MAX));
        assert_eq!(sampler.until, u32::MAX - 1);
        assert!(sampler.skip(u32::MAX - 1));
        assert!(sampler.select(u32::MAX));
    }
}
