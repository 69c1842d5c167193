//! The owner's end of a lane: frames lent to the shard at the other end, and its clones on the way to a monitor queue here.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use crossbeam_utils::CachePadded;
use shm_layout::record::PortRole;

use super::drop::DropReason;
use super::origin::Origin;
use super::parcel::Parcel;
use super::port::Port;
use super::spsc::{Receiver, Sender};
use crate::xsk::Doorbell;
use crate::xsk::frame::{Extent, Frame, Mirror};
use crate::xsk::umem::Umem;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Lend {
    pub(super) loans: Sender,
    pub(super) clones: Receiver,
    pub(super) wanted: Arc<CachePadded<AtomicBool>>,
    /// Frames lent and not back for good.
    pub(super) lent: u32,
    /// At most.
    pub(super) share: u32,
    /// Clones of the other shard on tx rings of this one, not completed yet.
    pub(super) guests: u32,
    /// The port its last clone went to.
    port: usize,
}

impl Lend {
    /// An end that has lent nothing yet, and `share` frames at most.
    pub(super) fn new(loans: Sender, clones: Receiver, wanted: Arc<CachePadded<AtomicBool>>, share: u32) -> Lend {
        Lend { loans, clones, wanted, lent: 0, share, guests: 0, port: 0 }
    }

    /// Whether the other shard is to get more frames.
    pub(super) fn owes(&self) -> bool {
        self.lent < self.share && self.wanted.load(Relaxed)
    }

    pub(super) fn give(&mut self, frame: u32, parcel: Parcel) {
        let pushed = self.loans.push(Parcel { frame, ..parcel }.pack());
        debug_assert!(pushed.is_ok(), "the queue has room for every loan");
    }

    /// The port that the clone in a parcel, and those in the ones of the same account behind it, can be sent through,
    /// or why they cannot. Its first packet is the longest.
    pub(super) fn admit<D: Doorbell>(
        &mut self,
        parcel: &Parcel,
        frame_size: u32,
        ports: &mut [Port<D>],
    ) -> Result<usize, DropReason> {
        let (ifindex, queue, more) = parcel.note;
        // By its role too: a device that has become a wire port meanwhile must not send a clone.
        let is_it = |port: &Port<D>| {
            port.ifindex == ifindex && port.queue == u32::from(queue) && port.role == PortRole::Monitor
        };
        if !ports.get(self.port).is_some_and(is_it) {
            self.port = ports.iter().position(is_it).ok_or(DropReason::OutputDown)?;
        }
        let monitor = &mut ports[self.port];
        if !monitor.up {
            return Err(DropReason::OutputDown);
        }
        if self.whole(parcel) > monitor.longest(frame_size) {
            return Err(DropReason::Oversize);
        }
        let frames = 1 + u32::from(more);
        if monitor.tx_room(frames) < frames { Err(DropReason::QueueFullCrossWorker) } else { Ok(self.port) }
    }

    /// Bytes of the packet that begins in a parcel. The frames of a clone are sent together, so the others of it are here too.
    #[inline]
    fn whole(&mut self, parcel: &Parcel) -> u32 {
        let (mut len, mut goes_on) = (parcel.len, parcel.goes_on);
        let mut ahead = 0;
        while goes_on && let Some(next) = self.clones.peek(ahead).map(Parcel::unpack) {
            (len, goes_on, ahead) = (len + next.len, next.goes_on, ahead + 1);
        }
        len
    }

    /// Puts a clone's frame on its monitor's tx ring, or says why not.
    pub(super) fn transmit<D: Doorbell>(
        &mut self,
        frame: Frame<Mirror>,
        parcel: &Parcel,
        origin: Origin,
        way: Result<&mut Port<D>, DropReason>,
        umem: &mut Umem<Mirror>,
    ) -> Result<(), (Frame<Mirror>, DropReason)> {
        let monitor = match way {
            Ok(monitor) => monitor,
            Err(reason) => return Err((frame, reason)),
        };
        let mut outlet = monitor.outlet(umem, 1);
        if outlet.room() == 0 {
            return Err((frame, DropReason::QueueFullCrossWorker));
        }
        let at = Extent { offset: 0, len: parcel.len };
        match parcel.goes_on {
            false => outlet.send(frame, at, origin.tag()),
            true => outlet.send_part(frame, at, origin.part().tag()),
        }
        self.guests += 1;
        Ok(())
    }
}
