//! A port has Ethernet frames, whatever the snapshot says.

use std::time::Duration;

use shm_layout::header::RegionKind;
use spanwire::region::{CONFIG_FILE, Publisher};
use spanwire_lab::topology::LabSpec;

use crate::compiled;
use crate::node::{A, MON, Node, document_with, lab, port_of};

#[test]
fn a_device_without_ethernet_frames_is_refused_and_named() {
    let lab = lab(LabSpec::default());
    lab.dut().ip(&["tuntap", "add", "dev", "packets0", "mode", "tun"]).unwrap();
    let links = String::from_utf8(lab.dut().ip(&["-o", "link", "show", "packets0"]).unwrap().stdout).unwrap();
    let tun: u32 = links.split(':').next().unwrap().trim().parse().unwrap();
    let node = Node::start(&lab, &[]);
    node.wait_for_running();
    // As from a control plane that does not look at devices.
    let mut publisher =
        Publisher::open(node.dir.path(), CONFIG_FILE, RegionKind::Config, Duration::from_secs(60)).unwrap();
    publisher.publish(&mut compiled(&document_with(&[(A, tun)], &[(A, MON, 1)], ""))).unwrap();
    let show = node.wait_for("the refusal", |show| {
        port_of(show, tun).is_some_and(|port| port["reason"].as_str().unwrap().contains("no Ethernet device"))
    });
    let port = port_of(&show, tun).unwrap();
    assert_eq!(port["state"], "inactive", "{port}");
    let reason = port["reason"].as_str().unwrap();
    for want in [format!("packets0 (ifindex {tun})"), "hardware type is 65534".to_owned()] {
        assert!(reason.contains(&want), "{reason}");
    }
}
