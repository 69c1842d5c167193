//! Clones for a monitor queue that another shard owns: two queues between each pair of shards, and frames that the
//! owner lends.
//!
//! ```text
//!   source shard (borrower)                                  owner of the monitor's queue (lender)
//!      rx ── sampler ── copy into a loan ──── clones ────>  tx ring of the monitor ── kernel
//!                            ^                                          │
//!                    free loans, ledger <──── loans and receipts ───────┘ completion
//! ```
//!
//! A loan is a frame of the owner's Mirror partition. It goes to and fro for as long as the source has entries for
//! the owner: out filled, with the account of its clone; back empty, with what became of that clone. So each
//! shard writes only its own ledger, a clone is copied once, and a queue with room for every loan is never full. A
//! source can never hold more than its share of the partition. The loans of a clone that takes several come one behind
//! another, and the owner sends all of them or none.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use crossbeam_utils::CachePadded;

use super::drop::DropReason;
use super::lend::Lend;
use super::mailbox::Output;
use super::origin::{Account, Origin, Remote};
use super::original::Original;
use super::parcel::{Note, Parcel};
use super::patience::{Patience, Room};
use super::port::Port;
use super::settle::Settling;
use super::spread::{Spread, Tray, frames_of};
use super::spsc::{Receiver, Sender, queue};
use super::supers::Supers;
use crate::xsk::Doorbell;
use crate::xsk::abi::max_clone_in;
use crate::xsk::area::Area;
use crate::xsk::custody::Custody;
use crate::xsk::frame::{Frame, Loan, Mirror};
use crate::xsk::pool::{OpenPool, Pool};
use crate::xsk::store::Store;

/// Wakes a shard that sleeps.
pub trait Wake: fmt::Debug + Send + Sync {
    /// Ends its sleep; costs no system call while it is awake.
    fn wake(&self);
}

/// Both ends that one shard has towards another.
#[derive(Debug)]
struct Peer {
    shard: u32,
    bell: Arc<dyn Wake>,
    borrow: Borrow,
    lend: Lend,
}

/// A source's end: the other shard owns monitor queues.
#[derive(Debug)]
struct Borrow {
    clones: Sender,
    loans: Receiver,
    /// The owner's frames.
    area: Arc<Area>,
    /// Whether an entry of the table leads there. Written here when that changes, and only then.
    wanted: Arc<CachePadded<AtomicBool>>,
    free: Vec<Loan>,
    /// Frames of clones there that nothing was heard of yet.
    out: u32,
    /// Of clones that are lent too few.
    patience: Patience,
}

/// What a shard has towards all others.
#[derive(Debug, Default)]
pub struct Lanes {
    peers: Vec<Peer>,
    shards: u32,
    /// Whose clones are accepted first.
    turn: usize,
}

/// The lanes of each shard of one dataplane to all others, in order. `mirrors` are the Mirror partitions, each its memory
/// and its frames; each shard lends every other an equal share of them, and keeps one itself. `bells` wake the shards.
pub(super) fn lay(mirrors: &[(Arc<Area>, u32)], bells: &[Arc<dyn Wake>]) -> Vec<Lanes> {
    let count = mirrors.len();
    let mut lanes: Vec<Lanes> = (0..count).map(|_| Lanes { shards: count as u32, ..Lanes::default() }).collect();
    for one in 0..count {
        for other in one + 1..count {
            let (borrow_of_one, lend_of_other) = lane(&mirrors[other], count);
            let (borrow_of_other, lend_of_one) = lane(&mirrors[one], count);
            let mut peer = |at: usize, shard: usize, borrow, lend| {
                lanes[at].peers.push(Peer { shard: shard as u32, bell: Arc::clone(&bells[shard]), borrow, lend });
            };
            peer(one, other, borrow_of_one, lend_of_one);
            peer(other, one, borrow_of_other, lend_of_other);
        }
    }
    lanes
}

/// Both ends of the lane to an owner with this area and so many mirror frames.
fn lane((area, mirror): &(Arc<Area>, u32), shards: usize) -> (Borrow, Lend) {
    let share = mirror / shards as u32;
    let (clones_in, clones_out) = queue(share as usize);
    let (loans_in, loans_out) = queue(share as usize);
    let wanted = Arc::new(CachePadded::new(AtomicBool::new(false)));
    let borrow = Borrow {
        clones: clones_in,
        loans: loans_out,
        area: Arc::clone(area),
        wanted: Arc::clone(&wanted),
        free: Vec::with_capacity(share as usize),
        out: 0,
        patience: Patience::default(),
    };
    (borrow, Lend::new(loans_in, clones_out, wanted, share))
}

impl Lanes {
    /// Shards of the dataplane.
    pub(super) fn shards(&self) -> u32 {
        self.shards.max(1)
    }

    /// The way to queue `queue` of a monitor port; `None` where this shard itself would own it, or no device has such a
    /// queue.
    pub(super) fn to(&self, output: &Output, queue: u32) -> Option<Remote> {
        let owner = u32::from(u16::try_from(queue).ok()?).checked_rem(self.shards)?;
        let peer = self.peers.iter().position(|peer| peer.shard == owner)?;
        let longest = max_clone_in(output.mtu, self.peers[peer].borrow.area.frame_size(), output.multi_buffer);
        Some(Remote { peer: peer as u32, ifindex: output.ifindex, queue, longest })
    }

    /// Tells the owners whether `wants` them, by index and shard.
    pub(super) fn want(&mut self, wants: impl Fn(u32, u32) -> bool) {
        for (index, peer) in self.peers.iter_mut().enumerate() {
            let wanted = wants(index as u32, peer.shard);
            if peer.borrow.wanted.load(Relaxed) != wanted {
                // Relaxed: nothing else is to be seen with it.
                peer.borrow.wanted.store(wanted, Relaxed);
                peer.bell.wake();
            }
        }
    }

    /// The room there is for clones' frames on the way to a monitor queue.
    pub(super) fn room(&mut self, to: Remote) -> Option<(Room, &mut Patience)> {
        let Borrow { free, out, patience, .. } = &mut self.peers.get_mut(to.peer as usize)?.borrow;
        let now = free.len() as u32;
        Some((Room { now, later: now + *out }, patience))
    }

    /// Copies an original into loans and sends them on their way.
    #[inline]
    pub(super) fn send<O: Original>(
        &mut self,
        to: Remote,
        original: &O,
        slot: u32,
        supers: &mut Supers,
        whole: &mut [u8],
    ) -> Result<(), DropReason> {
        let Some(Peer { borrow, .. }) = self.peers.get_mut(to.peer as usize) else {
            return Err(DropReason::NoBinding);
        };
        original.admit(to.longest)?;
        let size = borrow.area.frame_size();
        let frames = frames_of(original, size);
        if borrow.free.len() < frames as usize || frames > u16::MAX.into() {
            // Not so many lent at all, or some of them on the way.
            return Err(if borrow.out == 0 { DropReason::NoFrame } else { DropReason::QueueFullCrossWorker });
        }
        let account = supers.account(slot, frames, original.frames())?;
        let note = (to.ifindex, to.queue as u16, frames as u16);
        Spread { size, account, supers, whole }.over(original, &mut Loans { borrow, account, note })
    }

    /// Takes what came back from the owners: loans to use again, and what became of the clones in them. Returns
    /// how many frames of clones that were.
    pub(super) fn collect(&mut self, ledgers: &mut Settling<'_>) -> usize {
        let mut heard = 0;
        for Peer { borrow, .. } in &mut self.peers {
            while let Some(message) = borrow.loans.pop() {
                let parcel = Parcel::unpack(message);
                borrow.free.push(Loan::arrived(parcel.frame));
                let Some(account) = parcel.account else { continue };
                heard += 1;
                borrow.out -= 1;
                ledgers.settle(account, parcel.len, parcel.outcome());
            }
            borrow.loans.release();
            if !borrow.wanted.load(Relaxed) {
                while let Some(loan) = borrow.free.pop() {
                    borrow.hand_over(Parcel::empty(loan.give_back()));
                }
            }
        }
        heard
    }

    /// Lends frames to the shards that want some; before this shard takes its own, so that it cannot leave them without.
    /// Returns how many.
    pub(super) fn lend(&mut self, Store { umem, pool }: &mut Store<Mirror>) -> usize {
        let mut lent = 0;
        for (index, Peer { lend, .. }) in self.peers.iter_mut().enumerate() {
            while lend.owes() {
                let Some(frame) = pool.take() else { return lent };
                lend.lent += 1;
                lent += 1;
                let frame = umem.custody().lend(frame, index as u16);
                lend.give(frame, Parcel::empty(frame));
            }
        }
        lent
    }

    /// Puts the clones of the other shards on the tx rings of this one's monitor ports. Returns how many frames came.
    pub(super) fn accept<D: Doorbell>(
        &mut self,
        ports: &mut [Port<D>],
        Store { umem, pool }: &mut Store<Mirror>,
    ) -> usize {
        let mut moved = 0;
        // Each shard is the first in turn: where the rings have little room, none is always the last.
        self.turn = self.turn.wrapping_add(1);
        let count = self.peers.len();
        for step in 0..count {
            let index = (self.turn.wrapping_add(step)) % count;
            let lend = &mut self.peers[index].lend;
            // Whether the clone goes whose frames come now.
            let mut together = None;
            while let Some(message) = lend.clones.pop() {
                let parcel = Parcel::unpack(message);
                // What this shard did not lend is nobody's: there is nothing to take back.
                let Some(frame) = umem.custody().take_loan(parcel.frame, index as u16) else { continue };
                moved += 1;
                let Some(account) = parcel.account else {
                    lend.lent -= 1;
                    pool.put(frame);
                    continue;
                };
                let way = match together {
                    Some((of, way)) if of == account => way,
                    _ => lend.admit(&parcel, umem.area().frame_size(), ports),
                };
                together = account.super_at().map(|_| (account, way));
                let way = way.map(|at| &mut ports[at]);
                if let Err((frame, reason)) = lend.transmit(frame, &parcel, Origin::of(index, account), way, umem) {
                    let note = Parcel::note_of(Err(reason));
                    lend.give(umem.custody().lend(frame, index as u16), Parcel { note, ..parcel });
                }
            }
            lend.clones.release();
        }
        moved
    }

    /// The clone of another shard in this frame was sent, or was not: `outcome` says why.
    pub(super) fn settle(
        &mut self,
        custody: &mut Custody<'_, Mirror>,
        free: &mut OpenPool<'_, Mirror>,
        frame: Frame<Mirror>,
        len: u32,
        (peer, account): (usize, Account),
        outcome: Result<(), DropReason>,
    ) {
        let Some(Peer { lend, .. }) = self.peers.get_mut(peer) else {
            return free.put(frame);
        };
        lend.guests -= 1;
        let frame = custody.lend(frame, peer as u16);
        let note = Parcel::note_of(outcome);
        lend.give(frame, Parcel { frame, len, goes_on: false, account: Some(account), note });
    }

    /// Shows the other shards what was sent to them in this breath, and wakes the owners among them that sleep.
    pub(super) fn submit(&mut self) {
        for Peer { bell, borrow, lend, .. } in &mut self.peers {
            lend.loans.submit();
            if borrow.clones.submit() {
                bell.wake();
            }
        }
    }

    /// Whether another shard has sent something, or is owed a frame that `pool` has.
    pub(super) fn has_news(&mut self, pool: &Pool<Mirror>) -> bool {
        self.peers.iter_mut().any(|Peer { borrow, lend, .. }| {
            !borrow.loans.is_empty() || !lend.clones.is_empty() || (lend.owes() && !pool.is_empty())
        })
    }

    /// The clones of this shard on the way, if `sent` are on its own tx rings, those of other shards among them.
    pub(super) fn on_the_way(&self, sent: u32) -> u32 {
        self.peers.iter().fold(sent, |clones, Peer { borrow, lend, .. }| clones + borrow.out - lend.guests)
    }

    /// Whether another shard has clones of this one.
    pub(super) fn is_waiting(&self) -> bool {
        self.peers.iter().any(|peer| peer.borrow.out > 0)
    }
}

impl Borrow {
    fn hand_over(&mut self, parcel: Parcel) {
        let pushed = self.clones.push(parcel.pack());
        debug_assert!(pushed.is_ok(), "the queue has room for every loan");
    }
}

/// Loans for one clone.
struct Loans<'a> {
    borrow: &'a mut Borrow,
    account: Account,
    /// With the frames that are to come.
    note: Note,
}

impl Tray for Loans<'_> {
    #[inline]
    fn put(&mut self, len: u32, goes_on: bool, write: impl FnOnce(&mut [u8]) -> bool) -> bool {
        self.note.2 = self.note.2.saturating_sub(1);
        let Some(mut loan) = self.borrow.free.pop() else { return false };
        let written = write(self.borrow.area.loan_mut(&mut loan, len));
        if written {
            let (account, note) = (Some(self.account), self.note);
            self.borrow.hand_over(Parcel { frame: loan.give_back(), len, goes_on, account, note });
            self.borrow.out += 1;
        } else {
            self.borrow.free.push(loan);
        }
        written
    }
}
