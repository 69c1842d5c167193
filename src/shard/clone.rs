//! Cloning: what was selected is admitted, copied into a frame and sent, or dropped for a reason. One way for all
//! originals, whatever they are.

use shm_layout::counters::Entry;

use super::drop::DropReason;
use super::lanes::Lanes;
use super::origin::{Account, Origin, Remote};
use super::original::Original;
use super::patience::Room;
use super::port::{Outlet, Port, Target};
use super::spread::{Spread, Tray, frames_of};
use super::supers::Supers;
use crate::counters::Row;
use crate::xsk::Doorbell;
use crate::xsk::abi::MAX_PARTS;
use crate::xsk::frame::{Extent, Mirror};
use crate::xsk::pool::OpenPool;
use crate::xsk::store::Store;

/// What clones are made in, and what is known of those that are on their way.
#[derive(Debug)]
pub struct Clones {
    pub(super) store: Store<Mirror>,
    pub(super) lanes: Lanes,
    pub(super) supers: Supers,
    /// For a packet that is longer than a frame.
    whole: Box<[u8]>,
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

    /// Clones each of `count` originals, in frames of `size` bytes, and counts what came of it.
    #[inline]
    fn of<O: Original>(
        originals: impl Iterator<Item = O>,
        count: u32,
        size: u32,
        mut clone: impl FnMut(&O) -> Result<(), DropReason>,
    ) -> Tally {
        let mut tally = Tally::default();
        for (before, original) in (0..).zip(originals) {
            if let Err(reason) = clone(&original) {
                // Where there is no room for several frames there may be for one.
                if reason.lasts() && frames_of(&original, size) == 1 {
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
        let whole = vec![0; (MAX_PARTS * store.area().frame_size()) as usize].into();
        Clones { store, lanes: Lanes::default(), supers, whole }
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

    /// Frames that a clone of so many, several, takes behind `before` others; `None` where it is to wait in its ring for the next
    /// breath. One that finds no room anyway takes none, and so does one that has waited for too long, or in a ring that
    /// `is_crowded`: others would find no room there.
    #[inline(never)]
    pub(super) fn takes<D: Doorbell>(
        &mut self,
        ports: &mut [Port<D>],
        target: Target,
        frames: u32,
        before: u32,
        is_crowded: bool,
    ) -> Option<u32> {
        let Clones { store, lanes, .. } = self;
        let (Room { now, later }, patience) = match target {
            Target::Local(index) if ports[index].up => {
                let Port { tx_cap, in_tx, patience, .. } = &mut ports[index];
                let (free, sent) = (store.pool.len(), store.census().tx);
                let now = tx_cap.saturating_sub(*in_tx).min(free);
                (Room { now, later: (free + sent).min(*tx_cap) }, patience)
            }
            Target::Remote(to) => match lanes.room(to) {
                Some(room) => room,
                None => return Some(0),
            },
            Target::Local(_) | Target::NoBinding | Target::Down => return Some(0),
        };
        match before {
            _ if frames > later => Some(0),
            _ if before + frames <= now => {
                patience.renew();
                Some(frames)
            }
            0 if is_crowded || !patience.lasts() => Some(0),
            _ => None,
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
        let Clones { store: Store { umem, pool }, lanes, supers, whole } = self;
        let size = umem.area().frame_size();
        let monitor = match way {
            Way::Local(index) => &mut ports[index],
            Way::Remote(to) => {
                return Tally::of(originals, count, size, |original| lanes.send(to, original, slot, supers, whole));
            }
        };
        let longest = monitor.longest(size);
        let mut tray =
            Queue { outlet: monitor.outlet(umem, O::room(count)), free: pool.open(), account: Account::ledger(0) };
        Tally::of(originals, count, size, |original| {
            original.admit(longest)?;
            let frames = frames_of(original, size);
            if tray.outlet.room() < frames {
                return Err(DropReason::QueueFullSameWorker);
            }
            if tray.free.len() < frames {
                return Err(DropReason::NoFrame);
            }
            tray.account = supers.account(slot, frames, original.frames())?;
            Spread { size, account: tray.account, supers, whole }.over(original, &mut tray)
        })
    }
}

/// The tx ring of a monitor, and the frames for it.
struct Queue<'a> {
    outlet: Outlet<'a, Mirror>,
    free: OpenPool<'a, Mirror>,
    account: Account,
}

impl Tray for Queue<'_> {
    #[inline]
    fn put(&mut self, len: u32, goes_on: bool, write: impl FnOnce(&mut [u8]) -> bool) -> bool {
        let Some(mut copy) = self.free.take() else { return false };
        let (at, origin) = (Extent { offset: 0, len }, Origin::own(self.account));
        let written = write(self.outlet.custody.area().packet_mut(&mut copy, at));
        match (written, goes_on) {
            (false, _) => self.free.put(copy),
            (true, false) => self.outlet.send(copy, at, origin.tag()),
            (true, true) => self.outlet.send_part(copy, at, origin.part().tag()),
        }
        written
    }
}
