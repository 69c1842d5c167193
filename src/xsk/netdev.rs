//! What the kernel says of a network device.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use super::ioctl::{CastUnsignedByte, Control, IfName, NetdevError, Refusal, is_gone, is_unsupported, text};

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
        let fd = control.as_fd().as_raw_fd();
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

impl Control {
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
}
