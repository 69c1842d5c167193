//! Asking the kernel of a network device.
//!
//! Everything is asked by ifindex in the network namespace of the calling thread. The ioctls
//! themselves go by name, and a name can move to another device at any time, so each question
//! resolves the name anew and checks afterwards that it still belongs to the ifindex.

#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::shortage::shortage;

/// Why a device could not be asked or changed.
#[derive(Debug, thiserror::Error)]
pub enum NetdevError {
    /// No device has this ifindex.
    #[error("there is no network device with ifindex {ifindex} in this network namespace")]
    NoIndex {
        /// Index asked for.
        ifindex: u32,
    },
    /// No device has this name.
    #[error("there is no network device named {name:?} in this network namespace")]
    NoName {
        /// Name asked for.
        name: String,
    },
    /// The device was renamed on each of several attempts.
    #[error("ifindex {ifindex} kept changing its name while it was being read: try again")]
    Renamed {
        /// Index asked for.
        ifindex: u32,
    },
    /// No socket to ask with.
    #[error("cannot open a socket to query network devices: {0}{hint}", hint = shortage(&.0))]
    Socket(#[source] io::Error),
    /// The kernel refused one question.
    #[error("cannot read {what} of {port}: {source}")]
    Read {
        /// What was asked for.
        what: &'static str,
        /// Device.
        port: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused to change the offloads.
    #[error("cannot change the offloads of port {port}: {source}{}", needed(source))]
    Write {
        /// Device.
        port: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The driver keeps the offload on, so the dataplane would not see VLAN tags.
    #[error(
        "VLAN offload {feature} of port {port} cannot be turned off, and frames would lose their \
         VLAN tags: --path auto and tc carry them"
    )]
    OffloadStuck {
        /// The feature, as `ethtool -K` names it.
        feature: &'static str,
        /// Device.
        port: String,
    },
}

fn needed(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "; needs CAP_NET_ADMIN",
        _ => "",
    }
}

/// Attempts at a reading during which the name keeps its ifindex.
const RENAME_ATTEMPTS: usize = 8;

/// A device name as ioctls take it: at most 15 bytes, then zeros.
#[derive(Clone, Copy)]
pub(super) struct IfName([u8; libc::IFNAMSIZ]);

impl IfName {
    pub(super) fn new(name: &str) -> Option<IfName> {
        let bytes = name.as_bytes();
        if bytes.is_empty() || bytes.len() >= libc::IFNAMSIZ || bytes.contains(&0) {
            return None;
        }
        let mut padded = [0; libc::IFNAMSIZ];
        padded[..bytes.len()].copy_from_slice(bytes);
        Some(IfName(padded))
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text(&self.0))
    }
}

/// The string before the first zero byte.
pub(super) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// One question the kernel refused.
pub(super) struct Refusal {
    pub(super) what: &'static str,
    pub(super) source: io::Error,
}

impl Refusal {
    pub(super) fn on(self, port: String) -> NetdevError {
        NetdevError::Read { what: self.what, port, source: self.source }
    }
}

pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENXIO))
}

pub(super) fn is_unsupported(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EOPNOTSUPP)
}

/// The socket that device questions go through.
#[derive(Debug)]
pub(super) struct Control {
    socket: OwnedFd,
}

impl Control {
    pub(super) fn open() -> Result<Control, NetdevError> {
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(NetdevError::Socket(io::Error::last_os_error()));
        }
        // SAFETY: the kernel just returned this descriptor to us alone.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Control { socket })
    }

    /// Asks `question` by the name `ifindex` has, until the name is the same device's afterwards.
    pub(super) fn stable<T>(
        &self,
        ifindex: u32,
        question: impl Fn(&IfName) -> Result<T, Refusal>,
    ) -> Result<T, NetdevError> {
        for _ in 0..RENAME_ATTEMPTS {
            let name = self.name(ifindex)?;
            let answer = question(&name);
            match self.ifindex(&name) {
                Ok(now) if now == ifindex => {
                    return answer.map_err(|refusal| {
                        if is_gone(&refusal.source) {
                            NetdevError::NoIndex { ifindex }
                        } else {
                            refusal.on(format!("{name} (ifindex {ifindex})"))
                        }
                    });
                }
                // Renamed, replaced or gone in between: the next name() tells which.
                Ok(_) => {}
                Err(refusal) if is_gone(&refusal.source) => {}
                Err(refusal) => return Err(refusal.on(name.to_string())),
            }
        }
        Err(NetdevError::Renamed { ifindex })
    }

    pub(super) fn name(&self, ifindex: u32) -> Result<IfName, NetdevError> {
        let missing = NetdevError::NoIndex { ifindex };
        let Ok(index) = libc::c_int::try_from(ifindex) else {
            return Err(missing);
        };
        let mut request = empty_request();
        request.ifr_ifru.ifru_ifindex = index;
        match self.ioctl(libc::SIOCGIFNAME, &mut request) {
            Ok(()) => Ok(IfName(request.ifr_name.map(libc::c_char::cast_unsigned_byte))),
            Err(source) if is_gone(&source) => Err(missing),
            Err(source) => Err(NetdevError::Read { what: "the name", port: format!("ifindex {ifindex}"), source }),
        }
    }

    pub(super) fn ifindex(&self, name: &IfName) -> Result<u32, Refusal> {
        let request = self.ask(name, libc::SIOCGIFINDEX, "the ifindex")?;
        // SAFETY: SIOCGIFINDEX filled this member; any bytes are a valid int.
        let ifindex = unsafe { request.ifr_ifru.ifru_ifindex };
        Ok(ifindex.cast_unsigned())
    }

    pub(super) fn ask(
        &self,
        name: &IfName,
        command: libc::c_ulong,
        what: &'static str,
    ) -> Result<libc::ifreq, Refusal> {
        let mut request = request_for(name);
        self.ioctl(command, &mut request).map_err(|source| Refusal { what, source })?;
        Ok(request)
    }

    /// An ethtool command whose structure is `words`: the callers size it for the command in its
    /// first word, since the kernel writes the whole structure back.
    pub(super) fn ethtool(&self, name: &IfName, words: &mut [u32]) -> io::Result<()> {
        let mut request = request_for(name);
        request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
        self.ioctl(libc::SIOCETHTOOL, &mut request)
    }

    fn ioctl(&self, command: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
        // SAFETY: all commands used here take one ifreq, which is borrowed for the call. The one
        // that holds a pointer, SIOCETHTOOL, is only issued by `ethtool`, whose buffer is
        // borrowed for as long and large enough for its command.
        let result = unsafe { libc::ioctl(self.socket.as_raw_fd(), command as _, request as *mut libc::ifreq) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// `c_char` is signed on some targets and unsigned on others.
pub(super) trait CastUnsignedByte {
    fn cast_unsigned_byte(self) -> u8;
}

impl CastUnsignedByte for libc::c_char {
    fn cast_unsigned_byte(self) -> u8 {
        self.to_ne_bytes()[0]
    }
}

fn empty_request() -> libc::ifreq {
    // SAFETY: ifreq is plain data; all zeros is a valid value of each member.
    unsafe { std::mem::zeroed() }
}

fn request_for(name: &IfName) -> libc::ifreq {
    let mut request = empty_request();
    for (to, from) in request.ifr_name.iter_mut().zip(name.0) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    request
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{IfName, text};

    #[test]
    fn names_that_no_device_can_have_are_refused() {
        assert!(IfName::new("").is_none());
        assert!(IfName::new("sixteen-letters!").is_none());
        assert!(IfName::new("nul\0").is_none());
        assert_eq!(IfName::new("fifteen-letters").unwrap().to_string(), "fifteen-letters");
    }

    #[test]
    fn text_ends_at_the_first_zero() {
        assert_eq!(text(b"veth\0rest"), "veth");
        assert_eq!(text(b"full"), "full");
    }
}
