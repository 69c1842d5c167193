//! Clones that find no room: a monitor whose far end reads nothing, and next to no frames to make them in. The wire pays
//! nothing, and each clone is accounted for at any time.

use spanwire_lab::exchange::{ExchangeSpec, run};
use spanwire_lab::topology::{Lab, LabSpec};

use crate::node::{A, B, MON, check_ledgers, document, mirror_of};
use crate::paths::{Path, on_each_path};

on_each_path!(a_monitor_that_stalls_costs_the_wire_nothing, next_to_no_mirror_frames_cost_the_wire_nothing);

const FRAMES: u32 = 15_000;

/// Mirrors every frame both ways, whatever has become of the monitor, and returns the clones that were dropped. What is
/// returned of the monitor is kept until the frames have crossed.
fn cross<T>(path: Path, args: &[&str], befall: impl FnOnce(&Lab) -> T) -> u64 {
    let lab = path.lab(LabSpec::default());
    let node = path.start(&lab, args);
    node.import(&document(&[(A, MON, 1), (B, MON, 1)]));
    node.wait_for_ports(&[A, B, MON]);
    let state = befall(&lab);
    let spec = ExchangeSpec { monitor: None, ..ExchangeSpec::new(&lab, 71, FRAMES) };
    let report = std::thread::scope(|scope| {
        let traffic = scope.spawn(|| run(&lab, &spec, |_| ()).unwrap());
        while !traffic.is_finished() {
            check_ledgers(&node.json(&["stats"]));
        }
        traffic.join().unwrap()
    });
    assert!(report.holds, "{report}");
    drop(state);
    let stats = node.settled_stats();
    let dropped = [A, B].map(|ingress| {
        let entry = mirror_of(&stats, ingress);
        assert_eq!((&entry["observed"], &entry["selected"]), (&FRAMES.into(), &FRAMES.into()), "{entry}");
        u64::from(FRAMES) - entry["mirrored_packets"].as_u64().unwrap()
    });
    dropped.iter().sum()
}

fn a_monitor_that_stalls_costs_the_wire_nothing(path: Path) {
    // A socket that nobody reads keeps what comes.
    cross(path, &[], |lab| lab.sender(lab.monitor(0).unwrap()).unwrap());
}

fn next_to_no_mirror_frames_cost_the_wire_nothing(path: Path) {
    let dropped = cross(path, &["--mirror-frames", "2", "--clone-ring", "131072"], |_| ());
    assert!(dropped > 0, "all found room");
}
