//! The payload of one message of a dump to what it says.
//!
//! ```text
//! fixed part | attributes …
//! ```

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Device;
use super::attribute::{attribute, attributes, text, word};
use super::netlink::{ADDRESSES, LINKS, broken, number};

// linux/if_link.h
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_XDP: u16 = 43;
const IFLA_NEW_NETNSID: u16 = 45;
const IFLA_PROP_LIST: u16 = 52;
const IFLA_ALT_IFNAME: u16 = 53;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
const XDP_ATTACHED_NONE: u8 = 0;
const XDP_ATTACHED_DRV: u8 = 1;
/// In several modes.
const XDP_ATTACHED_MULTI: u8 = 4;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_VLAN_ID: u16 = 1;
const IFLA_INET6_CONF: u16 = 2;
/// `DEVCONF_DISABLE_IPV6` of linux/ipv6.h: its place among the words of IFLA_INET6_CONF.
const DISABLE_IPV6: usize = 26;

// linux/if_addr.h
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

/// What a message of RTM_NEWLINK says; what only ethtool or other messages tell is not filled in.
///
/// # Errors
/// It has not even its fixed part. An attribute that does not hold what it should says nothing.
pub(super) fn link(payload: &[u8]) -> io::Result<Device> {
    // struct ifinfomsg: family u8, pad u8, type u16, index i32, flags u32, change u32
    let (Some(hardware), Some(ifindex), Some(flags), Some(rest)) =
        (number(payload, 2), number(payload, 4), number(payload, 8), payload.get(LINKS.fixed()..))
    else {
        return Err(broken("a device cut short"));
    };
    let flags = u32::from_ne_bytes(flags);
    let has = |flag: libc::c_int| flags & flag.cast_unsigned() != 0;
    let mut device = Device {
        ifindex: u32::from_ne_bytes(ifindex),
        hardware: u16::from_ne_bytes(hardware),
        up: has(libc::IFF_UP) && has(libc::IFF_RUNNING),
        enabled: has(libc::IFF_UP),
        // Of one that is not enabled the kernel does not set it.
        carrier: has(libc::IFF_LOWER_UP),
        ..Device::default()
    };
    let mut elsewhere = false;
    for (kind, value) in attributes(rest) {
        match kind {
            IFLA_IFNAME => device.name = text(value).unwrap_or_default(),
            IFLA_PROP_LIST => {
                device.altnames =
                    attributes(value).filter(|a| a.0 == IFLA_ALT_IFNAME).filter_map(|a| text(a.1)).collect();
            }
            IFLA_ADDRESS => device.mac = value.try_into().ok(),
            IFLA_MTU => device.mtu = word(value),
            IFLA_LINK => device.below = word(value),
            IFLA_LINK_NETNSID => elsewhere = true,
            IFLA_XDP => {
                device.xdp = xdp_mode(value) != XDP_ATTACHED_NONE;
            }
            IFLA_MASTER => device.master = word(value),
            IFLA_LINKINFO => device.kind = attribute(value, IFLA_INFO_KIND).and_then(text).unwrap_or_default(),
            IFLA_AF_SPEC => device.ipv6 = ipv6(value),
            _ => {}
        }
    }
    if elsewhere {
        device.below = 0;
    }
    if device.kind == "vlan" {
        let data = attribute(rest, IFLA_LINKINFO).and_then(|info| attribute(info, IFLA_INFO_DATA));
        let id = data.and_then(|data| attribute(data, IFLA_VLAN_ID)).and_then(|id| number(id, 0));
        device.vlan_id = id.map(u16::from_ne_bytes).unwrap_or_default();
    }
    Ok(device)
}

/// Whether an XDP program is attached in the driver, by a message of RTM_NEWLINK.
pub(super) fn has_native_xdp(payload: &[u8]) -> bool {
    let xdp = payload.get(LINKS.fixed()..).and_then(|rest| attribute(rest, IFLA_XDP));
    xdp.is_some_and(|xdp| [XDP_ATTACHED_DRV, XDP_ATTACHED_MULTI].contains(&xdp_mode(xdp)))
}

/// The number of the XDP program that is attached, 0 where several are, by a message of RTM_NEWLINK.
pub(super) fn xdp_program(payload: &[u8]) -> Option<u32> {
    let xdp = payload.get(LINKS.fixed()..).and_then(|rest| attribute(rest, IFLA_XDP))?;
    (xdp_mode(xdp) != XDP_ATTACHED_NONE).then(|| attribute(xdp, IFLA_XDP_PROG_ID).map_or(0, word))
}

/// The flags in a message of RTM_NEWLINK, `IFF_*`.
pub(super) fn flags(payload: &[u8]) -> io::Result<u32> {
    number(payload, 8).map(u32::from_ne_bytes).ok_or_else(|| broken("a device cut short"))
}

fn xdp_mode(xdp: &[u8]) -> u8 {
    attribute(xdp, IFLA_XDP_ATTACHED).and_then(|mode| mode.first()).copied().unwrap_or(XDP_ATTACHED_NONE)
}

/// The ifindex in a message of RTM_DELLINK, and whether the device has gone to another network namespace; `None` where
/// it is still there and has only left a bridge.
pub(super) fn gone(payload: &[u8]) -> Option<(u32, bool)> {
    let ifindex = number(payload, 4).map(u32::from_ne_bytes)?;
    let rest = payload.get(LINKS.fixed()..)?;
    (payload.first() == Some(&0)).then(|| (ifindex, attribute(rest, IFLA_NEW_NETNSID).is_some()))
}

/// The ifindex and the address of a message of RTM_NEWADDR; none for what IPv6 gives every device.
///
/// # Errors
/// It has not even its fixed part.
pub(super) fn address(payload: &[u8]) -> io::Result<Option<(u32, IpAddr)>> {
    // struct ifaddrmsg: family u8, prefixlen u8, flags u8, scope u8, index u32
    let (Some(ifindex), Some(rest)) = (number(payload, 4), payload.get(ADDRESSES.fixed()..)) else {
        return Err(broken("an address cut short"));
    };
    // On a point-to-point link the other is the far end's.
    let value = attribute(rest, IFA_LOCAL).or_else(|| attribute(rest, IFA_ADDRESS)).unwrap_or_default();
    let address = match *value {
        [a, b, c, d] => Some(IpAddr::from(Ipv4Addr::from([a, b, c, d]))),
        _ => value.try_into().ok().map(|octets: [u8; 16]| IpAddr::from(Ipv6Addr::from(octets))),
    };
    let own = |address: &IpAddr| matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
    Ok(address.filter(|address| !own(address)).map(|address| (u32::from_ne_bytes(ifindex), address)))
}

/// Whether IPv6 is on: a device without an entry for it has none.
fn ipv6(families: &[u8]) -> bool {
    let family = u16::try_from(libc::AF_INET6).unwrap_or_default();
    let conf = attribute(families, family).and_then(|family| attribute(family, IFLA_INET6_CONF));
    conf.and_then(|words| number(words, 4 * DISABLE_IPV6)).is_some_and(|word| u32::from_ne_bytes(word) == 0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::attribute::put;
    use super::*;

    fn attr(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        put(&mut bytes, kind, value);
        bytes
    }

    fn device(attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = vec![0; 2];
        bytes.extend(1_u16.to_ne_bytes());
        bytes.extend(11_u32.to_ne_bytes());
        bytes.extend((libc::IFF_UP | libc::IFF_RUNNING | libc::IFF_LOWER_UP).to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(attributes.concat());
        bytes
    }

    fn vlan() -> Vec<u8> {
        let inet6 = attr(IFLA_INET6_CONF, &[0; 4 * 40]);
        let info = [attr(IFLA_INFO_KIND, b"vlan\0"), attr(IFLA_INFO_DATA | 0x8000, &attr(IFLA_VLAN_ID, &[42, 0]))];
        let names = [attr(IFLA_ALT_IFNAME, b"uplink\0"), attr(IFLA_ALT_IFNAME, b"B\xfcro\0"), attr(9, b"no name\0")];
        device(&[
            attr(IFLA_IFNAME, b"eth0.42\0"),
            attr(IFLA_MTU, &1500_u32.to_ne_bytes()),
            attr(IFLA_ADDRESS, &[2, 0, 0, 0, 0, 9]),
            attr(IFLA_LINK, &3_u32.to_ne_bytes()),
            attr(IFLA_MASTER, &5_u32.to_ne_bytes()),
            attr(IFLA_XDP | 0x8000, &attr(IFLA_XDP_ATTACHED, &[2])),
            attr(IFLA_LINKINFO | 0x8000, &info.concat()),
            attr(IFLA_AF_SPEC, &attr(10, &inet6)),
            attr(IFLA_PROP_LIST | 0x8000, &names.concat()),
        ])
    }

    #[test]
    fn a_device_is_what_its_attributes_say() {
        let want = Device {
            ifindex: 11,
            name: "eth0.42".into(),
            altnames: vec!["uplink".into()],
            hardware: 1,
            kind: "vlan".into(),
            mtu: 1500,
            mac: Some([2, 0, 0, 0, 0, 9]),
            up: true,
            enabled: true,
            carrier: true,
            below: 3,
            master: 5,
            vlan_id: if cfg!(target_endian = "little") { 42 } else { 42 << 8 },
            xdp: true,
            ipv6: true,
            ..Device::default()
        };
        assert_eq!(link(&vlan()).unwrap(), want);
        let mut disabled = [0; 4 * 40];
        disabled[4 * DISABLE_IPV6] = 1;
        let off = attr(IFLA_AF_SPEC, &attr(10, &attr(IFLA_INET6_CONF, &disabled)));
        assert!(!link(&device(&[off])).unwrap().ipv6 && !link(&device(&[])).unwrap().ipv6);
    }

    #[test]
    fn a_program_in_the_driver_is_told_from_one_in_the_stack() {
        // XDP_ATTACHED_*: none, in the driver, in the stack, in the device, several
        let with = |mode: u8| device(&[attr(IFLA_XDP, &attr(IFLA_XDP_ATTACHED, &[mode]))]);
        assert_eq!([0, 1, 2, 3, 4].map(|mode| has_native_xdp(&with(mode))), [false, true, false, false, true]);
        assert_eq!([0, 1, 2, 3, 4].map(|mode| link(&with(mode)).unwrap().xdp), [false, true, true, true, true]);
        assert!(!has_native_xdp(&device(&[])) && !has_native_xdp(&[]));
        let of = |attributes: &[Vec<u8>]| xdp_program(&device(&[attr(IFLA_XDP, &attributes.concat())]));
        let (mode, id) = (|mode: u8| attr(IFLA_XDP_ATTACHED, &[mode]), attr(IFLA_XDP_PROG_ID, &77_u32.to_ne_bytes()));
        assert_eq!((of(&[mode(1), id.clone()]), of(&[mode(2), id])), (Some(77), Some(77)));
        assert_eq!(
            (of(&[mode(4)]), of(&[mode(0)]), xdp_program(&device(&[])), xdp_program(&[])),
            (Some(0), None, None, None)
        );
    }

    #[test]
    fn a_device_goes_or_is_moved_and_one_that_leaves_a_bridge_stays() {
        assert_eq!(gone(&device(&[])), Some((11, false)));
        assert_eq!(gone(&device(&[attr(IFLA_NEW_NETNSID, &[0; 4])])), Some((11, true)));
        let mut of_a_bridge = device(&[]);
        of_a_bridge[0] = 7;
        assert_eq!(gone(&of_a_bridge), None);
        assert_eq!(gone(&device(&[])[..12]), None);
    }

    #[test]
    fn what_is_below_in_another_namespace_is_not_below_here() {
        let below = attr(IFLA_LINK, &3_u32.to_ne_bytes());
        assert_eq!(link(&device(std::slice::from_ref(&below))).unwrap().below, 3);
        assert_eq!(link(&device(&[below, attr(IFLA_LINK_NETNSID, &[0; 4])])).unwrap().below, 0);
    }

    #[test]
    fn a_name_that_is_not_utf_8_leaves_the_ifindex() {
        let found = link(&device(&[attr(IFLA_IFNAME, b"B\xfcro\0"), attr(IFLA_MTU, &9_u32.to_ne_bytes())])).unwrap();
        assert_eq!((found.ifindex, found.name.as_str(), found.mtu), (11, "", 9));
    }

    #[test]
    fn addresses_but_those_every_device_has() {
        let of = |family: u8, attributes: &[Vec<u8>]| {
            let mut bytes = vec![family, 24, 0, 0];
            bytes.extend(11_u32.to_ne_bytes());
            bytes.extend(attributes.concat());
            address(&bytes).unwrap()
        };
        let (near, far) = (attr(IFA_LOCAL, &[192, 0, 2, 1]), attr(IFA_ADDRESS, &[192, 0, 2, 9]));
        assert_eq!(of(2, &[far.clone(), near]), Some((11, "192.0.2.1".parse().unwrap())));
        assert_eq!(of(2, &[far]), Some((11, "192.0.2.9".parse().unwrap())));
        let six = |text: &str| attr(IFA_ADDRESS, &text.parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(of(10, &[six("2001:db8::1")]), Some((11, "2001:db8::1".parse().unwrap())));
        assert_eq!(of(10, &[six("fe80::1")]), None);
        assert_eq!(of(2, &[attr(IFA_LOCAL, &[1, 2, 3])]), None);
    }

    /// Whatever is cut or changed: another device or an error, and never a panic or a loop.
    #[test]
    fn a_hostile_message_is_survived() {
        let whole = vlan();
        for len in 0..whole.len() {
            assert_eq!(link(&whole[..len]).is_ok(), len >= LINKS.fixed(), "{len}");
            assert_eq!(address(&whole[..len]).is_ok(), len >= ADDRESSES.fixed(), "{len}");
        }
        for at in 0..whole.len() {
            for byte in [0, 1, 3, 4, 5, 0x7f, 0x80, 0xff] {
                let mut changed = whole.clone();
                changed[at] = byte;
                assert!(link(&changed).is_ok() && address(&changed).is_ok(), "{byte} at {at}");
            }
        }
    }
}
