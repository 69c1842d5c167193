//! Finds the ports among the devices there are, and follows those that are ports.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::identity::{Devices, Place, bury};
use super::link_loss::{End, Pair};
use super::sighting::{Mac, Sighting};
use super::{Places, Topology, Want};
use crate::devices::{Device, Gone};
use crate::snapshot::table::{DeviceName, Table};
use crate::told::Told;
use crate::xsk::netdev::Netdev;

/// What the last look saw.
#[derive(Debug, Default)]
pub(super) struct Lookout {
    devices: Arc<Vec<Device>>,
    /// Those that were gone then.
    gone: Vec<Gone>,
    /// Of each port.
    told: HashMap<u32, Told>,
}

impl Lookout {
    /// A device as it was seen, without the programs on it: those come and go with what is tried.
    pub(super) fn device(&self, ifindex: u32) -> Option<Device> {
        let device = self.devices.iter().find(|device| device.ifindex == ifindex)?;
        Some(Device { xdp: false, ..device.clone() })
    }

    /// The ifindexes of the devices that have this address.
    pub(super) fn with_mac(&self, mac: Option<Mac>) -> impl Iterator<Item = u32> {
        let alike = self.devices.iter().filter(move |device| mac.is_some() && device.mac.and_then(Mac::new) == mac);
        alike.map(|device| device.ifindex)
    }

    /// What became of a device that had just gone: whether it was moved to another network namespace, or is no more.
    pub(super) fn has_moved(&self, ifindex: u32) -> Option<bool> {
        self.gone.iter().rev().find(|gone| gone.ifindex == ifindex).map(|gone| gone.moved)
    }

    pub(super) fn take(&mut self, devices: Arc<Vec<Device>>, gone: Vec<Gone>) {
        (self.devices, self.gone) = (devices, gone);
    }
}

impl Topology {
    /// Finds the wanted ports among the devices there are.
    pub(super) fn locate(&mut self, table: &Table, wanted: &BTreeMap<u32, Want>) -> Places {
        // After the look, so that a device in use that is alive is one that was seen.
        self.find_lost();
        let mut known = self.record.ports().clone();
        for gone in &self.lookout.gone {
            bury(known.values_mut(), gone.ifindex);
        }
        for lost in self.attached.values().filter(|port| port.is_lost) {
            bury(known.values_mut(), lost.device.ifindex());
        }
        // Before the first snapshot nobody knows which ports will be wanted.
        if table.generation != 0 {
            known.retain(|port, _| wanted.contains_key(port));
        }
        let driver = |ifindex| Netdev::open(ifindex).map(|device| device.driver().to_owned()).unwrap_or_default();
        let held = |port| self.attached.get(&port).filter(|port| !port.is_lost).map(|port| port.device.ifindex());
        let ports: Vec<u32> = wanted.keys().copied().collect();
        let given: Vec<DeviceName<'_>> = table.device_names().collect();
        let places = Devices::new(&self.lookout.devices, &driver).locate(&ports, &given, &mut known, held);
        self.record.set_ports(known);
        self.tell_places(&places);
        self.follow(&places);
        places
    }

    /// The wires that forward the loss of a link.
    pub(super) fn pairs(&self, table: &Table, places: &Places) -> Vec<Pair> {
        let device = |port| {
            let device = self.record.ports().get(&port)?.device.as_ref()?;
            let is_there = places.get(&port).and_then(Place::device) == Some(device.ifindex);
            is_there.then(|| device.clone())
        };
        let end = |port| End { port, device: device(port) };
        table.link_loss.iter().map(|&(a, b)| [end(a), end(b)]).collect()
    }

    /// Notes the ports whose devices are gone, also where each has been made again under its ifindex: the sockets know, and
    /// what holds the selectors.
    fn find_lost(&mut self) {
        for (&ifindex, port) in self.attached.iter_mut().filter(|(_, port)| !port.is_lost) {
            let error = port.bound.iter().find_map(|bound| bound.socket.take_error());
            let device = port.device.ifindex();
            // Moved, it has its selector with it.
            let has_moved = self.lookout.gone.iter().any(|gone| gone.moved && gone.ifindex == device);
            let is_off = port.hold.as_ref().is_some_and(|hold| has_moved || hold.is_off());
            let what = match error {
                Some(error) => format!("gone: {error}"),
                None if !is_off => continue,
                None if !has_moved && port.is_there().is_ok() => {
                    "somebody has detached its selector: it is put back".to_owned()
                }
                None => "gone".to_owned(),
            };
            self.news.warn(ifindex, port.device.name(), what);
            port.is_lost = true;
        }
    }

    /// Tells what is new of where the ports are.
    fn tell_places(&mut self, places: &Places) {
        self.lookout.told.retain(|port, _| places.contains_key(port));
        for (&port, place) in places {
            let told = self.lookout.told.entry(port).or_default();
            if place.news().is_empty() {
                told.ends();
            } else if let Some(news) = told.is(place.news()) {
                match place.device() {
                    Some(_) => tracing::info!("port {port}: {news}"),
                    None => tracing::warn!("port {port} is missing: {news}"),
                }
            }
        }
    }

    /// Takes over the present names and addresses of the devices in use.
    fn follow(&mut self, places: &Places) {
        for (ifindex, port) in self.attached.iter_mut().filter(|(_, port)| !port.is_lost) {
            let device = port.device.ifindex();
            let known = self.record.ports().get(ifindex).and_then(|known| known.device.as_ref());
            let was = Sighting::of(&port.device);
            if places.get(ifindex).and_then(|place| place.device()) != Some(device) || known == Some(&was) {
                continue;
            }
            let Ok(now) = Netdev::open(device) else { continue };
            if now.name() != port.device.name() {
                tracing::info!("port {} is called {} by now", port.device.name(), now.name());
            }
            port.device = now;
            port.offload.iter_mut().for_each(|offload| offload.follow(&port.device));
            self.record.follow(&was, &Sighting::of(&port.device));
        }
    }

    /// The port in messages: by its device, where one was ever seen.
    pub(super) fn label(&self, port: u32) -> String {
        let known = self.record.ports().get(&port).and_then(|known| known.device.as_ref());
        known.map_or_else(|| format!("ifindex {port}"), |device| format!("{} (ifindex {port})", device.name))
    }
}
