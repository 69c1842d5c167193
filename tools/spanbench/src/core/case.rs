//! What is measured: a way of mirroring and how the monitor port fares.

use clap::ValueEnum;
use serde::Serialize;

use crate::rig::Monitor;

/// A case.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    /// As in the rows.
    pub name: &'static str,
    /// 1 in so many frames is mirrored; `None` mirrors nothing.
    pub rate: Option<u32>,
    /// The monitor port, which is there in every case.
    pub monitor: Monitor,
    /// Mirror frames, if not as many as asked for.
    pub mirror: Option<u32>,
}

const fn case(name: &'static str, rate: Option<u32>, monitor: Monitor) -> Case {
    Case { name, rate, monitor, mirror: None }
}

/// Where the packets are that a shard gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum Packets {
    /// Where they were, as if a device had written them past the caches
    #[default]
    Untouched,
    /// Just written on the shard's processor, as the kernel does in copy mode
    Written,
}

/// The name of the first case.
pub(super) const FORWARD: &str = "forward only";

/// The first is what the others are compared with: the same ports, and no mirror entry.
const CASES: [Case; 7] = [
    case(FORWARD, None, Monitor::Healthy),
    case("mirror 1 in 1000", Some(1000), Monitor::Healthy),
    case("mirror all", Some(1), Monitor::Healthy),
    case("mirror all, monitor down", Some(1), Monitor::Down),
    case("mirror all, monitor stalled", Some(1), Monitor::Stalled),
    Case { mirror: Some(1), ..case("mirror 1 in 1000, 1 mirror frame", Some(1000), Monitor::Healthy) },
    Case { mirror: Some(1), ..case("mirror all, 1 mirror frame", Some(1), Monitor::Healthy) },
];

/// The references, which forward and mirror nothing: the one that mirroring is compared with, between pools of the
/// sizes of the partitions; and between no more of them than a shard has in use.
pub(super) const COPIES: [&str; 2] = ["bare copy", "bare copy, in use"];

/// The cases meant by `text`, after the one they are compared with.
pub(super) fn meant(text: &str) -> Vec<Case> {
    let is_name = CASES.iter().any(|case| case.name == text);
    let is_meant = |name: &str| if is_name { name == text } else { name.contains(text) };
    let others = CASES[1..].iter().filter(|case| is_meant(case.name));
    CASES[..1].iter().chain(others).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_name_means_one_case_and_a_part_of_one_several() {
        let names = |text| meant(text).iter().map(|case| case.name).collect::<Vec<_>>();
        assert_eq!(names("forward only"), ["forward only"]);
        assert_eq!(names("mirror all"), ["forward only", "mirror all"]);
        assert_eq!(names("monitor"), ["forward only", "mirror all, monitor down", "mirror all, monitor stalled"]);
        assert_eq!(names("").len(), CASES.len());
        assert_eq!(names("no such case"), ["forward only"]);
    }
}
