//! Completion: frames back from transmission to their partitions, clones into their ledgers.

use shm_layout::counters::{Binding, Entry};
use shm_layout::record::PortRole;

use super::lanes::{Lanes, Origin};
use super::mirror::DropReason;
use super::port::Port;
use super::stores::Stores;
use crate::counters::ShardBlock;
use crate::xsk::Doorbell;
use crate::xsk::ring::Taken;
use crate::xsk::store::Store;
use crate::xsk::umem::{Completed, Mirror, Partition, Primary, SocketId, Umem};

/// Audits that make up a round over all frames.
pub const AUDITS: u32 = 20;
/// Frames looked at in one breath, at most: some microseconds.
const AUDITED_AT_ONCE: u32 = 4096;
/// A frame that is not completed after so many rounds goes into quarantine.
pub const OVERDUE_ROUNDS: u8 = 5;

/// Completed clones of one entry in a row, before they go into its ledger.
#[derive(Default)]
pub(super) struct Delivered {
    slot: u32,
    packets: u64,
    bytes: u64,
}

impl Delivered {
    pub(super) fn add(&mut self, block: &ShardBlock, slot: u32, len: u32) {
        if slot != self.slot {
            self.enter(block);
            self.slot = slot;
        }
        self.packets += 1;
        self.bytes += u64::from(len);
    }

    pub(super) fn enter(&mut self, block: &ShardBlock) {
        if self.packets > 0 {
            block.entry(self.slot).commit(|row| {
                row.add(Entry::MirroredPackets, self.packets);
                row.add(Entry::MirroredBytes, self.bytes);
                row.subtract(Entry::InFlight, self.packets);
            });
            (self.packets, self.bytes) = (0, 0);
        }
    }
}

/// Drains the port's completion ring. Returns the frames that came back.
pub fn drain<D: Doorbell>(
    port: &mut Port<D>,
    stores: &mut Stores,
    mirror: &mut Store<Mirror>,
    lanes: &mut Lanes,
    block: &ShardBlock,
) -> usize {
    if port.completion.acquire(1) == 0 {
        return 0;
    }
    let addrs = port.completion.take(u32::MAX);
    let found = addrs.left();
    let Returned { frames, bytes } = match port.role {
        PortRole::Wire => match stores.of(port.store) {
            Some(store) => forwarded(addrs, port.socket, store),
            None => return 0,
        },
        PortRole::Monitor => mirrored(addrs, port.socket, mirror, lanes, block),
    };
    if found > 0 {
        port.completion.release();
        port.moves();
        port.in_tx -= frames;
        // Frames the device refused complete like the others and were counted as lost at the kick.
        let refused = port.refused.min(u64::from(frames));
        port.refused -= refused;
        port.count(Binding::TxPackets, u64::from(frames) - refused);
        port.count(Binding::TxBytes, bytes);
        port.count(Binding::CompletionInvalid, u64::from(found - frames));
    }
    frames as usize
}

/// Frames that came back, and the bytes of their packets.
struct Returned {
    frames: u32,
    bytes: u64,
}

#[inline(never)]
fn forwarded(addrs: Taken<'_, u64>, socket: SocketId, Store { umem, pool }: &mut Store<Primary>) -> Returned {
    let mut bytes = 0;
    let mut custody = umem.custody();
    let mut free = pool.open();
    for addr in addrs {
        if let Some(Completed { frame, len, .. }) = custody.take_completion(addr, socket) {
            bytes += u64::from(len);
            free.put(frame);
        }
    }
    Returned { frames: custody.sent().wrapping_neg(), bytes }
}

#[inline(never)]
fn mirrored(
    addrs: Taken<'_, u64>,
    socket: SocketId,
    Store { umem, pool }: &mut Store<Mirror>,
    lanes: &mut Lanes,
    block: &ShardBlock,
) -> Returned {
    let mut bytes = 0;
    let mut custody = umem.custody();
    let mut free = pool.open();
    let mut delivered = Delivered::default();
    for addr in addrs {
        let Some(Completed { frame, len, tag }) = custody.take_completion(addr, socket) else { continue };
        bytes += u64::from(len);
        let origin = Origin::from_tag(tag);
        match origin.peer() {
            None => {
                delivered.add(block, origin.slot(), len);
                free.put(frame);
            }
            Some(peer) => lanes.settle(&mut custody, &mut free, frame, len, (peer, origin.slot()), Ok(())),
        }
    }
    delivered.enter(block);
    Returned { frames: custody.sent().wrapping_neg(), bytes }
}

/// Takes back every frame of a closed socket of a wire port.
pub fn reclaim(socket: SocketId, Store { umem, pool }: &mut Store<Primary>) {
    umem.custody().reclaim(socket, |_, Completed { frame, .. }| pool.put(frame));
}

/// Takes back every clone of a closed socket of a monitor port: they were on the way to a port that is gone.
pub fn reclaim_clones(
    socket: SocketId,
    Store { umem, pool }: &mut Store<Mirror>,
    lanes: &mut Lanes,
    block: &ShardBlock,
) {
    let mut free = pool.open();
    umem.custody().reclaim(socket, |custody, Completed { frame, len, tag }| {
        let origin = Origin::from_tag(tag);
        match origin.peer() {
            None => {
                block.entry(origin.slot()).commit(|row| DropReason::OutputDown.enter_in_flight(row));
                free.put(frame);
            }
            Some(peer) => {
                let dropped = Err(DropReason::OutputDown);
                lanes.settle(custody, &mut free, frame, len, (peer, origin.slot()), dropped);
            }
        }
    });
}

/// Looks at one of `AUDITS` parts of a UMEM's frames, or of more where the parts were too long for a breath, for completions
/// that are overdue. The frames in quarantine still count as held by their port: nobody knows whether the kernel will
/// touch them again.
pub fn audit<D: Doorbell, P: Partition>(ports: &[Port<D>], umem: &mut Umem<P>) {
    // What the kernel has not taken yet waits for the link or for room, and is not missing.
    let is_taken = |socket| ports.iter().any(|port| port.socket == socket && port.tx.pending() == 0);
    umem.audit_part(AUDITS, AUDITED_AT_ONCE, OVERDUE_ROUNDS, is_taken);
}
