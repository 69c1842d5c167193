//! Which device each port of a snapshot is among those there are: what a dataplane that sees them for the first time
//! makes of the same names.
//!
//! 1. The device of the name that the snapshot gives, its own or an alternative one, whatever its ifindex is.
//! 2. Where there is none, and was none when the snapshot was published before: the one with the snapshot's ifindex,
//!    unless it is another port by its name.
//!
//! In a list that stands for the live system one name may be that of several: the one with the ifindex counts.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::link::{Link, Links};
use super::model::{Interface, Snapshot};
use super::units::Units;

/// The devices by the ports they are.
pub(super) struct Located<'a> {
    by_index: HashMap<u32, &'a Link>,
    /// Those that are a port by its name.
    by_name: HashMap<u32, &'a Link>,
    /// The ports of these, by the ifindexes of the devices.
    owners: HashMap<u32, u32>,
    /// Ports whose names were seen, and are no device's by now.
    gone: HashSet<u32>,
}

impl<'a> Located<'a> {
    pub(super) fn of(snapshot: &Snapshot, units: &Units, links: &'a Links) -> Self {
        let by_index: HashMap<u32, &Link> = links.all.iter().map(|link| (link.interface.ifindex, link)).collect();
        let names = DeviceNames::of(links);
        let wired = snapshot.wires.iter().flat_map(|wire| [wire.a_ifindex, wire.b_ifindex]);
        let places = snapshot.mirrors.iter().map(|&mirror| units.place(mirror));
        let outputs = places.filter(|place| units.is_wired(place.port_ifindex)).map(|place| place.output_ifindex);
        let wanted: HashSet<u32> = wired.chain(outputs).collect();
        let (mut by_name, mut owners, mut gone) = (HashMap::new(), HashMap::new(), HashSet::new());
        for (port, row) in named(snapshot) {
            let own = by_index.get(&port).copied().filter(|link| link.is_device(&row.linux_name));
            let Some(link) = own.or_else(|| names.find(&row.linux_name)) else {
                gone.extend(row.seen.then_some(port));
                continue;
            };
            by_name.insert(port, link);
            // Of several names of one device the port with its ifindex has it, or one that is in use, or the first.
            let device = link.interface.ifindex;
            let rank = |port: u32| (port == device, wanted.contains(&port));
            let owner = owners.entry(device).or_insert(port);
            if rank(port) > rank(*owner) {
                *owner = port;
            }
        }
        Self { by_index, by_name, owners, gone }
    }

    /// The device that is this port.
    pub(super) fn get(&self, port: u32) -> Option<&'a Link> {
        let found_first = || self.by_index.get(&port).filter(|_| !self.gone.contains(&port));
        let link = self.by_name.get(&port).or_else(found_first)?;
        self.owners.get(&link.interface.ifindex).is_none_or(|owner| *owner == port).then_some(link)
    }

    /// Whether a device is there that is called as the snapshot calls this port's.
    pub(super) fn is_named(&self, port: u32) -> bool {
        self.by_name.contains_key(&port)
    }
}

/// The first row of each ifindex that names a device. A VLAN unit may bear its port's name.
fn named(snapshot: &Snapshot) -> BTreeMap<u32, &Interface> {
    let mut named = BTreeMap::new();
    for row in snapshot.interfaces.iter().filter(|row| row.names_device()) {
        named.entry(row.ifindex).or_insert(row);
    }
    named
}

impl Links {
    /// Notes in a snapshot which of its names are those of devices: no other device is taken for those ports any more.
    /// For the devices of the live system, not for a list that stands for them.
    pub fn note(&self, snapshot: &mut Snapshot) {
        let names = DeviceNames::of(self);
        for row in snapshot.interfaces.iter_mut().filter(|row| row.names_device()) {
            row.seen |= names.find(&row.linux_name).is_some();
        }
    }
}

impl Interface {
    /// Whether its Linux name is that of a port.
    fn names_device(&self) -> bool {
        self.ifindex > 0 && self.vlan().is_none() && !self.linux_name.is_empty()
    }
}

impl Link {
    /// Whether the kernel knows it by this name.
    fn is_device(&self, name: &str) -> bool {
        self.interface.linux_name == name || self.altnames.iter().any(|own| own == name)
    }
}

/// The devices by the names that the kernel knows them by.
struct DeviceNames<'a>(HashMap<&'a str, &'a Link>);

impl<'a> DeviceNames<'a> {
    fn of(links: &'a Links) -> Self {
        let devices = || links.all.iter().filter(|link| link.interface.ifindex > 0);
        let others = devices().flat_map(|link| link.altnames.iter().map(move |name| (name.as_str(), link)));
        // A name comes before the same alternative name.
        Self(others.chain(devices().map(|link| (link.interface.linux_name.as_str(), link))).collect())
    }

    fn find(&self, name: &str) -> Option<&'a Link> {
        self.0.get(name).copied().filter(|_| !name.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::source::{Ports, read};

    fn device(name: &str, ifindex: u32) -> Link {
        let interface = Interface { name: name.into(), linux_name: name.into(), ifindex, ..Interface::default() };
        Link { interface, ..Link::default() }
    }

    fn links(all: Vec<Link>) -> Links {
        Links { all, place: String::new() }
    }

    const DOCUMENT: &[u8] = br#"{"version":3,"interfaces":[{"name":"a","linux_name":"p1","ifindex":101},
        {"name":"a.7","linux_name":"p1","ifindex":1073741824,"parent_ifindex":101,"vlan_id":7},
        {"name":"b","linux_name":"ge-0-0-1","ifindex":12},{"name":"c","linux_name":"up","ifindex":13},
        {"name":"d","linux_name":"p5","ifindex":0}]}"#;

    #[test]
    fn the_names_of_live_devices_are_noted() {
        let up = Link { altnames: vec!["up".into()], ..device("p3", 13) };
        let there = links(vec![device("p1", 201), up, device("p5", 15)]);
        let seen = |ports: Ports<'_>| {
            let draft = read(DOCUMENT, ports, &[]).unwrap_or_default();
            draft.snapshot.interfaces.iter().map(|row| row.seen).collect::<Vec<_>>()
        };
        assert_eq!(seen(Ports::Live(&there)), [true, false, false, true, false]);
        assert_eq!(seen(Ports::Own), [false; 5]);
        assert_eq!(seen(Ports::Listed(&there)), [false; 3], "a list is not the live system");
    }

    #[test]
    fn a_name_that_was_seen_is_no_other_devices() {
        let mut draft = read(DOCUMENT, Ports::Own, &[]).unwrap_or_default();
        let at = |snapshot: &Snapshot, links: &Links| {
            let units = Units::of(snapshot);
            let located = Located::of(snapshot, &units, links);
            [101, 12].map(|port| located.get(port).map(|link| link.interface.ifindex))
        };
        let stranger = links(vec![device("stranger", 101), device("w0b", 12)]);
        assert_eq!(at(&draft.snapshot, &stranger), [Some(101), Some(12)]);
        links(vec![device("p1", 101)]).note(&mut draft.snapshot);
        assert_eq!(at(&draft.snapshot, &stranger), [None, Some(12)]);
        // It stays noted.
        stranger.note(&mut draft.snapshot);
        assert_eq!(at(&draft.snapshot, &stranger), [None, Some(12)]);
        assert_eq!(at(&draft.snapshot, &links(vec![device("p1", 12)])), [Some(12), None]);
    }
}
