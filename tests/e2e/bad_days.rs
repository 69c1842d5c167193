//! What is missing, in the way or taken away: each is told with what to do about it, and wires cross as far as they can.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use libbpf_rs::libbpf_sys::bpf_map_create_opts;
use libbpf_rs::{MapHandle, MapType};
use rustix::fs::{Gid, Uid, chown};
use spanwire::kernel::link::Link;
use spanwire::kernel::pins;
use spanwire_lab::topology::{Lab, LabSpec};

use crate::foreign::{Foreign, crosses, wait_for_reason, wait_until_crossing};
use crate::node::{A, B, MON, Node, SPANWIRED, document, document_with, mirror_of, port_of};
use crate::survival::{HOOKS, kernel_lab};

/// The folder of a node's pins, which the next run makes if it is not there.
fn folder(lab: &Lab, node: &Node) -> PathBuf {
    node.pins.path().join(lab.dut().enter(|| pins::name(node.dir.path())).unwrap())
}

/// The names of what is pinned there; none where it is not.
fn pinned(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

/// What it says that ends at once with exit 2.
fn refusal(command: &mut Command) -> String {
    let output = command.stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    said
}

fn has_all(text: &str, words: &[&str]) {
    words.iter().for_each(|word| assert!(text.contains(word), "no {word:?} in: {text}"));
}

#[test]
fn without_a_place_for_pins_wires_cross_for_as_long_as_it_runs() {
    let lab = kernel_lab(LabSpec::default());
    let nowhere = tempfile::tempdir().unwrap();
    let nowhere = nowhere.path().join("pins");
    let nowhere = nowhere.to_str().unwrap();
    for hook in HOOKS {
        let mut node = Node::idle();
        node.publish(&document(&[]));
        let said = refusal(node.command(&lab, &["--path", hook]).env("SPANWIRE_PINS", nowhere));
        has_all(&said, &["--pins", nowhere, "in no bpffs", "mount -t bpf"]);
        // Without CAP_SYS_ADMIN none can be mounted either.
        let mut command = node.run_by(&lab, "setpriv", &["--bounding-set=-sys_admin"], &["--path", hook]);
        node.adopt(command.env_remove("SPANWIRE_PINS"));
        node.wait_for_ports(&[A, B]);
        assert!(crosses(&lab, 80), "{hook}");
        let said = node.stop();
        has_all(&said, &["wires will not outlive this process", "no bpffs at /sys/fs/bpf", "mount -t bpf", "--pins"]);
        assert!(!crosses(&lab, 81), "{hook}");
    }
    let mut node = Node::idle();
    node.publish(&document(&[]));
    node.adopt(node.command(&lab, &["--path", "auto"]).env("SPANWIRE_PINS", nowhere));
    node.wait_for_ports(&[A, B]);
    assert!(crosses(&lab, 82));
    has_all(&node.stop(), &["wires will not outlive this process", nowhere, "in no bpffs"]);
}

/// The features that `show` says are missing.
fn missing(node: &Node) -> Vec<String> {
    let show = node.wait_for("the features", |show| show["features"].as_array().is_some_and(|all| !all.is_empty()));
    let all = show["features"].as_array().unwrap();
    for feature in all {
        // What is there needs no reason, and what is not has one.
        let is_told = ["reason", "consequence"].map(|key| feature[key] != "");
        assert_eq!(is_told, [feature["available"] == false; 2], "{feature}");
    }
    let missing = all.iter().filter(|feature| feature["available"] == false);
    missing.map(|feature| feature["name"].as_str().unwrap().to_owned()).collect()
}

/// All that this kernel has, and by the rights that are taken away.
#[test]
fn what_is_missing_is_shown_with_what_is_so_without_it() {
    let lab = kernel_lab(LabSpec::default());

    for (rights, path, want) in [
        ("+all", "auto", &[][..]),
        ("-sys_admin", "auto", &["pins"]),
        ("-sys_admin,-perfmon", "auto", &["kernel-path", "xdp-losses"]),
        ("-sys_admin,-perfmon", "shard", &["kernel-path", "xdp-losses"]),
    ] {
        let mut node = Node::idle();
        node.publish(&document(&[]));
        let mut command = node.run_by(&lab, "setpriv", &[&format!("--bounding-set={rights}")], &["--path", path]);
        if rights != "+all" {
            command.env_remove("SPANWIRE_PINS");
        }
        node.adopt(&mut command);
        node.wait_for_running();
        assert_eq!(missing(&node), want, "{rights} {path}");
        let text = String::from_utf8(node.spanctl(&["show"]).stdout).unwrap();
        assert_eq!(text.contains("missing here"), !want.is_empty(), "{text}");
        want.iter().for_each(|name| assert!(text.contains(name), "{name}: {text}"));
        node.stop();
    }
}

/// What crossed before goes on crossing, by the selectors that are there or by shards.
#[test]
fn rights_that_are_missing_are_named() {
    for hook in HOOKS {
        let lab = kernel_lab(LabSpec::default());
        for (right, name) in [("bpf", "CAP_BPF"), ("net_admin", "CAP_NET_ADMIN"), ("perfmon", "CAP_PERFMON")] {
            let mut node = Node::idle();
            node.publish(&document(&[]));
            node.launch(&lab, &["--path", hook]);
            node.wait_for_ports(&[A, B]);
            node.kill();
            // CAP_SYS_ADMIN would stand for two of them.
            let less = format!("--bounding-set=-sys_admin,-{right}");
            let said = refusal(&mut node.run_by(&lab, "setpriv", &[&less], &["--path", hook]));
            has_all(&said, &["--path", hook, "needs", name]);
            assert!(crosses(&lab, 83), "{hook}, {name}");
            node.adopt(&mut node.run_by(&lab, "setpriv", &[&less], &["--path", "auto"]));
            if right == "perfmon" {
                node.wait_for_ports(&[A, B]);
            } else {
                let show = wait_for_reason(&node, A, &["CAP_BPF"]);
                assert_eq!(port_of(&show, A).unwrap()["state"], "inactive", "{show:#}");
            }
            assert!(crosses(&lab, 84), "{hook}, {name}");
            has_all(&node.stop(), &["frames cross through shards", "needs", name]);
        }
    }
}

#[test]
fn what_is_in_the_way_of_a_pin_is_left_there_and_told() {
    let foreign = Foreign::load();
    for hook in HOOKS {
        let lab = kernel_lab(LabSpec::default());
        let mut node = Node::idle();
        node.publish(&document(&[]));
        let at = folder(&lab, &node);
        std::fs::create_dir(&at).unwrap();
        std::fs::set_permissions(&at, Permissions::from_mode(0o700)).unwrap();
        // A directory, then a map, then somebody's link on another device, where A's link is to be.
        let pin = at.join(format!("{A}-{hook}"));
        let others = foreign.attach(&lab, MON, hook);
        let put: [(&str, &dyn Fn()); 3] = [
            ("a directory has this name", &|| std::fs::create_dir(&pin).unwrap()),
            ("something else (no link: bpf-map)", &|| drop(map(MapType::PercpuArray, 64, &pin))),
            (r#"the link of a program called "foreign_"#, &|| others.pin(&pin).unwrap()),
        ];
        for (why, put) in put {
            put();
            // What was read by an earlier run is of no use, and replaced.
            for other in [format!("{A}-{hook}-crossings-1"), "bells-0-1".to_owned(), "ring-0-1".to_owned()] {
                let _ = std::fs::remove_file(at.join(&other));
                map(MapType::Hash, 12, &at.join(&other));
            }
            node.launch(&lab, &["--path", hook]);
            node.wait_for_ports(&[A, B]);
            let words = ["does not outlive this process", pin.to_str().unwrap(), why, "none of ours: remove it"];
            wait_for_reason(&node, A, &words);
            assert!(pin.exists() && crosses(&lab, 85), "{hook}: {why}");
            if pin.is_dir() { std::fs::remove_dir(&pin) } else { std::fs::remove_file(&pin) }.unwrap();
            node.wait_for("the pin", |show| pin.exists() && port_of(show, A).unwrap()["reason"] == "");
            node.kill();
            assert!(crosses(&lab, 86), "{hook}: {why}");
            node.launch(&lab, &["--path", hook, "--on-exit", "cut"]);
            node.wait_for_ports(&[A, B]);
            node.stop();
        }
    }
}

/// Makes a map and pins it.
fn map(kind: MapType, value: u32, path: &Path) -> MapHandle {
    let opts = bpf_map_create_opts { sz: size_of::<bpf_map_create_opts>() as _, ..Default::default() };
    let mut map = MapHandle::create(kind, Some("foreign"), 4, value, 2, &opts).unwrap();
    map.pin(path).unwrap();
    map
}

#[test]
fn a_folder_that_others_may_write_is_not_trusted() {
    let lab = kernel_lab(LabSpec::default());
    let mut node = Node::idle();
    node.publish(&document(&[]));
    let at = folder(&lab, &node);
    let at_text = at.to_str().unwrap().to_owned();
    std::fs::create_dir(&at).unwrap();
    for (owner, mode, what) in [(65534, 0o700, "belongs to user 65534"), (0, 0o777, "has mode 0777")] {
        chown(&at, Some(Uid::from_raw(owner)), Some(Gid::from_raw(0))).unwrap();
        std::fs::set_permissions(&at, Permissions::from_mode(mode)).unwrap();
        let said = refusal(&mut node.command(&lab, &["--path", "tc"]));
        has_all(&said, &[&at_text, what, "nobody else may write (0700)", "chown and chmod"]);
        node.launch(&lab, &["--path", "auto"]);
        node.wait_for_ports(&[A, B]);
        assert!(crosses(&lab, 87), "{what}");
        has_all(&node.stop(), &["wires will not outlive this process", what]);
    }
}

/// Everything that asks for the kernel's own types looks for them in this file.
#[test]
fn a_kernel_without_types_of_its_own_carries_frames() {
    for hook in HOOKS {
        let lab = kernel_lab(LabSpec::default());
        let mut node = Node::idle();
        node.publish(&document(&[(A, MON, 1)]));
        let hidden = r#"[ ! -d /sys/kernel/btf ] || mount -t tmpfs none /sys/kernel/btf; [ ! -e /sys/kernel/btf/vmlinux ] && exec "$@""#;
        node.adopt(&mut node.run_by(&lab, "sh", &["-c", hidden, "sh"], &["--path", hook]));
        node.wait_for_ports(&[A, B, MON]);
        assert!(crosses(&lab, 88), "{hook}");
        assert_eq!(mirror_of(&node.settled_stats(), A)["mirrored_packets"], 100);
        node.stop();
    }
}

/// A control group with so many bytes of memory, removed on drop; `None` where none can be made.
struct Group(PathBuf);

impl Group {
    fn new(bytes: u64) -> Option<Group> {
        let roots = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        roots.into_iter().find_map(|(root, limit)| {
            let group = Group(Path::new(root).join(format!("swtest-{}", std::process::id())));
            std::fs::create_dir(&group.0).ok()?;
            std::fs::write(group.0.join(limit), bytes.to_string()).ok()?;
            Some(group)
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its last process may be on its way out still.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

/// What a clone ring has no memory for costs the clones.
#[test]
fn memory_that_is_short_costs_clones_and_is_told() {
    let Some(group) = Group::new(192 << 20) else {
        eprintln!("no control group can be made here: nothing is shown of one with little memory");
        return;
    };
    for hook in HOOKS {
        let lab = kernel_lab(LabSpec::default());
        let mut node = Node::idle();
        node.publish(&document(&[(A, MON, 1)]));
        // `ip netns exec` would hide the groups.
        let into = format!(r#"echo $$ > {}/cgroup.procs && exec nsenter --net="$@""#, group.0.display());
        let mut command = Command::new("sh");
        command.args(["-c", &into, "sh"]).arg(lab.dut().path()).arg(SPANWIRED).arg("--dir").arg(node.dir.path());
        command.args(["--path", hook, "--clone-ring", "268435456"]).env("SPANWIRE_PINS", node.pins.path());
        node.adopt(&mut command);
        node.wait_for_ports(&[A, B, MON]);
        assert!(crosses(&lab, 89), "{hook}");
        let stats = node.settled_stats();
        let entry = mirror_of(&stats, A);
        assert_eq!((&entry["selected"], &entry["mirror_drops_ring_full"]), (&100.into(), &100.into()), "{entry}");
        has_all(&node.stop(), &["mirror_drops_ring_full", "--clone-ring 268435456", "memory.max", "MemoryMax="]);
    }
}

/// Memory of BPF counts for a control group, and has nothing to do with what a process may lock.
#[test]
fn a_limit_of_locked_memory_has_no_effect() {
    for hook in HOOKS {
        let lab = kernel_lab(LabSpec::default());
        let mut node = Node::idle();
        node.publish(&document(&[]));
        node.adopt(&mut node.run_by(&lab, "prlimit", &["--memlock=0:0"], &["--path", hook]));
        node.wait_for_ports(&[A, B]);
        assert!(crosses(&lab, 90), "{hook}");
        node.stop();
    }
}

#[test]
fn a_clone_ring_of_no_size_is_refused() {
    let lab = kernel_lab(LabSpec::default());
    let node = Node::idle();
    for bytes in ["1000000", "65536", "2147483648", "0", "-1", "many", ""] {
        let said = refusal(&mut node.command(&lab, &[&format!("--clone-ring={bytes}")]));
        has_all(&said, &["--clone-ring", bytes, "a power of two from 131072 to 1073741824"]);
    }
}

/// The most entries that one port can have: a bank for each generation, as large as it takes.
#[test]
fn a_large_table_is_put_in_force_whole() {
    const VLANS: u32 = 4000;
    let lab = kernel_lab(LabSpec::default());
    let mut node = Node::start(&lab, &["--path", "tc"]);
    let units = |vlan: u32| {
        let ifindex = (1 << 30) | (A << 12) | vlan;
        (format!(r#"{{"ifindex":{ifindex},"parent_ifindex":{A},"vlan_id":{vlan}}}"#), (ifindex, MON, 1))
    };
    let (interfaces, mut mirrors): (Vec<String>, Vec<_>) = (1..=VLANS).map(units).unzip();
    mirrors.push((A, MON, 1));
    node.import(&document_with(&[(A, B)], &mirrors, &interfaces.join(",")));
    node.wait_for_ports(&[A, B, MON]);
    assert!(crosses(&lab, 91));
    let stats = node.settled_stats();
    let observed = stats["mirrors"].as_array().unwrap().iter().filter_map(|entry| entry["observed"].as_u64());
    assert_eq!(observed.sum::<u64>(), 100, "each frame of A is one entry's");
    assert!(!node.stop().contains("older snapshot"));
}

/// The link is detached, its program exchanged, each kind of pin removed, the whole folder removed.
#[test]
fn what_somebody_has_taken_away_is_put_back() {
    let foreign = Foreign::load();
    for hook in HOOKS {
        let lab = kernel_lab(LabSpec::default());
        let mut node = Node::idle();
        node.publish(&document(&[]));
        node.launch(&lab, &["--path", hook]);
        node.wait_for_ports(&[A, B]);
        let at = folder(&lab, &node);
        let pin = at.join(format!("{A}-{hook}"));
        Link::open(&pin).unwrap().detach().unwrap();
        wait_until_crossing(&lab, 92);
        node.wait_for_ports(&[A, B]);
        foreign.take(&Link::open(&pin).unwrap(), hook);
        wait_until_crossing(&lab, 93);
        let pins = pinned(&at);
        for removed in [&*format!("{A}-{hook}"), "bells-", "policy-", "ring-", ""] {
            for name in pins.iter().filter(|name| name.starts_with(removed)) {
                std::fs::remove_file(at.join(name)).unwrap();
            }
            if removed.is_empty() {
                std::fs::remove_dir(&at).unwrap();
            }
            node.wait_for("the pins", |_| pinned(&at) == pins);
            assert!(crosses(&lab, 94), "{hook}");
        }
        let said = [
            "detached its selector: it is put back",
            "put another program in the place of its selector: it is put back",
            "removed its pins: it is pinned again",
            "removed 1 pin(s) of the clones' maps: they are pinned again",
        ];
        has_all(&node.stop(), &said);
        // What is pinned is what carries.
        assert!(crosses(&lab, 95), "{hook}");
        node.launch(&lab, &["--path", hook]);
        node.wait_for_ports(&[A, B]);
        has_all(&node.stop(), &["its selector was found on it", "100 frames have crossed unseen"]);
    }
}
