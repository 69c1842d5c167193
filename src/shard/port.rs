//! One socket of a shard: a queue of a wire port or of a monitor port.

use std::sync::Arc;

use shm_layout::counters::{BINDING_VALUES, Binding};
use shm_layout::record::PortRole;

use super::limits::MAX_OUTPUTS;
use super::look::Looks;
use super::origin::Remote;
use super::patience::Patience;
use super::refused::Refused;
use crate::counters::BindingBlock;
use crate::snapshot::table::PortPolicy;
use crate::xsk::abi::{Desc, XDP_PKT_CONTD, max_clone_in};
use crate::xsk::custody::{Custody, SocketId};
use crate::xsk::frame::{Extent, Frame, Partition};
use crate::xsk::ring::{CompletionRing, FillRing, Places, RxRing, TxRing};
use crate::xsk::umem::Umem;
use crate::xsk::{Doorbell, Rings};

/// What is back of a packet that lies in several frames: bytes, and whether one of the frames was refused, and so all of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Back {
    pub(super) bytes: u64,
    pub(super) refused: bool,
}

/// Where the clones for one output go, from one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// To this port of the shard.
    Local(usize),
    /// To a port of another shard.
    Remote(Remote),
    /// The output is up, but no queue of it serves this one.
    NoBinding,
    /// The output is down or not there.
    Down,
}

/// A socket and what its shard knows of it.
#[derive(Debug)]
pub struct Port<D> {
    /// Identifies it within the shard.
    pub socket: SocketId,
    /// Its device.
    pub ifindex: u32,
    /// Its queue of the device.
    pub queue: u32,
    /// Queues of the device in use.
    pub queues: u32,
    /// What the device is used for.
    pub role: PortRole,
    /// Whether it is bound and the link is up.
    pub up: bool,
    /// Of the device, bytes.
    pub mtu: u32,
    /// Whether the kernel sends from the frames themselves.
    pub zero_copy: bool,
    /// Whether what it sends may lie in several frames.
    pub multi_buffer: bool,
    /// Of a packet whose last frame is not back yet.
    pub(super) back: Back,
    /// See [`Seat`], like the next two.
    pub(super) store: usize,
    pub(super) share: u32,
    pub(super) shared: bool,
    pub(super) rx: Option<RxRing>,
    pub(super) fill: FillRing,
    pub(super) tx: TxRing,
    pub(super) completion: CompletionRing,
    pub(super) doorbell: D,
    /// Index of the wire's other port that takes this queue's frames.
    pub(super) peer: Option<usize>,
    pub(super) policy: Option<Arc<PortPolicy>>,
    /// One for each output of the policy.
    pub(super) targets: Vec<Target>,
    /// Frames to keep in the fill ring, at most.
    pub(super) fill_target: u32,
    /// Frames given to it to receive into and not received.
    pub(super) in_fill: u32,
    /// Frames it may hold for transmission.
    pub(super) tx_cap: u32,
    /// Frames given to it to send and not completed.
    pub(super) in_tx: u32,
    pub(super) refused: Refused,
    /// Of clones that find no room in it.
    pub(super) patience: Patience,
    /// What the kernel had taken off the tx ring at the last kick.
    pub(super) taken: u32,
    /// Kicks since anything moved, as far as they count.
    pub(super) stuck: u32,
    /// Breaths to go before the next one.
    pub(super) rest: u32,
    pub(super) looks: Looks,
    pub(super) values: [u64; BINDING_VALUES],
    /// Whether `values` has changed since it was committed.
    pub(super) dirty: bool,
    pub(super) block: Arc<BindingBlock>,
}

/// What identifies a port; see the fields of [`Port`].
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// See [`Port::socket`].
    pub socket: SocketId,
    /// See [`Port::ifindex`].
    pub ifindex: u32,
    /// See [`Port::queue`].
    pub queue: u32,
    /// See [`Port::queues`].
    pub queues: u32,
    /// See [`Port::role`].
    pub role: PortRole,
    /// A wire port's frames.
    pub seat: Option<Seat>,
}

/// The frames of a wire port.
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    /// The place of the frames it receives into.
    pub store: usize,
    /// Of them its own: to receive into, or on their way out through the wire's other port.
    pub share: u32,
    /// Whether other queues of its device send through the same queue of the wire's other port.
    pub shared: bool,
}

impl<D: Doorbell> Port<D> {
    /// A port that is not up yet. It goes on counting from what the block says.
    pub fn new(identity: Identity, rings: Rings, doorbell: D, block: Arc<BindingBlock>) -> Port<D> {
        let Identity { socket, ifindex, queue, queues, role, seat } = identity;
        let Seat { store, share, shared } = seat.unwrap_or(Seat { store: usize::MAX, share: 0, shared: false });
        let Rings { fill, rx, tx, completion } = rings;
        let mut values = block.read();
        values[Binding::Outstanding as usize] = 0;
        Port {
            socket,
            ifindex,
            queue,
            queues,
            role,
            up: false,
            mtu: 0,
            zero_copy: false,
            multi_buffer: false,
            back: Back::default(),
            store,
            share,
            shared,
            fill_target: (if shared { (share / 2).max(1) } else { share }).min(rx.as_ref().map_or(0, |rx| rx.size())),
            rx,
            fill,
            tx,
            completion,
            doorbell,
            peer: None,
            policy: None,
            targets: Vec::with_capacity(MAX_OUTPUTS),
            in_fill: 0,
            tx_cap: 0,
            in_tx: 0,
            refused: Refused::default(),
            patience: Patience::default(),
            taken: 0,
            stuck: 0,
            rest: 0,
            looks: Looks::default(),
            values,
            dirty: true,
            block,
        }
    }

    #[inline]
    pub(super) fn count(&mut self, value: Binding, n: u64) {
        self.values[value as usize] = self.values[value as usize].wrapping_add(n);
        self.dirty = true;
    }

    /// Its last count: it is to be closed, and nobody will see its frames completed. A clone is its entry's, and counted
    /// there when it is taken back.
    pub(super) fn count_out(&mut self) {
        if self.role == PortRole::Wire {
            // Those that the device refused are counted.
            self.count(Binding::TxLost, self.in_tx.saturating_sub(self.refused.count()).into());
        }
        self.values[Binding::Outstanding as usize] = 0;
        self.block.commit(&self.values);
        self.dirty = false;
    }

    /// Ends the rests that a port by which nothing moves is given.
    #[inline]
    pub(super) fn moves(&mut self) {
        (self.stuck, self.rest) = (0, 0);
    }

    /// Frames to have in the fill ring while `sent` are on their way out through the wire's other port.
    #[inline]
    pub(super) fn fill_level(&self, sent: u32) -> u32 {
        if self.shared { self.fill_target } else { self.fill_target.min(self.share.saturating_sub(sent)) }
    }

    /// Bytes of the largest clone that it takes, of frames of this size.
    #[inline]
    pub(super) fn longest(&self, frame_size: u32) -> u32 {
        max_clone_in(self.mtu, frame_size, self.multi_buffer)
    }

    /// Frames that may be queued for transmission, looking closely only where they seem fewer than `want`.
    #[inline]
    pub(super) fn tx_room(&mut self, want: u32) -> u32 {
        match self.tx_cap.saturating_sub(self.in_tx) {
            0 => 0,
            may => may.min(self.tx.acquire(want)),
        }
    }

    /// The way out through this port for up to `want` frames: fewer where the port may not hold as many, or its tx
    /// ring has no room.
    #[inline]
    pub(super) fn outlet<'a, P: Partition>(&'a mut self, umem: &'a mut Umem<P>, want: u32) -> Outlet<'a, P> {
        let places = self.tx.places(want.min(self.tx_cap.saturating_sub(self.in_tx)));
        Outlet { socket: self.socket, places, custody: umem.custody(), in_tx: &mut self.in_tx, dirty: &mut self.dirty }
    }
}

/// Queues frames of one partition for transmission through one port.
pub(super) struct Outlet<'a, P: Partition> {
    socket: SocketId,
    places: Places<'a, Desc>,
    pub(super) custody: Custody<'a, P>,
    /// Of the port, like the next.
    in_tx: &'a mut u32,
    dirty: &'a mut bool,
}

impl<P: Partition> Outlet<'_, P> {
    /// Frames that may be queued.
    #[inline]
    pub(super) fn room(&self) -> u32 {
        self.places.left()
    }

    /// Queues a frame; [`Outlet::room`] has looked. `tag` comes back at completion.
    #[inline]
    pub(super) fn send(&mut self, frame: Frame<P>, at: Extent, tag: u32) {
        let _ = self.places.push(self.custody.give_tx(frame, at, self.socket, tag));
    }

    /// The same of a frame whose packet goes on in the next one.
    #[inline]
    pub(super) fn send_part(&mut self, frame: Frame<P>, at: Extent, tag: u32) {
        let desc = self.custody.give_tx(frame, at, self.socket, tag);
        let _ = self.places.push(Desc { options: XDP_PKT_CONTD, ..desc });
    }
}

impl<P: Partition> Drop for Outlet<'_, P> {
    #[inline]
    fn drop(&mut self) {
        *self.in_tx += self.custody.sent();
        *self.dirty |= self.custody.sent() > 0;
    }
}

/// Ports by device and queue: `(ifindex, queue, index)`, in order.
pub(super) type Order = Vec<(u32, u32, usize)>;

/// The port of device `ifindex` in this role that serves what arrives on queue `queue` elsewhere: the same queue, or
/// the only one.
pub(super) fn serving<D>(ports: &[Port<D>], order: &Order, role: PortRole, ifindex: u32, queue: u32) -> Option<usize> {
    let all = &order[order.partition_point(|port| port.0 < ifindex)..];
    let queues = all.first().filter(|port| port.0 == ifindex).map(|port| ports[port.2].queues)?;
    let wanted = match role {
        // Wires run on the smaller number of queues of their ports.
        PortRole::Wire => queue % queues.max(1),
        PortRole::Monitor if queues == 1 => 0,
        PortRole::Monitor => queue,
    };
    let found = all.binary_search_by_key(&(ifindex, wanted), |port| (port.0, port.1)).ok()?;
    Some(all[found].2).filter(|&at| ports[at].role == role)
}

/// How many frames each port may hold for transmission.
///
/// A wire port has a share of its wire's frames for good. They are in its fill ring, or on their way out through its
/// peer, where a quarter of them never is: whatever becomes of those, it can receive. Of ports that send through the same
/// peer nobody can tell whose frames are on the way, so each keeps one half to receive into. Of the `mirror` frames for
/// clones a single monitor device may take all. Several get equal shares, which any of their queues may take, of what
/// one of the `shards` that clone from them has: so no monitor can hold all that a shard has for the others.
pub(super) fn share_out<D>(ports: &mut [Port<D>], mirror: u32, shards: u32) {
    let is_first = |at: usize, ifindex| ports[..at].iter().all(|p| p.ifindex != ifindex);
    let of_monitor = |(at, p): &(usize, &Port<D>)| p.role == PortRole::Monitor && is_first(*at, p.ifindex);
    let monitors = ports.iter().enumerate().filter(of_monitor).count().max(1) as u32;
    let most = if monitors == 1 { mirror } else { mirror / monitors / shards }.max(1);
    for port in ports.iter_mut() {
        port.tx_cap = if port.role == PortRole::Monitor { most.min(port.tx.size()) } else { 0 };
    }
    for at in 0..ports.len() {
        let Port { peer, share, shared, .. } = ports[at];
        if let Some(peer) = peer {
            let peer = &mut ports[peer];
            let to_send = if shared { share / 2 } else { share - share.div_ceil(4) };
            peer.tx_cap = (peer.tx_cap + to_send.max(1)).min(peer.tx.size());
        }
    }
}
