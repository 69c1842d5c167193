//! Offloads that somebody turns on again under a running dataplane: no frame is without its tag, here or at the monitor.

use std::time::{Duration, Instant};

use spanwire_lab::exchange::{ExchangeSpec, Mirror, run};
use spanwire_lab::topology::{Lab, LabSpec};

use crate::exchange;
use crate::node::{A, B, MON, Node, document, port_of};
use crate::offloads::{are_on, vlan_offloads};
use crate::paths::{Path, on_each_path};

/// Times that they are turned off again, and nothing else follows.
const PATIENCE: usize = 3;

on_each_path!(tags_cross_whatever_somebody_turns_on);

fn turn(lab: &Lab, how: &str) {
    let device = &lab.wire(0).unwrap().a.name;
    lab.dut().exec("ethtool", &["-K", device, "rxvlan", how, "txvlan", how, "rx-vlan-stag-hw-parse", how]).unwrap();
}

fn on(lab: &Lab) -> usize {
    are_on(&vlan_offloads(lab, &lab.wire(0).unwrap().a.name))
}

fn reason(node: &Node) -> (bool, String) {
    let show = node.json(&["show"]);
    let port = port_of(&show, A).expect("the port");
    (port["state"] == "active", port["reason"].as_str().unwrap_or_default().to_owned())
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Tagged frames are among those of every exchange.
fn tags_cross_whatever_somebody_turns_on(path: Path) {
    let lab = path.lab(LabSpec::default());
    let mut node = path.start(&lab, &[]);
    node.import(&document(&[(A, MON, 1)]));
    node.wait_for_ports(&[A, B, MON]);
    let mut turned = 0;
    // Each time is noticed before the next: two that come together count as one.
    let mut turn_on = |seen: bool| {
        if turned < PATIENCE - 1 && seen {
            turn(&lab, "on");
            turned += 1;
        }
    };
    let spec = ExchangeSpec { mirror_a: Some(Mirror::new(1)), ..ExchangeSpec::new(&lab, 31, 4000) };
    let report = run(&lab, &spec, |_| turn_on(path == Path::Tc || on(&lab) == 0)).expect("an exchange");
    assert!(report.holds, "{report}");
    if path == Path::Tc {
        // There a tag is beside its frame, and on veth as it was sent.
        turn(&lab, "on");
        exchange(&lab, 32, 1000, Some(1), None);
        assert!(on(&lab) > 0 && reason(&node) == (true, String::new()));
        node.stop();
        return;
    }
    while turned <= PATIENCE {
        wait_until("they are off", || on(&lab) == 0);
        turn(&lab, "on");
        turned += 1;
        // At the latest with the last time the port is left alone: no frame crosses without its tag.
        wait_until("it is told", || {
            let (active, reason) = reason(&node);
            reason.contains("rxvlan") && (reason.contains(&format!("{turned} of 3 times")) || !active)
        });
    }
    wait_until("it is given up", || {
        let (active, reason) = reason(&node);
        !active && reason.contains("somebody turns rxvlan, rx-vlan-stag-hw-parse on again and again")
    });
    // Until it is turned off by somebody.
    turn(&lab, "off");
    node.wait_for_ports(&[A, B, MON]);
    exchange(&lab, 33, 1000, Some(1), None);
    let log = node.stop();
    assert!(log.contains("that is put back") && log.contains("again and again: frames leave its driver"), "{log}");
}
