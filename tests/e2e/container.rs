//! A dataplane or a server in a PID namespace of its own, as in a container: it has another number there, or one that somebody
//! else has here.

use std::process::Command;
use std::time::Duration;

use serde_json::json;
use spanwire_lab::topology::LabSpec;

use crate::exchange;
use crate::node::{A, B, MON, Node, document, lab, program};
use crate::script::Producer;

/// What gives a program PID namespace and /proc of its own; it ends when this does.
fn contained(program: &Command) -> Vec<String> {
    let words = ["--pid", "--fork", "--kill-child", "--mount-proc"].map(str::to_owned);
    let program = std::iter::once(program.get_program()).chain(program.get_args());
    words.into_iter().chain(program.map(|word| word.to_string_lossy().into_owned())).collect()
}

#[test]
fn a_dataplane_in_another_pid_namespace_is_alive_and_seen_through() {
    let lab = lab(LabSpec::default());
    let mut node = Node::idle();
    let mut spanwired = Command::new(env!("CARGO_BIN_EXE_spanwired"));
    spanwired.arg("--dir").arg(node.dir.path());
    node.adopt(lab.dut().command("unshare").args(contained(&spanwired)));
    node.import(&document(&[(A, MON, 1)]));
    node.wait_for_ports(&[A, B, MON]);
    let dataplane = node.json(&["show"])["dataplane"].clone();
    assert_eq!((&dataplane["running"], &dataplane["fresh"]), (&true.into(), &true.into()), "{dataplane}");
    exchange(&lab, 1, 300, Some(1), None);

    // A standby is one only when the shards have it: from then on there are no clones.
    let standby = node.json(&["role", "standby"]);
    assert_eq!((&standby["changed"], &standby["adopted"]), (&true.into(), &true.into()), "{standby}");
    exchange(&lab, 2, 300, None, None);
    assert_eq!(node.json(&["role", "active"])["adopted"], true);
    exchange(&lab, 3, 300, Some(1), None);

    node.kill();
    node.wait_for("its end", |show| show["dataplane"]["running"] == false);
    assert_eq!(node.json(&["role", "standby"])["adopted"], serde_json::Value::Null);
}

/// The kernel tells such a server no process id of who connects.
#[test]
fn a_producer_outside_the_pid_namespace_of_its_server_is_served() {
    let mut node = Node::idle();
    let socket = node.dir.path().join("control.sock");
    let mut serve = Command::new(program("spanctl"));
    serve.arg("--dir").arg(node.dir.path()).args(["serve", "--wire", &format!("{A}:{B}"), "--socket"]).arg(&socket);
    node.adopt(Command::new("unshare").args(contained(&serve)));
    let mut producer = Producer::new(&socket, 43);
    producer.wait(Duration::from_secs(60));
    producer.publish(&[(A, MON, 1)]);
    assert_eq!(node.json(&["show"])["mirrors"][0]["output_ifindex"], MON);
    producer.done(&json!({"type": "shutdown"}));
}
