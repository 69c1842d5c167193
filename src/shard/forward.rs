//! Forwarding: the received frame itself goes to the tx ring of the wire's other port. No copy.

use shm_layout::counters::Binding;

use super::port::Port;
use super::rx::Batch;
use crate::xsk::Doorbell;
use crate::xsk::abi::max_forward_len;
use crate::xsk::frame::Primary;
use crate::xsk::store::Store;

/// Moves the batch that port `at` received to its peer. What cannot go is dropped and counted.
#[inline(never)]
pub fn push<D: Doorbell>(
    at: usize,
    batch: &mut Batch,
    ports: &mut [Port<D>],
    Store { umem, pool }: &mut Store<Primary>,
) {
    let Some(peer) = ports[at].peer.filter(|&peer| ports[peer].up) else {
        ports[at].count(Binding::RxNoPeer, batch.len() as u64);
        batch.drain().for_each(|(frame, _)| pool.put(frame));
        return;
    };
    let mut dropped = Dropped::default();
    let to = &mut ports[peer];
    let longest = max_forward_len(to.mtu);
    let mut outlet = to.outlet(umem, batch.len() as u32);
    for (frame, extent) in batch.drain() {
        let fits = (1..=longest).contains(&extent.len);
        if fits && outlet.room() > 0 {
            outlet.send(frame, extent, 0);
            continue;
        }
        pool.put(frame);
        dropped.count(fits, extent.len);
    }
    drop(outlet);
    to.count(Binding::TxQueueFull, dropped.full);
    ports[at].count(Binding::RxOversize, dropped.oversize);
    ports[at].count(Binding::RxInvalid, dropped.invalid);
}

/// Frames of a batch that did not go on.
#[derive(Default)]
struct Dropped {
    full: u64,
    oversize: u64,
    invalid: u64,
}

impl Dropped {
    // Out of the loop, whose variables otherwise do not fit the registers.
    #[cold]
    #[inline(never)]
    fn count(&mut self, fits: bool, len: u32) {
        match len {
            _ if fits => self.full += 1,
            0 => self.invalid += 1,
            _ => self.oversize += 1,
        }
    }
}
