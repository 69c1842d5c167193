//! One AF_XDP socket: its rings, its binding to a queue, its transmit kick.
//!
//! Opening takes two steps, because a fill ring must be filled before the bind and the frames belong to the
//! shard: [`open`] gives the rings and the handle, the shard fills, [`Socket::bind`] binds.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use memmap2::{MmapOptions, MmapRaw};
use thiserror::Error;

use super::abi::{XDP_MAX_TX_SKB_BUDGET, XDP_USE_SG};
use super::area::Area;
use super::ring::{CompletionRing, Consumer, FillRing, Offsets, Producer, RxRing, TxRing};
use super::shortage::shortage;
use super::{Doorbell, KernelStats, Kick, Rings};

/// How a socket asks to be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindMode {
    /// Copy.
    Copy,
    /// Zero-copy or an error.
    ZeroCopy,
}

/// Entries of each ring. Powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSizes {
    /// Of the fill ring.
    pub fill: u32,
    /// Of the rx ring; 0 for a socket that only sends.
    pub rx: u32,
    /// Of the tx ring.
    pub tx: u32,
    /// Of the completion ring.
    pub completion: u32,
}

/// Why a socket could not be opened or bound.
#[derive(Debug, Error)]
#[error("AF_XDP: cannot {step}{place}: {source}{}", hint(step, source))]
pub struct SocketError {
    /// What was tried.
    pub step: &'static str,
    /// On which port and queue; empty for none.
    pub place: String,
    /// The system's error.
    pub source: io::Error,
}

/// A socket that can be bound, kicked and asked for its counts. The descriptor closes with the last clone.
#[derive(Clone, Debug)]
pub struct Socket {
    fd: Arc<OwnedFd>,
    /// The error's number of the last kick that failed, 0 for none: what the shard was told, for the control thread.
    failure: Arc<AtomicI32>,
    ifindex: u32,
    queue: u32,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Opens a socket for queue `queue` of `ifindex` and maps its rings. With `donor`, a bound socket of the same
/// UMEM, it shares that socket's UMEM; without, it registers `area`.
///
/// # Errors
/// [`SocketError`], naming the step.
pub fn open(
    area: &Area,
    donor: Option<&Socket>,
    ifindex: u32,
    queue: u32,
    sizes: RingSizes,
) -> Result<(Socket, Rings), SocketError> {
    let failed = |step| move |source| SocketError { step, place: place(ifindex, queue), source };
    let socket =
        Socket { fd: Arc::new(create().map_err(failed("open a socket"))?), failure: Arc::default(), ifindex, queue };
    if donor.is_none() {
        let registration = libc::xdp_umem_reg {
            addr: area.address(),
            len: area.len(),
            chunk_size: area.frame_size(),
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        };
        socket.set(libc::XDP_UMEM_REG, &registration).map_err(failed(REGISTER))?;
    }
    for (option, size) in [
        (libc::XDP_UMEM_FILL_RING, sizes.fill),
        (libc::XDP_UMEM_COMPLETION_RING, sizes.completion),
        (libc::XDP_RX_RING, sizes.rx),
        (libc::XDP_TX_RING, sizes.tx),
    ] {
        if size > 0 {
            socket.set(option, &size).map_err(failed("set the size of a ring"))?;
        }
    }
    // Neither exists everywhere, and transmission works without, only in smaller steps.
    let _ = socket.set(XDP_MAX_TX_SKB_BUDGET, &sizes.tx);
    socket.raise_send_buffer();
    let rings = socket.map_rings(sizes).map_err(failed("map the rings"))?;
    Ok((socket, rings))
}

fn create() -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed; the result is checked.
    let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just returned and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether this process may open AF_XDP sockets at all.
///
/// # Errors
/// [`SocketError`] with what is missing.
pub fn probe() -> Result<(), SocketError> {
    match create() {
        Ok(_) => Ok(()),
        Err(source) => Err(SocketError { step: "open a socket", place: String::new(), source }),
    }
}

/// Whether packets to be sent may lie in several frames (Linux 6.6). A kernel that does not know the flag says so before it
/// looks for the device.
#[must_use]
pub fn has_multi_buffer() -> bool {
    let bound = create().and_then(|fd| bind(&fd, i32::MAX as u32, 0, libc::XDP_COPY | XDP_USE_SG, 0));
    bound.is_err_and(|error| error.raw_os_error() == Some(libc::ENODEV))
}

fn bind(fd: &OwnedFd, ifindex: u32, queue: u32, flags: u16, shared: u32) -> io::Result<()> {
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: flags,
        sxdp_ifindex: ifindex,
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: shared,
    };
    let len = size_of::<libc::sockaddr_xdp>() as libc::socklen_t;
    // SAFETY: `address` is a sockaddr_xdp of the length given and outlives the call.
    let bound = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) };
    if bound == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

const REGISTER: &str = "register the UMEM";
const BIND: &str = "bind a socket";
const BIND_ZERO_COPY: &str = "bind a zero-copy socket";

fn place(ifindex: u32, queue: u32) -> String {
    format!(" on ifindex {ifindex} queue {queue}")
}

fn hint(step: &str, error: &io::Error) -> &'static str {
    match (step, error.raw_os_error()) {
        (_, Some(libc::EPERM | libc::EACCES)) => "; needs CAP_NET_RAW, CAP_NET_ADMIN and CAP_IPC_LOCK (or root)",
        (_, Some(libc::EAFNOSUPPORT)) => "; this kernel has no AF_XDP (CONFIG_XDP_SOCKETS)",
        (BIND | BIND_ZERO_COPY, Some(libc::EBUSY)) => "; another socket holds this queue",
        (REGISTER, Some(libc::ENOBUFS | libc::ENOMEM)) => {
            "; memory is short, or the limit on locked memory too low for the UMEM"
        }
        (BIND_ZERO_COPY, Some(libc::EOPNOTSUPP | libc::EINVAL)) => {
            "; the driver may not have zero-copy: use --bind copy"
        }
        _ => shortage(error),
    }
}

impl Socket {
    /// Binds to the queue; packets may lie in several frames where that is wanted, or the donor's may. `EBUSY` is retried for `patience`: after the death of another process its sockets
    /// may hold the queue for seconds.
    ///
    /// # Errors
    /// [`SocketError`].
    pub fn bind(
        &self,
        donor: Option<&Socket>,
        mode: BindMode,
        multi_buffer: bool,
        patience: Duration,
    ) -> Result<(), SocketError> {
        let more = if multi_buffer { XDP_USE_SG } else { 0 };
        let flags = match (donor, mode) {
            // A sharing socket inherits the mode; any further flag is EINVAL.
            (Some(_), _) => libc::XDP_SHARED_UMEM,
            (None, BindMode::Copy) => libc::XDP_USE_NEED_WAKEUP | libc::XDP_COPY | more,
            (None, BindMode::ZeroCopy) => libc::XDP_USE_NEED_WAKEUP | libc::XDP_ZEROCOPY | more,
        };
        let shared = donor.map_or(0, |donor| donor.fd.as_raw_fd() as u32);
        let start = Instant::now();
        loop {
            let Err(source) = bind(&self.fd, self.ifindex, self.queue, flags, shared) else { return Ok(()) };
            if source.raw_os_error() != Some(libc::EBUSY) || start.elapsed() >= patience {
                let step = if mode == BindMode::ZeroCopy { BIND_ZERO_COPY } else { BIND };
                return Err(SocketError { step, place: place(self.ifindex, self.queue), source });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What the kernel has to say of the socket, once: an error means that its device is gone.
    pub fn take_error(&self) -> Option<io::Error> {
        let mut errno: libc::c_int = 0;
        match self.get_level(libc::SOL_SOCKET, libc::SO_ERROR, &mut errno) {
            Ok(()) if errno == 0 => None,
            Ok(()) => Some(io::Error::from_raw_os_error(errno)),
            Err(error) => Some(error),
        }
    }

    /// Why a kick failed, the last time that one did ([`Kick::Failed`]).
    pub fn last_failure(&self) -> Option<io::Error> {
        let errno = self.failure.load(Relaxed);
        (errno != 0).then(|| io::Error::from_raw_os_error(errno))
    }

    /// Whether the bound socket is zero-copy.
    pub fn is_zero_copy(&self) -> bool {
        let mut flags = 0u32;
        self.get_into(libc::XDP_OPTIONS, &mut flags).is_ok() && flags & libc::XDP_OPTIONS_ZEROCOPY != 0
    }

    fn set<T>(&self, option: libc::c_int, value: &T) -> io::Result<()> {
        self.set_level(libc::SOL_XDP, option, value)
    }

    fn set_level<T>(&self, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
        // SAFETY: `value` is a live reference of the length given; the kernel only reads it.
        let done = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                option,
                std::ptr::from_ref(value).cast(),
                size_of::<T>() as libc::socklen_t,
            )
        };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    fn get_into<T: Copy>(&self, option: libc::c_int, value: &mut T) -> io::Result<()> {
        self.get_level(libc::SOL_XDP, option, value)
    }

    fn get_level<T: Copy>(&self, level: libc::c_int, option: libc::c_int, value: &mut T) -> io::Result<()> {
        let mut len = size_of::<T>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes into a plain structure of integers.
        let done =
            unsafe { libc::getsockopt(self.fd.as_raw_fd(), level, option, std::ptr::from_mut(value).cast(), &mut len) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// The default send buffer ends at some 93 full frames in flight.
    fn raise_send_buffer(&self) {
        let bytes: libc::c_int = 64 << 20;
        // The forced form needs CAP_NET_ADMIN; the other is capped by the system's limit.
        if self.set_level(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &bytes).is_err() {
            let _ = self.set_level(libc::SOL_SOCKET, libc::SO_SNDBUF, &bytes);
        }
    }

    fn map_rings(&self, sizes: RingSizes) -> io::Result<Rings> {
        let none = libc::xdp_ring_offset { producer: 0, consumer: 0, desc: 0, flags: 0 };
        let mut at = libc::xdp_mmap_offsets { rx: none, tx: none, fr: none, cr: none };
        self.get_into(libc::XDP_MMAP_OFFSETS, &mut at)?;
        let map = |ring: &libc::xdp_ring_offset, page: u64, size: u32, entry: usize| {
            let at = Offsets {
                producer: ring.producer as usize,
                consumer: ring.consumer as usize,
                flags: ring.flags as usize,
                entries: ring.desc as usize,
            };
            let len = at.entries + size as usize * entry;
            let memory: MmapRaw = MmapOptions::new().offset(page).len(len).populate().map_raw(&*self.fd)?;
            io::Result::Ok((Arc::new(memory), at))
        };
        let word = size_of::<u64>();
        let desc = size_of::<libc::xdp_desc>();
        let (memory, offsets) = map(&at.fr, libc::XDP_UMEM_PGOFF_FILL_RING, sizes.fill, word)?;
        let fill: FillRing = Producer::new(memory, offsets, sizes.fill)?;
        let (memory, offsets) = map(&at.cr, libc::XDP_UMEM_PGOFF_COMPLETION_RING, sizes.completion, word)?;
        let completion: CompletionRing = Consumer::new(memory, offsets, sizes.completion)?;
        let (memory, offsets) = map(&at.tx, libc::XDP_PGOFF_TX_RING as u64, sizes.tx, desc)?;
        let tx: TxRing = Producer::new(memory, offsets, sizes.tx)?;
        let rx: Option<RxRing> = match sizes.rx {
            0 => None,
            size => {
                let (memory, offsets) = map(&at.rx, libc::XDP_PGOFF_RX_RING as u64, size, desc)?;
                Some(Consumer::new(memory, offsets, size)?)
            }
        };
        Ok(Rings { fill, rx, tx, completion })
    }
}

impl Doorbell for Socket {
    fn kick_tx(&mut self) -> Kick {
        // SAFETY: no buffer and no address are passed.
        let sent =
            unsafe { libc::sendto(self.fd.as_raw_fd(), std::ptr::null(), 0, libc::MSG_DONTWAIT, std::ptr::null(), 0) };
        if sent >= 0 {
            return Kick::Done;
        }
        match io::Error::last_os_error().raw_os_error() {
            Some(libc::EAGAIN | libc::ENOBUFS | libc::EINTR) => Kick::Again,
            Some(libc::EBUSY) => Kick::Lost,
            errno => {
                self.failure.store(errno.unwrap_or(0), Relaxed);
                Kick::Failed
            }
        }
    }

    fn wake_rx(&mut self) {
        // SAFETY: no buffer and no address are passed. An error means the queue is gone, which the control
        // thread finds out by itself.
        unsafe {
            libc::recvfrom(
                self.fd.as_raw_fd(),
                std::ptr::null_mut(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            )
        };
    }
}

impl Socket {
    /// What the kernel counts for this socket since it was opened.
    ///
    /// # Errors
    /// The socket is no longer usable.
    pub fn kernel_stats(&self) -> io::Result<KernelStats> {
        let mut s = libc::xdp_statistics {
            rx_dropped: 0,
            rx_invalid_descs: 0,
            tx_invalid_descs: 0,
            rx_ring_full: 0,
            rx_fill_ring_empty_descs: 0,
            tx_ring_empty_descs: 0,
        };
        self.get_into(libc::XDP_STATISTICS, &mut s)?;
        Ok([
            s.rx_dropped,
            s.rx_invalid_descs,
            s.tx_invalid_descs,
            s.rx_ring_full,
            s.rx_fill_ring_empty_descs,
            s.tx_ring_empty_descs,
        ])
    }
}
