//! What was changed on a device, and is to be undone.

use std::fmt;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::sighting::Sighting;

/// What is otherwise on a device for as long as it is a port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct What {
    /// Offloads that were on, as `ethtool -K` names them, and are off.
    #[serde(default)]
    pub(super) offloads: Vec<String>,
    /// Whether it was not promiscuous, and is (`ip link set promisc on`).
    #[serde(default)]
    pub(super) promiscuous: bool,
}

impl What {
    pub(super) fn is_nothing(&self) -> bool {
        self.offloads.is_empty() && !self.promiscuous
    }

    /// This and more.
    pub(super) fn and(mut self, more: What) -> What {
        self.offloads.extend(more.offloads);
        self.offloads.sort_unstable();
        self.offloads.dedup();
        self.promiscuous |= more.promiscuous;
        self
    }

    /// This without what is among those.
    pub(super) fn without(mut self, those: &What) -> What {
        self.offloads.retain(|offload| !those.offloads.contains(offload));
        self.promiscuous &= !those.promiscuous;
        self
    }

    /// How an operator undoes it on the device of this name.
    fn undone_by(&self, name: &str) -> String {
        let on: String = self.offloads.iter().map(|offload| format!(" {offload} on")).collect();
        let offloads = (!on.is_empty()).then(|| format!("ethtool -K {name}{on}"));
        let flag = self.promiscuous.then(|| format!("ip link set {name} promisc off"));
        offloads.into_iter().chain(flag).collect::<Vec<_>>().join("; ")
    }
}

/// `offloads and promiscuity`
impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.offloads.is_empty(), self.promiscuous) {
            (true, true) => "promiscuity",
            (false, true) => "offloads and promiscuity",
            (_, false) => "offloads",
        })
    }
}

/// What was changed on a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Changed {
    pub(super) device: Sighting,
    #[serde(flatten)]
    pub(super) what: What,
    /// Whether it was moved to another network namespace. Back it may have another ifindex and another name.
    #[serde(default)]
    pub(super) moved: bool,
    /// Since when it is known to be gone. What has its names then is another device, made in its place.
    #[serde(skip)]
    pub(super) gone_since: Option<Instant>,
}

impl Changed {
    /// Whether this was changed on `device`, which is there now.
    pub(super) fn is_of(&self, device: &Sighting) -> bool {
        if self.moved { self.device.is_back_as(device) } else { self.gone_since.is_none() && self.device.is(device) }
    }

    /// Whether this was changed on `device`, which is there no more.
    pub(super) fn is_gone(&self, device: &Sighting) -> bool {
        self.gone_since.is_some() && self.device == *device
    }

    /// Says that what was changed stays, since the device cannot be reached.
    pub(super) fn tell_lost(&self, why: &str) {
        tracing::warn!("{}", self.lost(why));
    }

    /// That what was changed stays, and what undoes it.
    pub(super) fn lost(&self, why: &str) -> String {
        let Changed { device, what, .. } = self;
        let how = what.undone_by(&device.name);
        format!("{device} {why}: {what} left as set, if it still exists ({how})")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn what(offloads: &[&str], promiscuous: bool) -> What {
        What { offloads: offloads.iter().map(|&name| name.to_owned()).collect(), promiscuous }
    }

    #[test]
    fn what_an_operator_has_to_undo_is_told() {
        let told = |what: What| (what.to_string(), what.undone_by("eth1"));
        let own = |name: &str, by: &str| (name.to_owned(), by.to_owned());
        assert_eq!(told(what(&["rxvlan"], false)), own("offloads", "ethtool -K eth1 rxvlan on"));
        assert_eq!(told(what(&[], true)), own("promiscuity", "ip link set eth1 promisc off"));
        let both = "ethtool -K eth1 rxvlan on txvlan on; ip link set eth1 promisc off";
        assert_eq!(told(what(&["rxvlan", "txvlan"], true)), own("offloads and promiscuity", both));
    }

    #[test]
    fn more_is_added_and_nothing_twice() {
        let all = what(&["txvlan"], false).and(what(&["rxvlan", "txvlan"], true)).and(What::default());
        assert_eq!(all, what(&["rxvlan", "txvlan"], true));
        assert_eq!(all.clone().without(&what(&["rxvlan"], false)), what(&["txvlan"], true));
        assert_eq!(all.clone().without(&what(&["lro"], true)), what(&["rxvlan", "txvlan"], false));
        assert!(all.clone().without(&all).is_nothing());
        assert!(What::default().is_nothing() && !all.is_nothing() && !what(&[], true).is_nothing());
    }

    #[test]
    fn a_record_of_an_older_release_is_read() {
        let old =
            r#"{"device": {"ifindex": 14, "name": "eth1", "mac": null, "driver": "igb"}, "offloads": ["rxvlan"]}"#;
        let read: Changed = serde_json::from_str(old).unwrap();
        assert_eq!((read.what, read.moved), (what(&["rxvlan"], false), false));
    }
}
