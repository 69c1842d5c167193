//! Ports that leave and come back: no count is forgotten.

use std::collections::BTreeMap;

use serde_json::Value;
use spanwire_lab::topology::{Lab, LabSpec, Port};

use super::exchange;
use super::node::{A, B, MON, Node, document, lab, port_of};

fn set(lab: &Lab, port: &Port, what: &[&str]) {
    let done = lab.dut().ip(&[&["link", "set", &port.name], what].concat()).unwrap();
    assert!(done.status.success(), "{what:?}: {}", String::from_utf8_lossy(&done.stderr));
}

fn count(stats: &Value, ifindex: u32, key: &str) -> u64 {
    port_of(stats, ifindex).unwrap_or_else(|| panic!("port {ifindex} in {stats:#}"))[key].as_u64().unwrap()
}

/// Every counter of every port.
fn totals(node: &Node) -> BTreeMap<(u64, String), u64> {
    let stats = node.settled_stats();
    let rows = stats["ports"].as_array().unwrap().iter().map(|row| row.as_object().unwrap());
    let counters = rows.flat_map(|row| {
        let is_counter = |key: &str| !["ifindex", "device_ifindex", "outstanding_tx"].contains(&key);
        let counters = row.iter().filter(move |(key, _)| is_counter(key));
        counters.filter_map(|(key, value)| Some(((row["ifindex"].as_u64()?, key.clone()), value.as_u64()?)))
    });
    counters.collect()
}

#[test]
fn what_a_port_has_counted_stands_while_it_is_wanted() {
    let lab = lab(LabSpec::default());
    let node = Node::start(&lab, &[]);
    let wanted = document(&[(A, MON, 1)]);
    node.import(&wanted);
    node.wait_for_ports(&[A, B, MON]);
    let a = &lab.wire(0).unwrap().a;
    let mut last = totals(&node);
    let mut never_backward = || {
        let now = totals(&node);
        assert_eq!(last.len(), now.len());
        for (at, value) in &last {
            assert!(now[at] >= *value, "{at:?} was {value} and is {}", now[at]);
        }
        last = now;
    };
    for round in 1..=2 {
        exchange(&lab, round, 500, Some(1), None);
        never_backward();
        set(&lab, a, &["mtu", "2000"]);
        let is_mtu = |show: &Value| port_of(show, A).unwrap()["reason"].as_str().unwrap().contains("MTU");
        node.wait_for("the port to leave", is_mtu);
        never_backward();
        set(&lab, a, &["mtu", "1500"]);
        node.wait_for_ports(&[A, B, MON]);
        never_backward();
    }
    let stats = node.settled_stats();
    for (ifindex, key) in
        [(A, "rx_packets"), (A, "tx_packets"), (B, "rx_packets"), (B, "tx_packets"), (MON, "tx_packets")]
    {
        assert_eq!(count(&stats, ifindex, key), 1000, "{key} of {ifindex}");
    }
    // One that is not wanted is forgotten.
    node.import(&super::document_with(&[], &[], ""));
    node.wait_for("no port", |show| show["ports"].as_array().is_some_and(Vec::is_empty));
    node.import(&wanted);
    node.wait_for_ports(&[A, B, MON]);
    assert_eq!(count(&node.settled_stats(), A, "rx_packets"), 0);
}
