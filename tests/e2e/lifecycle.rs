//! Starting, stopping, dying; ports that come, go and change; input that is refused.

use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use spanwire::daemon::link_news::LinkNews;
use spanwire::stop::Stop;
use spanwire_lab::topology::{Lab, LabSpec, Role};

use super::exchange;
use super::node::{
    A, B, MON, Node, copy_program, document, document_with, lab, mirror_of, port_of, program, signal, wait_for_link,
};
use super::offloads::{are_on, vlan_offloads};
use super::paths::{Path, on_each_path};

on_each_path!(the_snapshot_may_come_first_and_the_stop_leaves_nothing, a_wire_follows_the_queues_of_both_its_ports,);
on_each_path!(
    long xdp: a_killed_dataplane_can_be_started_again_at_once,
    a_monitor_that_flaps_or_goes_costs_the_wire_nothing,
    entries_come_alive_with_their_ports,
    a_port_replaced_between_two_looks_is_noticed,
    damage_to_the_regions_stops_nothing,
);

fn xdp_programs(lab: &Lab) -> usize {
    let links = lab.dut().ip(&["-d", "link"]).unwrap();
    String::from_utf8_lossy(&links.stdout).matches("prog/xdp").count()
}

#[test]
fn the_kernel_tells_of_a_changed_device() {
    let lab = lab(LabSpec::default());
    let (mut links, stop) = (lab.dut().enter(LinkNews::watch).unwrap(), Stop::new().unwrap());
    let is_quiet = (0..100).any(|_| !links.wait(&stop, Duration::from_millis(20)));
    assert!(is_quiet, "without a change there is no news, in the end");
    let device = &lab.wire(0).unwrap().a.name;
    assert!(lab.dut().ip(&["link", "set", device, "mtu", "1400"]).unwrap().status.success());
    assert!(links.wait(&stop, Duration::from_secs(20)), "the MTU has changed");
}

/// Nothing but wires that go on crossing, where the kernel carries them and it is not told to cut.
fn the_snapshot_may_come_first_and_the_stop_leaves_nothing(path: Path) {
    let lab = path.lab(LabSpec::default());
    let device = &lab.wire(0).unwrap().a.name;
    let before = vlan_offloads(&lab, device);
    assert!(before.iter().any(|line| line.ends_with(": on")), "{before:?}");

    let mut node = path.node();
    node.publish(&document(&[(A, MON, 2)]));
    node.launch(&lab, &["--on-exit", "cut"]);
    node.wait_for_ports(&[A, B, MON]);
    assert_eq!(xdp_programs(&lab), path.xdp_programs());
    let during = vlan_offloads(&lab, device);
    assert!(path == Path::Tc || are_on(&during) == 0, "{during:?}");
    exchange(&lab, 1, 500, Some(2), None);

    node.stop();
    assert_eq!(xdp_programs(&lab), 0);
    assert_eq!(vlan_offloads(&lab, device), before);
    assert_eq!(node.json(&["show"])["dataplane"]["running"], false);

    // And again: nothing of the first run is in the way.
    node.launch(&lab, &["--on-exit", "cut"]);
    node.wait_for_ports(&[A, B, MON]);
    exchange(&lab, 2, 500, Some(2), None);
    signal(node.pid(), "INT");
}

fn a_killed_dataplane_can_be_started_again_at_once(path: Path) {
    let lab = path.lab(LabSpec::default());
    let mut node = path.start(&lab, &[]);
    node.import(&document(&[(A, MON, 1)]));
    node.wait_for_ports(&[A, B, MON]);
    for seed in 0..3 {
        node.kill();
        if path == Path::Shard {
            assert_eq!(xdp_programs(&lab), 0, "the kernel takes the program with the process");
        } else {
            exchange(&lab, 10 + seed, 300, None, None);
        }
        node.launch(&lab, &[]);
        let pid = node.pid();
        node.wait_for("the new process", |show| {
            show["dataplane"]["pid"] == pid && show["dataplane"]["running"] == true
        });
        node.wait_for_ports(&[A, B, MON]);
        exchange(&lab, seed, 300, Some(1), None);
    }
}

#[test]
fn refused_input_leaves_the_active_snapshot_alone() {
    let lab = lab(LabSpec::default());
    let node = Node::start(&lab, &[]);
    let generation = node.import(&document(&[(A, MON, 1)]));
    node.wait_for_ports(&[A, B, MON]);
    let good = document(&[(A, MON, 1)]);
    let cases = [
        (String::new(), "empty"),
        (good[..good.len() / 2].to_owned(), "column"),
        ("not JSON".to_owned(), "column"),
        (document(&[(A, MON, 1), (A, MON, 2)]), "11"),
        (document(&[(A, A, 1)]), "11"),
        (document(&[(A, B, 1)]), "12"),
        (document(&[(A, MON, 1), (MON, 23, 1)]), "22"),
        (good.replace("\"rate\":1", "\"rate\":4294967296"), "4294967296"),
        (good.replace("\"rate\":1", "\"rate\":\"1\""), "rate"),
        (good.replace("\"ingress_ifindex\":11", "\"ingress_ifindex\":true"), "ingress_ifindex"),
        (good.replace("\"version\":3", "\"version\":0"), "version"),
    ];
    for (text, named) in cases {
        let file = node.file(&text);
        let refused = node.spanctl(&["import", file.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{text:?}: {said}");
        assert!(said.contains(named), "{text:?}: {said}");
    }
    let missing = node.spanctl(&["import", "no-such-file.json"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("no-such-file.json"));
    let file = node.file(&document_with(&[], &[], ""));
    let unknown = node.spanctl(&["import", file.to_str().unwrap(), "--wire", "nope0:nope1"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("nope0"));

    let show = node.json(&["show"]);
    assert_eq!(show["generation"], generation);
    exchange(&lab, 3, 500, Some(1), None);
}

#[test]
fn a_start_that_cannot_work_says_why() {
    let lab = lab(LabSpec::default());
    let mut node = Node::start(&lab, &[]);
    node.publish(&document(&[]));
    node.wait_for("the dataplane", |show| show["dataplane"]["running"] == true);
    let fails = |args: &[&str]| {
        let output = node.command(&lab, args).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(fails(&[]).contains("another spanwired"));
    assert!(fails(&["--cpus", "4000"]).contains("4000"));
    assert!(fails(&["--frame-size", "1000"]).contains("2048"));
    assert!(fails(&["--frames", "many"]).contains("many"));
    assert!(node.is_running());

    // Without privileges: no AF_XDP, and it says what is needed.
    let other = Node::idle();
    rustix::fs::chown(other.dir.path(), Some(rustix::fs::Uid::from_raw(65534)), None).unwrap();
    // The build directory may be closed to others; the directory of the test is not.
    let copy = other.dir.path().join("spanwired");
    copy_program(&program("spanwired"), &copy);
    let refused = lab
        .dut()
        .command("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(&copy)
        .arg("--dir")
        .arg(other.dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("AF_XDP") && said.contains("CAP_NET_RAW"), "{said}");
    node.stop();
}

fn entries_come_alive_with_their_ports(path: Path) {
    let lab = path.lab(LabSpec::default());
    let node = path.start(&lab, &[]);
    // 23 is not there, 30 is on no wire.
    node.import(&document(&[(A, MON, 1), (B, 23, 1), (30, MON, 1)]));
    node.wait_for_ports(&[A, B, MON]);
    let show = node.json(&["show"]);
    assert_eq!(mirror_of(&show, A)["state"], "active");
    assert_eq!(mirror_of(&show, B)["state"], "inactive");
    assert!(mirror_of(&show, B)["reason"].as_str().unwrap().contains("port missing"), "{show:#}");
    assert_eq!(mirror_of(&show, 30)["reason"], "ingress on no wire");
    exchange(&lab, 1, 500, Some(1), None);

    let dut = lab.dut();
    dut.ip(&["link", "add", "late", "index", "23", "type", "veth", "peer", "name", "late-peer"]).unwrap();
    dut.ip(&["link", "set", "late", "up"]).unwrap();
    node.wait_for("the output to be seen down", |show| mirror_of(show, B)["reason"] == "output down");
    dut.ip(&["link", "set", "late-peer", "up"]).unwrap();
    node.wait_for("the entry to come alive", |show| mirror_of(show, B)["state"] == "active");
    dut.ip(&["link", "del", "late"]).unwrap();
    node.wait_for("the port to be missed", |show| mirror_of(show, B)["state"] == "inactive");
    // Nothing of it reached the other ports.
    let show = node.json(&["show"]);
    for ifindex in [A, B, MON] {
        assert_eq!(port_of(&show, ifindex).unwrap()["state"], "active");
    }
}

fn a_monitor_that_flaps_or_goes_costs_the_wire_nothing(path: Path) {
    let lab = path.lab(LabSpec::default());
    let node = path.start(&lab, &[]);
    node.import(&document(&[(A, MON, 1)]));
    node.wait_for_ports(&[A, B, MON]);
    let monitor = lab.monitor(0).unwrap().name.clone();
    let report = std::thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let spec = spanwire_lab::exchange::ExchangeSpec {
                monitor: None,
                ..spanwire_lab::exchange::ExchangeSpec::new(&lab, 5, 20_000)
            };
            spanwire_lab::exchange::run(&lab, &spec, |_| ()).unwrap()
        });
        let mut up = false;
        while !traffic.is_finished() {
            lab.dut().ip(&["link", "set", &monitor, if up { "up" } else { "down" }]).unwrap();
            up = !up;
            std::thread::sleep(Duration::from_millis(60));
        }
        lab.dut().ip(&["link", "set", &monitor, "up"]).unwrap();
        traffic.join().unwrap()
    });
    assert!(report.holds, "{report}");
    node.wait_for_ports(&[MON]);
    let stats = node.settled_stats();
    let entry = mirror_of(&stats, A);
    assert_eq!(entry["observed"], 20_000);
    assert!(entry["mirror_drops_output_down"].as_u64() > Some(0), "{entry}");

    // Deleted and made anew under the same ifindex: mirroring resumes by itself.
    lab.dut().ip(&["link", "del", &monitor]).unwrap();
    node.wait_for("the monitor to be missed", |show| mirror_of(show, A)["state"] == "inactive");
    let mon = lab.ns(Role::Mon).name().to_owned();
    let peer = &lab.monitor(0).unwrap().host_name;
    lab.dut()
        .ip(&["link", "add", &monitor, "index", "22", "type", "veth", "peer", "name", peer, "netns", &mon])
        .unwrap();
    lab.dut().ip(&["link", "set", &monitor, "up"]).unwrap();
    lab.ns(Role::Mon).ip(&["link", "set", peer, "up"]).unwrap();
    node.wait_for("mirroring to resume", |show| mirror_of(show, A)["state"] == "active");
}

#[test]
fn a_port_whose_mtu_does_not_fit_is_refused_by_name() {
    let lab = lab(LabSpec { mtu: 3000, ..LabSpec::default() });
    let mut node = Path::Shard.start(&lab, &[]);
    node.import(&document(&[(A, MON, 1)]));
    let show = node.wait_for("the refusal", |show| {
        port_of(show, A).is_some_and(|p| p["reason"].as_str().is_some_and(|r| r.contains("3000")))
    });
    let reason = port_of(&show, A).unwrap()["reason"].as_str().unwrap();
    assert!(reason.contains("--frame-size 4096"), "{reason}");
    assert_eq!(xdp_programs(&lab), 0);
    node.stop();
    node.launch(&lab, &["--frame-size", "4096"]);
    node.wait_for_ports(&[A, B, MON]);
    exchange(&lab, 7, 500, Some(1), None);
}

#[test]
fn native_mode_works_too_and_is_shown() {
    let lab = lab(LabSpec::default());
    let node = Path::Shard.start(&lab, &["--xdp-mode", "native", "--bind", "copy"]);
    node.import(&document(&[(A, MON, 3)]));
    node.wait_for_ports(&[A, B, MON]);
    let show = node.json(&["show"]);
    assert_eq!(port_of(&show, A).unwrap()["xdp_mode"], "native");
    exchange(&lab, 8, 2000, Some(3), None);
}

/// Zero-copy is never taken where generic XDP runs, nor by a monitor; where a driver has none, that is told.
#[test]
fn zero_copy_is_warned_of_and_no_port_is_in_use_that_cannot_send() {
    let lab = lab(LabSpec::default());
    let mut node = Path::Shard.start(&lab, &["--bind", "zerocopy"]);
    node.import(&document(&[(A, MON, 1)]));
    node.wait_for_ports(&[A, B, MON]);
    let show = node.json(&["show"]);
    for (port, why) in [(A, "copy: generic XDP has no zero-copy"), (MON, "copy: monitors are not bound in zero-copy")] {
        let port = port_of(&show, port).unwrap();
        assert_eq!((&port["reason"], &port["zero_copy"]), (&json!(why), &json!(false)));
    }
    exchange(&lab, 12, 500, Some(1), None);
    let log = node.stop();
    assert!(log.contains("WARN") && log.contains("--bind zerocopy is for trials"), "{log}");

    node.launch(&lab, &["--bind", "zerocopy", "--xdp-mode", "native"]);
    let show = node.wait_for("a reason", |show| {
        [A, B].iter().all(|&p| port_of(show, p).is_some_and(|p| p["reason"].to_string().contains("--bind copy")))
    });
    assert_eq!(port_of(&show, A).unwrap()["state"], "inactive");
    // Known before anything is changed: attaching would bounce the link of a NIC, with each try.
    let reason = &port_of(&show, A).unwrap()["reason"];
    assert_eq!(reason, "the driver veth has no zero-copy in this kernel: use --bind copy");
    for _ in 0..50 {
        let link = lab.dut().ip(&["-d", "link", "show", "w0a"]).unwrap();
        let link = String::from_utf8_lossy(&link.stdout).into_owned();
        assert!(link.contains("promiscuity 0") && xdp_programs(&lab) == 0, "{link}");
    }
    node.stop();

    node.launch(&lab, &[]);
    node.wait_for_ports(&[A, B, MON]);
    assert_eq!(port_of(&node.json(&["show"]), A).unwrap()["reason"], "");
    assert!(!node.stop().contains("zerocopy"));
}

/// Deleted and made again under the same ifindex faster than anyone looks: the sockets of the old one are dead.
fn a_port_replaced_between_two_looks_is_noticed(path: Path) {
    let lab = path.lab(LabSpec::default());
    let node = path.start(&lab, &[]);
    node.import(&document(&[(A, MON, 1)]));
    node.wait_for_ports(&[A, B, MON]);
    let monitor = lab.monitor(0).unwrap();
    let (mon, peer) = (lab.ns(Role::Mon).name(), &monitor.host_name);
    let batch = format!(
        "link del {m}\nlink add {m} index 22 type veth peer name {peer} netns {mon}\nlink set {m} up\n",
        m = monitor.name
    );
    let file = node.file(&batch);
    lab.dut().ip(&["-b", file.to_str().unwrap()]).unwrap();
    lab.ns(Role::Mon).ip(&["link", "set", peer, "up"]).unwrap();
    // The new device counts from zero, so clones that leave it prove that it is in use.
    let wire = lab.wire(0).unwrap();
    node.wait_for("clones on the new port", |_| {
        let frames = spanwire_lab::traffic::frames(3, 50);
        lab.sender(&wire.a).unwrap().send(&frames, spanwire_lab::traffic::Pace::default()).unwrap();
        let sent = lab.dut().exec("cat", &[&format!("/sys/class/net/{}/statistics/tx_packets", monitor.name)]).unwrap();
        String::from_utf8_lossy(&sent.stdout).trim().parse::<u64>().unwrap() > 0
    });
    super::node::check_ledgers(&node.settled_stats());
}

/// The wire's ends differ in queues, and the narrow one comes late: with two shards every frame still crosses.
fn a_wire_follows_the_queues_of_both_its_ports(path: Path) {
    let lab = path.lab(LabSpec { queues: 2, ..LabSpec::default() });
    let node = path.start(&lab, &["--cpus", "0,1"]);
    let wire = lab.wire(0).unwrap();
    let (sink, b, host) = (lab.ns(Role::Sink).name(), &wire.b.name, &wire.b.host_name);
    lab.dut().ip(&["link", "del", b]).unwrap();
    node.import(&document(&[]));
    let show = node.wait_for("the wire to wait", |show| {
        port_of(show, A).is_some_and(|port| port["reason"].as_str().is_some_and(|r| r.contains("other port")))
    });
    assert_eq!(xdp_programs(&lab), 0, "{show:#}");
    for queues in ["1", "2", "1"] {
        lab.dut()
            .ip(&[
                "link",
                "add",
                b,
                "index",
                "12",
                "numrxqueues",
                queues,
                "numtxqueues",
                queues,
                "type",
                "veth",
                "peer",
                "name",
                host,
                "numrxqueues",
                queues,
                "numtxqueues",
                queues,
                "netns",
                sink,
            ])
            .unwrap();
        lab.dut().ip(&["link", "set", b, "up"]).unwrap();
        lab.ns(Role::Sink).ip(&["link", "set", host, "up"]).unwrap();
        wait_for_link(lab.ns(Role::Sink), host);
        path.ready(lab.ns(Role::Sink), host);
        node.wait_for_ports(&[A, B]);
        // Sockets are what has a queue.
        let sockets = if path.is_carried() { 0 } else { queues.parse::<u32>().unwrap() };
        node.wait_for("both ends to agree", |show| port_of(show, B).is_some_and(|port| port["queues"] == sockets));
        // A port may still be between two attachments.
        std::thread::sleep(Duration::from_millis(300));
        node.wait_for_ports(&[A, B]);
        let frames = spanwire_lab::traffic::frames(7, 2000);
        let capture = spanwire_lab::traffic::Capture::start(
            lab.ns(Role::Sink).enter(|| spanwire_lab::wire_io::WireIo::open(ifindex_of(host))).unwrap().unwrap(),
        )
        .unwrap();
        let pace = spanwire_lab::traffic::Pace::default();
        lab.sender(&wire.a).unwrap().send_ahead_of(&frames, pace, &[&capture]).unwrap();
        let got = capture.finish(frames.len(), Duration::from_secs(5)).unwrap();
        let verdict = spanwire_lab::verify::compare_in_order(&frames, &got.frames);
        assert!(verdict.is_complete(), "{queues} queues: {verdict}\n{:#}", node.json(&["stats"]));
        lab.dut().ip(&["link", "del", b]).unwrap();
        node.wait_for("the port to be missed", |show| port_of(show, B).is_some_and(|port| port["state"] == "inactive"));
    }
}

/// Of a device in the namespace the calling thread is in.
fn ifindex_of(device: &str) -> u32 {
    spanwire::xsk::netdev::Netdev::lookup(device).unwrap().ifindex()
}

/// Region files truncated, replaced, and the whole directory gone, while traffic is mirrored.
fn damage_to_the_regions_stops_nothing(path: Path) {
    let lab = path.lab(LabSpec::default());
    let mut node = path.start(&lab, &[]);
    node.import(&document(&[(A, MON, 1)]));
    node.wait_for_ports(&[A, B, MON]);
    let dir = node.dir.path().to_owned();
    for (round, file) in ["stats.shm", "config.shm", "stats.shm", "config.shm"].into_iter().enumerate() {
        let path = dir.join(file);
        if round < 2 {
            std::fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        } else {
            std::fs::write(&path, vec![7u8; 9000]).unwrap();
        }
        exchange(&lab, round as u64, 500, Some(1), None);
        assert!(node.is_running());
        if file == "config.shm" {
            let show = node.spanctl(&["--json", "show"]);
            assert_eq!(show.status.code(), Some(2), "a damaged region is an error for those who ask for it");
            // The next writer replaces it, above every generation there was.
            let before: u64 = 1 + round as u64 / 2;
            assert!(node.import(&document(&[(A, MON, 1)])) > before);
        }
    }
    // The dataplane may put a file back meanwhile.
    assert!((0..100).any(|_| std::fs::remove_dir_all(&dir).is_ok()));
    exchange(&lab, 10, 500, Some(1), None);
    assert!(node.is_running());
    node.wait_for_running();
    node.import(&document(&[(A, MON, 2)]));
    exchange(&lab, 11, 500, Some(2), None);
    let log = node.stop();
    assert!(log.contains("the last good one stays"), "{log}");
}
