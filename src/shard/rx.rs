//! Receiving: a batch from a port's rx ring, and free frames to its fill ring.

use arrayvec::ArrayVec;
use shm_layout::counters::Binding;

use super::port::Port;
use crate::xsk::Doorbell;
use crate::xsk::frame::{Extent, Frame, Primary};
use crate::xsk::store::Store;
use crate::xsk::umem::Umem;

/// Frames taken from a port at once.
pub const BATCH: usize = 64;

/// A received packet in hand.
pub type Received = (Frame<Primary>, Extent);

/// The packets of one pull.
#[derive(Debug)]
pub struct Batch {
    packets: ArrayVec<Received, BATCH>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Batch {
        Batch { packets: ArrayVec::new() }
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
// A function of its own, like the other loops over frames: within a larger one their variables do not stay in registers.
#[inline(never)]
pub fn pull<D: Doorbell>(port: &mut Port<D>, umem: &mut Umem<Primary>, batch: &mut Batch) {
    let Some(rx) = &mut port.rx else { return };
    let mut bytes = 0u64;
    let before = batch.len();
    let mut custody = umem.custody();
    let mut entries = rx.take((BATCH - before) as u32);
    let found = entries.left();
    while entries.left() > 0 {
        // Until one that names no frame: it is passed over.
        batch.packets.extend(entries.by_ref().map_while(|desc| {
            let received = custody.take_rx(desc, port.socket)?;
            bytes += u64::from(received.1.len);
            Some(received)
        }));
    }
    drop(entries);
    let taken = (batch.len() - before) as u32;
    if found > 0 {
        rx.release();
        port.in_fill -= taken;
        port.count(Binding::RxPackets, u64::from(taken));
        port.count(Binding::RxBytes, bytes);
        port.count(Binding::RxInvalid, u64::from(found - taken));
    }
}

/// Fills the fill ring up to `target`, as far as free frames go. Returns how many went there.
#[inline(never)]
pub fn refill<D: Doorbell>(port: &mut Port<D>, target: u32, Store { umem, pool }: &mut Store<Primary>) -> u32 {
    let mut custody = umem.custody();
    let mut places = port.fill.places(target.saturating_sub(port.in_fill));
    let before = places.left();
    let mut free = pool.open();
    while places.left() > 0 {
        let Some(frame) = free.take() else { break };
        // There is room: just looked at.
        let _ = places.push(custody.give_fill(frame, port.socket));
    }
    let given = before - places.left();
    drop(places);
    if given > 0 {
        port.fill.submit();
        port.in_fill += given;
    }
    given
}

/// Wakes a zero-copy driver that found the fill ring dry and asks to be told of frames, once there are some. It may ask
/// later than the ring was filled, so this is for every breath.
#[inline]
pub fn wake<D: Doorbell>(port: &mut Port<D>) {
    if port.zero_copy && port.up && port.fill.pending() > 0 && port.fill.needs_wakeup() {
        port.doorbell.wake_rx();
    }
}
