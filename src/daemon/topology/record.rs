//! What outlives this process: `ports.json` beside the regions.
//!
//! ```text
//! {"boot": "…", "namespace": 7,
//!  "ports": [{"ifindex": 11, "name": "eth1", "named": true,
//!             "device": {"ifindex": 14, "name": "eth1", "mac": "02:…", "driver": "igb"}}],
//!  "changed": [{"device": {"ifindex": 14, "name": "eth1", "mac": "02:…", "driver": "igb"}, "offloads": ["rxvlan"],
//!               "promiscuous": true, "moved": false}]}
//! ```
//!
//! `ports` are what the snapshot wants, by its ifindexes, and the devices they were last seen as.
//!
//! What is about to be changed on a device is written down first, and struck out once it has been undone. So a run
//! that was killed is cleaned up after by a later one, which else would take what it finds for the operator's wish.
//! A device that was moved to another network namespace stays on record, to be known when it is back.
//! Another boot and another network namespace have other devices: of what was written down there only the names hold.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::changed::{Changed, What};
use super::identity::Known;
use super::lasting::{Lasting, Origin};
use super::sighting::Sighting;

/// Name of the record in the directory.
const FILE: &str = "ports.json";
/// Devices in other network namespaces that are on record, at most; those that were moved last stay.
const MAX_MOVED: usize = 64;

/// The file's content.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    #[serde(flatten)]
    origin: Origin,
    #[serde(default)]
    ports: Vec<Known>,
    #[serde(default)]
    changed: Vec<Changed>,
}

/// The record of one directory. Its only writer is who holds the lock of `stats.shm`.
#[derive(Debug)]
pub(super) struct Record {
    file: Lasting,
    content: Content,
    /// `ports` of the content, by their ifindexes.
    ports: BTreeMap<u32, Known>,
    /// Whether the file says something else.
    dirty: bool,
}

impl Record {
    /// What an earlier run in this namespace left in `dir`. A record that cannot be used is set aside.
    pub(super) fn open(dir: &Path) -> Record {
        let file = Lasting::of(dir, FILE);
        let found = file.read();
        let content = Content { origin: Origin::here(), ..Content::default() };
        let mut record = Record { file, content, ports: BTreeMap::new(), dirty: false };
        if let Some(found) = found {
            record.take_over(found);
        }
        record
    }

    /// Whether what is on record in `dir` is to be undone in another network namespace.
    pub(super) fn is_elsewhere(dir: &Path) -> bool {
        let (found, here) = (Lasting::of(dir, FILE).read::<Content>(), Origin::here());
        found.is_some_and(|found| found.origin.boot == here.boot && found.origin != here && !found.changed.is_empty())
    }

    fn take_over(&mut self, found: Content) {
        let (origin, here) = (&found.origin, &self.content.origin);
        let (is_here, same_boot) = (origin == here, origin.boot == here.boot);
        self.ports = found.ports.into_iter().map(|known| (known.ifindex, known)).collect();
        if is_here {
            self.content.changed = found.changed;
            return;
        }
        self.dirty = true;
        self.ports.values_mut().for_each(|known| known.device = None);
        // After a boot everything is as the drivers have it.
        for left in found.changed.iter().filter(|left| same_boot && !left.moved) {
            left.tell_lost("is in another network namespace, where spanwired was killed");
        }
    }

    /// What is known of the ports.
    pub(super) fn ports(&self) -> &BTreeMap<u32, Known> {
        &self.ports
    }

    /// Replaces what is known of the ports.
    pub(super) fn set_ports(&mut self, ports: BTreeMap<u32, Known>) {
        self.dirty |= ports != self.ports;
        self.ports = ports;
    }

    /// What this run, or one that was killed, has changed on the device.
    pub(super) fn changed_on(&self, device: &Sighting) -> &What {
        static NOTHING: What = What { offloads: Vec::new(), promiscuous: false };
        let of_it = self.content.changed.iter().filter(|changed| changed.is_of(device));
        of_it.min_by_key(|changed| changed.moved).map_or(&NOTHING, |changed| &changed.what)
    }

    /// This is about to be changed, with what is already.
    pub(super) fn will_change(&mut self, device: Sighting, what: What) {
        let what = self.changed_on(&device).clone().and(what);
        let changed = Changed { device, what, moved: false, gone_since: None };
        if !changed.what.is_nothing() && !self.content.changed.contains(&changed) {
            self.undone(&changed.device);
            self.content.changed.push(changed);
            self.dirty = true;
        }
    }

    /// A device in use has another name or another address by now.
    pub(super) fn follow(&mut self, was: &Sighting, now: &Sighting) {
        for changed in self.content.changed.iter_mut().filter(|changed| changed.device == *was) {
            changed.device.clone_from(now);
            self.dirty = true;
        }
    }

    /// Nothing is changed on the device any more.
    pub(super) fn undone(&mut self, device: &Sighting) {
        let before = self.content.changed.len();
        self.content.changed.retain(|changed| !changed.is_of(device));
        self.dirty |= self.content.changed.len() != before;
    }

    /// The device is not there any more.
    pub(super) fn has_gone(&mut self, device: &Sighting) {
        for changed in self.content.changed.iter_mut().filter(|changed| !changed.moved && changed.is_of(device)) {
            changed.gone_since = Some(Instant::now());
        }
    }

    /// The device was moved to another network namespace: what was changed stays so until it is back.
    pub(super) fn moved_away(&mut self, gone: &Changed) {
        gone.tell_lost("was moved to another network namespace");
        self.strike(gone);
        // Without an address nothing tells it from others.
        if gone.device.mac.is_none() {
            return;
        }
        self.content.changed.retain(|changed| !changed.moved || !changed.is_of(&gone.device));
        let moved = self.content.changed.iter().filter(|changed| changed.moved).count();
        if moved >= MAX_MOVED
            && let Some(first) = self.content.changed.iter().position(|changed| changed.moved)
        {
            self.content.changed.remove(first);
        }
        self.content.changed.push(Changed { moved: true, gone_since: None, ..gone.clone() });
    }

    /// Strikes out one of those that are changed.
    pub(super) fn strike(&mut self, done: &Changed) {
        self.content.changed.retain(|changed| changed != done);
        self.dirty = true;
    }

    /// Everything that is changed.
    pub(super) fn changed(&self) -> &[Changed] {
        &self.content.changed
    }

    /// Writes what is new, and all of it where the file has gone.
    pub(super) fn keep(&mut self) {
        let is_empty = self.content.changed.is_empty() && self.ports.is_empty();
        if !self.dirty && (is_empty || self.file.exists()) {
            return;
        }
        self.content.ports = self.ports.values().cloned().collect();
        self.dirty = !self.file.write(&self.content);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::lasting::LIMIT;
    use super::super::sighting::Mac;
    use super::*;

    /// Where a record goes that cannot be used.
    const ASIDE: &str = "ports.json.damaged";

    fn device(ifindex: u32) -> Sighting {
        Sighting { ifindex, name: format!("eth{ifindex}"), mac: Mac::new([2, 0, 0, 0, 0, 7]), driver: "igb".to_owned() }
    }

    fn off(offloads: &[&str]) -> What {
        What { offloads: offloads.iter().map(|&name| name.to_owned()).collect(), promiscuous: false }
    }

    fn one(dir: &Path) -> Record {
        let mut record = Record::open(dir);
        record.will_change(device(11), off(&["rxvlan", "txvlan"]));
        record.keep();
        record
    }

    #[test]
    fn what_was_changed_is_known_to_the_next_run_until_it_is_undone() {
        let dir = tempfile::tempdir().unwrap();
        drop(one(dir.path()));
        let mut next = Record::open(dir.path());
        assert_eq!(*next.changed_on(&device(11)), off(&["rxvlan", "txvlan"]));
        let renamed = Sighting { name: "wan0".to_owned(), ..device(11) };
        assert_eq!(next.changed_on(&renamed).offloads.len(), 2, "the address is the same");
        let readdressed = Sighting { mac: None, ..device(11) };
        assert_eq!(next.changed_on(&readdressed).offloads.len(), 2, "the name is the same");
        let other = Sighting { name: "wan0".to_owned(), mac: None, ..device(11) };
        assert!(next.changed_on(&other).is_nothing() && next.changed_on(&device(12)).is_nothing());
        next.undone(&device(12));
        next.undone(&device(11));
        next.keep();
        assert!(Record::open(dir.path()).changed().is_empty());
    }

    #[test]
    fn what_is_changed_adds_up_until_it_is_undone() {
        let dir = tempfile::tempdir().unwrap();
        drop(one(dir.path()));
        let mut next = Record::open(dir.path());
        next.will_change(device(11), What { promiscuous: true, ..What::default() });
        next.will_change(device(11), What::default());
        next.keep();
        let last = Record::open(dir.path());
        let all = What { promiscuous: true, ..off(&["rxvlan", "txvlan"]) };
        assert_eq!((last.changed().len(), last.changed_on(&device(11))), (1, &all));
    }

    #[test]
    fn a_device_that_was_moved_is_known_when_it_is_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = one(dir.path());
        let gone = record.changed()[0].clone();
        record.has_gone(&gone.device);
        assert!(record.changed_on(&device(11)).is_nothing(), "what has its names now is another device");
        record.moved_away(&record.changed()[0].clone());
        record.keep();
        let mut next = Record::open(dir.path());
        let back = Sighting { name: "wan0".to_owned(), ..device(31) };
        assert_eq!(*next.changed_on(&back), off(&["rxvlan", "txvlan"]));
        for other in [
            Sighting { mac: Mac::new([2, 0, 0, 0, 0, 8]), ..device(11) },
            Sighting { mac: None, ..device(11) },
            Sighting { driver: "veth".to_owned(), ..device(11) },
        ] {
            assert!(next.changed_on(&other).is_nothing(), "{other:?}");
        }
        // In use again, and put back then.
        next.will_change(back.clone(), off(&["rxvlan"]));
        assert_eq!((next.changed().len(), next.changed()[0].moved), (1, false));
        next.undone(&back);
        assert!(next.changed().is_empty());
    }

    #[test]
    fn of_devices_that_were_moved_the_last_are_known() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = Record::open(dir.path());
        let of = |n: u8| Sighting { mac: Mac::new([2, 0, 0, 0, 1, n]), ..device(11 + u32::from(n)) };
        for n in 0..=MAX_MOVED as u8 {
            record.will_change(of(n), off(&["rxvlan"]));
            record.moved_away(&record.changed().iter().find(|changed| !changed.moved).unwrap().clone());
        }
        assert_eq!(record.changed().len(), MAX_MOVED);
        assert!(record.changed_on(&of(0)).is_nothing() && !record.changed_on(&of(MAX_MOVED as u8)).is_nothing());
        let nameless = Sighting { mac: None, ..device(11) };
        record.will_change(nameless.clone(), off(&["rxvlan"]));
        record.moved_away(&record.changed().iter().find(|changed| !changed.moved).unwrap().clone());
        assert!(record.changed().len() == MAX_MOVED && record.changed_on(&nameless).is_nothing());
    }

    #[test]
    fn ports_are_known_to_the_next_run() {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"[{"ifindex": 11, "name": "eth1", "named": true,
                        "device": {"ifindex": 14, "name": "eth1", "mac": "02:00:00:00:00:0a", "driver": "igb"}},
                       {"ifindex": 12, "name": "", "named": false, "device": null}]"#;
        let ports: Vec<Known> = serde_json::from_str(text).unwrap();
        let ports: BTreeMap<u32, Known> = ports.into_iter().map(|known| (known.ifindex, known)).collect();
        let mut record = Record::open(dir.path());
        record.set_ports(ports.clone());
        record.keep();
        let mut next = Record::open(dir.path());
        assert_eq!(next.ports(), &ports);
        next.set_ports(BTreeMap::new());
        next.keep();
        assert!(Record::open(dir.path()).ports().is_empty());
    }

    #[test]
    fn nothing_is_written_where_nothing_is_changed() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = Record::open(dir.path());
        record.will_change(device(11), off(&[]));
        record.keep();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_record_that_is_gone_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("in");
        let mut record = one(&place);
        std::fs::remove_dir_all(&place).unwrap();
        record.keep();
        assert_eq!(Record::open(&place).changed().len(), 1);
    }

    #[test]
    fn another_boot_and_another_namespace_have_other_devices() {
        for (key, value) in [("boot", serde_json::json!("another")), ("namespace", serde_json::json!(0))] {
            let dir = tempfile::tempdir().unwrap();
            drop(one(dir.path()));
            let path = dir.path().join(FILE);
            let mut content: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let port = serde_json::json!({"ifindex": 11, "name": "eth1", "named": true, "device": device(11)});
            content["ports"] = serde_json::json!([port]);
            content[key] = value;
            std::fs::write(&path, content.to_string()).unwrap();
            let found = Record::open(dir.path());
            assert!(found.changed().is_empty(), "{key}");
            assert_eq!(found.ports().len(), 1, "its name holds");
            assert_eq!(found.ports()[&11].device, None);
        }
    }

    #[test]
    fn a_damaged_record_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let long = format!("{{\"boot\":\"{}\"}}", "x".repeat(LIMIT as usize));
        let bad_mac = r#"{"boot":"b","namespace":1,"changed":[{"device":{"ifindex":1,"name":"a","mac":"x","driver":""},
            "offloads":[]}]}"#;
        for text in ["", "{}", "[1]", "{\"boot\":7}", "\u{0}\u{1}", bad_mac, &long] {
            std::fs::write(&path, text).unwrap();
            assert!(Record::open(dir.path()).changed().is_empty());
            assert!(!path.exists() && dir.path().join(ASIDE).exists(), "{text:.20}");
            drop(one(dir.path()));
            assert_eq!(Record::open(dir.path()).changed().len(), 1);
        }
    }
}
