//! The devices in `stats.shm`: how the dataplane tells of them, and how the control plane reads that.
//!
//! A dataplane with capabilities is not to be looked into by its own user, so its network namespace cannot be entered;
//! it tells what is in it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use shm_layout::error::LayoutError;
use shm_layout::image::{ImageBuilder, Need};
use shm_layout::record::{
    LINK_CARRIER, LINK_ENABLED, LINK_HAS_IPV6, LINK_IPV4, LINK_IPV6, LINK_MAC, LINK_UP, LINK_XDP, LinkListRecord,
    LinkRecord, StrRef,
};
use shm_layout::view::{ImageView, Strings};

use super::Device;

/// Devices told of: some 100 bytes each, in every publish.
const MOST: usize = 4096;
/// Before each alternative name: no name has it.
const BEFORE: char = '\0';

/// Devices, ready to be put into an image.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// With places in `text`.
    rows: Vec<LinkRecord>,
    text: String,
    total: u32,
}

impl Listing {
    /// Of these devices, the first 4096.
    #[must_use]
    pub fn of(devices: &[Device]) -> Listing {
        let mut text = String::new();
        let rows = devices.iter().take(MOST).map(|device| row(device, &mut text)).collect();
        Listing { rows, text, total: u32::try_from(devices.len()).unwrap_or(u32::MAX) }
    }

    /// Adds it to an image, as what was there at `as_of`, nanoseconds of `CLOCK_MONOTONIC`.
    pub fn put(&self, as_of: u64, image: &mut ImageBuilder) {
        let Some(base) = image.text(&self.text) else { return };
        let shift = |at: StrRef| if at.len == 0 { at } else { StrRef { offset: at.offset + base, ..at } };
        let row = |row: &LinkRecord| LinkRecord {
            name: shift(row.name),
            altnames: shift(row.altnames),
            kind: shift(row.kind),
            stuck_offload: shift(row.stuck_offload),
            ..*row
        };
        let rows: Vec<_> = self.rows.iter().map(row).collect();
        image
            .section(Need::Optional, &[LinkListRecord { as_of, total: self.total, pad: 0 }])
            .section(Need::Optional, &rows);
    }
}

fn row(device: &Device, text: &mut String) -> LinkRecord {
    let mut place = |part: &str| {
        let offset = text.len() as u32;
        text.push_str(part);
        if part.is_empty() { StrRef::default() } else { StrRef { offset, len: part.len() as u32 } }
    };
    let flag = |is: bool, flag: u32| if is { flag } else { 0 };
    let mut address = [0; 16];
    let family = match device.address {
        None => 0,
        Some(IpAddr::V4(v4)) => {
            address[..4].copy_from_slice(&v4.octets());
            LINK_IPV4
        }
        Some(IpAddr::V6(v6)) => {
            address = v6.octets();
            LINK_IPV6
        }
    };
    LinkRecord {
        ifindex: device.ifindex,
        mtu: device.mtu,
        below: device.below,
        master: device.master,
        speed: device.speed.unwrap_or(0),
        vlan_id: device.vlan_id,
        hardware: device.hardware,
        flags: flag(device.up, LINK_UP)
            | flag(device.ipv6, LINK_HAS_IPV6)
            | flag(device.mac.is_some(), LINK_MAC)
            | flag(device.xdp, LINK_XDP)
            | flag(device.enabled, LINK_ENABLED)
            | flag(device.carrier, LINK_CARRIER)
            | family,
        mac: device.mac.unwrap_or_default(),
        pad: [0; 2],
        address,
        name: place(&device.name),
        altnames: place(&device.altnames.iter().map(|name| format!("{BEFORE}{name}")).collect::<String>()),
        kind: place(&device.kind),
        stuck_offload: place(device.stuck_offload.as_deref().unwrap_or_default()),
        reserved: 0,
    }
}

/// Devices that an image tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The devices, or the first of them.
    pub devices: Vec<Device>,
    /// When these were the devices, nanoseconds of `CLOCK_MONOTONIC`.
    pub as_of: u64,
    /// Devices there were.
    pub total: u32,
}

impl Listed {
    /// What an image tells; `None` where it tells nothing of devices.
    ///
    /// # Errors
    /// A section is of another shape.
    pub fn read(image: &ImageView<'_>, text: Strings<'_>) -> Result<Option<Listed>, LayoutError> {
        let Some(list) = image.records::<LinkListRecord>()?.iter().next() else { return Ok(None) };
        let devices = image.records::<LinkRecord>()?.iter().map(|row| device(&row, text)).collect();
        Ok(Some(Listed { devices, as_of: list.as_of, total: list.total }))
    }

    /// Whether every device is among them.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.devices.len() >= self.total as usize
    }
}

fn device(row: &LinkRecord, text: Strings<'_>) -> Device {
    let own = |at| text.text(at).to_owned();
    let has = |flag| row.flags & flag != 0;
    let [a, b, c, d, ..] = row.address;
    Device {
        ifindex: row.ifindex,
        name: own(row.name),
        altnames: text.text(row.altnames).split(BEFORE).skip(1).map(str::to_owned).collect(),
        hardware: row.hardware,
        kind: own(row.kind),
        mtu: row.mtu,
        mac: has(LINK_MAC).then_some(row.mac),
        up: has(LINK_UP),
        enabled: has(LINK_ENABLED),
        carrier: has(LINK_CARRIER),
        xdp: has(LINK_XDP),
        below: row.below,
        master: row.master,
        vlan_id: row.vlan_id,
        ipv6: has(LINK_HAS_IPV6),
        address: match (has(LINK_IPV4), has(LINK_IPV6)) {
            (true, _) => Some(Ipv4Addr::new(a, b, c, d).into()),
            (_, true) => Some(Ipv6Addr::from(row.address).into()),
            _ => None,
        },
        speed: Some(row.speed).filter(|&speed| speed > 0),
        stuck_offload: Some(own(row.stuck_offload)).filter(|offload| !offload.is_empty()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn told(devices: &[Device]) -> Option<Listed> {
        let mut image = ImageBuilder::new();
        image.string("something before it");
        Listing::of(devices).put(7, &mut image);
        let image = image.finish();
        let view = ImageView::parse(image.words()).unwrap();
        Listed::read(&view, view.strings().unwrap()).unwrap()
    }

    #[test]
    fn what_is_told_is_what_is_read() {
        let bare = Device { ifindex: 1, ..Device::default() };
        let full = Device {
            ifindex: u32::MAX,
            name: "ge-0-0-0".to_owned(),
            altnames: vec!["uplink".to_owned(), String::new(), "ä".to_owned()],
            hardware: 65534,
            kind: "vlan".to_owned(),
            mtu: 9000,
            mac: Some([2, 0, 0, 0, 0, 1]),
            up: true,
            enabled: true,
            carrier: true,
            xdp: true,
            below: 3,
            master: 4,
            vlan_id: 42,
            ipv6: true,
            address: Some("10.77.9.1".parse().unwrap()),
            speed: Some(100_000),
            stuck_offload: Some("rxvlan".to_owned()),
        };
        let v6 = Device { address: Some("fd00::1".parse().unwrap()), mac: Some([0; 6]), ..bare.clone() };
        let devices = vec![bare, full, v6];
        let listed = told(&devices).unwrap();
        assert!(listed.is_whole());
        assert_eq!(listed, Listed { devices, as_of: 7, total: 3 });
        assert!(told(&[]).unwrap().is_whole());
    }

    #[test]
    fn more_than_are_told_of_are_counted() {
        let listed = told(&vec![Device::default(); MOST + 1]).unwrap();
        assert_eq!((listed.devices.len(), listed.total, listed.is_whole()), (MOST, 4097, false));
    }

    #[test]
    fn an_image_of_an_older_release_tells_nothing() {
        let image = ImageBuilder::new().finish();
        let view = ImageView::parse(image.words()).unwrap();
        assert_eq!(Listed::read(&view, view.strings().unwrap()), Ok(None));
    }
}
