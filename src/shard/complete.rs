//! Completion: frames back from transmission to their partitions, clones into their ledgers.

use shm_layout::counters::{Binding, Entry};

use super::frames::Pool;
use super::port::Port;
use crate::counters::ShardBlock;
use crate::xsk::Doorbell;
use crate::xsk::umem::{AnyFrame, Completed, Mirror, Primary, SocketId, Umem};

/// Completed clones of one entry in a row, before they go into its ledger.
#[derive(Default)]
struct Delivered {
    slot: u32,
    packets: u64,
    bytes: u64,
}

impl Delivered {
    fn add(&mut self, block: &ShardBlock, slot: u32, len: u32) {
        if slot != self.slot {
            self.enter(block);
            self.slot = slot;
        }
        self.packets += 1;
        self.bytes += u64::from(len);
    }

    fn enter(&mut self, block: &ShardBlock) {
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
    umem: &mut Umem,
    primary: &mut Pool<Primary>,
    mirror: &mut Pool<Mirror>,
    block: &ShardBlock,
) -> usize {
    if port.in_tx == 0 && port.completion.acquire(1) == 0 {
        return 0;
    }
    let (mut frames, mut bytes, mut invalid) = (0u32, 0u64, 0u64);
    let mut delivered = Delivered::default();
    while let Some(addr) = port.completion.pop() {
        let Some(Completed { frame, len, tag }) = umem.take_completion(addr, port.socket) else {
            invalid += 1;
            continue;
        };
        frames += 1;
        bytes += u64::from(len);
        match frame {
            AnyFrame::Primary(frame) => primary.put(frame),
            AnyFrame::Mirror(frame) => {
                delivered.add(block, tag, len);
                mirror.put(frame);
            }
        }
    }
    delivered.enter(block);
    if frames > 0 || invalid > 0 {
        port.completion.release();
        port.in_tx -= frames;
        // Frames the device refused complete like the others and were counted as lost at the kick.
        let refused = port.refused.min(u64::from(frames));
        port.refused -= refused;
        port.count(Binding::TxPackets, u64::from(frames) - refused);
        port.count(Binding::TxBytes, bytes);
        port.count(Binding::CompletionInvalid, invalid);
    }
    frames as usize
}

/// Takes back every frame of a closed socket. Clones it had not sent were on the way to a port that is gone.
pub fn reclaim(
    socket: SocketId,
    umem: &mut Umem,
    primary: &mut Pool<Primary>,
    mirror: &mut Pool<Mirror>,
    block: &ShardBlock,
) {
    let filled = std::cell::RefCell::new(primary);
    umem.reclaim(
        socket,
        |frame| filled.borrow_mut().put(frame),
        |Completed { frame, tag, .. }| match frame {
            AnyFrame::Primary(frame) => filled.borrow_mut().put(frame),
            AnyFrame::Mirror(frame) => {
                block.entry(tag).commit(|row| {
                    row.add(Entry::DropOutputDown, 1);
                    row.subtract(Entry::InFlight, 1);
                });
                mirror.put(frame);
            }
        },
    );
}
