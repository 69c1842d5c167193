//! Cloning: what was selected is admitted, copied into a frame and sent, or dropped for a reason. One way for all
//! originals, whatever they are.

use shm_layout::counters::Entry;

use super::drop::DropReason;
use super::lanes::Lanes;
use super::origin::{Account, Origin, Remote};
use super::original::Original;
use super::port::{Outlet, Port, Target};
use super::supers::Supers;
use crate::counters::Row;
use crate::xsk::Doorbell;
use crate::xsk::abi::max_clone_len;
use crate::xsk::frame::{Extent, Mirror};
use crate::xsk::pool::OpenPool;
use crate::xsk::store::Store;

/// What clones are made in, and what is known of those that are on their way.
#[derive(Debug)]
pub struct Clones {
    pub(super) store: Store<Mirror>,
    pub(super) lanes: Lanes,
    pub(super) supers: Supers,
}

/// Where clones go: a [`Target`] that takes some.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// To this port of the shard.
    Local(usize),
    /// To a port of another shard.
    Remote(Remote),
}

/// What came of some originals, before it goes into their ledger.
#[derive(Debug, Default)]
pub(super) struct Tally {
    sent: u64,
    /// By [`DropReason`].
    drops: [u64; DropReason::ALL.len()],
}

impl Tally {
    /// `count` originals were dropped.
    fn dropped(reason: DropReason, count: u32) -> Tally {
        let mut tally = Tally::default();
        tally.drops[reason as usize] = count.into();
        tally
    }

    /// Clones each of `count` originals and counts what came of it.
    #[inline]
    fn of<O: Original>(
        originals: impl Iterator<Item = O>,
        count: u32,
        mut clone: impl FnMut(&O) -> Result<(), DropReason>,
    ) -> Tally {
        let mut tally = Tally::default();
        for (before, original) in (0..).zip(originals) {
            if let Err(reason) = clone(&original) {
                // Where there is no room for a super-frame there may be for the next frame.
                if reason.lasts() && original.frames() == 1 {
                    tally.drops[reason as usize] += u64::from(count - before);
                    break;
                }
                tally.drops[reason as usize] += 1;
            }
        }
        tally.sent = u64::from(count) - tally.drops.iter().sum::<u64>();
        tally
    }

    /// Enters it into a row.
    pub(super) fn enter(&self, row: &mut Row<'_>) {
        row.add(Entry::InFlight, self.sent);
        for reason in DropReason::ALL {
            let n = self.drops[reason as usize];
            if n > 0 {
                reason.enter(row, n);
            }
        }
    }
}

impl Clones {
    /// With these frames, and no other shard.
    pub(super) fn new(store: Store<Mirror>) -> Clones {
        // A super-frame has two frames at least, of these or of others' shares, which are no more than these together.
        let supers = Supers::new(store.census().size);
        Clones { store, lanes: Lanes::default(), supers }
    }

    /// Clones `count` originals of the entry whose ledger is in `slot`.
    #[inline]
    pub(super) fn make<D: Doorbell, O: Original>(
        &mut self,
        ports: &mut [Port<D>],
        target: Target,
        slot: u32,
        originals: impl Iterator<Item = O>,
        count: u32,
    ) -> Tally {
        match self.way(ports, target) {
            Ok(way) => self.send(ports, way, slot, originals, count),
            Err(reason) => Tally::dropped(reason, count),
        }
    }

    /// Where clones can go now, or why none of them can, whatever the originals: what would end that comes between
    /// batches. A monitor in trouble then costs the primary next to nothing.
    fn way<D: Doorbell>(&self, ports: &mut [Port<D>], target: Target) -> Result<Way, DropReason> {
        let index = match target {
            Target::Local(index) => index,
            Target::Remote(remote) => return Ok(Way::Remote(remote)),
            Target::NoBinding => return Err(DropReason::NoBinding),
            Target::Down => return Err(DropReason::OutputDown),
        };
        let monitor = &mut ports[index];
        if !monitor.up {
            Err(DropReason::OutputDown)
        } else if monitor.tx_room(1) == 0 {
            Err(DropReason::QueueFullSameWorker)
        } else if self.store.pool.is_empty() {
            Err(DropReason::NoFrame)
        } else {
            Ok(Way::Local(index))
        }
    }

    /// Copies originals to where their entry's clones go.
    #[inline(never)]
    fn send<D: Doorbell, O: Original>(
        &mut self,
        ports: &mut [Port<D>],
        way: Way,
        slot: u32,
        originals: impl Iterator<Item = O>,
        count: u32,
    ) -> Tally {
        let Clones { store: Store { umem, pool }, lanes, supers } = self;
        let monitor = match way {
            Way::Local(index) => &mut ports[index],
            Way::Remote(to) => {
                return Tally::of(originals, count, |original| lanes.send(to, original, slot, supers));
            }
        };
        let longest = max_clone_len(monitor.mtu).min(umem.area().frame_size());
        let mut outlet = monitor.outlet(umem, O::room(count));
        let mut free = pool.open();
        Tally::of(originals, count, |original| {
            original.admit(longest)?;
            let frames = original.frames();
            if outlet.room() < frames {
                return Err(DropReason::QueueFullSameWorker);
            }
            if free.len() < frames {
                return Err(DropReason::NoFrame);
            }
            let account = supers.account(slot, frames)?;
            (0..frames).try_for_each(|frame| {
                if copy(original, frame, account, &mut outlet, &mut free) { Ok(()) } else { supers.lose(account) }
            })
        })
    }
}

/// Copies one of an original's frames and queues it; whether it could. There is room for it.
#[inline]
fn copy<O: Original>(
    original: &O,
    frame: u32,
    account: Account,
    outlet: &mut Outlet<'_, Mirror>,
    free: &mut OpenPool<'_, Mirror>,
) -> bool {
    let Some(mut copy) = free.take() else { return false };
    let at = Extent { offset: 0, len: original.len_of(frame) };
    let written = original.write(frame, outlet.custody.area().packet_mut(&mut copy, at));
    if written {
        outlet.send(copy, at, Origin::own(account).tag());
    } else {
        free.put(copy);
    }
    written
}
