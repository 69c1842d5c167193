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

use serde::{Deserialize, Serialize};

use super::sighting::{Mac, Sighting};
use crate::devices::Device;
use crate::snapshot::table::DeviceName;

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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
