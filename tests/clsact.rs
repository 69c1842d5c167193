//! Selectors held by filters of clsact, on real devices, each test in its own network namespace. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use spanwire::kernel::clsact::Filter;
use spanwire::kernel::hold::{self, Hold, Lost, Place, Seen};
use spanwire::kernel::maps::Maps;
use spanwire::kernel::program::{Hook, Instance, Selector};
use spanwire::xsk::netdev::Netdev;
use spanwire::xsk::packet_socket::PacketSocket;
use spanwire_lab::netns::Namespace;

const SOON: Duration = Duration::from_secs(60);
const A_WHILE: Duration = Duration::from_millis(150);

/// A network namespace with the cables `a0`-`a1`, `b0`-`b1` and `c0`-`c1`: wires are laid between the ends in 1.
struct Net(Namespace);

impl Net {
    fn new() -> Net {
        assert!(rustix::process::geteuid().is_root(), "these tests make network namespaces: run them as root");
        let net = Net(Namespace::create("swclsact").unwrap());
        for cable in ["a", "b", "c"] {
            let [near, far] = [format!("{cable}0"), format!("{cable}1")];
            net.0.ip(&["link", "add", "name", &near, "type", "veth", "peer", "name", &far]).unwrap();
            [near, far].iter().for_each(|end| drop(net.0.ip(&["link", "set", end, "up"]).unwrap()));
        }
        let is_up = || {
            let shown = net.0.ip(&["-o", "link", "show", "type", "veth"]).unwrap().stdout;
            String::from_utf8(shown).unwrap().lines().all(|line| line.contains("state UP") && !line.contains("noop"))
        };
        let deadline = Instant::now() + SOON;
        while !is_up() {
            assert!(Instant::now() < deadline, "the cables do not come up");
            thread::sleep(Duration::from_millis(5));
        }
        net
    }

    fn tc(&self, args: &str) -> String {
        let words: Vec<&str> = args.split_whitespace().collect();
        String::from_utf8(self.0.exec("tc", &words).unwrap().stdout).unwrap()
    }

    fn disciplines(&self, device: &str) -> String {
        self.tc(&format!("qdisc show dev {device}"))
    }

    /// What there is at the ingress of a device.
    fn filters(&self, device: &str) -> String {
        self.tc(&format!("filter show dev {device} ingress"))
    }

    fn enter<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        self.0.enter(body).unwrap()
    }
}

fn ifindex(name: &str) -> u32 {
    Netdev::lookup(name).unwrap().ifindex()
}

/// A selector that sends everything to `peer`.
fn to(peer: &str) -> Selector {
    let maps = Maps::create(1, 1 << 16).unwrap();
    Selector::load(Instance { hook: Hook::Tc, port: 0, device: 0, peer: ifindex(peer) }, &maps).unwrap()
}

fn attach(selector: &Selector, device: &str, owner: &str) -> std::io::Result<Filter> {
    Filter::attach(selector.program().unwrap().as_fd(), ifindex(device), owner, 11)
}

/// Whether a frame that goes into `from` comes out of `to` within `patience`.
fn crosses(from: &str, to: &str, patience: Duration) -> bool {
    let [from, to] = [from, to].map(|name| PacketSocket::open(ifindex(name)).unwrap());
    let mut frame = vec![0x02, 0, 0, 0, 0, 0xbb, 0x02, 0, 0, 0, 0, 0xaa, 0x88, 0xb5];
    frame.resize(80, 0x5a);
    from.send(&frame).unwrap();
    let deadline = Instant::now() + patience;
    let mut buffer = [0; 2048];
    while Instant::now() < deadline {
        to.wait(Duration::from_millis(10)).unwrap();
        while let Some(received) = to.recv(&mut buffer).unwrap() {
            if !received.outgoing && buffer[..received.len] == *frame {
                return true;
            }
        }
    }
    false
}

#[test]
fn a_wire_crosses_by_a_filter_that_outlives_whoever_attached_it() {
    let net = Net::new();
    let before = net.disciplines("a1");
    net.enter(|| {
        assert!(!crosses("a0", "b0", A_WHILE));
        drop(attach(&to("b1"), "a1", "one").unwrap());
        assert!(crosses("a0", "b0", SOON) && !crosses("b0", "a0", A_WHILE), "one way");
    });
    // The thread that attached it is gone, and all it had open.
    net.enter(|| {
        assert!(crosses("a0", "b0", SOON));
        assert_eq!(Filter::find(ifindex("a1"), "two").unwrap(), None);
        let found = Filter::find(ifindex("a1"), "one").unwrap().expect("the filter");
        assert_eq!(found.device().unwrap(), Some(ifindex("a1")));
        found.swap(to("c1").program().unwrap().as_fd()).unwrap();
        assert!(crosses("a0", "c0", SOON) && !crosses("a0", "b0", A_WHILE), "it goes elsewhere");
        // The same owner attaches anew: its own program is exchanged.
        assert_eq!(attach(&to("b1"), "a1", "one").unwrap(), found);
        assert!(crosses("a0", "b0", SOON) && !crosses("a0", "c0", A_WHILE));
        found.detach().unwrap();
        assert!(!crosses("a0", "b0", A_WHILE));
        assert_eq!(found.device().unwrap(), None);
        found.detach().unwrap();
    });
    assert_eq!(net.disciplines("a1"), before);
}

/// Frames cross while the program is exchanged again and again.
#[test]
fn no_frame_is_lost_over_an_exchange() {
    let net = Net::new();
    net.enter(|| {
        let selectors = [to("b1"), to("b1")];
        let filter = attach(&selectors[0], "a1", "one").unwrap();
        let [from, to] = ["a0", "b0"].map(|name| PacketSocket::open(ifindex(name)).unwrap());
        let (mut sent, mut seen, mut buffer) = (0u32, 0u32, [0; 2048]);
        let mut count = |seen: &mut u32| {
            while let Some(received) = to.recv(&mut buffer).unwrap() {
                let is_ours = !received.outgoing && buffer[12..14] == [0x88, 0xb5];
                *seen += u32::from(is_ours);
            }
        };
        for round in 0..200 {
            for _ in 0..10 {
                let mut frame = vec![0x02, 0, 0, 0, 0, 0xbb, 0x02, 0, 0, 0, 0, 0xaa, 0x88, 0xb5];
                frame.resize(80, 0);
                from.send(&frame).unwrap();
                sent += 1;
            }
            filter.swap(selectors[round % 2].program().unwrap().as_fd()).unwrap();
            count(&mut seen);
        }
        let deadline = Instant::now() + SOON;
        while seen < sent && Instant::now() < deadline {
            to.wait(Duration::from_millis(10)).unwrap();
            count(&mut seen);
        }
        assert_eq!((seen, to.drops().unwrap()), (sent, 0));
    });
}

/// A bpffs, unmounted on drop.
struct Pins(tempfile::TempDir);

impl Pins {
    fn new() -> Pins {
        let dir = tempfile::tempdir().unwrap();
        mount("bpf", dir.path(), "bpf", MountFlags::empty(), None).unwrap();
        std::fs::create_dir(dir.path().join("run-1")).unwrap();
        Pins(dir)
    }

    /// The folder of the dataplane that is called so.
    fn folder(&self) -> PathBuf {
        self.0.path().join("run-1")
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder()).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

/// As links do: the filter outlives the run, is taken over with what it counted, and is swept by who does not want it.
#[test]
fn a_selector_is_held_over_runs() {
    let net = Net::new();
    let pins = Pins::new();
    let folder = pins.folder();
    let kept = Place { folder: Some(&folder), owner: "run-1", tcx: false };
    // One with nothing to pin in: it stays, and is found, but what it counted is not.
    let bare = Place { folder: None, ..kept };
    net.enter(|| {
        let selector = to("b1");
        for (at, found) in [(&kept, None), (&kept, Some(1)), (&bare, None), (&bare, None), (&kept, Some(1))] {
            let mut hold = Hold::take(&selector, 11, ifindex("a1"), at).unwrap();
            assert_eq!(hold.found().map(|found| found.frames > 0), found.map(|_| true), "{at:?}");
            assert!(hold.look().is_ok() && crosses("a0", "b0", SOON));
            assert_eq!(hold.is_pinned(), at.folder.is_some());
            drop(hold);
            assert!(crosses("a0", "b0", SOON), "{at:?}");
        }
        assert!(pins.names().contains(&"11-tc-filter".to_owned()), "{:?}", pins.names());
        assert_eq!(hold::sweep(&folder, |port, hook| (port, hook) == (11, Hook::Tc)).unwrap(), 0);
        assert!(crosses("a0", "b0", SOON));
        assert_eq!(hold::sweep(&folder, |port, _| port != 11).unwrap(), 1);
        assert!(!crosses("a0", "b0", A_WHILE));
        assert_eq!(pins.names(), Vec::<String>::new());

        // Taken off by somebody, that is seen; and a hold takes itself off.
        let mut hold = Hold::take(&selector, 11, ifindex("a1"), &kept).unwrap();
        Filter::find(ifindex("a1"), "run-1").unwrap().unwrap().detach().unwrap();
        assert!(hold.look().is_err());
        let mut hold = Hold::take(&selector, 11, ifindex("a1"), &kept).unwrap();
        assert!(hold.look().is_ok());
        hold.detach().unwrap();
        assert!(!crosses("a0", "b0", A_WHILE));

        // Nothing was pinned, and all the same it is found.
        drop(Hold::take(&selector, 12, ifindex("a1"), &bare).unwrap());
        assert_eq!(hold::sweep_filters("run-2", |_| false).unwrap(), 0);
        assert_eq!(hold::sweep_filters("run-1", |port| port == 12).unwrap(), 0);
        assert_eq!(hold::sweep_filters("run-1", |_| false).unwrap(), 1);
        assert!(!crosses("a0", "b0", A_WHILE));
    });
    assert!(!net.disciplines("a1").contains("clsact"));
}

#[test]
fn what_others_have_at_tc_stays_as_it_is() {
    // `clsact` or its older half `ingress`
    for discipline in ["clsact", "ingress"] {
        let net = Net::new();
        net.tc(&format!("qdisc add dev a1 {discipline}"));
        net.tc("filter add dev a1 ingress pref 3 protocol ip u32 match u32 0 0 flowid 1:1");
        net.tc("filter add dev a1 ingress pref 9 protocol all u32 match u32 0 0 flowid 1:1");
        net.tc("filter add dev a1 ingress pref 7 chain 2 protocol ip u32 match u32 0 0 flowid 1:1");
        let theirs = || net.filters("a1");
        let before = (net.disciplines("a1"), theirs());
        net.enter(|| {
            let filter = attach(&to("b1"), "a1", "one").unwrap();
            assert!(crosses("a0", "b0", SOON), "before what takes it");
            assert_ne!(net.filters("a1"), before.1);
            filter.detach().unwrap();
            assert!(!crosses("a0", "b0", A_WHILE));
        });
        assert_eq!((net.disciplines("a1"), theirs()), before, "{discipline}");
    }
}

/// Filters of others that come before ours, an exchanged program, and a discipline that has gone.
#[test]
fn what_becomes_of_a_filter_is_seen() {
    let net = Net::new();
    let place = Place { folder: None, owner: "one", tcx: false };
    net.tc("qdisc add dev a1 clsact");
    let mut hold = net.enter(|| Hold::take(&to("b1"), 11, ifindex("a1"), &place).unwrap());
    let mut look = || net.enter(|| hold.look());
    assert_eq!(look(), Ok(Seen::default()));
    net.tc("filter add dev a1 ingress pref 3 protocol all u32 match u32 0 0 flowid 1:1");
    let seen = look().unwrap();
    assert!(seen.remark.contains("frames meet a u32 filter of priority 3 before its selector"), "{}", seen.remark);
    net.tc("filter del dev a1 ingress pref 3");
    assert_eq!(look(), Ok(Seen::default()));
    net.enter(|| drop(attach(&to("c1"), "a1", "one").unwrap()));
    assert_eq!(look(), Err(Lost::Replaced));
    net.tc("qdisc del dev a1 clsact");
    assert_eq!(look(), Err(Lost::Detached));
}

/// Where the kernel cannot be asked, what carries is left as it is, and that is told.
#[test]
fn a_look_that_cannot_be_had_takes_nothing_off() {
    // In a process of its own: it takes all the descriptors there are.
    if std::env::var_os("SWCLSACT_ALONE").is_none() {
        let mut alone = Command::new("prlimit");
        alone.arg("--nofile=256:256").arg(std::env::current_exe().unwrap()).env("SWCLSACT_ALONE", "1");
        let done = alone.args(["--exact", "a_look_that_cannot_be_had_takes_nothing_off"]).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
        return;
    }
    let net = Net::new();
    let place = Place { folder: None, owner: "one", tcx: false };
    let selector = net.enter(|| to("b1"));
    let mut hold = net.enter(|| Hold::take(&selector, 11, ifindex("a1"), &place).unwrap());
    let (device, program) = net.enter(|| (ifindex("a1"), hold.instance()));
    let before = net.filters("a1");
    net.enter(|| {
        let mut taken: Vec<File> = Vec::new();
        taken.extend(std::iter::from_fn(|| File::open("/dev/null").ok()));
        let seen = hold.look().expect("no answer is no loss");
        assert!(
            seen.remark.contains("cannot look after its selector") && seen.remark.contains("LimitNOFILE"),
            "{seen:?}"
        );
        assert!(Hold::take(&selector, 11, device, &place).is_err());
        drop(taken);
        assert_eq!(hold.look(), Ok(Seen::default()));
    });
    assert_eq!((net.filters("a1"), hold.instance()), (before, program));
}

#[test]
fn a_discipline_that_others_use_by_now_stays() {
    let net = Net::new();
    for side in ["ingress", "egress"] {
        net.enter(|| drop(attach(&to("b1"), "a1", "one").unwrap()));
        net.tc(&format!("filter add dev a1 {side} pref 20 protocol all u32 match u32 0 0 flowid 1:1"));
        net.enter(|| Filter::find(ifindex("a1"), "one").unwrap().unwrap().detach().unwrap());
        assert!(net.disciplines("a1").contains("clsact"), "{side}");
        assert!(net.tc(&format!("filter show dev a1 {side}")).contains("u32"), "{side}");
        net.tc("qdisc del dev a1 clsact");
    }
    // One that was made for a filter before, and by somebody else by now.
    let made = net.enter(|| attach(&to("b1"), "a1", "one").unwrap());
    net.tc("qdisc del dev a1 clsact");
    net.tc("qdisc add dev a1 clsact");
    net.enter(|| {
        assert_eq!(made.device().unwrap(), None, "it went with its discipline");
        let again = attach(&to("b1"), "a1", "one").unwrap();
        made.detach().unwrap();
        assert_eq!(again.device().unwrap(), None);
    });
    assert!(net.disciplines("a1").contains("clsact"));
}

#[test]
fn a_filter_that_cannot_be_says_why_and_leaves_nothing() {
    let net = Net::new();
    net.tc("qdisc add dev b1 clsact");
    net.tc("filter add dev b1 ingress pref 7 protocol ip u32 match u32 0 0 flowid 1:1");
    net.tc("qdisc add dev c1 ingress_block 5 clsact");
    net.tc("qdisc add dev c0 ingress_block 5 clsact");
    let before = ["b1", "c1"].map(|device| (net.disciplines(device), net.filters(device)));
    net.enter(|| {
        let selector = to("b1");
        let first = attach(&selector, "a1", "one").unwrap();
        for (device, why) in [
            ("a1", "the selector of another dataplane is there (one)"),
            ("b1", "priority 7 at its ingress is taken by a u32 filter"),
            ("c1", "a block that it shares with other devices"),
        ] {
            let error = attach(&selector, device, "two").unwrap_err();
            assert!(error.to_string().contains(why), "{device}: {error}");
        }
        assert_eq!(first.device().unwrap(), Some(ifindex("a1")));
        let program = selector.program().unwrap();
        assert!(Filter::attach(program.as_fd(), 4_000_000, "two", 11).is_err());
        assert_eq!(Filter::find(4_000_000, "two").unwrap(), None);
        // No program of tc: nothing stays, not even the discipline.
        let xdp = Selector::load(
            Instance { hook: Hook::Xdp, port: 0, device: 0, peer: 0 },
            &Maps::create(1, 1 << 16).unwrap(),
        );
        assert!(Filter::attach(xdp.unwrap().program().unwrap().as_fd(), ifindex("a0"), "two", 11).is_err());
        let mut sets = capabilities(None).unwrap();
        sets.effective.remove(CapabilitySet::NET_ADMIN);
        set_capabilities(None, sets).unwrap();
        let error = Filter::attach(program.as_fd(), ifindex("a0"), "two", 11).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    });
    assert_eq!(["b1", "c1"].map(|device| (net.disciplines(device), net.filters(device))), before);
    assert!(!net.disciplines("a0").contains("clsact"));
}

#[test]
fn a_device_takes_its_filter_with_it() {
    let net = Net::new();
    let filter = net.enter(|| attach(&to("b1"), "a1", "one").unwrap());
    net.0.ip(&["link", "del", "a1"]).unwrap();
    net.enter(|| {
        assert_eq!(filter.device().unwrap(), None);
        filter.detach().unwrap();
    });
}
