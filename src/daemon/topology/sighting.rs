//! A device as it was when last seen, and what says that another look shows the same one.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::devices::Device;
use crate::xsk::netdev::Netdev;

/// An Ethernet address, in text as `02:bf:72:01:00:00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Mac([u8; 6]);

impl Mac {
    /// An address that tells devices apart: all zeros do not.
    pub(super) fn new(bytes: [u8; 6]) -> Option<Mac> {
        (bytes != [0; 6]).then_some(Mac(bytes))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

impl TryFrom<String> for Mac {
    type Error = String;

    fn try_from(text: String) -> Result<Mac, String> {
        let bad = || format!("{text:?} is no Ethernet address");
        let octets: Option<Vec<u8>> = text.split(':').map(|octet| u8::from_str_radix(octet, 16).ok()).collect();
        let octets: [u8; 6] = octets.and_then(|octets| octets.try_into().ok()).ok_or_else(bad)?;
        Mac::new(octets).ok_or_else(bad)
    }
}

/// A device as it was when last seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sighting {
    pub(super) ifindex: u32,
    /// Empty where it has none that is UTF-8.
    pub(super) name: String,
    /// `None` where it has none, or none to go by any more.
    pub(super) mac: Option<Mac>,
    /// Empty where the driver does not say.
    pub(super) driver: String,
}

impl Sighting {
    pub(super) fn of(device: &Netdev) -> Sighting {
        Sighting {
            ifindex: device.ifindex(),
            // As in a list of devices: one that is not UTF-8 is none.
            name: Some(device.name()).filter(|name| !name.contains('\u{fffd}')).unwrap_or_default().to_owned(),
            mac: Mac::new(device.mac()),
            driver: device.driver().to_owned(),
        }
    }

    /// Whether nothing about it has changed but what only the driver could tell.
    pub(super) fn is_quite(&self, now: &Device) -> bool {
        let mac = now.mac.and_then(Mac::new);
        (self.ifindex, self.name.as_str(), self.mac) == (now.ifindex, now.name.as_str(), mac) && mac.is_some()
    }

    /// Whether `now`, seen later, may be the same device, as far as can be told without asking its driver.
    pub(super) fn seems(&self, now: &Device) -> bool {
        let name = !self.name.is_empty() && self.name == now.name;
        self.ifindex == now.ifindex && (name || self.mac.is_some() && self.mac == now.mac.and_then(Mac::new))
    }

    /// Whether `now`, seen later, is the same device, or one made again in its place. The ifindex and the driver stay;
    /// a device may be given another name or another address, one after the other.
    pub(super) fn is(&self, now: &Sighting) -> bool {
        let name = !self.name.is_empty() && self.name == now.name;
        let known = name || self.mac.is_some() && self.mac == now.mac;
        self.ifindex == now.ifindex && known && self.driver == now.driver
    }

    /// Whether `now` is the same device, back from another network namespace: neither its ifindex nor its name has to
    /// be what it was.
    pub(super) fn is_back_as(&self, now: &Sighting) -> bool {
        self.mac.is_some() && (self.mac, &self.driver) == (now.mac, &now.driver)
    }
}

impl fmt::Display for Sighting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (ifindex {}", self.name, self.ifindex)?;
        self.mac.iter().try_for_each(|mac| write!(f, ", {mac}"))?;
        f.write_str(")")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_as_it_is_written() {
        let mac = Mac::new([2, 0xbf, 0x72, 1, 0, 0xa]).unwrap();
        assert_eq!(mac.to_string(), "02:bf:72:01:00:0a");
        assert_eq!(Mac::try_from(mac.to_string()), Ok(mac));
        for bad in ["", "02:bf:72:01:00", "02:bf:72:01:00:0a:01", "02:bf:72:01:00:zz", "00:00:00:00:00:00"] {
            assert!(Mac::try_from(bad.to_owned()).unwrap_err().contains("Ethernet"), "{bad}");
        }
    }
}
