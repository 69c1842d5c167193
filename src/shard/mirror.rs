//! Sampling what passes through the shard: which frames of a batch are cloned. Whatever becomes of their clones, the frames
//! go on.

use shm_layout::counters::Entry;

use super::clone::Clones;
use super::original::Original;
use super::port::{Port, Target};
use super::rx::{Batch, Received};
use crate::classify::classify;
use crate::counters::ShardBlock;
use crate::snapshot::table::{PortPolicy, Tap};
use crate::xsk::Doorbell;
use crate::xsk::area::Area;

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

/// A received packet, to be cloned.
struct Packet<'a> {
    area: &'a Area,
    received: &'a Received,
}

impl Original for Packet<'_> {
    #[inline]
    fn len(&self) -> u32 {
        self.received.1.len
    }

    #[inline]
    fn write(&self, _frame: u32, to: &mut [u8]) -> bool {
        let (frame, at) = self.received;
        let packet = self.area.packet(frame, *at);
        let fits = packet.len() == to.len();
        if fits {
            to.copy_from_slice(packet);
        }
        fits
    }
}

/// The first of some packets and every so-manieth after it.
#[derive(Clone, Copy)]
struct Picked<'a> {
    /// From the next one that is picked on.
    packets: &'a [Received],
    rate: u32,
    area: &'a Area,
}

impl Picked<'_> {
    fn len(&self) -> u32 {
        (self.packets.len() as u32).div_ceil(self.rate)
    }
}

impl<'a> Iterator for Picked<'a> {
    type Item = Packet<'a>;

    #[inline]
    fn next(&mut self) -> Option<Packet<'a>> {
        let received = self.packets.first()?;
        self.packets = self.packets.get(self.rate as usize..).unwrap_or_default();
        Some(Packet { area: self.area, received })
    }
}

/// Samples the batch that port `at` received into frames of `area`, and clones what is selected.
pub fn sample<D: Doorbell>(
    at: usize,
    (batch, area): (&Batch, &Area),
    ports: &mut [Port<D>],
    clones: &mut Clones,
    block: &ShardBlock,
) {
    // Out of the port while its monitor ports are borrowed; a move, not a count.
    let Some(policy) = ports[at].policy.take() else { return };
    let mut run = Run { at, ports, area, clones, block };
    match (&policy.vlans, &policy.plain) {
        (None, Some(tap)) => run.whole_batch(tap, batch.packets()),
        (None, None) => {}
        (Some(_), _) => run.by_tag(&policy, batch.packets()),
    }
    ports[at].policy = Some(policy);
}

/// One batch on its way through the samplers.
struct Run<'a, D> {
    at: usize,
    ports: &'a mut [Port<D>],
    area: &'a Area,
    clones: &'a mut Clones,
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
            cell.commit(|row| row.add(Entry::Observed, observed));
            return;
        }
        let picked = Picked { packets: &packets[first..], rate: tap.rate, area: self.area };
        let selected = picked.len();
        let next = first as u64 + u64::from(selected) * u64::from(tap.rate);
        cell.set_until((next - observed) as u32);
        let target = self.ports[self.at].targets.get(tap.output as usize).copied().unwrap_or(Target::Down);
        let tally = self.clones.make(self.ports, target, tap.slot, picked, selected);
        // All of it at once, so that the row closes whenever a reader looks.
        cell.commit(|row| {
            row.add(Entry::Observed, observed);
            row.add(Entry::Selected, selected.into());
            tally.enter(row);
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
