//! An XDP program on a device, in the mode asked for, for as long as a value lives.
//!
//! The mode is said to the kernel, because libbpf's `bpf_program__attach_xdp` leaves it to that, which on veth always means
//! native: the slower one there for sockets.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;

use super::link::{Link, Point};
use crate::xsk::netdev;
use crate::xsk::shortage::{is_shortage, shortage};

/// Where in the receive path the program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum XdpMode {
    /// In the driver, before an skb exists (`XDP_FLAGS_DRV_MODE`).
    Native,
    /// In the core stack, on skbs; works with any driver (`XDP_FLAGS_SKB_MODE`).
    Generic,
}

impl XdpMode {
    /// `native` or `generic`.
    pub fn as_str(self) -> &'static str {
        match self {
            XdpMode::Native => "native",
            XdpMode::Generic => "generic",
        }
    }

    /// The flag of linux/if_link.h.
    pub(super) fn flags(self) -> u32 {
        match self {
            XdpMode::Generic => 1 << 1,
            XdpMode::Native => 1 << 2,
        }
    }
}

impl fmt::Display for XdpMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a program could not be attached. `port` is the device's name and ifindex.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// EBUSY, or EEXIST for a program in the other mode or on an upper device.
    #[error(
        "{port} already has an XDP program attached (or a bond or team above it has): see \
         `ip link show`, and stop the program that owns it"
    )]
    Busy {
        /// Device.
        port: String,
    },
    /// EOPNOTSUPP: the driver has no XDP in this mode, or as some (vmxnet3) say it, none at this MTU.
    #[error("{}{}", no_xdp(port, *mode), other_mode(*mode, "; use --xdp-mode generic or auto"))]
    Unsupported {
        /// Device.
        port: String,
        /// Mode asked for.
        mode: XdpMode,
    },
    /// EPERM.
    #[error("attaching an XDP program to {port} is not permitted: needs CAP_NET_ADMIN and CAP_BPF")]
    NotPermitted {
        /// Device.
        port: String,
    },
    /// ENODEV.
    #[error("there is no network device with ifindex {ifindex} in this network namespace")]
    NoDevice {
        /// Index asked for.
        ifindex: u32,
    },
    /// EMFILE, ENFILE or ENOMEM: not the device refused.
    #[error("cannot attach an XDP program to {port}: {source}{}", shortage(source))]
    Short {
        /// Device.
        port: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The driver refused the attach for a reason of its own.
    #[error("{}{}", refused(port, *mode, source), other_mode(*mode, "; lower the MTU or use --xdp-mode generic"))]
    Refused {
        /// Device.
        port: String,
        /// Mode asked for.
        mode: XdpMode,
        /// What the kernel said.
        source: io::Error,
    },
}

impl LinkError {
    /// What it says without advice: for who has taken another mode already.
    pub fn why(&self) -> String {
        match self {
            LinkError::Unsupported { port, mode } => no_xdp(port, *mode),
            LinkError::Refused { port, mode, source } => refused(port, *mode, source),
            other => other.to_string(),
        }
    }
}

fn no_xdp(port: &str, mode: XdpMode) -> String {
    format!("the driver of {port} has no {mode} XDP{}", other_mode(mode, ", or none at its MTU"))
}

fn refused(port: &str, mode: XdpMode, source: &io::Error) -> String {
    let why = other_mode(
        mode,
        "; drivers refuse native XDP when the MTU (or, on veth, the peer's) needs more than one buffer, when LRO is on, \
         or when queues do not suffice",
    );
    format!("cannot attach a {mode} XDP program to {port}: {source}{why}")
}

/// What is to be said of native XDP alone: generic takes every device, and is the last resort.
fn other_mode(mode: XdpMode, words: &'static str) -> &'static str {
    if mode == XdpMode::Native { words } else { "" }
}

/// An XDP program held on a device. Dropping it detaches the program.
///
/// A device that is deleted takes the attachment with it; dropping the value is then harmless.
#[derive(Debug)]
pub struct XdpLink {
    link: Link,
    ifindex: u32,
    mode: XdpMode,
}

impl XdpLink {
    /// Attaches `prog` to the device `ifindex` of the calling thread's network namespace.
    ///
    /// # Errors
    /// [`LinkError`]; another attached program is never replaced.
    pub fn attach(prog: BorrowedFd<'_>, ifindex: u32, mode: XdpMode) -> Result<XdpLink, LinkError> {
        let link = Link::create(prog, ifindex, Point::Xdp(mode)).map_err(|source| explain(source, ifindex, mode))?;
        Ok(XdpLink { link, ifindex, mode })
    }

    /// The mode the program runs in.
    pub fn mode(&self) -> XdpMode {
        self.mode
    }

    /// The device it was attached to.
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }
}

impl Drop for XdpLink {
    /// Closing the link detaches too, but only when no other copy of it is open, and a child that
    /// is being started holds one from its fork to its exec.
    fn drop(&mut self) {
        // A failure leaves nothing to do: the close that follows detaches as well.
        let _ = self.link.detach();
    }
}

pub(super) fn explain(source: io::Error, ifindex: u32, mode: XdpMode) -> LinkError {
    if source.raw_os_error() == Some(libc::ENODEV) {
        return LinkError::NoDevice { ifindex };
    }
    let port = netdev::label(ifindex);
    match source.raw_os_error() {
        Some(libc::EBUSY | libc::EEXIST) => LinkError::Busy { port },
        Some(libc::EOPNOTSUPP) => LinkError::Unsupported { port, mode },
        Some(libc::EPERM | libc::EACCES) => LinkError::NotPermitted { port },
        _ if is_shortage(&source) => LinkError::Short { port, source },
        _ => LinkError::Refused { port, mode, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_never_what_is_done_already() {
        let refused = |mode| {
            let port = "p (ifindex 7)".to_owned();
            [
                LinkError::Unsupported { port: port.clone(), mode },
                LinkError::Refused { port, mode, source: io::Error::from_raw_os_error(libc::EINVAL) },
            ]
        };
        for error in refused(XdpMode::Native) {
            assert!(error.to_string().contains("use --xdp-mode generic"), "{error}");
            assert!(!error.why().contains("--xdp-mode"), "{error}");
        }
        for error in refused(XdpMode::Generic) {
            assert!(error.to_string().contains("generic XDP") && !error.to_string().contains("use "), "{error}");
        }
    }
}
