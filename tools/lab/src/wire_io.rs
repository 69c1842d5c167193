//! Raw frames in and out of one interface: the only place that knows which socket carries them.

use std::io;
use std::time::Duration;

use rustix::io::Errno;
use spanwire::xsk::packet_socket::PacketSocket;

use crate::error::{LabError, Result};

/// Longer than any frame of a lab, tags included, up to a 9000-byte MTU.
const BUFFER: usize = 10 << 10;

/// What became of a frame offered to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// The kernel took it.
    Done,
    /// The transmit path is full and the frame was not sent; offer it again.
    TryAgain,
}

/// An open raw socket on one interface.
#[derive(Debug)]
pub struct WireIo {
    socket: PacketSocket,
    ifindex: u32,
    buffer: Vec<u8>,
}

impl WireIo {
    /// Opens an interface of the calling thread's network namespace; call it inside
    /// [`Namespace::enter`](crate::netns::Namespace::enter).
    pub fn open(ifindex: u32) -> Result<Self> {
        let socket = PacketSocket::open(ifindex).map_err(|error| LabError::Wire {
            action: "open",
            ifindex,
            source: io::Error::other(error),
        })?;
        Ok(Self { socket, ifindex, buffer: vec![0; BUFFER] })
    }

    /// The interface.
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Offers one frame to the kernel.
    pub fn send(&mut self, frame: &[u8]) -> Result<Sent> {
        match self.socket.send(frame) {
            Ok(()) => Ok(Sent::Done),
            // ENOBUFS is also how a veth reports a frame it dropped because the peer's ring was full: it was not
            // sent, so offering it again makes no duplicate.
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::NOBUFS | Errno::AGAIN | Errno::INTR) => Ok(Sent::TryAgain),
                _ => Err(self.error("send", error)),
            },
        }
    }

    /// Takes the next frame that arrived, VLAN tags in place; `None` when none does within `timeout`. Frames this
    /// host sent itself are passed over.
    pub fn recv(&mut self, timeout: Duration) -> Result<Option<Vec<u8>>> {
        loop {
            match self.socket.recv(&mut self.buffer).map_err(|error| self.error("receive", error))? {
                Some(received) if received.outgoing => {}
                Some(received) => return Ok(self.buffer.get(..received.len).map(<[u8]>::to_vec)),
                None if timeout.is_zero() => return Ok(None),
                None => {
                    if !self.socket.wait(timeout).map_err(|error| self.error("receive", error))? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Frames that arrived and were lost because the socket's buffer was full, since it was opened.
    pub fn drops(&self) -> Result<u64> {
        self.socket.drops().map_err(|error| self.error("receive", error))
    }

    pub(crate) fn error(&self, action: &'static str, source: io::Error) -> LabError {
        LabError::Wire { action, ifindex: self.ifindex, source }
    }
}
