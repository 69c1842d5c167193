//! What was changed on a device, and is to be undone.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::sighting::Sighting;

/// What was changed on a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Changed {
    pub(super) device: Sighting,
    /// VLAN offloads that were on, as `ethtool -K` names them.
    pub(super) offloads: Vec<String>,
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
        tracing::warn!(
            "{} {why}: its VLAN offloads stay off if it still exists (ethtool -K {} {})",
            self.device,
            self.device.name,
            self.offloads.iter().map(|name| format!("{name} on")).collect::<Vec<_>>().join(" ")
        );
    }
}
