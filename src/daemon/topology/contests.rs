//! Offloads that somebody turns on again while a port needs them off, and when that is fought no more.
//!
//! Until one is off again, milliseconds later, a driver takes tags off frames that cross without them. Once in a while that is
//! an accident. Again and again it is somebody's wish, and the port has to do without: its wire is carried at tc, where a tag
//! is beside its frame, or not at all.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::sighting::Sighting;

/// How often an offload is turned off again, and nothing else follows from it.
const PATIENCE: usize = 3;
/// How long each time counts.
const MEMORY: Duration = Duration::from_secs(3600);
/// How long after the last time it is shown.
const SHOWN: Duration = Duration::from_secs(60);

/// What was turned on again on one device.
#[derive(Debug)]
struct Contest {
    device: Sighting,
    /// As `ethtool -K` names them.
    what: String,
    /// When, the last at the end.
    times: Vec<Instant>,
    is_lost: bool,
}

/// By the ifindexes of devices.
#[derive(Debug, Default)]
pub(super) struct Contests(BTreeMap<u32, Contest>);

impl Contests {
    /// Somebody has turned these on. Whether that is to be fought no more.
    pub(super) fn note(&mut self, device: &Sighting, what: String, now: Instant) -> bool {
        let fresh = || Contest { device: device.clone(), what: String::new(), times: Vec::new(), is_lost: false };
        let contest = self.0.entry(device.ifindex).or_insert_with(fresh);
        if !contest.device.is(device) {
            *contest = fresh();
        }
        contest.times.retain(|time| now.duration_since(*time) < MEMORY);
        contest.times.push(now);
        contest.what = what;
        contest.is_lost |= contest.times.len() > PATIENCE;
        contest.is_lost
    }

    /// What is not fought for any more on a device, as `ethtool -K` names it.
    pub(super) fn lost(&self, device: &Sighting) -> Option<&str> {
        let contest = self.0.get(&device.ifindex).filter(|contest| contest.is_lost && contest.device.is(device));
        contest.map(|contest| contest.what.as_str())
    }

    /// What is to be known of it; empty for nothing.
    pub(super) fn remark(&self, device: &Sighting, now: Instant) -> String {
        let Some(Contest { what, times, is_lost, .. }) = self.0.get(&device.ifindex).filter(|of| of.device.is(device))
        else {
            return String::new();
        };
        match times.last() {
            _ if *is_lost => format!("somebody turns {what} on again and again"),
            Some(&last) if now.duration_since(last) < SHOWN => {
                format!(
                    "somebody has turned {what} on, which is turned off again ({} of {PATIENCE} times)",
                    times.len()
                )
            }
            _ => String::new(),
        }
    }

    /// Forgets the devices that are not there any more.
    pub(super) fn retain(&mut self, is_there: impl Fn(u32) -> bool) {
        self.0.retain(|&ifindex, _| is_there(ifindex));
    }
}

#[cfg(test)]
mod tests {
    use super::super::sighting::Mac;
    use super::*;

    fn device(ifindex: u32) -> Sighting {
        let mac = Mac::new([2, 0, 0, 0, 0, ifindex as u8]);
        Sighting { ifindex, name: format!("eth{ifindex}"), mac, driver: "igb".to_owned() }
    }

    fn note(contests: &mut Contests, of: &Sighting, now: Instant) -> bool {
        contests.note(of, "rxvlan".to_owned(), now)
    }

    #[test]
    fn what_comes_again_and_again_is_fought_no_more() {
        let (mut contests, start) = (Contests::default(), Instant::now());
        let (one, other) = (device(1), device(2));
        for time in 1..=PATIENCE {
            assert!(!note(&mut contests, &one, start) && contests.lost(&one).is_none(), "{time}");
            assert!(contests.remark(&one, start).contains(&format!("({time} of 3 times)")));
        }
        assert!(contests.remark(&one, start + SHOWN).is_empty() && contests.remark(&other, start).is_empty());
        assert!(note(&mut contests, &one, start) && !note(&mut contests, &other, start));
        assert_eq!((contests.lost(&one), contests.lost(&other)), (Some("rxvlan"), None));
        assert!(contests.remark(&one, start + 2 * MEMORY).contains("again and again"));
        assert!(note(&mut contests, &one, start + 2 * MEMORY), "for good");
        contests.retain(|ifindex| ifindex != 1);
        assert!(contests.lost(&one).is_none());
    }

    #[test]
    fn what_comes_now_and_then_is_an_accident() {
        let (mut contests, start) = (Contests::default(), Instant::now());
        assert!((0..20).all(|time| !note(&mut contests, &device(1), start + time * MEMORY / 3)));
    }

    #[test]
    fn another_device_begins_anew() {
        let (mut contests, start) = (Contests::default(), Instant::now());
        while !note(&mut contests, &device(1), start) {}
        let renamed = Sighting { name: "wan0".to_owned(), ..device(1) };
        assert!(contests.lost(&renamed).is_some());
        let other = Sighting { name: "wan0".to_owned(), mac: None, ..device(1) };
        assert!(contests.lost(&other).is_none() && contests.remark(&other, start).is_empty());
        assert!(!note(&mut contests, &other, start));
    }
}
