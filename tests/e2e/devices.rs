//! What the control plane makes of the devices of a network namespace. No dataplane runs.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use serde_json::Value;
use spanwire_lab::netns::Namespace;
use tempfile::TempDir;

use crate::node::program;

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
