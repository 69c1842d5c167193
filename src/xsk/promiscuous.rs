//! A device made promiscuous for as long as somebody wants it, by membership of a packet socket.
//!
//! The flag that outlives the process is [`promiscuity`](crate::devices::promiscuity).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::packet_socket::{PacketError, index, packet_fd, set_option};

/// Keeps a port promiscuous for as long as this lives.
///
/// A wire carries frames for every MAC address, so its ports must accept them all. The kernel
/// counts such memberships, and so this does not disturb others that want the same.
#[derive(Debug)]
pub struct Promiscuous {
    /// One socket may hold the memberships of many ports.
    fd: Arc<OwnedFd>,
    ifindex: libc::c_int,
}

impl Promiscuous {
    /// Makes a device of the calling thread's network namespace promiscuous.
    ///
    /// # Errors
    /// Without CAP_NET_RAW, or when there is no such device.
    pub fn join(ifindex: u32) -> Result<Promiscuous, PacketError> {
        // Protocol 0: the socket holds the membership and receives nothing.
        let fd = packet_fd(0).map_err(|source| PacketError::new(ifindex, "open it", source))?;
        Promiscuous::member(Arc::new(fd), ifindex)
    }

    /// The same for another device, through the same socket: closing one takes the kernel a while.
    ///
    /// # Errors
    /// As [`Promiscuous::join`].
    pub fn join_also(&self, ifindex: u32) -> Result<Promiscuous, PacketError> {
        Promiscuous::member(Arc::clone(&self.fd), ifindex)
    }

    fn member(fd: Arc<OwnedFd>, ifindex: u32) -> Result<Promiscuous, PacketError> {
        let fail = |source| PacketError::new(ifindex, "make the port promiscuous", source);
        let port = index(ifindex).map_err(fail)?;
        membership(&fd, port, libc::PACKET_ADD_MEMBERSHIP).map_err(fail)?;
        Ok(Promiscuous { fd, ifindex: port })
    }
}

fn membership(fd: &OwnedFd, ifindex: libc::c_int, option: libc::c_int) -> io::Result<()> {
    let request = libc::packet_mreq {
        mr_ifindex: ifindex,
        mr_type: libc::PACKET_MR_PROMISC as libc::c_ushort,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set_option(fd.as_fd(), libc::SOL_PACKET, option, &request)
}

impl Drop for Promiscuous {
    /// Closing ends the membership too, but only when no other copy of the socket is open, and a
    /// child that is being started holds one from its fork to its exec.
    fn drop(&mut self) {
        // A failure leaves nothing to do: the device is gone, or the close that follows ends it.
        let _ = membership(&self.fd, self.ifindex, libc::PACKET_DROP_MEMBERSHIP);
    }
}
