//! What is measured: a way of mirroring and how the monitor port fares.

use clap::ValueEnum;
use serde::Serialize;

use crate::rig::Monitor;

/// What a shard does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Does {
    /// Forwards frames, and mirrors 1 in so many of them; `None` mirrors nothing.
    Forward(Option<u32>),
    /// Makes a clone of each record that the kernel has put into its clone ring, and forwards nothing.
    Clone,
}

/// A case.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    /// As in the rows.
    pub name: &'static str,
    /// What the shard does.
    pub does: Does,
    /// The monitor port, which is there in every case.
    pub monitor: Monitor,
    /// Mirror frames, if not as many as asked for.
    pub mirror: Option<u32>,
}

const fn case(name: &'static str, rate: Option<u32>, monitor: Monitor) -> Case {
    Case { name, does: Does::Forward(rate), monitor, mirror: None }
}

const fn clones(name: &'static str, monitor: Monitor) -> Case {
    Case { name, does: Does::Clone, monitor, mirror: None }
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

/// The kernel path: every frame was selected.
const FROM_RING: &str = "clone from a ring";

/// The first is what the others are compared with: the same ports, and no mirror entry.
const CASES: [Case; 10] = [
    case(FORWARD, None, Monitor::Healthy),
    case("mirror 1 in 1000", Some(1000), Monitor::Healthy),
    case("mirror all", Some(1), Monitor::Healthy),
    case("mirror all, monitor down", Some(1), Monitor::Down),
    case("mirror all, monitor stalled", Some(1), Monitor::Stalled),
    Case { mirror: Some(1), ..case("mirror 1 in 1000, 1 mirror frame", Some(1000), Monitor::Healthy) },
    Case { mirror: Some(1), ..case("mirror all, 1 mirror frame", Some(1), Monitor::Healthy) },
    clones(FROM_RING, Monitor::Healthy),
    clones("clone from a ring, monitor stalled", Monitor::Stalled),
    Case { mirror: Some(1), ..clones("clone from a ring, 1 mirror frame", Monitor::Healthy) },
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
        assert_eq!(names("clone from a ring"), ["forward only", "clone from a ring"]);
        let all = ["mirror all, monitor down", "mirror all, monitor stalled", "clone from a ring, monitor stalled"];
        assert_eq!(names("monitor")[1..], all);
        assert_eq!(names("").len(), CASES.len());
        assert_eq!(names("no such case"), ["forward only"]);
    }
}
