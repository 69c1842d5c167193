//! Programs, offloads and packet sockets on real veth pairs, each test in its own network
//! namespace. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::thread::{CapabilitySet, LinkNameSpaceType, capabilities, move_into_link_name_space, set_capabilities};
use spanwire::kernel::steer::{PortProgram, SteerError, XdpModeChoice};
use spanwire::kernel::xdp::{LinkError, XdpMode};
use spanwire::xsk::ioctl::NetdevError;
use spanwire::xsk::netdev::{self, LinkState, Netdev, Queues};
use spanwire::xsk::offload::{Offload, Reader, stuck_vlan_offload};
use spanwire::xsk::packet_socket::PacketSocket;
use spanwire::xsk::promiscuous::Promiscuous;

const NO_DEVICE: u32 = 4_000_000;

/// A network namespace with the veth pair `va`-`vb`, deleted with everything in it on drop.
struct Net {
    name: String,
}

impl Net {
    fn new() -> Net {
        Net::with_queues(1)
    }

    /// `va` has that many queues each way; `vb` has one.
    fn with_queues(queues: u32) -> Net {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests attach XDP programs in network namespaces: run them as root"
        );
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sw-steer-{}-{count}", std::process::id());
        run(&format!("ip netns add {name}"));
        let net = Net { name };
        net.ip(&format!(
            "link add name va numrxqueues {queues} numtxqueues {queues} type veth \
             peer name vb numrxqueues 1 numtxqueues 1"
        ));
        for dev in ["va", "vb"] {
            // No frames but the tests' own.
            net.ip(&format!("link set {dev} addrgenmode none up"));
        }
        // The kernel notices carrier in the background, and until then the noop qdisc swallows
        // what is sent, without an error.
        let deadline = Instant::now() + SOON;
        while !["va", "vb"].into_iter().all(|dev| net.is_ready(dev)) {
            assert!(Instant::now() < deadline, "va and vb do not come up");
            thread::sleep(Duration::from_millis(5));
        }
        net
    }

    fn ip(&self, args: &str) -> String {
        run(&format!("ip -n {} {args}", self.name))
    }

    fn exec(&self, command: &str) -> String {
        run(&format!("ip netns exec {} {command}", self.name))
    }

    fn show(&self, dev: &str) -> serde_json::Value {
        let shown = self.ip(&format!("-j -d link show dev {dev}"));
        let mut list: serde_json::Value = serde_json::from_str(&shown).unwrap();
        list[0].take()
    }

    fn is_ready(&self, dev: &str) -> bool {
        let shown = self.show(dev);
        shown["operstate"] == "UP" && shown["qdisc"] != "noop"
    }

    /// Mode and program, e.g. `{"mode":2,"prog":{"id":7,"name":"span_rx",…}}`.
    fn xdp(&self, dev: &str) -> Option<serde_json::Value> {
        self.show(dev).get("xdp").cloned()
    }

    fn promiscuity(&self, dev: &str) -> u64 {
        self.show(dev)["promiscuity"].as_u64().unwrap()
    }

    /// Runs `work` on a thread of its own inside the namespace.
    fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.name);
        thread::scope(|scope| {
            let worker = scope.spawn(move || {
                let file = File::open(path).unwrap();
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                work()
            });
            match worker.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

fn run(command: &str) -> String {
    let words: Vec<&str> = command.split_whitespace().collect();
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn ifindex(name: &str) -> u32 {
    Netdev::lookup(name).unwrap().ifindex()
}

/// A frame that `tag` tells from all others; `tags` are inline VLAN tags.
fn frame(tags: &[u8], tag: u8) -> Vec<u8> {
    let mut frame = vec![0x02, 0, 0, 0, 0, 0xbb, 0x02, 0, 0, 0, 0, 0xaa];
    frame.extend_from_slice(tags);
    frame.extend_from_slice(&[0x88, 0xb5]);
    frame.extend((0..80).map(|i| i ^ tag));
    frame
}

/// Whether `socket` receives exactly `frame` within `patience`.
fn sees(socket: &PacketSocket, frame: &[u8], patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    let mut buffer = [0; 4096];
    while Instant::now() < deadline {
        socket.wait(Duration::from_millis(10)).unwrap();
        while let Some(received) = socket.recv(&mut buffer).unwrap() {
            if !received.outgoing && buffer[..received.len] == *frame {
                assert!(!received.truncated);
                return true;
            }
        }
    }
    false
}

const SOON: Duration = Duration::from_secs(60);
const A_WHILE: Duration = Duration::from_millis(150);

#[test]
fn a_program_is_attached_in_the_mode_asked_for_and_gone_after_drop() {
    let net = Net::new();
    for (choice, driver, mode, shown) in [
        (XdpModeChoice::Native, "veth", XdpMode::Native, 1),
        (XdpModeChoice::Generic, "veth", XdpMode::Generic, 2),
        (XdpModeChoice::Auto, "veth", XdpMode::Generic, 2),
        (XdpModeChoice::Auto, "any", XdpMode::Native, 1),
    ] {
        net.inside(|| {
            let port = PortProgram::attach(ifindex("va"), choice, 1, driver).unwrap();
            assert_eq!(port.mode(), mode, "{choice} on {driver}");
            assert_eq!(port.note(), None);
            let xdp = net.xdp("va").expect("a program on va");
            assert_eq!(xdp["mode"], shown, "{xdp}");
            assert!(xdp["prog"]["id"].as_u64().unwrap() > 0, "{xdp}");
            assert_eq!(xdp["prog"]["name"], "span_rx");
            assert_eq!(net.xdp("vb"), None);
            drop(port);
            assert_eq!(net.xdp("va"), None);
        });
    }
}

#[test]
fn auto_falls_back_to_generic_and_says_why() {
    let net = Net::new();
    net.ip("link add name br type bridge");
    net.inside(|| {
        let br = ifindex("br");
        let port = PortProgram::attach(br, XdpModeChoice::Auto, 1, "bridge").unwrap();
        assert_eq!(port.mode(), XdpMode::Generic);
        let note = port.note().unwrap();
        assert!(note.contains("br (ifindex") && note.contains("no native XDP"), "{note}");
        assert!(!note.contains("--xdp-mode"), "generic is in use: {note}");
        drop(port);

        let error = PortProgram::attach(br, XdpModeChoice::Native, 1, "bridge").unwrap_err();
        assert!(matches!(error, SteerError::Attach(LinkError::Unsupported { .. })), "{error:?}");
    });
}

#[test]
fn native_that_the_driver_refuses_is_an_error_with_advice() {
    let net = Net::new();
    net.ip("link set vb mtu 9000");
    net.inside(|| {
        let error = PortProgram::attach(ifindex("va"), XdpModeChoice::Native, 1, "veth").unwrap_err();
        assert!(matches!(error, SteerError::Attach(LinkError::Refused { .. })), "{error:?}");
        assert!(error.to_string().contains("lower the MTU"), "{error}");
    });
}

#[test]
fn a_second_program_is_refused_in_either_mode_and_the_first_stays() {
    let net = Net::new();
    net.inside(|| {
        let va = ifindex("va");
        let first = PortProgram::attach(va, XdpModeChoice::Generic, 1, "veth").unwrap();
        let id = net.xdp("va").unwrap()["prog"]["id"].clone();
        for choice in [XdpModeChoice::Generic, XdpModeChoice::Native, XdpModeChoice::Auto] {
            let error = PortProgram::attach(va, choice, 1, "any").unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, SteerError::Attach(LinkError::Busy { .. })), "{choice}: {error:?}");
            assert!(text.starts_with(&format!("va (ifindex {va}) already has")), "{text}");
        }
        assert_eq!(net.xdp("va").unwrap()["prog"]["id"], id);
        drop(first);
        PortProgram::attach(va, XdpModeChoice::Native, 1, "veth").unwrap();
    });
}

#[test]
fn a_program_that_does_not_load_says_why_and_leaves_nothing() {
    let net = Net::new();
    net.inside(|| {
        // Only this thread loses them.
        let mut without = capabilities(None).unwrap();
        let needed = CapabilitySet::BPF | CapabilitySet::NET_ADMIN | CapabilitySet::SYS_ADMIN;
        without.effective.remove(needed);
        set_capabilities(None, without).unwrap();
        let error = PortProgram::attach(ifindex("va"), XdpModeChoice::Generic, 1, "veth").unwrap_err();
        assert!(matches!(&error, SteerError::Load { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("cannot load the XDP program for va (ifindex"), "{text}");
        assert!(text.contains("CAP_BPF") && text.contains("libbpf: "), "{text}");
        assert_eq!(net.xdp("va"), None);
    });
}

#[test]
fn a_device_that_does_not_exist_is_named() {
    let net = Net::new();
    net.inside(|| {
        let error = PortProgram::attach(NO_DEVICE, XdpModeChoice::Generic, 1, "veth").unwrap_err();
        assert!(error.to_string().contains("ifindex 4000000"), "{error}");
        for bad in [0, NO_DEVICE, u32::MAX] {
            assert!(matches!(Netdev::open(bad), Err(NetdevError::NoIndex { ifindex }) if ifindex == bad));
            assert!(!Netdev::exists(bad).unwrap());
            assert_eq!(netdev::link_state(bad).unwrap(), None);
            assert!(matches!(stuck_vlan_offload(bad), Err(NetdevError::NoIndex { .. })));
            let error = PacketSocket::open(bad).unwrap_err().to_string();
            assert!(error.contains(&format!("ifindex {bad}")), "{error}");
            let error = Promiscuous::join(bad).unwrap_err().to_string();
            assert!(error.contains("no such device"), "{error}");
        }
        for bad in ["", "nothere", "a-name-beyond-fifteen"] {
            assert!(matches!(
                Netdev::lookup(bad),
                Err(NetdevError::NoName { name }) if name == bad
            ));
        }
    });
}

#[test]
fn frames_go_to_the_kernel_unless_their_queue_has_a_socket() {
    let net = Net::new();
    net.inside(|| {
        let (va, vb) = (ifindex("va"), ifindex("vb"));
        let kernel = PacketSocket::open(va).unwrap();
        let wire = PacketSocket::open(vb).unwrap();
        for choice in [XdpModeChoice::Generic, XdpModeChoice::Native] {
            let port = PortProgram::attach(va, choice, 1, "veth").unwrap();
            wire.send(&frame(&[], 1)).unwrap();
            assert!(sees(&kernel, &frame(&[], 1), SOON), "{choice}: no socket");

            // A socket that is not bound takes the frames and loses them: enough to tell.
            let unbound = || socket_with(AddressFamily::XDP, SocketType::RAW, SocketFlags::CLOEXEC, None);
            let socket = unbound().unwrap();
            port.set(0, socket.as_fd()).unwrap();
            wire.send(&frame(&[], 2)).unwrap();
            assert!(!sees(&kernel, &frame(&[], 2), A_WHILE), "{choice}: socket");

            port.clear(0).unwrap();
            port.clear(0).unwrap();
            wire.send(&frame(&[], 3)).unwrap();
            assert!(sees(&kernel, &frame(&[], 3), SOON), "{choice}: cleared");

            // Closed here is not closed yet: other tests start programs, and those hold a copy
            // of the socket until they exec. So the frame is sent again.
            port.set(0, socket.as_fd()).unwrap();
            drop(socket);
            let deadline = Instant::now() + SOON;
            let passed = loop {
                wire.send(&frame(&[], 4)).unwrap();
                if sees(&kernel, &frame(&[], 4), A_WHILE) {
                    break true;
                }
                if Instant::now() > deadline {
                    break false;
                }
            };
            assert!(passed, "{choice}: closed");

            let socket = unbound().unwrap();
            port.set(0, socket.as_fd()).unwrap();
            drop(port);
            wire.send(&frame(&[], 5)).unwrap();
            assert!(sees(&kernel, &frame(&[], 5), SOON), "{choice}: detached");
        }
        assert_eq!(kernel.drops().unwrap(), 0);
    });
}

#[test]
fn each_queue_of_a_port_has_one_place_and_no_more() {
    let net = Net::with_queues(2);
    net.inside(|| {
        let va = Netdev::lookup("va").unwrap();
        assert_eq!(va.queues(), Queues { rx: 2, tx: 2 });
        assert_eq!(Netdev::lookup("vb").unwrap().queues(), Queues { rx: 1, tx: 1 });

        let port = PortProgram::attach(va.ifindex(), XdpModeChoice::Auto, va.queues().rx, va.driver()).unwrap();
        assert_eq!(port.queues(), 2);
        let socket = socket_with(AddressFamily::XDP, SocketType::RAW, SocketFlags::CLOEXEC, None).unwrap();
        port.set(0, socket.as_fd()).unwrap();
        port.set(1, socket.as_fd()).unwrap();
        port.set(1, socket.as_fd()).unwrap();
        let error = port.set(2, socket.as_fd()).unwrap_err();
        assert!(error.to_string().ends_with("has no queue 2: its queues are 0 to 1"), "{error}");
        assert!(matches!(port.clear(2), Err(SteerError::NoQueue { queue: 2, .. })));

        let other = File::open("/dev/null").unwrap();
        let error = port.set(0, other.as_fd()).unwrap_err();
        assert!(matches!(error, SteerError::Map { queue: 0, .. }), "{error:?}");
    });
}

#[test]
fn a_device_reads_as_it_is_and_its_changes_show() {
    let net = Net::new();
    net.ip("link set va address 02:00:5e:10:20:30");
    net.inside(|| {
        let va = Netdev::lookup("va").unwrap();
        let index = va.ifindex();
        assert_eq!(va, Netdev::open(index).unwrap());
        assert_eq!((va.name(), va.driver(), va.mtu()), ("va", "veth", 1500));
        assert_eq!(va.mac(), [0x02, 0x00, 0x5e, 0x10, 0x20, 0x30]);
        assert_eq!(va.queues(), Queues { rx: 1, tx: 1 });
        assert!(va.up());

        let state = || netdev::link_state(index).unwrap();
        let up = LinkState { up: true, mtu: 1500 };
        assert_eq!(state(), Some(up));
        net.ip("link set va mtu 1400");
        assert_eq!(state(), Some(LinkState { mtu: 1400, ..up }));
        // Without carrier a port is down, although the operator wants it up.
        net.ip("link set vb down");
        let deadline = Instant::now() + SOON;
        while state().unwrap().up && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(state(), Some(LinkState { up: false, mtu: 1400 }));

        // The name goes to another device; the index does not.
        net.ip("link set va down");
        net.ip("link set va name moved");
        net.ip("link add name va type bridge");
        assert_eq!(Netdev::open(index).unwrap().name(), "moved");
        assert_eq!(state(), Some(LinkState { up: false, mtu: 1400 }));
        net.ip("link del moved");
        assert_eq!(state(), None);
        assert!(!Netdev::exists(index).unwrap());
        assert_eq!(netdev::label(index), format!("ifindex {index}"));
    });
}

fn vlan_features(net: &Net, dev: &str) -> Vec<String> {
    let all = net.exec(&format!("ethtool -k {dev}"));
    let found: Vec<String> =
        all.lines().filter(|line| line.contains("vlan")).map(|line| line.trim().to_owned()).collect();
    assert!(found.len() >= 4, "{all}");
    found
}

fn held_off(ifindex: u32) -> Offload {
    let mut offload = Offload::look(&Netdev::open(ifindex).unwrap(), Reader::Driver, &[]).unwrap();
    offload.turn_off().unwrap();
    offload
}

#[test]
fn vlan_offloads_are_turned_off_and_put_back() {
    let net = Net::new();
    let before = vlan_features(&net, "va");
    assert!(before.contains(&"rx-vlan-offload: on".to_owned()), "{before:?}");
    let names = ["rxvlan", "txvlan", "rx-vlan-stag-hw-parse", "tx-vlan-stag-hw-insert"];
    net.inside(|| {
        let va = ifindex("va");
        let offload = held_off(va);
        let mut changed: Vec<&str> = offload.changed().collect();
        changed.sort_by_key(|name| names.iter().position(|n| n == name));
        assert_eq!(changed, names);
        for feature in vlan_features(&net, "va") {
            assert!(!feature.ends_with(": on"), "{feature}");
        }
        // Held off already: nothing of it is ours to put back.
        let second = held_off(va);
        assert_eq!(second.changed().count(), 0);
        second.restore().unwrap();
        assert!(vlan_features(&net, "va").contains(&"rx-vlan-offload: off".to_owned()));
        offload.restore().unwrap();
        assert_eq!(vlan_features(&net, "va"), before);

        drop(held_off(va));
        assert_eq!(vlan_features(&net, "va"), before);
    });
}

#[test]
fn only_the_vlan_offloads_that_were_on_are_put_back() {
    let net = Net::new();
    net.exec("ethtool -K va rxvlan off");
    let before = vlan_features(&net, "va");
    assert!(before.contains(&"rx-vlan-offload: off".to_owned()), "{before:?}");
    let offload = net.inside(|| held_off(ifindex("va")));
    let changed: BTreeSet<&str> = offload.changed().collect();
    assert_eq!(changed, ["rx-vlan-stag-hw-parse", "tx-vlan-stag-hw-insert", "txvlan"].into());
    // From a thread in another namespace, too.
    offload.restore().unwrap();
    assert_eq!(vlan_features(&net, "va"), before);

    let offload = net.inside(|| held_off(ifindex("va")));
    net.ip("link del va");
    assert!(!offload.restore().unwrap(), "it is gone");
}

#[test]
fn what_an_earlier_holder_turned_off_is_put_back_too() {
    let net = Net::new();
    let before = vlan_features(&net, "va");
    net.exec("ethtool -K va rxvlan off txvlan off");
    net.inside(|| {
        let va = Netdev::open(ifindex("va")).unwrap();
        let found = ["rxvlan".to_owned(), "no such".to_owned()];
        let mut offload = Offload::look(&va, Reader::Driver, &found).unwrap();
        assert!(offload.changed().any(|name| name == "rxvlan"));
        offload.turn_off().unwrap();
        assert!(offload.restore().unwrap());
        let now = vlan_features(&net, "va");
        assert!(now.contains(&"rx-vlan-offload: on".to_owned()), "{now:?}");
        assert!(now.contains(&"tx-vlan-offload: off".to_owned()), "nobody said that it was on: {now:?}");
        // Only looked at: nothing is changed, and nothing put back.
        drop(Offload::look(&va, Reader::Driver, &["txvlan".to_owned()]).unwrap());
        assert_eq!(vlan_features(&net, "va"), now);
        assert!(Offload::restore_found(&va, &["txvlan".to_owned()]).unwrap());
        assert_eq!(vlan_features(&net, "va"), before);
    });
}

#[test]
fn another_device_with_the_ifindex_keeps_its_offloads() {
    let net = Net::new();
    let index = net.inside(|| ifindex("va"));
    let offload = net.inside(|| held_off(index));
    net.ip("link del va");
    net.ip(&format!("link add other index {index} type veth peer name far"));
    net.exec("ethtool -K other rxvlan off");
    let before = vlan_features(&net, "other");
    assert!(!offload.restore().unwrap(), "it is gone");
    assert_eq!(vlan_features(&net, "other"), before);
}

#[test]
fn tagged_frames_read_as_they_were_sent() {
    let net = Net::new();
    net.inside(|| {
        let received = PacketSocket::open(ifindex("va")).unwrap();
        let sent = PacketSocket::open(ifindex("vb")).unwrap();
        let stacks: [&[u8]; 5] = [
            &[],
            &[0x81, 0x00, 0xa0, 0x64],
            // Priority tag: VLAN 0 is a tag all the same.
            &[0x81, 0x00, 0x00, 0x00],
            &[0x88, 0xa8, 0x00, 0xc8, 0x81, 0x00, 0x20, 0x64],
            &[0x81, 0x00, 0x00, 0x0a, 0x81, 0x00, 0x00, 0x14],
        ];
        for (i, tags) in (0..).zip(stacks) {
            let frame = frame(tags, 16 + i);
            sent.send(&frame).unwrap();
            assert!(sees(&received, &frame, SOON), "{tags:02x?}");
        }
    });
}

#[test]
fn a_packet_socket_tells_sent_from_received_and_short_buffers() {
    let net = Net::new();
    net.inside(|| {
        let va = PacketSocket::open(ifindex("va")).unwrap();
        let vb = PacketSocket::open(ifindex("vb")).unwrap();
        let sniffer = PacketSocket::open(ifindex("va")).unwrap();
        let mut buffer = [0; 40];
        assert_eq!(va.recv(&mut buffer).unwrap(), None);
        assert!(!va.wait(Duration::from_millis(1)).unwrap());

        va.send(&frame(&[], 7)).unwrap();
        assert!(sees(&vb, &frame(&[], 7), SOON));
        assert!(sniffer.wait(SOON).unwrap());
        let seen = sniffer.recv(&mut buffer).unwrap().unwrap();
        assert!(seen.outgoing && seen.truncated && seen.len == 40, "{seen:?}");
        assert_eq!(buffer, frame(&[], 7)[..40]);
    });
}

#[test]
fn a_port_is_promiscuous_while_it_is_asked_to_be() {
    let net = Net::new();
    net.inside(|| {
        let va = ifindex("va");
        assert_eq!(net.promiscuity("va"), 0);
        let first = Promiscuous::join(va).unwrap();
        let second = Promiscuous::join(va).unwrap();
        assert_eq!(net.promiscuity("va"), 2);
        drop(first);
        assert_eq!(net.promiscuity("va"), 1);
        drop(second);
        assert_eq!(net.promiscuity("va"), 0);
    });
}
