//! What comes again and again fills no log.

use spanwire_lab::topology::LabSpec;

use crate::node::{A, B, document, port_of};
use crate::paths::{Path, on_each_path};

on_each_path!(long xdp: a_link_that_flaps_is_told_of_now_and_then);

fn a_link_that_flaps_is_told_of_now_and_then(path: Path) {
    const FLAPS: usize = 15;
    let lab = path.lab(LabSpec::default());
    let mut node = path.start(&lab, &[]);
    node.import(&document(&[]));
    node.wait_for_ports(&[A, B]);
    let port = &lab.wire(0).unwrap().a;
    for _ in 0..FLAPS {
        for (to, state) in [("down", "inactive"), ("up", "active")] {
            lab.ns(port.host).ip(&["link", "set", &port.host_name, to]).unwrap();
            node.wait_for(to, |show| port_of(show, A).is_some_and(|port| port["state"] == state));
        }
    }
    let log = node.stop();
    let of_port: Vec<&str> = log.lines().filter(|line| line.contains(&format!("port {}: ", port.name))).collect();
    let changes = of_port.iter().filter(|line| line.contains(", MTU ")).count();
    assert!((7..FLAPS).contains(&changes), "{changes} lines for {} changes: {of_port:#?}", 2 * FLAPS);
    assert!(log.contains(&format!("port {}: ifindex {B}", lab.wire(0).unwrap().b.name)), "no other port pays: {log}");
}
