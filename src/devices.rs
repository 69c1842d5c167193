//! The network devices there are, as plain facts.
//!
//! ```text
//! kernel ── netlink: one dump of the links, one of the addresses ──> message ──> Device
//!        └─ ethtool, for each: speed, VLAN offloads that stay on ───────────────────┘
//! ```
//!
//! In `stats.shm` they are a [`listing`]. All of it is asked in the network namespace of the calling thread. A name that is not UTF-8, on whatever device,
//! is no reason to know nothing of the others: that device goes by its ifindex.

pub(crate) mod attribute;
pub mod drops;
pub mod listing;
mod message;
pub(crate) mod netlink;
pub mod promiscuity;

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;

use crate::xsk::{netdev, offload};

/// The hardware type of Ethernet, `ARPHRD_ETHER` of linux/if_arp.h.
pub const ETHERNET: u16 = 1;

/// Kinds of devices whose `below` is the other end of a cable, and nothing that they stand on.
const PAIRED: [&str; 3] = ["veth", "netkit", "vxcan"];

/// One network device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Its index in the network namespace.
    pub ifindex: u32,
    /// The kernel's name; empty where that is not UTF-8, as no configuration can have it.
    pub name: String,
    /// Its alternative names, but for those that are not UTF-8.
    pub altnames: Vec<String>,
    /// Its hardware type, an `ARPHRD_*` of linux/if_arp.h; [`ETHERNET`] for a port.
    pub hardware: u16,
    /// What the kernel calls its kind, e.g. `veth`; empty for most hardware.
    pub kind: String,
    /// Largest payload, in bytes, without the Ethernet header; 0 if it has none.
    pub mtu: u32,
    /// The Ethernet address; `None` where the address is none or of another kind.
    pub mac: Option<[u8; 6]>,
    /// Administratively up and with carrier, and ready as far as the kernel knows (IFF_RUNNING).
    pub up: bool,
    /// Administratively up.
    pub enabled: bool,
    /// Whether it has a carrier; one that is not enabled has none.
    pub carrier: bool,
    /// ifindex of the device below it, or of the other end of its cable, in this namespace; 0 if there is none.
    pub below: u32,
    /// ifindex of the bridge, bond or the like whose port it is; 0 if there is none.
    pub master: u32,
    /// VLAN id on the device below, 0 if it is no VLAN device.
    pub vlan_id: u16,
    /// Whether an XDP program is attached to it.
    pub xdp: bool,
    /// Whether its own IPv6 is on.
    pub ipv6: bool,
    /// The first of its addresses, those aside that every IPv6 device gives itself (fe80::/10).
    pub address: Option<IpAddr>,
    /// Megabits (10^6 bits) a second; `None` where it has no speed or does not say.
    pub speed: Option<u32>,
    /// A VLAN offload that is on and cannot be turned off, as `ethtool -K` calls it.
    pub stuck_offload: Option<String>,
}

impl Device {
    /// ifindex of the device that it stands on, whose frames it gets; 0 if there is none.
    #[must_use]
    pub fn stands_on(&self) -> u32 {
        if PAIRED.contains(&self.kind.as_str()) { 0 } else { self.below }
    }
}

/// Every device of the calling thread's network namespace, without what takes further questions: `address`, `speed`,
/// `stuck_offload`.
///
/// # Errors
/// The kernel did not answer, or not as it should.
pub fn present() -> io::Result<Vec<Device>> {
    netlink::dump(netlink::LINKS)?.iter().map(|link| message::link(link)).collect()
}

/// Whether an XDP program is attached to a device, wherever.
///
/// # Errors
/// ENODEV where there is no such device; or the kernel's answer is none.
pub fn has_xdp(ifindex: u32) -> io::Result<bool> {
    message::link(&netlink::one(netlink::LINKS, ifindex)?).map(|device| device.xdp)
}

/// Whether an XDP program is attached to a device in its driver.
///
/// # Errors
/// ENODEV where there is no such device; or the kernel's answer is none.
pub fn has_native_xdp(ifindex: u32) -> io::Result<bool> {
    netlink::one(netlink::LINKS, ifindex).map(|link| message::has_native_xdp(&link))
}

/// The kernel's number of the XDP program that is attached to a device, wherever; 0 where there are several. `None` where
/// there is none.
///
/// # Errors
/// ENODEV where there is no such device; or the kernel's answer is none.
pub fn xdp_program(ifindex: u32) -> io::Result<Option<u32>> {
    netlink::one(netlink::LINKS, ifindex).map(|link| message::xdp_program(&link))
}

/// Takes a device up or down, administratively.
///
/// # Errors
/// The kernel refused: there is none of this ifindex, or CAP_NET_ADMIN is missing.
pub fn enable(ifindex: u32, up: bool) -> io::Result<()> {
    let flag = libc::IFF_UP.cast_unsigned();
    netlink::change(ifindex, if up { flag } else { 0 }, flag)
}

/// A device that is not in the network namespace any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    /// The ifindex it had.
    pub ifindex: u32,
    /// Whether it is in another namespace now.
    pub moved: bool,
}

/// The devices whose end a datagram from the kernel's routing socket tells of.
pub fn gone(datagram: &[u8]) -> impl Iterator<Item = Gone> {
    let deleted = netlink::messages(datagram).filter(|&(kind, _)| kind == netlink::DELETED);
    deleted.filter_map(|(_, payload)| message::gone(payload)).map(|(ifindex, moved)| Gone { ifindex, moved })
}

/// Every device of the calling thread's network namespace.
///
/// # Errors
/// The kernel did not answer, or not as it should.
pub fn all() -> io::Result<Vec<Device>> {
    let mut devices = present()?;
    let mut addresses: HashMap<u32, IpAddr> = HashMap::new();
    for address in netlink::dump(netlink::ADDRESSES)? {
        if let Some((ifindex, address)) = message::address(&address)? {
            addresses.entry(ifindex).or_insert(address);
        }
    }
    for device in &mut devices {
        device.address = addresses.get(&device.ifindex).copied();
        // Devices that do not tell are not worth an error.
        device.speed = netdev::speed(device.ifindex).ok().flatten();
        device.stuck_offload = offload::stuck_vlan_offload(device.ifindex).ok().flatten().map(str::to_owned);
    }
    Ok(devices)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_namespace_has_its_loopback() {
        let devices = all().unwrap();
        let lo = devices.iter().find(|device| device.name == "lo").unwrap();
        assert_eq!((lo.ifindex, lo.hardware, lo.mac, lo.stands_on()), (1, 772, Some([0; 6]), 0));
    }

    #[test]
    fn a_device_that_is_not_there_cannot_be_changed() {
        let refused = enable(i32::MAX.cast_unsigned(), true).unwrap_err();
        // Without the right to change any, none is looked for.
        assert!(matches!(refused.raw_os_error(), Some(libc::ENODEV | libc::EPERM)), "{refused}");
    }

    #[test]
    fn the_other_end_of_a_cable_is_nothing_to_stand_on() {
        let device = |kind: &str| Device { kind: kind.to_owned(), below: 7, ..Device::default() };
        assert_eq!(["veth", "macvlan", "vlan", ""].map(|kind| device(kind).stands_on()), [0, 7, 7, 7]);
    }
}
