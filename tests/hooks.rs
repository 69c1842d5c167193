//! Selectors of both hooks: a port that goes over from one to the other and back, and one that is not exchanged, on real devices. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use libbpf_rs::{ObjectBuilder, ProgramAttachType};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use spanwire::kernel::abi::LAYOUT;
use spanwire::kernel::hold::{Hold, HoldError, Place};
use spanwire::kernel::link::{Link, Point};
use spanwire::kernel::maps::Maps;
use spanwire::kernel::program::{Hook, Instance, Selector};
use spanwire::kernel::steer::Aligned;
use spanwire::kernel::xdp::XdpMode;
use spanwire::xsk::netdev::Netdev;
use spanwire::xsk::packet_socket::PacketSocket;
use spanwire_lab::netns::Namespace;
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(60);
const CHANGES: usize = 30;

fn ifindex(name: &str) -> u32 {
    Netdev::lookup(name).unwrap().ifindex()
}

/// A network namespace with the cables `a0`-`a1` and `b0`-`b1`.
fn net() -> Namespace {
    assert!(rustix::process::geteuid().is_root(), "these tests make network namespaces: run them as root");
    let net = Namespace::create("swhooks").unwrap();
    for cable in ["a", "b"] {
        let ends = [format!("{cable}0"), format!("{cable}1")];
        net.ip(&["link", "add", "name", &ends[0], "type", "veth", "peer", "name", &ends[1]]).unwrap();
        for end in &ends {
            // With NAPI a veth takes what drivers redirect, and loses nothing when a program comes or goes.
            net.exec("ethtool", &["-K", end, "gro", "on"]).unwrap();
            net.ip(&["link", "set", end, "up"]).unwrap();
        }
    }
    net
}

fn frame() -> Vec<u8> {
    let mut frame = vec![0x02, 0, 0, 0, 0, 0xbb, 0x02, 0, 0, 0, 0, 0xaa, 0x88, 0xb5];
    frame.resize(80, 0x5a);
    frame
}

/// A bpffs, for as long as the test takes.
struct Pins(TempDir);

impl Pins {
    fn new() -> Pins {
        let at = tempfile::tempdir().unwrap();
        mount("bpf", at.path(), "bpf", MountFlags::empty(), None).unwrap();
        Pins(at)
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

/// What holds there was loaded for no place, as by an older loader: the kernel exchanges no program for one of another place.
#[test]
fn a_selector_that_cannot_be_exchanged_is_left_as_it_is() {
    static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/foreign.bpf.o")));
    let (net, pins) = (net(), Pins::new());
    let folder = pins.0.path();
    net.enter(|| {
        let mut object = ObjectBuilder::default().open_memory(&OBJECT.0).unwrap();
        let mut program = object.progs_mut().find(|program| program.name() == "foreign_xdp").unwrap();
        // The attach type that is 0, as if none had been given.
        program.set_attach_type(ProgramAttachType::CgroupInetIngress);
        let object = object.load().unwrap();
        let program = object.progs().find(|program| program.name() == "foreign_xdp").unwrap();
        let (near, pin) = (ifindex("a1"), folder.join("11-xdp"));
        let link = Link::create(program.as_fd(), near, Point::Xdp(XdpMode::Native)).unwrap();
        link.pin(&pin).unwrap();
        let before = link.held().unwrap();

        let of = Instance { hook: Hook::Xdp, port: 0, device: near, peer: ifindex("b1") };
        let selector = Selector::load(of, &Maps::create(1, 1 << 16).unwrap()).unwrap();
        let place = Place { folder: Some(folder), owner: "hooks", tcx: true };
        let refused = Hold::take(&selector, 11, near, &place).unwrap_err();
        assert!(matches!(refused, HoldError::Xdp(_)) && refused.to_string().contains("a1"), "{refused}");
        let after = Link::open(&pin).unwrap().held().unwrap();
        assert_eq!((after.id, after.program, after.device), (before.id, before.program, Some(near)));
        assert!(!folder.join(format!("11-xdp-crossings-{LAYOUT}")).exists(), "nothing of the new one is pinned");
        drop(selector);

        // With that gone there is room.
        link.detach().unwrap();
        let selector = Selector::load(of, &Maps::create(1, 1 << 16).unwrap()).unwrap();
        Hold::take(&selector, 11, near, &place).unwrap().detach().unwrap();
    })
    .unwrap();
}

/// The new selector is put on before the older one is taken off: each frame meets one, and no more.
#[test]
fn a_port_goes_over_to_another_hook_without_a_gap() {
    let net = net();
    net.enter(|| {
        let maps = Maps::create(1, 1 << 16).unwrap();
        let (near, far) = (ifindex("a1"), ifindex("b1"));
        let [from, to] = ["a0", "b0"].map(|name| PacketSocket::open(ifindex(name)).unwrap());
        let place = Place { folder: None, owner: "hooks", tcx: true };
        let take = |hook| {
            let of = Instance { hook, port: 0, device: near, peer: far };
            Hold::take(&Selector::load(of, &maps).unwrap(), 11, near, &place).unwrap()
        };
        let mut hold = take(Hook::Tc);
        let deadline = Instant::now() + SOON;
        let (sent, seen, done) = (AtomicU32::new(0), AtomicU32::new(0), AtomicBool::new(false));
        let frame = frame();
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut buffer = [0; 2048];
                while !(done.load(Relaxed) && seen.load(Relaxed) >= sent.load(Relaxed)) && Instant::now() < deadline {
                    to.wait(Duration::from_millis(10)).unwrap();
                    while let Some(received) = to.recv(&mut buffer).unwrap() {
                        let is_ours = !received.outgoing && buffer[..received.len] == *frame;
                        seen.fetch_add(u32::from(is_ours), Relaxed);
                    }
                }
            });
            scope.spawn(|| {
                while !done.load(Relaxed) && Instant::now() < deadline {
                    from.send(&frame).unwrap();
                    sent.fetch_add(1, Relaxed);
                    thread::sleep(Duration::from_micros(50));
                }
            });
            for hook in [Hook::Xdp, Hook::Tc].into_iter().cycle().take(CHANGES) {
                let older = std::mem::replace(&mut hold, take(hook));
                older.detach().unwrap();
                assert!(!hold.is_off());
                thread::sleep(Duration::from_millis(5));
            }
            done.store(true, Relaxed);
        });
        assert!(sent.load(Relaxed) > CHANGES as u32);
        assert_eq!(seen.load(Relaxed), sent.load(Relaxed), "each frame once, over {CHANGES} changes");
    })
    .unwrap();
}
