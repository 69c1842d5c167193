//! Completion: frames back from transmission to their partitions, clones into their ledgers.

use std::ops::Range;
use std::time::Duration;

use arrayvec::ArrayVec;
use shm_layout::counters::Binding;
use shm_layout::record::PortRole;

use super::clone::Clones;
use super::drop::DropReason;
use super::origin::Origin;
use super::port::{Back, Port};
use super::settle::Settling;
use super::stores::Stores;
use crate::counters::ShardBlock;
use crate::xsk::Doorbell;
use crate::xsk::custody::{Completed, SocketId};
use crate::xsk::frame::{Partition, Primary};
use crate::xsk::ring::Taken;
use crate::xsk::store::Store;
use crate::xsk::umem::Umem;

/// Time between audits, at least.
pub const AUDIT: Duration = Duration::from_millis(200);
/// Audits that make up a round over all frames: a second.
pub const AUDITS: u32 = 5;
/// Frames looked at in one breath, at most: some microseconds.
pub(super) const AUDITED_AT_ONCE: u32 = 4096;
/// A frame that is not completed after so many rounds goes into quarantine.
pub const OVERDUE_ROUNDS: u8 = 5;

/// Drains the port's completion ring. Returns the frames that came back.
pub fn drain<D: Doorbell>(port: &mut Port<D>, stores: &mut Stores, clones: &mut Clones, block: &ShardBlock) -> usize {
    if port.completion.acquire(1) == 0 {
        return 0;
    }
    let addrs = port.completion.take(u32::MAX);
    let found = addrs.left();
    let refused = port.refused.places();
    let Returned { frames, packets, bytes } = match port.role {
        PortRole::Wire => match stores.of(port.store) {
            Some(store) => forwarded(addrs, refused, port.socket, store),
            None => return 0,
        },
        PortRole::Monitor => mirrored(addrs, refused, (port.socket, &mut port.back), clones, block),
    };
    if found > 0 {
        port.completion.release();
        port.moves();
        port.in_tx -= frames;
        port.refused.pass(found);
        // What the device refused was counted as lost at the kick.
        port.count(Binding::TxPackets, packets);
        port.count(Binding::TxBytes, bytes);
        port.count(Binding::CompletionInvalid, u64::from(found - frames));
    }
    frames as usize
}

/// Frames that came back, and the packets that were sent with them, and their bytes.
struct Returned {
    frames: u32,
    packets: u64,
    bytes: u64,
}

#[inline(never)]
fn forwarded(
    addrs: Taken<'_, u64>,
    refused: Range<u32>,
    socket: SocketId,
    Store { umem, pool }: &mut Store<Primary>,
) -> Returned {
    let (mut packets, mut bytes) = (0, 0);
    let mut custody = umem.custody();
    let mut free = pool.open();
    for (at, addr) in (0..).zip(addrs) {
        if let Some(Completed { frame, len, .. }) = custody.take_completion(addr, socket) {
            if !refused.contains(&at) {
                packets += 1;
                bytes += u64::from(len);
            }
            free.put(frame);
        }
    }
    Returned { frames: custody.sent().wrapping_neg(), packets, bytes }
}

#[inline(never)]
fn mirrored(
    addrs: Taken<'_, u64>,
    refused: Range<u32>,
    (socket, back): (SocketId, &mut Back),
    Clones { store: Store { umem, pool }, lanes, supers, .. }: &mut Clones,
    block: &ShardBlock,
) -> Returned {
    let (mut packets, mut bytes) = (0, 0);
    let mut custody = umem.custody();
    let mut free = pool.open();
    let mut ledgers = Settling::new(block, supers);
    for (at, addr) in (0..).zip(addrs) {
        let Some(Completed { frame, len, tag }) = custody.take_completion(addr, socket) else { continue };
        let outcome = if refused.contains(&at) { Err(DropReason::Refused) } else { Ok(()) };
        let origin = Origin::from_tag(tag);
        back.bytes += u64::from(len);
        back.refused |= outcome.is_err();
        if !origin.is_part() {
            let sent = std::mem::take(back);
            if !sent.refused {
                packets += 1;
                bytes += sent.bytes;
            }
        }
        match origin.peer() {
            None => {
                ledgers.settle(origin.account(), len, outcome);
                free.put(frame);
            }
            Some(peer) => lanes.settle(&mut custody, &mut free, frame, len, (peer, origin.account()), outcome),
        }
    }
    Returned { frames: custody.sent().wrapping_neg(), packets, bytes }
}

/// Closed sockets whose frames are to be taken back, each with the place of those; `None` for clones.
pub(super) type Closed = ArrayVec<(Option<usize>, SocketId), 64>;

/// Takes back every frame of closed sockets: one look at the note of each frame for all that were in one place.
pub(super) fn reclaim(closed: &mut Closed, stores: &mut Stores, clones: &mut Clones, block: &ShardBlock) {
    closed.sort_unstable();
    for together in closed.chunk_by(|one, other| one.0 == other.0) {
        let is_closed = |socket| together.iter().any(|&(_, closed)| closed == socket);
        let place = together.first().and_then(|&(place, _)| place);
        match place.map(|at| stores.of(at)) {
            Some(Some(Store { umem, pool })) => {
                umem.custody().reclaim(is_closed, |_, Completed { frame, .. }| pool.put(frame));
            }
            Some(None) => {}
            None => reclaim_clones(is_closed, clones, block),
        }
    }
}

/// Takes back every clone of closed sockets of monitor ports: they were on the way to a port that is gone.
fn reclaim_clones(
    is_closed: impl Fn(SocketId) -> bool,
    Clones { store: Store { umem, pool }, lanes, supers, .. }: &mut Clones,
    block: &ShardBlock,
) {
    let mut free = pool.open();
    let mut ledgers = Settling::new(block, supers);
    let dropped = Err(DropReason::OutputDown);
    umem.custody().reclaim(is_closed, |custody, Completed { frame, len, tag }| {
        let origin = Origin::from_tag(tag);
        match origin.peer() {
            None => {
                ledgers.settle(origin.account(), len, dropped);
                free.put(frame);
            }
            Some(peer) => lanes.settle(custody, &mut free, frame, len, (peer, origin.account()), dropped),
        }
    });
}

/// Looks at one of `AUDITS` parts of a UMEM's frames, or of more where the parts were too long for a breath, for completions
/// that are overdue. The frames in quarantine still count as held by their port: nobody knows whether the kernel will
/// touch them again. Returns how many were looked at.
pub fn audit<D: Doorbell, P: Partition>(ports: &[Port<D>], umem: &mut Umem<P>) -> u32 {
    // What the kernel has not taken yet waits for the link or for room, and is not missing.
    let is_taken = |socket| ports.iter().any(|port| port.socket == socket && port.tx.pending() == 0);
    umem.audit_part(AUDITS, AUDITED_AT_ONCE, OVERDUE_ROUNDS, is_taken)
}
