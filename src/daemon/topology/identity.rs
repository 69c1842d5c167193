//! Which device a port of the snapshot is: an ifindex, a name and an address may each pass to another device.
//!
//! A snapshot identifies its ports by ifindexes, and may name devices too. For a port it wants, in this order:
//!
//! 1. The device of the name given, by its name or an alternative one, whatever its ifindex is by now.
//! 2. The device that was the port so far, while it is there, whatever it is called by now.
//! 3. Where no device was the port yet, and none of the name given was ever here, nor when the snapshot
//!    was published: the one with the snapshot's ifindex, unless it is another port by its name.
//!
//! Else the port is missing, and the device that has its ifindex by now is left alone. What the rule goes by is
//! [`Known`] of each port, which is kept in the record for as long as the snapshot wants the port.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::devices::Device;
use crate::snapshot::table::DeviceName;
use crate::xsk::netdev::Netdev;

/// Where a port of the snapshot is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It is this device.
    Here {
        /// Its ifindex by now.
        device: u32,
        /// What is to be known about it; empty for nothing.
        note: String,
    },
    /// It is missing: why, where more is known than that it is not there.
    Away(String),
}

impl Place {
    /// The ifindex of its device.
    pub(super) fn device(&self) -> Option<u32> {
        match self {
            Place::Here { device, .. } => Some(*device),
            Place::Away(_) => None,
        }
    }

    /// What is to be told of it; empty for nothing.
    pub(super) fn news(&self) -> &str {
        match self {
            Place::Here { note, .. } => note,
            Place::Away(why) => why,
        }
    }
}

/// What is known of a port of the snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    /// The snapshot's.
    pub(super) ifindex: u32,
    /// What the snapshot calls its device; empty for nothing.
    name: String,
    /// Whether a device of that name was ever here, or when the snapshot was published.
    named: bool,
    /// The device that was the port, as last seen.
    pub(super) device: Option<Sighting>,
}

/// The device with this ifindex is gone: what has its address by now is another one. A device of its name there is
/// still taken for it, made again.
pub(super) fn bury<'a>(known: impl Iterator<Item = &'a mut Known>, device: u32) {
    for gone in known.filter_map(|known| known.device.as_mut()).filter(|was| was.ifindex == device) {
        gone.mac = None;
    }
}

/// The devices there are, and whose they are.
pub(super) struct Devices<'a> {
    by_ifindex: HashMap<u32, &'a Device>,
    by_name: HashMap<&'a str, &'a Device>,
    /// Ports by the ifindexes of their devices.
    taken: HashMap<u32, u32>,
    /// The driver of a device by its ifindex. A question to the kernel, asked where it decides something.
    driver: &'a dyn Fn(u32) -> String,
}

impl<'a> Devices<'a> {
    pub(super) fn new(all: &'a [Device], driver: &'a dyn Fn(u32) -> String) -> Devices<'a> {
        let alternative = |device: &'a Device| device.altnames.iter().map(move |name| (name.as_str(), device));
        let named = all.iter().filter(|device| !device.name.is_empty());
        // A name comes before the same alternative name.
        let names = all.iter().flat_map(alternative).chain(named.map(|device| (device.name.as_str(), device)));
        Devices {
            by_ifindex: all.iter().map(|device| (device.ifindex, device)).collect(),
            by_name: names.collect(),
            taken: HashMap::new(),
            driver,
        }
    }

    /// Where the ports `wanted` are. `given` are the snapshot's names of devices, `held` says which device is in use as
    /// a port right now and has not been gone since.
    pub(super) fn locate(
        mut self,
        wanted: &[u32],
        given: &[DeviceName<'_>],
        known: &mut BTreeMap<u32, Known>,
        held: impl Fn(u32) -> Option<u32>,
    ) -> BTreeMap<u32, Place> {
        self.give(wanted, given);
        let names: HashMap<u32, &DeviceName<'_>> = given.iter().map(|given| (given.port, given)).collect();
        // Those that were a device before come before those that have none yet.
        let is_new = |port: &u32| known.get(port).is_none_or(|known| known.device.is_none());
        let (new, old): (Vec<u32>, Vec<u32>) = wanted.iter().partition(|port| is_new(port));
        let mut places = BTreeMap::new();
        for port in old.into_iter().chain(new) {
            let given = names.get(&port);
            let (name, seen) = given.map_or(("", false), |given| (given.name, given.seen));
            let fresh = || Known { ifindex: port, name: name.to_owned(), named: false, device: None };
            let known = known.entry(port).or_insert_with(fresh);
            // Called otherwise, it may be another device.
            let mut held = held(port);
            if known.name != name {
                (*known, held) = (fresh(), None);
            }
            known.named |= seen;
            let place = self.place(known, held);
            if let Place::Here { device, .. } = place {
                self.taken.entry(device).or_insert(port);
            }
            places.insert(port, place);
        }
        // Nothing is known of a port that was never here.
        known.retain(|_, known| known.named || known.device.is_some());
        places
    }

    /// Gives the devices of given names to their ports: of several with names of one device, to the one that has its
    /// ifindex too, or one that is wanted, or the first.
    fn give(&mut self, wanted: &[u32], given: &[DeviceName<'_>]) {
        let rank = |port: u32, device: u32| (port == device, wanted.binary_search(&port).is_ok());
        for &DeviceName { port, name, .. } in given {
            let Some(device) = self.by_name.get(name).map(|device| device.ifindex) else { continue };
            let owner = self.taken.entry(device).or_insert(port);
            if rank(port, device) > rank(*owner, device) {
                *owner = port;
            }
        }
    }

    fn place(&self, known: &mut Known, held: Option<u32>) -> Place {
        let (port, name) = (known.ifindex, known.name.clone());
        if let Some(device) = self.by_name.get(name.as_str()).filter(|_| !name.is_empty()) {
            known.named = true;
            if let Some(other) = self.owner(device, port) {
                return Place::Away(format!("{name} is ifindex {} here, which is port {other}", device.ifindex));
            }
            return self.here(known, device);
        }
        if let Some(device) = held.and_then(|device| self.free(device, port)) {
            return self.here(known, device);
        }
        let stranger = |ifindex: u32| match self.by_ifindex.get(&ifindex) {
            Some(other) => format!("; ifindex {ifindex} is {} by now, which is left alone", called(other)),
            None => String::new(),
        };
        match &known.device {
            Some(was) => match self.free(was.ifindex, port).filter(|device| self.is(was, device)) {
                Some(device) => self.here(known, device),
                None => Place::Away(format!("{was} is gone{}", stranger(was.ifindex))),
            },
            None if known.named => Place::Away(format!("{name} is gone{}", stranger(port))),
            None => match self.by_ifindex.get(&port) {
                None => Place::Away(String::new()),
                Some(device) => match self.owner(device, port) {
                    Some(other) => {
                        Place::Away(format!("ifindex {port} is {} here, which is port {other}", called(device)))
                    }
                    None => self.here(known, device),
                },
            },
        }
    }

    /// The other port that a device is.
    fn owner(&self, device: &Device, port: u32) -> Option<u32> {
        self.taken.get(&device.ifindex).copied().filter(|owner| *owner != port)
    }

    fn free(&self, ifindex: u32, port: u32) -> Option<&'a Device> {
        self.by_ifindex.get(&ifindex).copied().filter(|device| self.owner(device, port).is_none())
    }

    fn is(&self, was: &Sighting, now: &Device) -> bool {
        was.is_quite(now) || was.is(&self.sighting(now))
    }

    fn sighting(&self, device: &Device) -> Sighting {
        Sighting {
            ifindex: device.ifindex,
            name: device.name.clone(),
            mac: device.mac.and_then(Mac::new),
            driver: (self.driver)(device.ifindex),
        }
    }

    /// The device is the port; it is known as it is now.
    fn here(&self, known: &mut Known, device: &Device) -> Place {
        if !known.device.as_ref().is_some_and(|was| was.is_quite(device)) {
            known.device = Some(self.sighting(device));
        }
        let mut notes = Vec::new();
        if known.ifindex != device.ifindex {
            notes.push(format!("ifindex {} by now", device.ifindex));
            if let Some(other) = self.by_ifindex.get(&known.ifindex) {
                notes.push(format!("{} has ifindex {} and is left alone", called(other), known.ifindex));
            }
        }
        if !known.name.is_empty() && known.name != device.name && !device.altnames.contains(&known.name) {
            notes.push(format!("called {} here, {} in the snapshot", called(device), known.name));
        }
        Place::Here { device: device.ifindex, note: notes.join("; ") }
    }
}

/// What messages call a device: one whose name is not UTF-8 has none.
fn called(device: &Device) -> String {
    if device.name.is_empty() { format!("ifindex {}", device.ifindex) } else { device.name.clone() }
}

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
    fn is_quite(&self, now: &Device) -> bool {
        let mac = now.mac.and_then(Mac::new);
        (self.ifindex, self.name.as_str(), self.mac) == (now.ifindex, now.name.as_str(), mac) && mac.is_some()
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

    /// `11 eth1 a`: ifindex, name, last octet of the address in hexadecimal; `=alt` for an alternative name.
    fn device(text: &str) -> Device {
        let mut words = text.split(' ');
        let (ifindex, name, mac) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        Device {
            ifindex: ifindex.parse().unwrap(),
            name: name.to_owned(),
            mac: Some([2, 0, 0, 0, 0, u8::from_str_radix(mac, 16).unwrap()]),
            altnames: words.map(|name| name.strip_prefix('=').unwrap().to_owned()).collect(),
            ..Device::default()
        }
    }

    /// A machine on which things happen to the devices.
    #[derive(Default)]
    struct Scene {
        given: Vec<(u32, &'static str)>,
        wanted: Vec<u32>,
        seen: bool,
        known: BTreeMap<u32, Known>,
        held: BTreeMap<u32, u32>,
    }

    impl Scene {
        fn of(wanted: &[u32], given: &[(u32, &'static str)]) -> Scene {
            Scene { given: given.to_vec(), wanted: wanted.to_vec(), ..Scene::default() }
        }

        /// Looks at these devices; the driver of all is `veth`. Gives the device of the first port, 0 for none, and what
        /// is told of it.
        fn look(&mut self, devices: &[&str]) -> (u32, String) {
            let places = self.places(devices);
            let place = &places[&self.wanted[0]];
            (place.device().unwrap_or(0), place.news().to_owned())
        }

        fn places(&mut self, devices: &[&str]) -> BTreeMap<u32, Place> {
            let all: Vec<Device> = devices.iter().map(|text| device(text)).collect();
            let held = |port: u32| self.held.get(&port).copied();
            let driver = |_| "veth".to_owned();
            let seen = self.seen;
            let given: Vec<_> = self.given.iter().map(|&(port, name)| DeviceName { port, name, seen }).collect();
            Devices::new(&all, &driver).locate(&self.wanted, &given, &mut self.known, held)
        }

        /// The device is unregistered, as the kernel tells.
        fn gone(&mut self, device: u32) {
            self.held.retain(|_, held| *held != device);
            bury(self.known.values_mut(), device);
        }
    }

    /// What the first port, 11, is after each of several looks, a spanwired started anew before each.
    #[test]
    fn a_port_is_the_device_of_its_name_or_the_one_found_first() {
        type Looks = &'static [(&'static [&'static str], u32)];
        let cases: &[(&str, &str, Looks)] = &[
            ("by name, under another ifindex", "eth1", &[(&["14 eth1 a"], 14)]),
            ("by name, and not by ifindex", "eth1", &[(&["11 eth9 b", "14 eth1 a"], 14)]),
            ("by an alternative name", "uplink", &[(&["11 eth9 b", "14 eth1 a =x =uplink"], 14)]),
            ("by a name before an alternative one", "uplink", &[(&["13 eth1 a =uplink", "14 uplink b"], 14)]),
            ("made again under another ifindex", "eth1", &[(&["11 eth1 a"], 11), (&[], 0), (&["15 eth1 b"], 15)]),
            ("its ifindex has passed on", "eth1", &[(&["11 eth1 a"], 11), (&["11 eth9 b"], 0), (&["11 eth9 b"], 0)]),
            ("named otherwise here", "ge-0-0-0", &[(&["11 w0a a"], 11), (&["11 w0a a"], 11)]),
            ("named otherwise, made again", "ge-0-0-0", &[(&["11 w0a a"], 11), (&[], 0), (&["11 w0a b"], 11)]),
            ("named otherwise, passed on", "ge-0-0-0", &[(&["11 w0a a"], 11), (&["11 eth9 b"], 0)]),
            ("named otherwise until it is there", "eth1", &[(&["11 w0a a"], 11), (&["11 w0a a", "14 eth1 b"], 14)]),
            ("never there", "eth1", &[(&[], 0), (&["11 eth1 a"], 11)]),
            ("renamed", "eth1", &[(&["11 eth1 a"], 11), (&["11 wan0 a"], 11), (&["11 lan0 a"], 11)]),
            ("renamed after it was followed", "eth1", &[(&["14 eth1 a"], 14), (&["14 wan0 a", "11 x b"], 14)]),
            ("renamed, and another has the name", "eth1", &[(&["11 eth1 a"], 11), (&["11 wan0 a", "12 eth1 b"], 12)]),
            ("no name, first seen", "", &[(&["11 eth1 a"], 11), (&["11 eth1 a"], 11)]),
            ("no name, made again", "", &[(&["11 eth1 a"], 11), (&[], 0), (&["11 eth1 b"], 11)]),
            ("no name, under another ifindex", "", &[(&["11 eth1 a"], 11), (&["14 eth1 a"], 0)]),
            ("no name, renamed", "", &[(&["11 eth1 a"], 11), (&["11 wan0 a"], 11)]),
            ("no name, another address", "", &[(&["11 eth1 a"], 11), (&["11 eth1 b"], 11), (&["11 wan0 b"], 11)]),
            ("no name, passed on", "", &[(&["11 eth1 a"], 11), (&["11 eth9 b"], 0), (&[], 0), (&["11 eth9 b"], 0)]),
            ("no name, passed on and back", "", &[(&["11 eth1 a"], 11), (&["11 eth9 b"], 0), (&["11 eth1 c"], 11)]),
        ];
        for &(what, name, looks) in cases {
            let given = [(11, name)];
            let mut scene = Scene::of(&[11], if name.is_empty() { &[] } else { &given });
            for (i, &(devices, want)) in looks.iter().enumerate() {
                let (found, news) = scene.look(devices);
                assert_eq!(found, want, "{what}, look {i}: {news}");
                // Kept over a restart.
                let kept = serde_json::to_string(&scene.known.values().collect::<Vec<_>>()).unwrap();
                let kept: Vec<Known> = serde_json::from_str(&kept).unwrap();
                scene.known = kept.into_iter().map(|known| (known.ifindex, known)).collect();
            }
        }
    }

    /// It was published while the device was there, which went before any dataplane ran.
    #[test]
    fn a_name_that_was_seen_at_the_publish_is_no_other_devices() {
        let mut scene = Scene { seen: true, ..Scene::of(&[11], &[(11, "eth1")]) };
        let gone = "eth1 is gone; ifindex 11 is stranger by now, which is left alone";
        assert_eq!(scene.look(&["11 stranger b"]), (0, gone.to_owned()));
        // Published again meanwhile.
        scene.seen = false;
        assert_eq!(scene.look(&["11 stranger b"]), (0, gone.to_owned()));
        assert_eq!(scene.look(&["11 stranger b", "14 eth1 a"]).0, 14);
        // Called otherwise, nothing is known of it.
        scene.given = vec![(11, "ge-0-0-0")];
        assert_eq!(scene.look(&["11 stranger b"]).0, 11);
    }

    #[test]
    fn a_device_in_use_is_the_port_whatever_changes_on_it() {
        for given in [&[][..], &[(11, "eth1")]] {
            let mut scene = Scene::of(&[11], given);
            assert_eq!(scene.look(&["11 eth1 a"]).0, 11);
            scene.held.insert(11, 11);
            // Name and address in one step.
            assert_eq!(scene.look(&["11 wan0 b"]).0, 11);
            assert_eq!(scene.known[&11].device.as_ref().unwrap().name, "wan0");
            // Gone, and another one has its ifindex and its address.
            scene.gone(11);
            assert_eq!(scene.look(&["11 eth9 b"]).0, 0);
            assert_eq!(scene.look(&["11 wan0 c"]).0, 11, "made again");
        }
    }

    #[test]
    fn no_device_is_two_ports() {
        // 12 never had a device of its name here: what has its ifindex now is 13 by its name.
        let mut scene = Scene::of(&[12, 13], &[(12, "eth2"), (13, "eth3")]);
        let (found, news) = scene.look(&["12 eth3 c"]);
        assert_eq!((found, news.as_str()), (0, "ifindex 12 is eth3 here, which is port 13"));
        // Nor where the other is not wanted.
        let mut scene = Scene::of(&[12], &[(12, "eth2"), (13, "eth3")]);
        assert_eq!(scene.look(&["12 eth3 c"]).0, 0);
        // Two names of one device.
        let mut scene = Scene::of(&[11, 12], &[(11, "uplink"), (12, "eth2")]);
        let (found, news) = scene.look(&["12 eth2 b =uplink"]);
        assert_eq!((found, news.as_str()), (0, "uplink is ifindex 12 here, which is port 12"));
        assert_eq!(scene.places(&["12 eth2 b =uplink"])[&12].device(), Some(12));
        // Followed to an ifindex that another port is given without a name, and renamed there.
        let mut scene = Scene::of(&[11, 14], &[(11, "eth1")]);
        let places = scene.places(&["14 eth1 a"]);
        assert_eq!((places[&11].device(), places[&14].device()), (Some(14), None));
        let places = scene.places(&["14 wan0 a"]);
        assert_eq!((places[&11].device(), places[&14].device()), (Some(14), None));
        // Names that change places.
        let mut scene = Scene::of(&[11, 12], &[(11, "eth1"), (12, "eth2")]);
        scene.places(&["11 eth1 a", "12 eth2 b"]);
        scene.held = BTreeMap::from([(11, 11), (12, 12)]);
        let places = scene.places(&["11 eth2 a", "12 eth1 b"]);
        assert_eq!((places[&11].device(), places[&12].device()), (Some(12), Some(11)));
    }

    #[test]
    fn a_port_that_is_called_otherwise_begins_anew() {
        let mut scene = Scene::of(&[11], &[]);
        assert_eq!(scene.look(&["11 eth1 a"]).0, 11);
        assert_eq!(scene.look(&["11 eth9 b"]).0, 0);
        scene.given = vec![(11, "eth9")];
        assert_eq!(scene.look(&["11 eth9 b"]).0, 11);
        scene.given = vec![];
        assert_eq!(scene.look(&["11 eth1 c"]).0, 11);
    }

    #[test]
    fn what_is_told_names_both_devices() {
        let mut scene = Scene::of(&[11], &[(11, "eth1")]);
        assert_eq!(scene.look(&["11 eth1 a"]).1, "");
        let told = "eth1 (ifindex 11, 02:00:00:00:00:0a) is gone; ifindex 11 is eth9 by now, which is left alone";
        assert_eq!(scene.look(&["11 eth9 b"]).1, told);
        assert_eq!(scene.look(&[]).1, "eth1 (ifindex 11, 02:00:00:00:00:0a) is gone");
        assert_eq!(
            scene.look(&["11 eth9 b", "14 eth1 c"]).1,
            "ifindex 14 by now; eth9 has ifindex 11 and is left alone"
        );
        assert_eq!(scene.look(&["14 wan0 c"]).1, "ifindex 14 by now; called wan0 here, eth1 in the snapshot");
        let mut scene = Scene::of(&[11], &[(11, "ge-0-0-0")]);
        assert_eq!(scene.look(&["11 w0a a"]).1, "called w0a here, ge-0-0-0 in the snapshot");
        assert_eq!(Scene::of(&[11], &[]).look(&[]).1, "");
    }

    #[test]
    fn a_driver_decides_where_name_or_address_is_another() {
        let all = [device("11 eth1 b")];
        let locate = |driver: &str| {
            let was =
                Sighting { ifindex: 11, name: "eth1".into(), mac: Mac::new([2, 0, 0, 0, 0, 1]), driver: "igb".into() };
            let known = Known { ifindex: 11, name: String::new(), named: false, device: Some(was) };
            let driver = |_| driver.to_owned();
            let mut known = BTreeMap::from([(11, known)]);
            Devices::new(&all, &driver).locate(&[11], &[], &mut known, |_| None)[&11].device()
        };
        assert_eq!((locate("igb"), locate("veth")), (Some(11), None));
    }
}
