//! What the control plane makes of the devices of a network namespace.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use serde_json::Value;
use spanwire_lab::netns::Namespace;
use spanwire_lab::topology::LabSpec;
use tempfile::TempDir;

use crate::exchange;
use crate::node::{A, B, MON, Node, document_with, lab, program};

/// A namespace with the veth pairs wa-xa, wb-xb and mon-xm; wa is 11, wb 12 and mon 22.
struct Bench {
    ns: Namespace,
    dir: TempDir,
}

impl Bench {
    fn new() -> Bench {
        let bench = Bench { ns: Namespace::create("swdev").expect("a namespace"), dir: TempDir::new().unwrap() };
        for (name, ifindex, peer) in [("wa", "11", "xa"), ("wb", "12", "xb"), ("mon", "22", "xm")] {
            bench.ip(&["link", "add", name, "index", ifindex, "type", "veth", "peer", "name", peer]);
            bench.ip(&["link", "set", name, "up"]);
            bench.ip(&["link", "set", peer, "up"]);
        }
        bench
    }

    fn ip(&self, args: &[&str]) {
        self.ns.ip(args).expect("ip");
    }

    /// Exit code, document and standard error of `spanctl --json check` on this document, with these arguments.
    fn check(&self, document: &str, args: &[&str]) -> (i32, Value, String) {
        let file = self.dir.path().join("document");
        std::fs::write(&file, document).unwrap();
        let spanctl = program("spanctl");
        let ran = self
            .ns
            .command(spanctl.to_str().unwrap())
            .args(["--json", "--dir"])
            .arg(self.dir.path().join("run"))
            .arg("check")
            .arg(file)
            .args(args)
            .stdin(Stdio::null())
            .output()
            .expect("spanctl");
        let stderr = String::from_utf8_lossy(&ran.stderr).into_owned();
        let report = serde_json::from_slice(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
        (ran.status.code().expect("no signal"), report, stderr)
    }
}

const WIRE: &str = "security { forwarding-options { secure-wire w1 { interface [ wa wb ]; } } }";

/// A name, an alternative name or an alias in Latin-1, on a port or on any other device.
#[test]
fn a_device_whose_name_is_not_utf_8_stands_in_nobodys_way() {
    let bench = Bench::new();
    for (before, name) in [
        (&["set", "wa", "alias"][..], b"B\xfcro"),
        (&["property", "add", "dev", "wb", "altname"], b"B\xfcro"),
        (&["set", "xm", "name"], b"M\xf6nx"),
    ] {
        let mut ip = Command::new("ip");
        ip.args(["-n", bench.ns.name(), "link"]).args(before).arg(OsStr::from_bytes(name));
        assert!(ip.status().expect("ip").success(), "{ip:?}");
    }
    let (code, report, stderr) = bench.check(WIRE, &[]);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!((&report["wires"][0]["a_ifindex"], &report["wires"][0]["b_ifindex"]), (&11.into(), &12.into()));
}

/// What is said of a document, one a line.
fn said(report: &Value) -> String {
    let diagnostics = report["diagnostics"].as_array().expect("a list").iter();
    let line = |diagnostic: &Value| {
        let text = |key: &str| diagnostic[key].as_str().expect("a text").to_owned();
        format!("{}: {}: {}\n", text("severity"), text("subject"), text("message"))
    };
    diagnostics.map(line).collect()
}

#[test]
fn a_name_means_a_device_where_the_document_has_none() {
    let bench = Bench::new();
    bench.ip(&["link", "property", "add", "dev", "wa", "altname", "ge-0-0-0", "altname", "uplink"]);
    bench.ip(&["link", "property", "add", "dev", "wb", "altname", "ge-0-0-1"]);
    let wire = |report: &Value| {
        let wire = &report["wires"][0];
        (wire["a_ifindex"].as_u64(), wire["b_ifindex"].as_u64())
    };
    let bare = r#"{"version":3}"#;
    for argument in ["wa:wb", "uplink:wb", "ge-0/0/0:ge-0/0/1", "ge-0-0-0:12", "11:ge-0-0-1"] {
        let (code, report, stderr) = bench.check(bare, &["--wire", argument]);
        assert_eq!((code, wire(&report)), (0, (Some(11), Some(12))), "{argument}: {stderr}");
    }
    for ends in ["wa wb", "wa.0 wb", "ge-0/0/0 ge-0/0/1", "ge-0/0/0.0 ge-0-0-1.0", "uplink.0 wb.0"] {
        let (code, report, stderr) = bench.check(&WIRE.replace("wa wb", ends), &[]);
        assert_eq!((code, wire(&report)), (0, (Some(11), Some(12))), "{ends}: {stderr}");
    }
    let (code, _, stderr) = bench.check(bare, &["--wire", "wa:wc"]);
    assert!(
        code == 1 && stderr.contains(r#"no interface is called "wc" (allowed: an ifindex, or one of "#),
        "{stderr}"
    );
    assert!(["\"wa\"", "\"wb\"", "\"mon\""].iter().all(|name| stderr.contains(name)), "{stderr}");
    assert!(stderr.trim_end().ends_with("in this network namespace)") && !stderr.contains("\"lo\""), "{stderr}");
    let (code, _, stderr) = bench.check(&WIRE.replace("wb", "wc"), &[]);
    assert!(code == 1 && stderr.contains(r#"no interface is called "wc""#) && stderr.contains("\"wa\""), "{stderr}");

    // An interface of the document comes first, also where a device has the name.
    let named = r#"{"version":3,"interfaces":[{"name":"wb","linux_name":"wx","ifindex":22}]}"#;
    let (code, report, stderr) = bench.check(named, &["--wire", "wa:wb"]);
    assert_eq!((code, wire(&report)), (0, (Some(11), Some(22))), "{stderr}");
    let stranger = r#"ifindex 22: it is called "mon" in this network namespace, the document calls it "wx""#;
    assert!(said(&report).contains(stranger), "{}", said(&report));

    // So is a device that is named itself, where the document has another name for its ifindex.
    let named = r#"{"version":3,"interfaces":[{"name":"ge-0/0/4","linux_name":"ge-0-0-4","ifindex":11}],
        "mirror_configs":[{"ingress_ifindex":11,"output_ifindex":22,"rate":0}]}"#;
    let stranger = r#"ifindex 11: it is called "wa" in this network namespace, the document calls it "ge-0-0-4""#;
    for argument in ["11:wb", "wa:wb", "uplink:wb"] {
        let (code, report, stderr) = bench.check(named, &["--wire", argument]);
        assert_eq!((code, wire(&report)), (0, (Some(11), Some(12))), "{argument}: {stderr}");
        assert_eq!(said(&report).matches(stranger).count(), 1, "{argument}: {}", said(&report));
    }
    let fine = named.replace("ge-0-0-4", "ge-0-0-0");
    assert!(!said(&bench.check(&fine, &["--wire", "wa:wb"]).1).contains("ifindex 11: it is called"));
}

/// Each is told of, with what to do about it where that is one command; and what is sound is not.
#[test]
fn ports_that_are_not_what_a_wire_needs_are_told_of() {
    let bench = Bench::new();
    let mirrored = r#"{"version":3,"mirror_configs":[{"ingress_ifindex":11,"output_ifindex":22,"rate":0}]}"#;
    let found = || {
        let (code, report, stderr) = bench.check(mirrored, &["--wire", "wa:wb"]);
        assert_eq!(code, 0, "{stderr}");
        said(&report)
    };
    // Links may take a moment to come up.
    let settled =
        || found().lines().filter(|line| !line.contains(" down: ")).map(|line| format!("{line}\n")).collect::<String>();
    assert_eq!(settled(), "");
    bench.ip(&["link", "set", "wb", "mtu", "1400"]);
    bench.ip(&["addr", "add", "192.0.2.1/24", "dev", "wa"]);
    bench.ip(&["link", "add", "br0", "type", "bridge"]);
    bench.ip(&["link", "set", "wb", "master", "br0"]);
    bench.ip(&["link", "add", "link", "wa", "name", "mv0", "type", "macvlan"]);
    let lines = settled();
    for want in [
        "wires[0] \"wa:wb\": the MTUs of its ports differ, 1500 of ifindex 11 (\"wa\") and 1400 of ifindex 12 (\"wb\")",
        "wires[0] \"wa:wb\": ifindex 11 (\"wa\") has the address 192.0.2.1",
        "wires[0] \"wa:wb\": bridge br0 is on top of ifindex 12 (\"wb\")",
        "wires[0] \"wa:wb\": macvlan mv0 is on top of ifindex 11 (\"wa\")",
    ] {
        assert!(lines.contains(want), "{want}\n{lines}");
    }
    assert_eq!(lines.lines().count(), 4, "{lines}");
    for undo in [
        &["link", "set", "wb", "mtu", "1500", "nomaster"][..],
        &["addr", "flush", "dev", "wa"],
        &["link", "del", "mv0"],
    ] {
        bench.ip(undo);
    }
    assert_eq!(settled(), "");

    for name in ["wa", "wb", "mon"] {
        bench.ns.exec("sysctl", &["-w", &format!("net/ipv6/conf/{name}/disable_ipv6=0")]).expect("sysctl");
    }
    let lines = settled();
    assert_eq!(lines.matches("has IPv6 on: this host's own neighbour discovery leaves").count(), 3, "{lines}");
    // As the warnings say.
    for line in lines.lines() {
        let (_, command) = line.split_once("(sysctl -w ").expect("a command");
        let setting = command.strip_suffix(" turns it off)").expect("its end");
        bench.ns.exec("sysctl", &["-w", setting]).expect("sysctl");
    }
    assert_eq!(settled(), "");
}

#[test]
fn a_device_that_is_no_ethernet_is_refused_as_a_port() {
    let bench = Bench::new();
    bench.ip(&["tuntap", "add", "mode", "tun", "name", "t0"]);
    bench.ip(&["tuntap", "add", "mode", "tap", "name", "t1"]);
    let (code, _, stderr) = bench.check(r#"{"version":3}"#, &["--wire", "wa:t0"]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("(\"t0\") is no Ethernet device but tun, hardware type 65534"), "{stderr}");
    let to_lo = r#"{"version":3,"mirror_configs":[{"ingress_ifindex":11,"output_ifindex":1,"rate":0}]}"#;
    let (code, _, stderr) = bench.check(to_lo, &["--wire", "wa:t1"]);
    assert_eq!(code, 1, "{stderr}");
    let want =
        "mirror_configs[0].output_ifindex: ifindex 1 (\"lo\") is no Ethernet device but loopback, hardware type 772";
    assert!(stderr.contains(want) && stderr.lines().count() == 1, "{stderr}");
}

/// The ifindexes of a document may be of another machine: its names are what the dataplane goes by.
#[test]
fn ports_are_judged_by_the_devices_of_their_names() {
    let bench = Bench::new();
    bench.ip(&["link", "set", "mon", "name", "uplink"]);
    bench.ip(&["link", "property", "add", "dev", "uplink", "altname", "mon"]);
    let row = |name: &str, ifindex: u32| format!(r#"{{"name":"{name}","linux_name":"{name}","ifindex":{ifindex}}}"#);
    let names = [row("wa", 1), row("wb", 22), row("mon", 12)].join(",");
    let document = document_with(&[(1, 22)], &[(1, 12, 1)], &names);
    // Links may take a moment to come up.
    let found = || {
        let (code, report, stderr) = bench.check(&document, &[]);
        assert_eq!(code, 0, "{stderr}");
        said(&report).lines().filter(|line| !line.contains(" down: ")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(found(), [""; 0]);
    bench.ip(&["link", "set", "wb", "mtu", "1400"]);
    bench.ip(&["addr", "add", "192.0.2.1/24", "dev", "wa"]);
    let told = found();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("1500 of ifindex 1 (\"wa\") and 1400 of ifindex 22 (\"wb\")"), "{told:?}");
    assert!(told[1].contains("ifindex 1 (\"wa\") has the address 192.0.2.1"), "{told:?}");
}

/// By alternative names alone, with frames.
#[test]
fn a_wire_of_alternative_names_carries_frames() {
    let lab = lab(LabSpec::default());
    for (name, altname) in [("w0a", "ge-0-0-0"), ("w0b", "ge-0-0-1"), ("mon0", "ge-0-0-2")] {
        lab.dut().ip(&["link", "property", "add", "dev", name, "altname", altname]).expect("ip");
    }
    let node = Node::start(&lab, &[]);
    node.wait_for_running();
    let mirror = "forwarding-options { port-mirroring { instance x { input { ingress { interface ge-0/0/0.0; } }
                  output { interface ge-0/0/2.0; } } } }";
    let file = node.file(mirror);
    let args = ["commit", file.to_str().unwrap(), "--wire", "ge-0/0/0:ge-0/0/1"];
    let report = node.json(&args);
    assert_eq!(report["diagnostics"], Value::Array(Vec::new()), "{report}");
    node.wait_for_ports(&[A, B, MON]);
    exchange(&lab, 3, 600, Some(0), None);
    let exported = node.json(&["export"]);
    let row = |ifindex: u32| {
        let rows = exported["interfaces"].as_array().unwrap().iter();
        rows.filter(|row| row["ifindex"] == ifindex).map(|row| row["linux_name"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(row(A), ["w0a", "w0a"], "the kernel's own name, whatever the configuration calls it: {exported}");
}
