//! A port that could not be attached, and how long it is left alone.

use std::time::{Duration, Instant};

use crate::devices::Device;

/// How long it is left alone the first time.
const FIRST_REST: Duration = Duration::from_millis(20);
/// And at most, in the end. Each time it is twice as long as the time before.
const LONGEST_REST: Duration = Duration::from_secs(4);

/// Such a port.
#[derive(Debug)]
pub(super) struct Failed {
    since: Instant,
    /// How long it is left alone from then on.
    pub(super) rest: Duration,
    /// The device it failed on.
    device: Option<Device>,
    /// Whether it is left alone also when that has changed.
    pub(super) whatever: bool,
    /// Why.
    pub(super) reason: String,
}

impl Failed {
    /// It failed just now on a device, and perhaps `before`.
    pub(super) fn now(device: Option<Device>, reason: String, before: Option<&Failed>) -> Failed {
        let before = before.filter(|before| before.is_on(&device));
        let rest = before.map_or(FIRST_REST, |before| (2 * before.rest).min(LONGEST_REST));
        Failed { since: Instant::now(), rest, device, whatever: false, reason }
    }

    /// Whether it failed on this device, as it is now.
    pub(super) fn is_on(&self, device: &Option<Device>) -> bool {
        self.device == *device
    }

    /// How long it is still left alone.
    pub(super) fn rest_left(&self) -> Duration {
        self.rest.saturating_sub(self.since.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_the_same_device_it_rests_longer_each_time() {
        let device = |ifindex| Some(Device { ifindex, ..Device::default() });
        let fail = |ifindex, before: Option<&Failed>| Failed::now(device(ifindex), String::new(), before);
        let first = fail(1, None);
        let (second, other) = (fail(1, Some(&first)), fail(2, Some(&first)));
        assert_eq!([first.rest, second.rest, other.rest], [FIRST_REST, 2 * FIRST_REST, FIRST_REST]);
        assert_eq!((0..20).fold(second, |before, _| fail(1, Some(&before))).rest, LONGEST_REST);
    }
}
