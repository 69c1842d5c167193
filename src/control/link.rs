//! The network devices there are, whatever a snapshot makes of them.

use std::net::IpAddr;

use super::model::Interface;

/// A network device as the live system has it, or as a list that stands for it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// The device, under its names.
    pub interface: Interface,
    /// Its alternative names.
    pub altnames: Vec<String>,
    /// Administratively up and with carrier; `None` if that is not known.
    pub up: Option<bool>,
    /// Megabits (10^6 bits) a second; `None` if that is not known.
    pub speed: Option<u32>,
    /// A VLAN offload that cannot be turned off, as `ethtool -K` calls it.
    pub stuck_offload: Option<String>,
    /// What it is where that is no Ethernet device; `None` where it is one, or that is not known.
    pub foreign: Option<String>,
    /// An address of its own, but for those every IPv6 device has (fe80::/10).
    pub address: Option<IpAddr>,
    /// Whether its own IPv6 is on; `None` if that is not known.
    pub ipv6: Option<bool>,
    /// What takes its frames, as `bridge br0`: what it is a port of, and the devices that stand on it.
    pub uppers: Vec<String>,
}

/// The network devices there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// The devices.
    pub all: Vec<Link>,
    /// Where they are, to end a sentence with: `in this network namespace`.
    pub place: String,
}

impl Links {
    /// The devices as a snapshot lists them.
    #[must_use]
    pub fn interfaces(&self) -> Vec<Interface> {
        self.all.iter().map(|link| link.interface.clone()).collect()
    }
}
