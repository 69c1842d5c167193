//! The devices that are taken down for the link of their wire's other port: `links.json` beside the regions.
//!
//! ```text
//! {"boot": "…", "namespace": 7, "taken_down": [{"ifindex": 12, "name": "eth2", "mac": "02:…", "driver": "igb"}]}
//! ```
//!
//! A device is on record before it is taken down and is struck out once it is up again, so that a later run takes up what
//! one that was killed left down. It is a file of its own, since the thread that follows links writes it and waits for
//! nobody.

use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::lasting::{Lasting, Origin};
use super::sighting::{Mac, Sighting};
use crate::devices::Device;

/// Name of the record in the directory.
const FILE: &str = "links.json";

/// The file's content.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Content {
    #[serde(flatten)]
    origin: Origin,
    #[serde(default)]
    taken_down: Vec<Taken>,
}

/// A device that is taken down.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Taken {
    #[serde(flatten)]
    pub(super) device: Sighting,
    /// Since when; `None` of what an earlier run took down.
    #[serde(skip)]
    pub(super) since: Option<Instant>,
}

/// The record of one directory.
#[derive(Debug)]
pub(super) struct TakenRecord {
    file: Lasting,
    content: Content,
    /// Whether the file says something else.
    dirty: bool,
}

impl TakenRecord {
    /// What an earlier run in this namespace left in `dir`.
    pub(super) fn open(dir: &Path) -> TakenRecord {
        let file = Lasting::of(dir, FILE);
        let content = Content { origin: Origin::here(), ..Content::default() };
        let mut record = TakenRecord { file, content, dirty: false };
        if let Some(found) = record.file.read::<Content>() {
            record.take_over(found);
        }
        record
    }

    fn take_over(&mut self, found: Content) {
        if found.origin == self.content.origin {
            self.content.taken_down = found.taken_down;
            return;
        }
        self.dirty = true;
        // After a boot every device is as it is set up then.
        let same_boot = found.origin.boot == self.content.origin.boot;
        for Taken { device, .. } in found.taken_down.iter().filter(|_| same_boot) {
            tracing::warn!(
                "{device} is in another network namespace, where spanwired was killed: it stays down if it still exists \
                 (ip link set {} up)",
                device.name
            );
        }
    }

    /// All that are taken down.
    pub(super) fn all(&self) -> &[Taken] {
        &self.content.taken_down
    }

    /// The device of this ifindex, if it is taken down.
    pub(super) fn get(&self, ifindex: u32) -> Option<&Taken> {
        self.all().iter().find(|taken| taken.device.ifindex == ifindex)
    }

    /// A device is about to be taken down.
    pub(super) fn add(&mut self, device: Sighting, now: Instant) {
        self.content.taken_down.push(Taken { device, since: Some(now) });
        self.dirty = true;
    }

    /// The device of this ifindex is not taken down any more.
    pub(super) fn strike(&mut self, ifindex: u32) {
        self.content.taken_down.retain(|taken| taken.device.ifindex != ifindex);
        self.dirty = true;
    }

    /// Takes over the present name and address of a device.
    pub(super) fn follow(&mut self, now: &Device) {
        let known = self.content.taken_down.iter_mut().map(|taken| &mut taken.device);
        for device in known.filter(|device| device.ifindex == now.ifindex && !device.is_quite(now)) {
            device.name.clone_from(&now.name);
            device.mac = now.mac.and_then(Mac::new);
            self.dirty = true;
        }
    }

    /// Writes what is new, and all of it where the file has gone. Whether the file says what holds.
    pub(super) fn keep(&mut self) -> bool {
        if self.dirty || !(self.all().is_empty() || self.file.exists()) {
            self.dirty = !self.file.write(&self.content);
        }
        !self.dirty
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn device(ifindex: u32) -> Sighting {
        Sighting { ifindex, name: format!("eth{ifindex}"), mac: Mac::new([2, 0, 0, 0, 0, 7]), driver: "igb".to_owned() }
    }

    fn known(record: &TakenRecord) -> Vec<&Sighting> {
        record.all().iter().map(|taken| &taken.device).collect()
    }

    #[test]
    fn what_was_taken_down_is_known_to_the_next_run_until_it_is_up() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = TakenRecord::open(dir.path());
        assert!(record.keep() && !dir.path().join(FILE).exists(), "nothing is written where nothing is taken down");
        [11, 12].into_iter().for_each(|ifindex| record.add(device(ifindex), Instant::now()));
        assert!(record.keep());
        let mut next = TakenRecord::open(dir.path());
        assert_eq!(known(&next), [&device(11), &device(12)]);
        assert!(next.get(11).unwrap().since.is_none() && next.get(13).is_none());
        next.strike(11);
        next.follow(&Device { ifindex: 12, name: "wan0".to_owned(), mac: Some([2; 6]), ..Device::default() });
        assert!(next.keep());
        let renamed = Sighting { name: "wan0".to_owned(), mac: Mac::new([2; 6]), ..device(12) };
        assert_eq!(known(&TakenRecord::open(dir.path())), [&renamed]);
        std::fs::remove_file(dir.path().join(FILE)).unwrap();
        assert!(next.keep());
        assert_eq!(known(&TakenRecord::open(dir.path())), [&renamed], "written again where it has gone");
    }

    #[test]
    fn another_boot_and_another_namespace_have_other_devices() {
        for (key, value) in [("boot", serde_json::json!("another")), ("namespace", serde_json::json!(0))] {
            let dir = tempfile::tempdir().unwrap();
            let mut record = TakenRecord::open(dir.path());
            record.add(device(11), Instant::now());
            assert!(record.keep());
            let path = dir.path().join(FILE);
            let mut content: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            content[key] = value;
            std::fs::write(&path, content.to_string()).unwrap();
            assert!(TakenRecord::open(dir.path()).all().is_empty(), "{key}");
        }
    }

    #[test]
    fn a_damaged_record_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), r#"{"boot":"b","namespace":1,"taken_down":[{"ifindex":"x"}]}"#).unwrap();
        assert!(TakenRecord::open(dir.path()).all().is_empty());
        assert!(!dir.path().join(FILE).exists() && dir.path().join("links.json.damaged").exists());
    }

    #[test]
    fn a_record_that_cannot_be_written_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("in");
        let mut record = TakenRecord::open(&place);
        // No directory can be made there.
        std::fs::write(&place, "").unwrap();
        record.add(device(11), Instant::now());
        assert!(!record.keep());
        record.strike(11);
        std::fs::remove_file(&place).unwrap();
        assert!(record.keep());
    }
}
