//! The ends of a wire under test: a socket that only sends frames made in place, and one that only looks at what
//! arrives. Each has a UMEM of its own; the dataplane uses neither.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::frame::{Extent, Primary};
use super::socket::{self, BindMode, RingSizes, Socket, SocketError};
use super::umem::{Tokens, Umem};
use super::{Doorbell, KernelStats, Kick, Rings};

/// Bytes of a frame.
const FRAME_SIZE: u32 = 2048;
/// Entries of the rings that are used.
const RING: u32 = 2048;
/// Entries of a ring that must be there and stays empty.
const UNUSED: u32 = 64;
/// This endpoint's only socket.
const SOCKET: u16 = 0;
/// How long another process's dead socket may hold the queue.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends copies of one packet, each changed in place before it goes.
#[derive(Debug)]
pub struct Sender {
    umem: Umem<Primary>,
    free: Tokens<Primary>,
    rings: Rings,
    socket: Socket,
    packet: Extent,
}

impl Sender {
    /// Binds to queue `queue` of a device of the calling thread's network namespace. Every frame of the UMEM holds
    /// `packet`.
    ///
    /// # Errors
    /// [`SocketError`]; a packet longer than 2048 bytes is one.
    pub fn open(ifindex: u32, queue: u32, packet: &[u8]) -> Result<Sender, SocketError> {
        let (umem, mut free) = area(RING)?;
        let at = Extent { offset: 0, len: u32::try_from(packet.len()).unwrap_or(u32::MAX) };
        for frame in &mut free {
            let bytes = umem.area().packet_mut(frame, at);
            if bytes.len() != packet.len() {
                let source = io::Error::new(io::ErrorKind::InvalidInput, "the packet is longer than a UMEM frame");
                return Err(SocketError { step: "make a packet", place: String::new(), source });
            }
            bytes.copy_from_slice(packet);
        }
        let sizes = RingSizes { fill: UNUSED, rx: 0, tx: RING, completion: RING };
        let (socket, rings) = socket::open(umem.area(), None, ifindex, queue, sizes)?;
        socket.bind(None, BindMode::Copy, false, PATIENCE)?;
        Ok(Sender { umem, free, rings, socket, packet: at })
    }

    /// Makes up to `count` packets ready to send, as many as there are free frames for, calling `write` with the
    /// bytes of each. Returns how many.
    pub fn push(&mut self, count: u32, mut write: impl FnMut(&mut [u8])) -> u32 {
        let mut places = self.rings.tx.places(count);
        let mut custody = self.umem.custody();
        let mut pushed = 0;
        while places.left() > 0 {
            let Some(mut frame) = self.free.pop() else { break };
            write(custody.area().packet_mut(&mut frame, self.packet));
            // There is room: looked at above.
            let _ = places.push(custody.give_tx(frame, self.packet, SOCKET, 0));
            pushed += 1;
        }
        pushed
    }

    /// Has the kernel transmit what was pushed. Call it again while [`Sender::unsent`] says so: the kernel may stop
    /// early.
    pub fn kick(&mut self) -> Kick {
        self.rings.tx.submit();
        self.socket.kick_tx()
    }

    /// Packets pushed that the kernel has not looked at yet.
    pub fn unsent(&self) -> u32 {
        self.rings.tx.pending()
    }

    /// Takes back the frames of packets that were sent.
    pub fn complete(&mut self) {
        let mut custody = self.umem.custody();
        for addr in self.rings.completion.take(u32::MAX) {
            self.free.extend(custody.take_completion(addr, SOCKET).map(|completed| completed.frame));
        }
        drop(custody);
        self.rings.completion.release();
    }

    /// Packets pushed whose frames are not back yet.
    pub fn outstanding(&self) -> u32 {
        self.umem.census().tx
    }
}

/// Looks at what arrives.
#[derive(Debug)]
pub struct Receiver {
    umem: Umem<Primary>,
    rings: Rings,
    socket: Socket,
}

impl Receiver {
    /// Binds to queue `queue` of a device of the calling thread's network namespace. Packets arrive once an XDP
    /// program redirects them here.
    ///
    /// # Errors
    /// [`SocketError`].
    pub fn open(ifindex: u32, queue: u32) -> Result<Receiver, SocketError> {
        // As many frames as both rings can hold: while any of them is free there is room for a packet.
        let (mut umem, free) = area(2 * RING)?;
        let sizes = RingSizes { fill: 2 * RING, rx: RING, tx: UNUSED, completion: UNUSED };
        let (socket, mut rings) = socket::open(umem.area(), None, ifindex, queue, sizes)?;
        for frame in free {
            // There is room: the ring has a place for every frame.
            let _ = rings.fill.push(umem.custody().give_fill(frame, SOCKET));
        }
        rings.fill.submit();
        socket.bind(None, BindMode::Copy, false, PATIENCE)?;
        Ok(Receiver { umem, rings, socket })
    }

    /// Calls `look` with each of up to `limit` packets that have arrived. Returns how many there were.
    pub fn receive(&mut self, limit: u32, mut look: impl FnMut(&[u8])) -> u32 {
        let Some(rx) = &mut self.rings.rx else { return 0 };
        let mut custody = self.umem.custody();
        let mut seen = 0;
        let entries = rx.take(limit);
        let found = entries.left();
        for desc in entries {
            let Some((frame, at)) = custody.take_rx(desc, SOCKET) else { continue };
            look(custody.area().packet(&frame, at));
            // There is room: the ring has a place for every frame.
            let _ = self.rings.fill.push(custody.give_fill(frame, SOCKET));
            seen += 1;
        }
        if found > 0 {
            rx.release();
            self.rings.fill.submit();
        }
        seen
    }

    /// What the kernel counts for the socket.
    ///
    /// # Errors
    /// The socket is no longer usable.
    pub fn kernel_stats(&self) -> io::Result<KernelStats> {
        self.socket.kernel_stats()
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn area(frames: u32) -> Result<(Umem<Primary>, Tokens<Primary>), SocketError> {
    Umem::new(frames, FRAME_SIZE).map_err(|source| SocketError { step: "make a UMEM", place: String::new(), source })
}
