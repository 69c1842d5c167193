//! Hosts on veth that leave work to hardware there is none of: checksums, cutting large segments. On the shard path nobody
//! else does it.

use std::net::UdpSocket;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};
use serde_json::Value;
use spanwire_lab::topology::{Lab, LabSpec, Port};

use crate::node::{A, B, document, lab, port_of};
use crate::paths::Path;

pub const SENDER: &str = "10.77.9.1";
pub const RECEIVER: &str = "10.77.9.2";

/// Hosts with addresses at both ends of the wire; the left one as a kernel sets it up by itself.
pub fn hosts(lab: &Lab) -> (&Port, &Port) {
    let wire = lab.wire(0).unwrap();
    for (port, address) in [(&wire.a, SENDER), (&wire.b, RECEIVER)] {
        let host = lab.ns(port.host);
        host.ip(&["link", "set", &port.host_name, "arp", "on"]).unwrap();
        host.ip(&["addr", "add", &format!("{address}/24"), "dev", &port.host_name]).unwrap();
    }
    offloads(lab, &wire.a, "on");
    (&wire.a, &wire.b)
}

fn offloads(lab: &Lab, port: &Port, to: &str) {
    lab.ns(port.host).exec("ethtool", &["-K", &port.host_name, "tx", to, "tso", to, "gso", to]).unwrap();
}

/// Sends datagrams from the left host, each of `pieces` that its device is left to cut it into.
pub fn send(lab: &Lab, from: &Port, datagrams: u32, pieces: usize) {
    let sent = lab.ns(from.host).enter(|| {
        let socket = UdpSocket::bind((SENDER, 0)).unwrap();
        if pieces > 1 {
            setsockopt(&socket, UdpGsoSegment, &1000).unwrap();
        }
        for _ in 0..datagrams {
            socket.send_to(&vec![7; 1000 * pieces], (RECEIVER, 7009)).unwrap();
        }
    });
    sent.unwrap();
}

fn counted(stats: &Value, ifindex: u32, counter: &str) -> u64 {
    let ports = stats["ports"].as_array().unwrap();
    ports.iter().find(|port| port["ifindex"] == ifindex).unwrap()[counter].as_u64().unwrap()
}

#[test]
fn frames_with_unfinished_checksums_are_counted_and_told_of_with_the_remedy() {
    for mode in ["generic", "native"] {
        let lab = lab(LabSpec::default());
        let mut node = Path::Shard.start(&lab, &["--xdp-mode", mode]);
        node.import(&document(&[]));
        node.wait_for_ports(&[A, B]);
        let (left, right) = hosts(&lab);
        send(&lab, left, 20, 1);
        let show = node.wait_for("a word of it", |show| {
            port_of(show, A).unwrap()["reason"].as_str().unwrap().contains("unfinished checksums")
        });
        let port = port_of(&show, A).unwrap();
        assert_eq!(port["state"], "active", "{mode}: {port}");
        assert!(port["reason"].as_str().unwrap().contains("ethtool -K PEER tx off"), "{mode}: {port}");
        assert_eq!(port_of(&show, B).unwrap()["reason"], "", "{mode}");
        let text = String::from_utf8(node.spanctl(&["show"]).stdout).unwrap();
        assert!(text.contains("unfinished checksums"), "{text}");
        let stats = node.json(&["stats"]);
        assert!(counted(&stats, A, "rx_unfinished_checksums") > 0, "{mode}: {stats:#}");
        assert_eq!(counted(&stats, B, "rx_unfinished_checksums"), 0, "{mode}");

        // With what it says to do the datagrams get there, and nothing more is counted.
        offloads(&lab, left, "off");
        let before = node.settled_stats();
        let got = lab.ns(right.host).enter(|| {
            let socket = UdpSocket::bind((RECEIVER, 7009)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            send(&lab, left, 20, 1);
            (0..20).all(|_| socket.recv(&mut [0; 2000]).unwrap() == 1000)
        });
        assert!(got.unwrap(), "{mode}");
        let counts = |stats: &Value| counted(stats, A, "rx_unfinished_checksums");
        assert_eq!(counts(&node.settled_stats()), counts(&before), "{mode}");
        let log = node.stop();
        assert_eq!(log.matches("unfinished checksums").count(), 1, "told once: {log}");
    }
}

#[test]
fn frames_that_nobody_has_cut_are_told_of() {
    let lab = lab(LabSpec::default());
    let node = Path::Shard.start(&lab, &["--xdp-mode", "generic"]);
    node.import(&document(&[]));
    node.wait_for_ports(&[A, B]);
    let (left, _) = hosts(&lab);
    send(&lab, left, 20, 1);
    send(&lab, left, 20, 20);
    let show = node.wait_for("a word of it", |show| {
        port_of(show, A).unwrap()["reason"].as_str().unwrap().contains("too large to cross")
    });
    let reason = port_of(&show, A).unwrap()["reason"].as_str().unwrap();
    assert!(reason.contains("tso off gso off"), "{reason}");
    assert!(counted(&node.json(&["stats"]), A, "kernel_rx_dropped") > 0);
}
