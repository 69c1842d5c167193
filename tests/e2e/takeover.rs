//! A run that finds the selectors of an earlier one: what it cannot take over crosses on as it did.

use std::time::{Duration, Instant};

use spanwire_lab::topology::LabSpec;

use crate::foreign::crosses;
use crate::node::{A, B, Node, document, port_of};
use crate::promiscuity::flags;
use crate::survival::{HOOKS, kernel_lab};

/// From too few to begin with to as many as are needed.
#[test]
fn descriptors_that_are_short_leave_what_crosses_as_it_is() {
    for hook in HOOKS {
        let lab = kernel_lab(LabSpec::default());
        let mut node = Node::idle();
        node.publish(&document(&[]));
        node.launch(&lab, &["--path", hook]);
        node.wait_for_ports(&[A, B]);
        let needed = std::fs::read_dir(format!("/proc/{}/fd", node.pid())).unwrap().count();
        let mut short = 0;
        for files in (needed - 8..needed + 12).step_by(2) {
            if node.is_running() {
                node.kill();
            }
            let limit = format!("--nofile={files}:{files}");
            node.adopt(&mut node.run_by(&lab, "prlimit", &[&limit], &["--path", hook]));
            // Until it has ended, or has said of both ports what they are.
            let start = Instant::now();
            while node.is_running() && !is_told(&node) && start.elapsed() < Duration::from_secs(60) {
                std::thread::sleep(Duration::from_millis(20));
            }
            short += usize::from(!node.is_running() || !is_told_active(&node));
            assert_eq!(flags(&lab), [true; 2], "{hook}: {files} descriptors of {needed}");
            assert!(crosses(&lab, 96), "{hook}: {files} descriptors of {needed}");
        }
        eprintln!("{hook}: {short} of 10 starts had too few descriptors");
        if node.is_running() {
            node.kill();
        }
        node.launch(&lab, &["--path", hook]);
        node.wait_for_ports(&[A, B]);
        node.stop();
    }
}

/// What it tells of the wire's ports, if it tells.
fn told(node: &Node) -> Option<[(String, String); 2]> {
    let output = node.spanctl(&["--json", "show"]);
    let show: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    (show["dataplane"]["pid"] == node.pid() && show["dataplane"]["running"] == true).then_some(())?;
    let text = |port: &serde_json::Value, key: &str| port[key].as_str().unwrap_or_default().to_owned();
    let of = |port| port_of(&show, port).map(|port| (text(port, "state"), text(port, "reason")));
    Some([of(A)?, of(B)?])
}

fn is_told(node: &Node) -> bool {
    told(node).is_some_and(|told| {
        told.iter().all(|(state, reason)| state == "active" || !(reason.is_empty() || reason == "not attached yet"))
    })
}

fn is_told_active(node: &Node) -> bool {
    told(node).is_some_and(|told| told.iter().all(|(state, _)| state == "active"))
}
