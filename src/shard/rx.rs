//! Receiving: a batch from a port's rx ring, and free frames to its fill ring.

use shm_layout::counters::Binding;

use super::frames::Pool;
use super::port::Port;
use crate::xsk::Doorbell;
use crate::xsk::umem::{Extent, Frame, Primary, Umem};

/// Frames taken from a port at once.
pub const BATCH: usize = 64;

/// A received packet in hand.
pub type Received = (Frame<Primary>, Extent);

/// The packets of one pull.
#[derive(Debug)]
pub struct Batch {
    packets: Vec<Received>,
}

impl Batch {
    /// An empty batch with room for [`BATCH`] packets.
    pub fn new() -> Batch {
        Batch { packets: Vec::with_capacity(BATCH) }
    }

    /// Packets in it.
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// The packets.
    pub fn packets(&self) -> &[Received] {
        &self.packets
    }

    /// Takes all packets out.
    pub fn drain(&mut self) -> impl Iterator<Item = Received> + '_ {
        self.packets.drain(..)
    }
}

impl Default for Batch {
    fn default() -> Self {
        Batch::new()
    }
}

/// Takes at most [`BATCH`] packets from the port.
pub fn pull<D: Doorbell>(port: &mut Port<D>, umem: &mut Umem, batch: &mut Batch) {
    let Some(rx) = &mut port.rx else { return };
    let (mut bytes, mut taken, mut invalid) = (0u64, 0u32, 0u64);
    while batch.len() < BATCH {
        let Some(desc) = rx.pop() else { break };
        match umem.take_rx(desc, port.socket) {
            Some((frame, at)) => {
                bytes += u64::from(at.len);
                taken += 1;
                batch.packets.push((frame, at));
            }
            None => invalid += 1,
        }
    }
    if taken > 0 || invalid > 0 {
        rx.release();
        port.in_fill -= taken;
        port.count(Binding::RxPackets, u64::from(taken));
        port.count(Binding::RxBytes, bytes);
        port.count(Binding::RxInvalid, invalid);
    }
}

/// Tops the fill ring up after a pull.
pub fn refill<D: Doorbell>(port: &mut Port<D>, umem: &mut Umem, pool: &mut Pool<Primary>) {
    if port.in_fill < port.fill_target && port.up {
        refill_all(port, umem, pool);
    }
}

/// Fills the fill ring up to its target, as far as free frames go.
pub fn refill_all<D: Doorbell>(port: &mut Port<D>, umem: &mut Umem, pool: &mut Pool<Primary>) {
    if port.rx.is_none() {
        return;
    }
    let mut want = port.fill_target.saturating_sub(port.in_fill).min(port.fill.acquire(port.fill_target));
    let before = want;
    while want > 0 {
        let Some(frame) = pool.take() else { break };
        // There is room: `want` is at most what `acquire` gave.
        if port.fill.push(umem.give_fill(frame, port.socket)).is_err() {
            break;
        }
        want -= 1;
    }
    if want < before {
        port.fill.submit();
        port.in_fill += before - want;
        if port.zero_copy && port.fill.needs_wakeup() {
            port.doorbell.wake_rx();
        }
    }
}
