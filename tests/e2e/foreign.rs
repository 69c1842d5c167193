//! Programs and dataplanes of others on the ports of a wire: left alone, and told.

use std::os::fd::{AsFd, BorrowedFd};
use std::process::Stdio;
use std::time::{Duration, Instant};

use libbpf_rs::{Object, ObjectBuilder, Xdp, XdpFlags};
use serde_json::Value;
use spanwire::kernel::link::{Link, Point};
use spanwire::kernel::steer::Aligned;
use spanwire::kernel::xdp::XdpMode;
use spanwire_lab::exchange::{ExchangeSpec, run};
use spanwire_lab::topology::{Lab, LabSpec};

use crate::node::{A, B, MON, Node, document, document_with, port_of, program};
use crate::survival::kernel_lab;

/// Programs that somebody else has loaded.
pub struct Foreign(Object);

impl Foreign {
    pub fn load() -> Foreign {
        static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/foreign.bpf.o")));
        Foreign(ObjectBuilder::default().open_memory(&OBJECT.0).unwrap().load().unwrap())
    }

    /// Attaches the one for this hook as a link, at tcx before all others.
    pub fn attach(&self, lab: &Lab, device: u32, hook: &str) -> Link {
        let point = if hook == "xdp" { Point::Xdp(XdpMode::Native) } else { Point::TcxIngress { revision: 0 } };
        self.of(hook, |program| lab.dut().enter(|| Link::create(program, device, point)).unwrap().unwrap())
    }

    /// Puts it into a link in the place of what that holds.
    pub fn take(&self, link: &Link, hook: &str) {
        self.of(hook, |program| link.swap(program).unwrap());
    }

    fn of<T>(&self, hook: &str, with: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        let name = format!("foreign_{hook}");
        let program = self.0.progs().find(|program| program.name() == name.as_str()).expect("the program");
        with(program.as_fd())
    }
}

/// Whether a few frames cross both ways.
pub fn crosses(lab: &Lab, seed: u64) -> bool {
    let idle = Duration::from_millis(300);
    run(lab, &ExchangeSpec { idle, monitor: None, ..ExchangeSpec::new(lab, seed, 100) }, |_| ())
        .expect("an exchange")
        .holds
}

/// Waits until they do.
pub fn wait_until_crossing(lab: &Lab, seed: u64) {
    let start = Instant::now();
    while !crosses(lab, seed) {
        assert!(start.elapsed() < Duration::from_secs(60), "nothing crosses");
    }
}

/// Waits until a port's reason says all of this.
pub fn wait_for_reason(node: &Node, port: u32, words: &[&str]) -> Value {
    node.wait_for(&format!("{words:?}"), |show| {
        let reason = port_of(show, port).and_then(|port| port["reason"].as_str());
        reason.is_some_and(|reason| words.iter().all(|word| reason.contains(word)))
    })
}

/// By a link, and by netlink in both modes.
#[test]
fn a_program_of_others_on_the_xdp_hook_is_left_there() {
    let foreign = Foreign::load();
    let lab = kernel_lab(LabSpec::default());
    let changed = || crate::signals::ports(&lab);
    for how in ["link", "netlink", "generic"] {
        let by_netlink = |attach: bool| {
            foreign.of("xdp", |program| {
                let flags = if how == "generic" { XdpFlags::SKB_MODE } else { XdpFlags::DRV_MODE };
                let change = || {
                    let xdp = Xdp::new(program);
                    if attach { xdp.attach(A as i32, flags) } else { xdp.detach(A as i32, flags) }
                };
                lab.dut().enter(change).unwrap().unwrap();
            });
        };
        let held = match how {
            "link" => Some(foreign.attach(&lab, A, "xdp")),
            _ => {
                by_netlink(true);
                None
            }
        };
        let before = changed();
        let mut node = Node::start(&lab, &["--path", "xdp", "--on-exit", "cut"]);
        node.import(&document(&[]));
        wait_for_reason(&node, A, &["already has an XDP program attached", "ip link show"]);
        assert_eq!(changed()[..before.len() / 3], before[..before.len() / 3], "{how}: nothing is changed on it");
        match held {
            Some(link) => link.detach().unwrap(),
            None => by_netlink(false),
        }
        node.wait_for_ports(&[A, B]);
        wait_until_crossing(&lab, 70);
        assert_eq!(node.stop().matches("already has an XDP program").count(), 1, "{how}: told once");
        drop(node);
    }
}

/// What it lets pass crosses at tc. That real drivers' wires leave xdp to it and come back is shown by the machines of `tools/vmlab`.
#[test]
fn under_an_xdp_program_of_others_a_wire_crosses_at_tc() {
    let foreign = Foreign::load();
    let lab = kernel_lab(LabSpec::default());
    let link = foreign.attach(&lab, A, "xdp");
    let mut node = Node::start(&lab, &["--path", "auto"]);
    node.import(&document(&[(A, MON, 10)]));
    node.wait_for_ports(&[A, B]);
    let show = wait_for_reason(&node, A, &["frames meet the XDP program of another", "does not cross"]);
    assert_eq!(show["wires"][0]["path"], "tc", "{show:#}");
    assert!(crosses(&lab, 78));
    link.detach().unwrap();
    node.wait_for("the remark's end", |show| port_of(show, A).is_some_and(|port| port["reason"] == ""));
    assert!(crosses(&lab, 79));
    node.stop();
}

/// Those that were there before, those of clsact, and those that come before ours later on.
#[test]
fn programs_of_others_at_tc_take_nothing_unsaid() {
    let foreign = Foreign::load();
    let lab = kernel_lab(LabSpec::default());
    let name = lab.wire(0).unwrap().a.name.clone();
    let tc = |args: &str| {
        let args = args.replace("DEV", &name);
        drop(lab.dut().exec("tc", &args.split(' ').collect::<Vec<_>>()).unwrap());
    };
    let first = foreign.attach(&lab, A, "tc");
    tc("qdisc add dev DEV clsact");
    tc("filter add dev DEV ingress pref 1 protocol all u32 match u32 0 0 flowid 1:1");
    let mut node = Node::start(&lab, &["--path", "tc"]);
    node.import(&document(&[]));
    node.wait_for_ports(&[A, B]);
    assert!(crosses(&lab, 71), "ours is the first");
    tc("qdisc del dev DEV clsact");
    assert!(crosses(&lab, 72), "a link needs no discipline");
    // Not only closed, which takes effect a little later.
    first.detach().unwrap();

    let before = foreign.attach(&lab, A, "tc");
    wait_for_reason(&node, A, &["frames meet program \"foreign_tc\"", "before its selector", "does not cross"]);
    assert!(!crosses(&lab, 73));
    before.detach().unwrap();
    node.wait_for("the remark's end", |show| port_of(show, A).is_some_and(|port| port["reason"] == ""));
    assert!(crosses(&lab, 74));

    let link = foreign.attach(&lab, A, "xdp");
    wait_for_reason(&node, A, &["frames meet the XDP program of another", "does not cross"]);
    link.detach().unwrap();
    assert!(node.stop().contains("frames meet program \"foreign_tc\""));
}

/// Two directories, one wire: the second waits for as long as the first one has it, also when that is dead.
#[test]
fn a_port_has_one_dataplane() {
    let why = "the selector of another dataplane is there";
    // At one hook or two, and where the second has none: whoever meets frames first would have them all.
    for (hook, other) in [("tc", "tc"), ("xdp", "xdp"), ("tc", "xdp"), ("xdp", "tc"), ("tc", "shard")] {
        let lab = kernel_lab(LabSpec::default());
        let start = |hook: &str| {
            let node = Node::start(&lab, &["--path", hook]);
            node.import(&document(&[]));
            node
        };
        let mut first = start(hook);
        first.wait_for_ports(&[A, B]);
        let second = start(other);
        [A, B].iter().for_each(|&port| drop(wait_for_reason(&second, port, &[why])));
        assert!(crosses(&lab, 75), "{hook}, then {other}");
        first.kill();
        std::thread::sleep(Duration::from_millis(300));
        wait_for_reason(&second, A, &[why]);
        assert!(crosses(&lab, 76), "{hook}, then {other}");
        let mut detach = lab.dut().command(program("spanctl").to_str().expect("a path"));
        detach.arg("--dir").arg(first.dir.path()).arg("detach").env("SPANWIRE_PINS", first.pins.path());
        assert!(detach.stdout(Stdio::null()).status().expect("spanctl").success());
        second.wait_for_ports(&[A, B]);
        assert!(crosses(&lab, 77), "{hook}, then {other}");
    }
}

/// A dataplane that sends clones by a port has the queues of that. Many drivers take their link down for an XDP program: a port
/// that cannot be used must not get one, however often it is tried.
#[test]
fn a_port_whose_queue_another_has_gets_no_program() {
    let lab = kernel_lab(LabSpec { wires: 2, ..LabSpec::default() });
    let mut other = Node::start(&lab, &[]);
    // Of another wire.
    other.import(&document_with(&[(13, 14)], &[(13, A, 1)], ""));
    other.wait_for_ports(&[A]);
    let mut node = Node::start(&lab, &["--path", "shard"]);
    node.import(&document(&[]));
    wait_for_reason(&node, A, &["another socket holds this queue"]);
    let has_xdp = || lab.dut().enter(|| spanwire::devices::has_xdp(A)).unwrap().unwrap();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        assert!(!has_xdp());
    }
    wait_for_reason(&node, A, &["another socket holds this queue"]);
    other.stop();
    node.wait_for_ports(&[A, B]);
    assert!(has_xdp() && crosses(&lab, 80));
    node.stop();
}
