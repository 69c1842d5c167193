//! A monitor whose device refuses clones.

use std::time::Duration;

use serde_json::Value;
use spanwire_lab::exchange::{ExchangeSpec, run};
use spanwire_lab::topology::LabSpec;

use crate::node::{A, B, MON, check_ledgers, document, mirror_of};
use crate::paths::{Path, on_each_path};

on_each_path!(a_clone_that_the_monitors_device_refuses_is_not_a_mirrored_one);

fn at(row: &Value, key: &str) -> u64 {
    row[key].as_u64().unwrap_or_else(|| panic!("{key} in {row}"))
}

fn a_clone_that_the_monitors_device_refuses_is_not_a_mirrored_one(path: Path) {
    let lab = path.lab(LabSpec::default());
    // A pair of veth refuses what the other end's MTU does not take.
    let monitor = lab.monitor(0).unwrap();
    lab.ns(monitor.host).ip(&["link", "set", &monitor.host_name, "mtu", "500"]).unwrap();
    let node = path.start(&lab, &[]);
    node.import(&document(&[(A, MON, 1)]));
    node.wait_for_ports(&[A, B, MON]);
    let seen = lab.capture(monitor).unwrap();
    let report = std::thread::scope(|scope| {
        let traffic =
            scope.spawn(|| run(&lab, &ExchangeSpec { monitor: None, ..ExchangeSpec::new(&lab, 12, 6000) }, |_| ()));
        while !traffic.is_finished() {
            check_ledgers(&node.json(&["stats"]));
            std::thread::sleep(Duration::from_millis(20));
        }
        traffic.join().unwrap().unwrap()
    });
    assert!(report.holds, "{report}");
    let stats = node.settled_stats();
    let entry = mirror_of(&stats, A);
    let mirrored = at(entry, "mirrored_packets");
    let seen = seen.finish(mirrored as usize, Duration::from_secs(5)).unwrap();
    assert_eq!(seen.drops, 0, "the capture's own");
    let bytes: usize = seen.frames.iter().map(Vec::len).sum();
    assert_eq!(mirrored, seen.frames.len() as u64, "{entry}");
    // Where something else completes in the moment after a kick, the wrong one of two is taken for refused.
    let told = at(entry, "mirrored_bytes");
    assert!(told.abs_diff(bytes as u64) <= bytes as u64 / 50, "{bytes} bytes came: {entry}");
    // Those for which there was no room, on a machine that is busy, the device never saw.
    let refused = 6000 - mirrored - at(entry, "mirror_drops_queue_full") - at(entry, "mirror_drops_no_frame");
    assert_eq!((at(entry, "selected"), at(entry, "mirror_drops_refused")), (6000, refused), "{entry}");
    assert!(mirrored > 0 && mirrored < 6000, "some frames are longer than the MTU, and some are not: {entry}");
    let ports = stats["ports"].as_array().unwrap();
    let port = ports.iter().find(|port| port["ifindex"] == MON).unwrap();
    let sent = ["tx_packets", "tx_bytes", "tx_lost"].map(|key| at(port, key));
    assert_eq!(sent, [mirrored, told, refused], "{port}");
}
