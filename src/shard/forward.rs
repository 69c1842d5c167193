//! Forwarding: the received frame itself goes to the tx ring of the wire's other port. No copy.

use shm_layout::counters::Binding;

use super::frames::Pool;
use super::port::Port;
use super::rx::Batch;
use crate::xsk::Doorbell;
use crate::xsk::abi::max_forward_len;
use crate::xsk::umem::{Primary, Umem};

/// Moves the batch that port `at` received to its peer. What cannot go is dropped and counted.
pub fn push<D: Doorbell>(
    at: usize,
    batch: &mut Batch,
    ports: &mut [Port<D>],
    umem: &mut Umem,
    pool: &mut Pool<Primary>,
) {
    let Some(peer) = ports[at].peer.filter(|&peer| ports[peer].up) else {
        ports[at].count(Binding::RxNoPeer, batch.len() as u64);
        batch.drain().for_each(|(frame, _)| pool.put(frame));
        return;
    };
    let (mut full, mut oversize, mut invalid) = (0, 0, 0);
    let to = &mut ports[peer];
    let longest = max_forward_len(to.mtu);
    for (frame, extent) in batch.drain() {
        if extent.len == 0 {
            invalid += 1;
            pool.put(frame);
        } else if extent.len > longest {
            oversize += 1;
            pool.put(frame);
        } else if !to.has_tx_room() {
            full += 1;
            pool.put(frame);
        } else {
            to.send(umem, frame, extent, 0);
        }
    }
    to.count(Binding::TxQueueFull, full);
    ports[at].count(Binding::RxOversize, oversize);
    ports[at].count(Binding::RxInvalid, invalid);
}
