//! A port that goes over from one hook to another and back, on real devices. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use spanwire::kernel::hold::{Hold, Place};
use spanwire::kernel::maps::Maps;
use spanwire::kernel::program::{Hook, Instance, Selector};
use spanwire::xsk::netdev::Netdev;
use spanwire::xsk::packet_socket::PacketSocket;
use spanwire_lab::netns::Namespace;

const SOON: Duration = Duration::from_secs(60);
const CHANGES: usize = 30;

fn ifindex(name: &str) -> u32 {
    Netdev::lookup(name).unwrap().ifindex()
}

fn frame() -> Vec<u8> {
    let mut frame = vec![0x02, 0, 0, 0, 0, 0xbb, 0x02, 0, 0, 0, 0, 0xaa, 0x88, 0xb5];
    frame.resize(80, 0x5a);
    frame
}

/// The new selector is put on before the older one is taken off: each frame meets one, and no more.
#[test]
fn a_port_goes_over_to_another_hook_without_a_gap() {
    assert!(rustix::process::geteuid().is_root(), "this test makes a network namespace: run it as root");
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
