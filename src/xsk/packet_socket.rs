//! Frames through the kernel's own path (AF_PACKET), and the sockets for it.
//!
//! The kernel takes the outer VLAN tag out of a received frame and hands it over beside the
//! bytes; [`PacketSocket::recv`] puts it back, so that a frame reads as it was on the wire.

#![allow(unsafe_code)]

use std::io;
use std::mem::{MaybeUninit, size_of, size_of_val};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::xsk::netdev;
use crate::xsk::shortage::shortage;

/// Bytes of received frames the kernel may hold for a socket.
const RECEIVE_BUFFER: libc::c_int = 64 << 20;
/// Both MAC addresses: where a VLAN tag goes.
const ADDRESSES: usize = 12;
/// TPID and TCI.
const TAG: usize = 4;
/// Bytes of a `struct virtio_net_hdr` (linux/virtio_net.h): flags and GSO type, a byte each, then length of the headers,
/// GSO size, start of the checksum and offset of its field, 16 bits each in the machine's order.
pub const OFFLOAD: usize = 10;
/// linux/if_packet.h
const PACKET_VNET_HDR: libc::c_int = 15;
/// Room for the one control message asked for, PACKET_AUXDATA, in whole `cmsghdr`s so that it is
/// aligned as one.
const CONTROL_HEADERS: usize = 4;

const _: () = assert!(
    CONTROL_HEADERS * size_of::<libc::cmsghdr>() >= size_of::<libc::cmsghdr>() + size_of::<libc::tpacket_auxdata>() + 8
);

/// Why a packet socket could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("packet socket on {port}: cannot {action}: {source}{hint}")]
pub struct PacketError {
    port: String,
    action: &'static str,
    source: io::Error,
    hint: &'static str,
}

impl PacketError {
    pub(super) fn new(ifindex: u32, action: &'static str, source: io::Error) -> PacketError {
        let hint = match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => "; needs CAP_NET_RAW",
            Some(libc::ENODEV | libc::ENXIO) => "; no such device in this network namespace",
            _ => shortage(&source),
        };
        PacketError { port: netdev::label(ifindex), action, source, hint }
    }
}

/// One frame that [`PacketSocket::recv`] wrote to the start of the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Bytes of the buffer that hold the frame, VLAN tags and what is before it included.
    pub len: usize,
    /// The port sent this frame; it did not receive it (PACKET_OUTGOING).
    pub outgoing: bool,
    /// The buffer was too short and the frame's end is lost.
    pub truncated: bool,
}

/// A raw, non-blocking packet socket on one port that sees every protocol, both ways.
///
/// It does not make the port promiscuous: that is [`Promiscuous`](super::promiscuous::Promiscuous).
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    /// Bytes before every frame, 0 or [`OFFLOAD`].
    before: usize,
    /// PACKET_STATISTICS counts from its last reading; this is the sum.
    drops: AtomicU64,
}

impl PacketSocket {
    /// Opens a socket on a device of the calling thread's network namespace.
    ///
    /// # Errors
    /// Without CAP_NET_RAW, or when there is no such device.
    pub fn open(ifindex: u32) -> Result<PacketSocket, PacketError> {
        let fail = |action| move |source| PacketError::new(ifindex, action, source);
        // Protocol 0 until it is bound: with ETH_P_ALL here the socket would take frames of
        // every device of the namespace until then.
        let fd = packet_fd(libc::SOCK_NONBLOCK).map_err(fail("open it"))?;
        set_option(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_AUXDATA, &1).map_err(fail("ask for VLAN tags"))?;
        // Past rmem_max needs CAP_NET_ADMIN; without it, as much as is allowed.
        if set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &RECEIVE_BUFFER).is_err() {
            set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, &RECEIVE_BUFFER)
                .map_err(fail("set its receive buffer"))?;
        }
        bind_all_protocols(fd.as_fd(), ifindex).map_err(fail("bind it"))?;
        Ok(PacketSocket { fd, before: 0, drops: AtomicU64::new(0) })
    }

    /// The same, with a `struct virtio_net_hdr` of [`OFFLOAD`] bytes before every frame that is sent or received: what is
    /// left to the device, super-frames and checksums among it, is sent and read as it is.
    ///
    /// # Errors
    /// As [`PacketSocket::open`].
    pub fn open_with_offloads(ifindex: u32) -> Result<PacketSocket, PacketError> {
        let mut socket = PacketSocket::open(ifindex)?;
        set_option(socket.as_fd(), libc::SOL_PACKET, PACKET_VNET_HDR, &1)
            .map_err(|source| PacketError::new(ifindex, "ask for offloads", source))?;
        socket.before = OFFLOAD;
        Ok(socket)
    }

    /// Sends one frame as it is, Ethernet header and tags included.
    ///
    /// # Errors
    /// `WouldBlock` when the socket's send buffer is full, ENOBUFS when the device's queue is,
    /// EMSGSIZE when the frame is larger than the MTU, its header and one tag, ENETDOWN when the
    /// port is down.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: the pointer and length are those of `frame`, which send only reads.
        let sent = unsafe { libc::send(self.fd.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        match usize::try_from(sent) {
            Ok(sent) if sent == frame.len() => Ok(()),
            Ok(_) => Err(io::Error::from(io::ErrorKind::WriteZero)),
            Err(_) => Err(io::Error::last_os_error()),
        }
    }

    /// Takes the next frame, or `None` when there is none now.
    ///
    /// # Errors
    /// What the kernel reports, e.g. ENETDOWN once after the port went down.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<Option<Received>> {
        // SAFETY: these are plain data; all zeros is a valid value of each.
        let (mut from, mut control, mut message) = unsafe {
            (
                MaybeUninit::<libc::sockaddr_ll>::zeroed().assume_init(),
                MaybeUninit::<[libc::cmsghdr; CONTROL_HEADERS]>::zeroed().assume_init(),
                MaybeUninit::<libc::msghdr>::zeroed().assume_init(),
            )
        };
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        message.msg_name = (&raw mut from).cast();
        message.msg_namelen = length_of(&from);
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = size_of_val(&control) as _;
        // SAFETY: `message` points at `from`, `part`, `control` and through `part` at `buffer`,
        // each with its own length, and all of them outlive the call. MSG_TRUNC makes the result
        // the frame's length even where the buffer is shorter.
        let result = unsafe { libc::recvmsg(self.fd.as_raw_fd(), &raw mut message, libc::MSG_TRUNC) };
        let Ok(arrived) = usize::try_from(result) else {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error),
            };
        };
        let len = arrived.min(buffer.len());
        let mut received =
            Received { len, outgoing: from.sll_pkttype == libc::PACKET_OUTGOING, truncated: arrived > len };
        if let (Some(tag), Some(frame)) = (vlan_tag(&message), buffer.get_mut(self.before..)) {
            received.len = len.saturating_sub(self.before);
            received = insert_tag(frame, received, tag);
            received.len += self.before;
        }
        Ok(Some(received))
    }

    /// Waits until a frame can be taken; false when none came in time.
    ///
    /// # Errors
    /// What poll(2) reports; an interrupting signal counts as no frame.
    pub fn wait(&self, timeout: Duration) -> io::Result<bool> {
        let mut poll = libc::pollfd { fd: self.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // Rounded up: a wait below a millisecond must not become a busy loop.
        let millis = timeout.as_micros().div_ceil(1000);
        let millis = libc::c_int::try_from(millis).unwrap_or(libc::c_int::MAX);
        // SAFETY: one pollfd is passed, borrowed for the call.
        match unsafe { libc::poll(&raw mut poll, 1, millis) } {
            0 => Ok(false),
            n if n > 0 => Ok(true),
            _ => match io::Error::last_os_error() {
                e if e.kind() == io::ErrorKind::Interrupted => Ok(false),
                e => Err(e),
            },
        }
    }

    /// Frames lost since the socket was opened because its receive buffer was full.
    ///
    /// # Errors
    /// What getsockopt(2) reports.
    pub fn drops(&self) -> io::Result<u64> {
        let mut stats = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut length = length_of(&stats);
        // SAFETY: pointer and length are those of `stats`, which PACKET_STATISTICS fills.
        let result = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut stats).cast(),
                &raw mut length,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        let new = u64::from(stats.tp_drops);
        // Relaxed: a sum that nothing else is read after.
        Ok(self.drops.fetch_add(new, Ordering::Relaxed) + new)
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The ifindex as the kernel's int; one that does not fit is no device.
pub(super) fn index(ifindex: u32) -> io::Result<libc::c_int> {
    libc::c_int::try_from(ifindex).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))
}

fn length_of<T>(value: &T) -> libc::socklen_t {
    // Only for the small C structures of this file.
    size_of_val(value) as libc::socklen_t
}

pub(super) fn packet_fd(flags: libc::c_int) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | flags;
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just returned this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bind_all_protocols(fd: BorrowedFd<'_>, ifindex: u32) -> io::Result<()> {
    // Index 0 would bind to every device at once.
    if ifindex == 0 {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as libc::c_ushort,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: index(ifindex)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: pointer and length are those of `address`, which bind only reads.
    let result = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length_of(&address)) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

pub(super) fn set_option<T>(fd: BorrowedFd<'_>, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: pointer and length are those of `value`, which setsockopt only reads; the types
    // used here, c_int and packet_mreq, have no padding.
    let result =
        unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, std::ptr::from_ref(value).cast(), length_of(value)) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The tag the kernel took out of the frame: TPID and TCI in wire order.
fn vlan_tag(message: &libc::msghdr) -> Option<[u8; TAG]> {
    // SAFETY: recvmsg filled `message` and the control buffer it points at, which the caller
    // still holds.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: the CMSG macros return null or a header inside the control buffer, which is
        // aligned for it.
        let found = unsafe { *header };
        let whole = size_of::<libc::cmsghdr>() + size_of::<libc::tpacket_auxdata>();
        if found.cmsg_level == libc::SOL_PACKET
            && found.cmsg_type == libc::PACKET_AUXDATA
            && found.cmsg_len as usize >= whole
        {
            // SAFETY: cmsg_len, checked above, says that the whole structure follows the header;
            // read_unaligned asks nothing of its alignment.
            let aux = unsafe { libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned() };
            return tag_of(&aux);
        }
        // SAFETY: as for CMSG_FIRSTHDR above.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    None
}

fn tag_of(aux: &libc::tpacket_auxdata) -> Option<[u8; TAG]> {
    if aux.tp_status & libc::TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    // Kernels that do not say the TPID know only 802.1Q.
    let tpid = match aux.tp_status & libc::TP_STATUS_VLAN_TPID_VALID {
        0 => libc::ETH_P_8021Q as u16,
        _ => aux.tp_vlan_tpid,
    };
    let [a, b] = tpid.to_be_bytes();
    let [c, d] = aux.tp_vlan_tci.to_be_bytes();
    Some([a, b, c, d])
}

/// Puts a tag back between the addresses and the rest.
fn insert_tag(buffer: &mut [u8], mut received: Received, tag: [u8; TAG]) -> Received {
    if received.len < ADDRESSES || buffer.len() < ADDRESSES + TAG {
        return Received { truncated: true, ..received };
    }
    let kept = received.len.min(buffer.len() - TAG);
    buffer.copy_within(ADDRESSES..kept, ADDRESSES + TAG);
    buffer[ADDRESSES..ADDRESSES + TAG].copy_from_slice(&tag);
    received.truncated |= kept < received.len;
    received.len = kept + TAG;
    received
}

#[cfg(test)]
mod tests {
    use super::{Received, insert_tag};

    const TAG: [u8; 4] = [0x88, 0xa8, 0x00, 0x64];

    fn received(len: usize) -> Received {
        Received { len, outgoing: false, truncated: false }
    }

    #[test]
    fn a_tag_goes_after_the_addresses() {
        let mut buffer: Vec<u8> = (0..20).collect();
        let after = insert_tag(&mut buffer, received(16), TAG);
        assert_eq!(after, received(20));
        assert_eq!(buffer[..12], (0..12).collect::<Vec<u8>>());
        assert_eq!(buffer[12..16], TAG);
        assert_eq!(buffer[16..], [12, 13, 14, 15]);
    }

    #[test]
    fn a_buffer_without_room_for_the_tag_loses_the_end_and_says_so() {
        for room in 0..4 {
            let mut buffer: Vec<u8> = (0..16 + room).collect();
            let after = insert_tag(&mut buffer, received(16), TAG);
            assert_eq!(after.len, 16 + usize::from(room));
            assert!(after.truncated);
            assert_eq!(buffer[12..16], TAG);
        }
    }

    #[test]
    fn a_scrap_is_left_alone() {
        for len in 0..12 {
            let mut buffer = vec![7; len];
            let after = insert_tag(&mut buffer, received(len), TAG);
            assert!(after.truncated);
            assert_eq!((after.len, buffer), (len, vec![7; len]));
        }
    }
}
