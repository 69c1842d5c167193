//! What the kernel says of a network device, and its VLAN offloads.
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
            Ok(Netdev {
                name: name.to_string(),
                ifindex,
                state: control.link_state(name)?,
                driver: control.driver(name)?,
                queues: control.queues(name)?,
                mac: control.mac(name)?,
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

/// A VLAN offload of a device that is on and cannot be turned off, as `ethtool -K` names it.
///
/// # Errors
/// [`NetdevError::NoIndex`] when there is no such device.
pub fn stuck_vlan_offload(ifindex: u32) -> Result<Option<&'static str>, NetdevError> {
    let control = Control::open()?;
    let of = control.stable(ifindex, |name| Ok((control.vlan_features(name)?, control.features(name)?)))?;
    let (features, now) = of;
    Ok(features.iter().find(|f| now.is_active(f.bit) && !now.is_changeable(f.bit)).map(|f| f.alias))
}

/// `eth1 (ifindex 3)`, or `ifindex 3` when it has no name any more: for messages.
pub fn label(ifindex: u32) -> String {
    match Control::open().and_then(|control| control.name(ifindex)) {
        Ok(name) => format!("{name} (ifindex {ifindex})"),
        Err(_) => format!("ifindex {ifindex}"),
    }
}

/// The features that keep a VLAN tag out of the frame's bytes: the kernel's name, and the one
/// `ethtool -K` takes.
const VLAN_FEATURES: [(&str, &str); 4] = [
    ("rx-vlan-hw-parse", "rxvlan"),
    ("tx-vlan-hw-insert", "txvlan"),
    ("rx-vlan-stag-hw-parse", "rx-vlan-stag-hw-parse"),
    ("tx-vlan-stag-hw-insert", "tx-vlan-stag-hw-insert"),
];

/// VLAN offloads of one port held off.
///
/// With the offload on, a tag travels beside the frame and not in it, where XDP cannot see it
/// and a mirrored copy would lack it. Both tag types count, 802.1Q and 802.1ad.
///
/// On veth the sender decides: a tag that the peer's stack adds (a VLAN interface, a VLAN-aware
/// bridge, tc) stays out of the bytes while the *peer's* `txvlan` is on, whatever this port's
/// offloads say, in native and generic XDP alike. That has to be turned off at the peer, which
/// may be in a namespace this process cannot reach.
///
/// [`restore`](VlanOffload::restore) puts back exactly what was changed and says if it could not;
/// dropping does the same and logs.
#[derive(Debug)]
pub struct VlanOffload {
    /// Bound to the namespace of the thread that opened it, so that any thread may restore.
    control: Control,
    ifindex: u32,
    /// What this value turned off and has not put back yet.
    changed: Vec<Feature>,
}

/// One bit of the kernel's feature words.
#[derive(Debug, Clone, Copy)]
struct Feature {
    /// Position in the feature words.
    bit: usize,
    /// Name `ethtool -K` takes.
    alias: &'static str,
}

impl VlanOffload {
    /// Turns off those VLAN offloads of the port that are on.
    ///
    /// # Errors
    /// [`NetdevError::OffloadStuck`] when one stays on; whatever had been turned off is back on.
    pub fn disable(ifindex: u32) -> Result<VlanOffload, NetdevError> {
        let control = Control::open()?;
        let features = control.stable(ifindex, |name| control.vlan_features(name))?;
        let before = control.stable(ifindex, |name| control.features(name))?;
        let changed: Vec<Feature> = features.iter().copied().filter(|feature| before.is_wanted(feature.bit)).collect();
        // From here on dropping `offload` undoes what was done, so every `?` below is clean.
        let offload = VlanOffload { control, ifindex, changed };
        offload.set(false)?;
        let after = offload.control.stable(ifindex, |name| offload.control.features(name))?;
        match features.iter().find(|feature| after.is_active(feature.bit)) {
            Some(stuck) => Err(NetdevError::OffloadStuck { feature: stuck.alias, port: label(ifindex) }),
            None => Ok(offload),
        }
    }

    /// What was turned off, by the names `ethtool -K` takes.
    pub fn changed(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.changed.iter().map(|feature| feature.alias)
    }

    /// Turns on again what [`disable`](VlanOffload::disable) turned off. A device that is gone
    /// needs nothing.
    ///
    /// # Errors
    /// [`NetdevError::Write`] when the kernel refuses.
    pub fn restore(mut self) -> Result<(), NetdevError> {
        self.put_back()
    }

    fn put_back(&mut self) -> Result<(), NetdevError> {
        let result = match self.set(true) {
            Err(NetdevError::NoIndex { .. }) => Ok(()),
            other => other,
        };
        self.changed.clear();
        result
    }

    fn set(&self, on: bool) -> Result<(), NetdevError> {
        if self.changed.is_empty() {
            return Ok(());
        }
        let done = self.control.stable(self.ifindex, |name| self.control.set_features(name, &self.changed, on));
        match done {
            Err(NetdevError::Read { port, source, .. }) => Err(NetdevError::Write { port, source }),
            other => other,
        }
    }
}

impl Drop for VlanOffload {
    fn drop(&mut self) {
        if let Err(error) = self.put_back() {
            tracing::warn!(%error, "VLAN offloads were not put back");
        }
    }
}

// linux/ethtool.h
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETHTOOL_SFEATURES: u32 = 0x3b;
const ETHTOOL_GLINKSETTINGS: u32 = 0x4c;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const ETH_SS_FEATURES: u32 = 4;
const ETH_GSTRING_LEN: usize = 32;
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
struct IfName([u8; libc::IFNAMSIZ]);

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
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// One question the kernel refused.
struct Refusal {
    what: &'static str,
    source: io::Error,
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

/// What GFEATURES says: blocks of `{available, requested, active, never_changed}`.
struct Features(Vec<u32>);

impl Features {
    fn word(&self, bit: usize, field: usize) -> u32 {
        let word = self.0.get(bit / 32 * 4 + field).copied().unwrap_or(0);
        word >> (bit % 32) & 1
    }

    /// On now.
    fn is_active(&self, bit: usize) -> bool {
        self.word(bit, 2) == 1
    }

    /// Ours to change.
    fn is_changeable(&self, bit: usize) -> bool {
        self.word(bit, 0) == 1
    }

    /// Asked to be on, and ours to change. What is only wanted matters too: it is off because
    /// another feature is, and would come on with it.
    fn is_wanted(&self, bit: usize) -> bool {
        self.is_changeable(bit) && self.word(bit, 1) == 1
    }
}

/// The socket that device questions go through.
#[derive(Debug)]
struct Control {
    socket: OwnedFd,
}

impl Control {
    fn open() -> Result<Control, NetdevError> {
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
    fn stable<T>(&self, ifindex: u32, question: impl Fn(&IfName) -> Result<T, Refusal>) -> Result<T, NetdevError> {
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

    fn mac(&self, name: &IfName) -> Result<[u8; 6], Refusal> {
        let request = self.ask(name, libc::SIOCGIFHWADDR, "the MAC address")?;
        // SAFETY: SIOCGIFHWADDR filled this member; any bytes are a valid sockaddr.
        let address = unsafe { request.ifr_ifru.ifru_hwaddr.sa_data };
        let mut mac = [0; 6];
        for (to, from) in mac.iter_mut().zip(address) {
            *to = from.cast_unsigned_byte();
        }
        Ok(mac)
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

    /// The number of features this kernel knows.
    fn feature_count(&self, name: &IfName) -> io::Result<usize> {
        // cmd, reserved, sset_mask (u64 in two words, in memory order), count
        let mask = (1u64 << ETH_SS_FEATURES).to_ne_bytes();
        let [a, b, c, d, e, f, g, h] = mask;
        let mut info = [ETHTOOL_GSSET_INFO, 0, u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]), 0];
        self.ethtool(name, &mut info)?;
        Ok(info[4] as usize)
    }

    /// Where this kernel keeps the VLAN features. Positions differ between kernel versions.
    fn vlan_features(&self, name: &IfName) -> Result<Vec<Feature>, Refusal> {
        let refuse = |source| Refusal { what: "the feature names", source };
        let count = self.feature_count(name).map_err(refuse)?;
        // cmd, string_set, len, then the strings. The kernel writes as many strings as it knows
        // features, which is fixed when it is built, so `count` cannot have grown since.
        let mut strings = vec![0; 3 + count * ETH_GSTRING_LEN / 4];
        strings[..3].copy_from_slice(&[ETHTOOL_GSTRINGS, ETH_SS_FEATURES, u32::try_from(count).unwrap_or(0)]);
        self.ethtool(name, &mut strings).map_err(refuse)?;
        let features = strings[3..]
            .chunks_exact(ETH_GSTRING_LEN / 4)
            .enumerate()
            .filter_map(|(bit, words)| {
                let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
                let found = text(&bytes);
                VLAN_FEATURES.iter().find(|(kernel, _)| *kernel == found).map(|&(_, alias)| Feature { bit, alias })
            })
            .collect();
        Ok(features)
    }

    fn features(&self, name: &IfName) -> Result<Features, Refusal> {
        let refuse = |source| Refusal { what: "the features", source };
        let words = self.feature_count(name).map_err(refuse)?.div_ceil(32);
        let mut blocks = vec![0; 2 + words * 4];
        blocks[0] = ETHTOOL_GFEATURES;
        blocks[1] = u32::try_from(words).unwrap_or(0);
        self.ethtool(name, &mut blocks).map_err(refuse)?;
        Ok(Features(blocks.split_off(2)))
    }

    fn set_features(&self, name: &IfName, which: &[Feature], on: bool) -> Result<(), Refusal> {
        let refuse = |source| Refusal { what: "the features", source };
        let words = self.feature_count(name).map_err(refuse)?.div_ceil(32);
        // cmd, size, then blocks of {valid, requested}
        let mut blocks = vec![0; 2 + words * 2];
        blocks[0] = ETHTOOL_SFEATURES;
        blocks[1] = u32::try_from(words).unwrap_or(0);
        for feature in which {
            let mask = 1 << (feature.bit % 32);
            let block = 2 + feature.bit / 32 * 2;
            blocks[block] |= mask;
            if on {
                blocks[block + 1] |= mask;
            }
        }
        // A positive result says that some bits were not taken; the caller reads them back.
        self.ethtool(name, &mut blocks).map_err(refuse)
    }

    fn ask(&self, name: &IfName, command: libc::c_ulong, what: &'static str) -> Result<libc::ifreq, Refusal> {
        let mut request = request_for(name);
        self.ioctl(command, &mut request).map_err(|source| Refusal { what, source })?;
        Ok(request)
    }

    /// An ethtool command whose structure is `words`: the callers size it for the command in its
    /// first word, since the kernel writes the whole structure back.
    fn ethtool(&self, name: &IfName, words: &mut [u32]) -> io::Result<()> {
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
    use super::{Features, IfName, text};

    #[test]
    fn feature_bits_are_found_in_their_words() {
        // Two blocks of {available, requested, active, never_changed}.
        let features = Features(vec![0b01, 0b11, 0b10, 0, 1 << 3, 1 << 3, 0, 0]);
        assert!(features.is_wanted(0) && !features.is_active(0));
        // Fixed on: not ours to change, and still on.
        assert!(!features.is_wanted(1) && features.is_active(1) && !features.is_changeable(1));
        assert!(features.is_wanted(32 + 3) && !features.is_active(32 + 3));
        assert!(!features.is_wanted(64) && !features.is_active(64));
    }

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
