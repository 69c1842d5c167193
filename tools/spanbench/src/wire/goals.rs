//! What spanwire is to reach beside each peer.

use spanwire::kernel::path::Path;

use super::report::Case;
use super::system::{Mode, System};
use crate::goal::{Bound, Goal};

/// A path, what it does with which frames (0: any length), a peer, and what a figure is to be over the peer's.
type Wanted = (Path, Mode, usize, System, &'static str, Bound);

const SINK: &str = "max_sink_pps";
const MONITOR: &str = "max_monitor_pps";
const NO_LOSS: &str = "zero_loss_pps";
const P99: &str = "latency_50_p99_ns";
const ANY: usize = 0;

#[rustfmt::skip]
const WANTED: [Wanted; 25] = {
    use Bound::{AtLeast, AtMost};
    use Mode::{Forward, Mirror};
    use System::{Devmap, Testpmd};
    const TC: System = System::Tc;
    [
        // In the kernel: as fast as the kernel's own redirect, which neither looks at frames nor counts them.
        (Path::Xdp, Forward, ANY, Devmap, SINK, AtLeast(0.97)),
        (Path::Xdp, Forward, ANY, Devmap, P99, AtMost(1.2)),
        (Path::Tc, Forward, ANY, TC, SINK, AtLeast(0.97)),
        (Path::Tc, Forward, ANY, TC, P99, AtMost(1.2)),
        // One copy into a ring is less than a frame of the kernel's for each.
        (Path::Xdp, Mirror, 64, Devmap, SINK, AtLeast(1.15)),
        (Path::Xdp, Mirror, 64, Devmap, MONITOR, AtLeast(1.15)),
        (Path::Xdp, Mirror, 1400, Devmap, SINK, AtLeast(1.05)),
        (Path::Xdp, Mirror, 1400, Devmap, MONITOR, AtLeast(1.05)),
        (Path::Xdp, Mirror, ANY, Devmap, P99, AtMost(1.0)),
        (Path::Tc, Mirror, ANY, TC, SINK, AtLeast(1.35)),
        (Path::Tc, Mirror, ANY, TC, MONITOR, AtLeast(1.35)),
        (Path::Tc, Mirror, ANY, TC, P99, AtMost(1.0)),
        (Path::Tc, Mirror, ANY, Devmap, SINK, AtLeast(1.0)),
        (Path::Tc, Mirror, ANY, Devmap, MONITOR, AtLeast(1.0)),
        (Path::Tc, Mirror, ANY, Devmap, P99, AtMost(1.0)),
        // Through a shard: as fast as others who use AF_XDP, and as the kernel where that has no processor of its own.
        (Path::Shard, Forward, ANY, Testpmd, SINK, AtLeast(1.15)),
        (Path::Shard, Forward, ANY, Testpmd, NO_LOSS, AtLeast(1.0)),
        (Path::Shard, Forward, ANY, Testpmd, P99, AtMost(1.0)),
        (Path::Shard, Forward, ANY, Devmap, SINK, AtLeast(1.0)),
        (Path::Shard, Mirror, 64, Devmap, SINK, AtLeast(1.0)),
        (Path::Shard, Mirror, 64, Devmap, MONITOR, AtLeast(1.0)),
        (Path::Shard, Mirror, 64, TC, SINK, AtLeast(1.2)),
        (Path::Shard, Mirror, 64, TC, MONITOR, AtLeast(1.2)),
        (Path::Shard, Mirror, 1400, TC, SINK, AtLeast(1.0)),
        (Path::Shard, Mirror, 1400, TC, MONITOR, AtLeast(1.0)),
    ]
};

/// The goals of what was measured.
pub(super) fn of(cases: &[Case]) -> Vec<Goal> {
    cases.iter().flat_map(of_case).collect()
}

fn of_case(case: &Case) -> Vec<Goal> {
    let meant = |&&(path, mode, bytes, peer, ..): &&Wanted| {
        let measured = |wanted: System| case.systems.iter().any(|runs| runs.system == wanted);
        mode == case.mode && [ANY, case.bytes].contains(&bytes) && measured(System::Spanwire(path)) && measured(peer)
    };
    let goal = |&(path, _, _, peer, figure, bound): &Wanted| {
        let ours = System::Spanwire(path);
        let ratios = case.ratios.iter().find(|ratios| (ratios.system, ratios.peer) == (ours, peer));
        let spread = ratios.and_then(|ratios| ratios.figures.get(figure)).copied();
        let what = format!("{}: {figure}, {} / {}", case.title(), ours.as_str(), peer.as_str());
        Goal::new(what, bound, spread)
    };
    WANTED.iter().filter(meant).map(goal).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::Spread;
    use crate::wire::report::Ratios;

    fn case(mode: Mode, bytes: usize) -> Case {
        let systems = [System::Spanwire(Path::Xdp), System::Spanwire(Path::Shard), System::Devmap, System::Bridge];
        Case::new(mode, bytes, &systems)
    }

    #[test]
    fn goals_are_of_the_systems_the_mode_and_the_length_that_were_measured() {
        let of = |mode, bytes| of_case(&case(mode, bytes)).into_iter().map(|goal| goal.what).collect::<Vec<_>>();
        let forward = of(Mode::Forward, 64);
        assert_eq!(forward.len(), 3, "xdp twice, shard once; tc and testpmd are not there: {forward:?}");
        assert!(forward[0].contains("forward, 64 bytes: max_sink_pps, spanwire (xdp) / devmap"), "{forward:?}");
        assert_eq!(of(Mode::Mirror, 64).len(), 5);
        assert_eq!(of(Mode::Mirror, 1400).len(), 3);
        assert_eq!(of(Mode::Mirror, 512).len(), 1, "the latency");
    }

    #[test]
    fn a_goal_is_of_the_ratio_of_its_own_path_and_peer() {
        let mut case = case(Mode::Forward, 64);
        let spread = |median: f64| Spread { runs: 5, median, min: median, max: median };
        let mut add = |system, median| {
            let figures = [(SINK.to_owned(), spread(median))].into();
            case.ratios.push(Ratios { system, peer: System::Devmap, figures });
        };
        add(System::Spanwire(Path::Shard), 1.01);
        add(System::Spanwire(Path::Xdp), 0.96);
        let met: Vec<_> = of_case(&case).into_iter().map(|goal| goal.met).collect();
        assert_eq!(met, [Some(false), None, Some(true)]);
    }
}
