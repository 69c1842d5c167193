//! How the control thread and a shard talk: two bounded lock-free queues, looked at once a breath.

use crossbeam_queue::ArrayQueue;

use super::limits::MAX_PORTS;
use super::port::Port;
use crate::kernel::rings::Ring;
use crate::xsk::custody::SocketId;
use crate::xsk::frame::Primary;
use crate::xsk::store::Store;

/// What the control thread asks of a shard.
#[derive(Debug)]
pub enum Command<D> {
    /// Keep these frames at this place, which is free, for ports to come.
    Lay {
        /// The place, by which ports name it.
        at: usize,
        /// The frames.
        store: Box<Store<Primary>>,
    },
    /// The ports of the frames at this place are closed: answer [`Event::Lifted`].
    Lift(usize),
    /// Serve this socket: fill its fill ring, answer [`Event::Filled`]. It is not bound yet.
    Add(Box<Port<D>>),
    /// The state of a socket's link, as bound.
    Link {
        /// The socket.
        socket: SocketId,
        /// Whether frames may be sent.
        up: bool,
        /// Of the device, bytes.
        mtu: u32,
        /// Whether the socket is zero-copy.
        zero_copy: bool,
        /// Whether what it sends may lie in several frames.
        multi_buffer: bool,
    },
    /// A monitor port is up, or has changed while it was, whoever serves its queues.
    OutputUp(Output),
    /// A monitor port is down or gone.
    OutputDown {
        /// The port.
        ifindex: u32,
    },
    /// Make clones of what is put into this ring, from now on.
    Read(Box<Ring>),
    /// Time to look for overdue completions, about every 50 ms.
    Audit,
    /// Stop serving this socket, answer [`Event::Removed`]. Its frames stay with the kernel.
    Remove(SocketId),
    /// This socket is closed: take its frames back, answer [`Event::Reclaimed`].
    Reclaim {
        /// The socket.
        socket: SocketId,
        /// Where its frames are; `None` for a monitor port's.
        store: Option<usize>,
    },
}

/// A monitor port that is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    /// The port.
    pub ifindex: u32,
    /// Its queues; queue q is owned by shard q mod n.
    pub queues: u32,
    /// Bytes.
    pub mtu: u32,
    /// Whether what it sends may lie in several frames.
    pub multi_buffer: bool,
}

/// What a shard answers.
#[derive(Debug)]
pub enum Event<D> {
    /// The socket's fill ring is filled: bind it.
    Filled(SocketId),
    /// The socket is no longer served: close it.
    Removed(Box<Port<D>>),
    /// The socket's frames are free again: its id may be used for another.
    Reclaimed(SocketId),
    /// These frames are nobody's any more.
    Lifted(Option<Box<Store<Primary>>>),
}

/// Both directions.
#[derive(Debug)]
pub struct Mailbox<D> {
    /// To the shard.
    pub commands: ArrayQueue<Command<D>>,
    /// From the shard.
    pub events: ArrayQueue<Event<D>>,
}

impl<D> Default for Mailbox<D> {
    fn default() -> Self {
        Mailbox { commands: ArrayQueue::new(2 * MAX_PORTS), events: ArrayQueue::new(4 * MAX_PORTS) }
    }
}
