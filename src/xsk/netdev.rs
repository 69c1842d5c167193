//! What the kernel says of a network device.
//!
//! Everything is asked by ifindex in the network namespace of the calling thread. The ioctls
//! themselves go by name, and a name can move to another device at any time, so each question
//! resolves the name anew and checks afterwards that it still belongs to the ifindex.

#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

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
    #[error("cannot change the VLAN offloads of port {port}: {source}{}", needed(source))]
    Write {
        /// Device.
        port: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The driver keeps the offload on, so the dataplane would not see VLAN tags.
    #[error(
        "VLAN offload {feature} of port {port} cannot be turned off, and frames would lose their \
         VLAN tags: use another port"
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

/// Hardware queues a device has in use; at least one each way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queues {
    /// Receive queues.
    pub rx: u32,
    /// Transmit queues.
    pub tx: u32,
}

/// The part of a device that changes under a running dataplane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkState {
    /// Administratively up and with carrier (IFF_UP and IFF_RUNNING).
    pub up: bool,
    /// Largest payload, in bytes, without the Ethernet header.
    pub mtu: u32,
}

/// A device as it was when asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Netdev {
    name: String,
    ifindex: u32,
    state: LinkState,
    driver: String,
    queues: Queues,
    hardware: u16,
    mac: [u8; 6],
}

impl Netdev {
    /// Reads the device with this ifindex.
    ///
    /// # Errors
    /// [`NetdevError::NoIndex`] when there is none.
    pub fn open(ifindex: u32) -> Result<Netdev, NetdevError> {
        let control = Control::open()?;
        control.stable(ifindex, |name| {
            let (hardware, mac) = control.address(name)?;
            Ok(Netdev {
                name: name.to_string(),
                ifindex,
                state: control.link_state(name)?,
                driver: control.driver(name)?,
                queues: control.queues(name)?,
                hardware,
                mac,
            })
        })
    }

    /// Reads the device with this name.
    ///
    /// # Errors
    /// [`NetdevError::NoName`] when there is none.
    pub fn lookup(name: &str) -> Result<Netdev, NetdevError> {
        let missing = || NetdevError::NoName { name: name.to_owned() };
        let wanted = IfName::new(name).ok_or_else(missing)?;
        let ifindex = match Control::open()?.ifindex(&wanted) {
            Ok(ifindex) => ifindex,
            Err(Refusal { source, .. }) if is_gone(&source) => return Err(missing()),
            Err(refusal) => return Err(refusal.on(name.to_owned())),
        };
        Netdev::open(ifindex)
    }

    /// Whether any device has this ifindex.
    ///
    /// # Errors
    /// [`NetdevError::Socket`] when the kernel could not be asked.
    pub fn exists(ifindex: u32) -> Result<bool, NetdevError> {
        match Control::open()?.name(ifindex) {
            Ok(_) => Ok(true),
            Err(NetdevError::NoIndex { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Name, as it was when asked.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Index in its network namespace.
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Largest payload, in bytes, without the Ethernet header.
    pub fn mtu(&self) -> u32 {
        self.state.mtu
    }

    /// Administratively up and with carrier.
    pub fn up(&self) -> bool {
        self.state.up
    }

    /// Why it cannot be a port: its frames are no Ethernet frames. `None` where they are.
    pub fn no_ethernet(&self) -> Option<String> {
        let Netdev { name, ifindex, hardware, .. } = self;
        (*hardware != libc::ARPHRD_ETHER).then(|| {
            let kind = match *hardware {
                libc::ARPHRD_LOOPBACK => "loopback",
                libc::ARPHRD_INFINIBAND => "InfiniBand",
                libc::ARPHRD_PPP => "PPP",
                libc::ARPHRD_CAN => "CAN",
                libc::ARPHRD_TUNNEL | libc::ARPHRD_TUNNEL6 | libc::ARPHRD_SIT => "an IP tunnel",
                libc::ARPHRD_IPGRE => "a GRE tunnel",
                libc::ARPHRD_IEEE80211 | libc::ARPHRD_IEEE80211_PRISM | libc::ARPHRD_IEEE80211_RADIOTAP => {
                    "raw wireless frames"
                }
                libc::ARPHRD_NONE => "packets without a link layer, as of tun or WireGuard",
                _ => "another kind",
            };
            format!("{name} (ifindex {ifindex}) is no Ethernet device: its hardware type is {hardware} ({kind})")
        })
    }

    /// Driver name, e.g. `veth`; empty when the driver does not say.
    pub fn driver(&self) -> &str {
        &self.driver
    }

    /// Queues in use.
    pub fn queues(&self) -> Queues {
        self.queues
    }

    /// Ethernet address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }
}

/// Whether the device is up, and its MTU; `None` when it is gone.
///
/// Six system calls and no allocation: meant to be called several times a second for each port.
///
/// # Errors
/// Only when the kernel could not be asked (no free file descriptor, say): that is not the same
/// as a device that is gone, and must not take a port down.
pub fn link_state(ifindex: u32) -> Result<Option<LinkState>, NetdevError> {
    let control = Control::open()?;
    match control.stable(ifindex, |name| control.link_state(name)) {
        Ok(state) => Ok(Some(state)),
        Err(NetdevError::NoIndex { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The speed of a device's link, in megabits (10^6 bits) a second; `None` where it has none or does not say.
///
/// # Errors
/// [`NetdevError::NoIndex`] when there is no such device.
pub fn speed(ifindex: u32) -> Result<Option<u32>, NetdevError> {
    let control = Control::open()?;
    control.stable(ifindex, |name| control.speed(name))
}

/// What tells the calling thread's network namespace from every other since boot.
///
/// # Errors
/// [`NetdevError::Socket`] when the kernel does not say: before Linux 5.14.
pub fn namespace() -> Result<u64, NetdevError> {
    // asm-generic/socket.h
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let control = Control::open()?;
    let (mut cookie, mut len) = (0u64, size_of::<u64>() as libc::socklen_t);
    // SAFETY: `cookie` and `len` outlive the call, and `len` says how many bytes may be written.
    let done = unsafe {
        let fd = control.socket.as_raw_fd();
        libc::getsockopt(fd, libc::SOL_SOCKET, SO_NETNS_COOKIE, (&raw mut cookie).cast(), &raw mut len)
    };
    if done == 0 { Ok(cookie) } else { Err(NetdevError::Socket(io::Error::last_os_error())) }
}

/// `eth1 (ifindex 3)`, or `ifindex 3` when it has no name any more: for messages.
pub fn label(ifindex: u32) -> String {
    match Control::open().and_then(|control| control.name(ifindex)) {
        Ok(name) => format!("{name} (ifindex {ifindex})"),
        Err(_) => format!("ifindex {ifindex}"),
    }
}

// linux/ethtool.h
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GLINKSETTINGS: u32 = 0x4c;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
/// Words of `struct ethtool_drvinfo`, and where its `driver` string starts and ends.
const DRVINFO_WORDS: usize = 49;
const DRVINFO_DRIVER: std::ops::Range<usize> = 1..9;
/// Words of the fixed part of `struct ethtool_link_settings`.
const LINK_SETTINGS_WORDS: usize = 12;
/// Words of `struct ethtool_channels`.
const CHANNELS_WORDS: usize = 9;

/// Attempts at a reading during which the name keeps its ifindex.
const RENAME_ATTEMPTS: usize = 8;

/// A device name as ioctls take it: at most 15 bytes, then zeros.
#[derive(Clone, Copy)]
pub(super) struct IfName([u8; libc::IFNAMSIZ]);

impl IfName {
    fn new(name: &str) -> Option<IfName> {
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
    fn on(self, port: String) -> NetdevError {
        NetdevError::Read { what: self.what, port, source: self.source }
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENXIO))
}

fn is_unsupported(error: &io::Error) -> bool {
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

    fn name(&self, ifindex: u32) -> Result<IfName, NetdevError> {
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

    fn ifindex(&self, name: &IfName) -> Result<u32, Refusal> {
        let request = self.ask(name, libc::SIOCGIFINDEX, "the ifindex")?;
        // SAFETY: SIOCGIFINDEX filled this member; any bytes are a valid int.
        let ifindex = unsafe { request.ifr_ifru.ifru_ifindex };
        Ok(ifindex.cast_unsigned())
    }

    fn link_state(&self, name: &IfName) -> Result<LinkState, Refusal> {
        let flags = self.ask(name, libc::SIOCGIFFLAGS, "the flags")?;
        // SAFETY: SIOCGIFFLAGS filled this member; any bytes are a valid short.
        let flags = libc::c_int::from(unsafe { flags.ifr_ifru.ifru_flags });
        let mtu = self.ask(name, libc::SIOCGIFMTU, "the MTU")?;
        // SAFETY: SIOCGIFMTU filled this member; any bytes are a valid int.
        let mtu = unsafe { mtu.ifr_ifru.ifru_mtu };
        let up = libc::IFF_UP | libc::IFF_RUNNING;
        Ok(LinkState { up: flags & up == up, mtu: mtu.cast_unsigned() })
    }

    /// The hardware type, and the first bytes of an address of that type.
    pub(super) fn address(&self, name: &IfName) -> Result<(u16, [u8; 6]), Refusal> {
        let request = self.ask(name, libc::SIOCGIFHWADDR, "the MAC address")?;
        // SAFETY: SIOCGIFHWADDR filled this member; any bytes are a valid sockaddr.
        let address = unsafe { request.ifr_ifru.ifru_hwaddr };
        let mut mac = [0; 6];
        for (to, from) in mac.iter_mut().zip(address.sa_data) {
            *to = from.cast_unsigned_byte();
        }
        Ok((address.sa_family, mac))
    }

    fn driver(&self, name: &IfName) -> Result<String, Refusal> {
        let mut info = [0; DRVINFO_WORDS];
        info[0] = ETHTOOL_GDRVINFO;
        match self.ethtool(name, &mut info) {
            Ok(()) => {
                let bytes: Vec<u8> = info[DRVINFO_DRIVER].iter().flat_map(|word| word.to_ne_bytes()).collect();
                Ok(text(&bytes))
            }
            Err(source) if is_unsupported(&source) => Ok(String::new()),
            Err(source) => Err(Refusal { what: "the driver", source }),
        }
    }

    fn queues(&self, name: &IfName) -> Result<Queues, Refusal> {
        let mut channels = [0; CHANNELS_WORDS];
        channels[0] = ETHTOOL_GCHANNELS;
        match self.ethtool(name, &mut channels) {
            Ok(()) => {
                let [_, _, _, _, _, rx, tx, _, combined] = channels;
                // A driver may count none (tun with nothing attached): queue 0 is still there.
                Ok(Queues { rx: combined.saturating_add(rx).max(1), tx: combined.saturating_add(tx).max(1) })
            }
            Err(source) if is_unsupported(&source) => Ok(Queues { rx: 1, tx: 1 }),
            Err(source) => Err(Refusal { what: "the queue counts", source }),
        }
    }

    fn speed(&self, name: &IfName) -> Result<Option<u32>, Refusal> {
        let mut settings = vec![0; LINK_SETTINGS_WORDS];
        settings[0] = ETHTOOL_GLINKSETTINGS;
        // The first call asks how many words each of the three masks behind the fixed part has: a negative number.
        for _ in 0..2 {
            match self.ethtool(name, &mut settings) {
                Err(source) if is_unsupported(&source) => return Ok(None),
                answer => answer.map_err(|source| Refusal { what: "the speed", source })?,
            }
            let [.., masks] = settings[3].to_ne_bytes();
            let masks = masks.cast_signed();
            if masks >= 0 {
                // SPEED_UNKNOWN is all ones.
                return Ok(Some(settings[1]).filter(|speed| !matches!(*speed, 0 | u32::MAX)));
            }
            let mut again = vec![0; LINK_SETTINGS_WORDS + 3 * usize::from(masks.unsigned_abs())];
            again[0] = ETHTOOL_GLINKSETTINGS;
            again[3] = u32::from_ne_bytes([0, 0, 0, masks.unsigned_abs()]);
            settings = again;
        }
        Ok(None)
    }

    fn ask(&self, name: &IfName, command: libc::c_ulong, what: &'static str) -> Result<libc::ifreq, Refusal> {
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

/// `c_char` is signed on some targets and unsigned on others.
trait CastUnsignedByte {
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
