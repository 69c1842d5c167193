//! Against the kernel's own segments and checksums, on veth pairs in network namespaces: what a port receives of a sender
//! that leaves work to its device, beside what arrives behind a device that does none of it.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};
use spanwire::checksum::{complete_checksum, is_unfinished};
use spanwire::segment::Segments;
use spanwire::xsk::packet_socket::{OFFLOAD, PacketSocket};
use spanwire_lab::netns::Namespace;
use spanwire_lab::topology::{Lab, LabSpec, Port};

use crate::frames::{ACK, CWR, ECE, FIN, Field, Frame, PSH};

/// Far longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);
/// More than a super-frame with what is before it.
const BUFFER: usize = 80 << 10;

// linux/virtio_net.h
const NEEDS_CSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

fn lab(mtu: u32) -> Lab {
    assert!(rustix::process::geteuid().is_root(), "network namespaces need root");
    Lab::create(LabSpec { mtu, ..LabSpec::default() }).unwrap()
}

/// A device that hands everything to the one behind it as it came, or does none of the work itself.
fn offloads(ns: &Namespace, device: &str, state: &str) {
    let features = ["tx", "sg", "tso", "gso", "tx-udp-segmentation"];
    let words = features.iter().flat_map(|feature| [*feature, state]);
    let args: Vec<&str> = ["-K", device].into_iter().chain(words).collect();
    ns.exec("ethtool", &args).unwrap();
    let shown = ns.exec("ethtool", &["-k", device]).unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    for feature in ["tx-checksumming", "tcp-segmentation-offload", "tx-udp-segmentation"] {
        assert!(shown.lines().any(|line| line.trim().starts_with(&format!("{feature}: {state}"))), "{shown}");
    }
}

/// A `struct virtio_net_hdr` and the frame.
fn offloaded(frame: &[u8], kind: u8, gso_size: u16, transport: usize, field: usize) -> Vec<u8> {
    let mut bytes = vec![NEEDS_CSUM, kind];
    for word in [frame.len().min(usize::from(u16::MAX)) as u16, gso_size, transport as u16, field as u16] {
        bytes.extend(word.to_ne_bytes());
    }
    assert_eq!(bytes.len(), OFFLOAD);
    bytes.extend(frame);
    bytes
}

/// The next frame that a port received.
fn next(socket: &PacketSocket) -> Option<Vec<u8>> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let received = socket.recv(&mut buffer).unwrap()?;
        assert!(!received.truncated);
        if !received.outgoing {
            return Some(buffer[..received.len].to_vec());
        }
    }
}

/// The next frame, waited for.
fn wait_next(socket: &PacketSocket, what: &str) -> Vec<u8> {
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        if let Some(frame) = next(socket) {
            return frame;
        }
        socket.wait(Duration::from_millis(20)).unwrap();
    }
    panic!("no frame arrives: {what}");
}

/// A cable whose near end has a sender, with a device that does no work, and what arrives at the far end.
struct Cable {
    _lab: Lab,
    near: PacketSocket,
    far: PacketSocket,
}

impl Cable {
    fn new() -> Cable {
        // Any segment fits.
        let lab = lab(65_535);
        let port = lab.wire(0).unwrap().a.clone();
        let host = lab.ns(port.host);
        offloads(host, &port.host_name, "off");
        let near = host.enter(|| PacketSocket::open_with_offloads(port.host_ifindex).unwrap()).unwrap();
        let far = lab.dut().enter(|| PacketSocket::open(port.ifindex).unwrap()).unwrap();
        Cable { _lab: lab, near, far }
    }

    /// What of these bytes arrives: as many frames as are expected, and no further one.
    fn send(&self, bytes: &[u8], expected: usize, what: &str) -> Vec<Vec<u8>> {
        self.near.send(bytes).unwrap_or_else(|error| panic!("{error}: {what}"));
        let arrived = (0..expected).map(|at| wait_next(&self.far, &format!("{at} of {what}"))).collect();
        let mark = [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5][..], &[9; 50]].concat();
        self.near.send(&[&[0; OFFLOAD][..], &mark].concat()).unwrap();
        assert_eq!(wait_next(&self.far, "the mark"), mark, "{what}");
        arrived
    }
}

/// Every segment of a super-frame.
fn all(segments: &Segments<'_>) -> Vec<Vec<u8>> {
    let write = |at| {
        let mut out = vec![0; BUFFER];
        let len = segments.write(at, &mut out).unwrap();
        out.truncate(len);
        out
    };
    (0..segments.count()).map(write).collect()
}

#[track_caller]
fn assert_same(ours: &[Vec<u8>], kernels: &[Vec<u8>], what: &str) {
    assert_eq!(ours.len(), kernels.len(), "{what}");
    for (at, (ours, kernels)) in ours.iter().zip(kernels).enumerate() {
        assert!(ours == kernels, "{what}: segment {at}\nours   {ours:02x?}\nkernel {kernels:02x?}");
    }
}

/// Super-frames of every kind, and the payload of a segment.
fn super_frames() -> Vec<(Frame, u16)> {
    let mut frames = Vec::new();
    for v6 in [false, true] {
        for udp in [false, true] {
            let of = |payload| Frame::new(v6, udp, payload);
            frames.extend([(of(1449), 1448), (of(2896), 1448), (of(9999), 1001), (of(100), 1), (of(64_000), 1400)]);
            // As long as a packet's length can say.
            let headers = if v6 { 0 } else { 20 } + if udp { 8 } else { 20 };
            frames.push((of(65_535 - headers), 32_001));
            for tags in [&[0x8100][..], &[0x88a8, 0x8100], &[0x88a8, 0x8100, 0x8100, 0x8100]] {
                frames.push((Frame { tags: tags.to_vec(), ..of(5000) }, 999));
            }
        }
    }
    let tcp = |v6| Frame { tcp_options: 3, ..Frame::new(v6, false, 4001) };
    for v6 in [false, true] {
        // What a segment has of flags depends on its place.
        for flags in [0xff, ACK | PSH, ACK | FIN, ACK | CWR, ACK | ECE | CWR | FIN | PSH, ACK | ECE] {
            frames.push((Frame { flags, ..tcp(v6) }, 1000));
        }
        frames.push((Frame { accurate: true, ..tcp(v6) }, 1000));
        frames.push((Frame { tcp_options: 10, sequence: u32::MAX - 1500, ..tcp(v6) }, 1000));
    }
    for udp in [false, true] {
        let frame = Frame::new(false, udp, 4000);
        frames.push((Frame { options: 10, tags: vec![0x8100], ..frame.clone() }, 1000));
        frames.push((Frame { options: 1, identification: u16::MAX - 1, ..frame }, 1000));
        for extensions in [vec![0], vec![60], vec![0, 60, 43, 60]] {
            frames.push((Frame { extensions, ..Frame::new(true, udp, 4000) }, 1000));
        }
    }
    frames
}

/// The payload whose first segment has the checksum 0 by the sum, which UDP says in another way.
fn with_checksum_0(frame: &Frame, gso_size: u16) -> Frame {
    let mut frame = frame.clone();
    frame.payload[..2].fill(0);
    let (bytes, transport) = frame.build();
    let first = all(&Segments::of(&bytes, gso_size).unwrap()).remove(0);
    let at = transport + frame.field_at();
    frame.payload[..2].copy_from_slice(&first[at..at + 2]);
    frame
}

#[test]
fn a_device_without_offloads_is_handed_these_segments() {
    let cable = Cable::new();
    let mut frames = super_frames();
    for (v6, udp) in [(false, false), (true, false), (false, true), (true, true)] {
        frames.push((with_checksum_0(&Frame::new(v6, udp, 2500), 1000), 1000));
    }
    for (frame, gso_size) in frames {
        let (bytes, transport) = frame.build();
        let segments = Segments::of(&bytes, gso_size).expect("a super-frame");
        let kind = match (frame.udp, frame.v6) {
            (true, _) => GSO_UDP_L4,
            (false, true) => GSO_TCPV6,
            (false, false) => GSO_TCPV4,
        };
        let ecn = if frame.flags & CWR != 0 && !frame.udp { GSO_ECN } else { 0 };
        let sent = offloaded(&bytes, kind | ecn, gso_size, transport, frame.field_at());
        let what = format!("{gso_size} of {}, {:?}", bytes.len(), Frame { payload: vec![], ..frame.clone() });
        let arrived = cable.send(&sent, segments.count() as usize, &what);
        assert_same(&all(&segments), &arrived, &what);
        // Whatever the field held.
        for field in [Field::Complete, Field::Other(0x1234)] {
            let (bytes, _) = Frame { field, ..frame.clone() }.build();
            assert_same(&all(&Segments::of(&bytes, gso_size).unwrap()), &arrived, &what);
        }
    }
}

#[test]
fn a_device_without_offloads_is_handed_these_checksums() {
    let cable = Cable::new();
    for (v6, udp) in [(false, false), (true, false), (false, true), (true, true)] {
        let plain = Frame::new(v6, udp, 701);
        let even = Frame::new(v6, udp, 700);
        // By the sum it is 0.
        let mut zero = Frame { payload: vec![0; 700], ..even.clone() };
        let (bytes, transport) = Frame { field: Field::Complete, ..zero.clone() }.build();
        let at = transport + zero.field_at();
        zero.payload[..2].copy_from_slice(&bytes[at..at + 2]);
        let tagged = Frame { tags: vec![0x88a8, 0x8100], ..even.clone() };
        let far = Frame { options: 3, extensions: vec![0, 60], ..even.clone() };
        for frame in [plain, even, zero, tagged, far] {
            let (mut bytes, transport) = frame.build();
            let sent = offloaded(&bytes, GSO_NONE, 0, transport, frame.field_at());
            let arrived = cable.send(&sent, 1, &format!("{frame:?}")).remove(0);
            assert!(complete_checksum(&mut bytes), "{frame:?}");
            assert!(bytes == arrived, "{frame:?}\nours   {bytes:02x?}\nkernel {arrived:02x?}");
            assert_eq!(is_unfinished(&arrived), Some(false));
        }
    }
}

/// What a port of a bridge received, as it has to arrive behind a device that does no work.
fn expected(offload: &[u8], frame: &[u8]) -> Vec<Vec<u8>> {
    let gso_size = u16::from_ne_bytes([offload[4], offload[5]]);
    if offload[1] != GSO_NONE {
        return all(
            &Segments::of(frame, gso_size).unwrap_or_else(|| panic!("no super-frame: {offload:?} {frame:02x?}"))
        );
    }
    let mut frame = frame.to_vec();
    assert_eq!(complete_checksum(&mut frame), offload[0] & NEEDS_CSUM != 0, "{offload:?} {frame:02x?}");
    vec![frame]
}

/// Gives a host's end of a cable its addresses.
fn address(lab: &Lab, port: &Port, number: u8) {
    let ns = lab.ns(port.host);
    let device = &port.host_name;
    let switch = format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6");
    ns.enter(|| fs::write(switch, "0").unwrap()).unwrap();
    ns.ip(&["link", "set", device, "arp", "on"]).unwrap();
    ns.ip(&["addr", "add", &format!("10.77.9.{number}/24"), "dev", device]).unwrap();
    ns.ip(&["addr", "add", &format!("fd00::{number}/64"), "dev", device, "nodad"]).unwrap();
}

/// Sends this much over TCP and UDP, and returns once the other host has all of the former.
fn talk(lab: &Lab, from: &Port, to: &Port, host: &str) {
    let payload: Vec<u8> = (0..200_000u32).map(|at| (at * 7 + at / 255) as u8).collect();
    let listener = lab.ns(to.host).enter(|| TcpListener::bind((host, 0)).unwrap()).unwrap();
    let to = listener.local_addr().unwrap();
    let (mut stream, udp) = lab
        .ns(from.host)
        .enter(|| {
            let udp = UdpSocket::bind((if to.is_ipv4() { "0.0.0.0" } else { "::" }, 0)).unwrap();
            (TcpStream::connect(to).unwrap(), udp)
        })
        .unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| stream.write_all(&payload).unwrap());
        let mut received = vec![0; payload.len()];
        listener.accept().unwrap().0.read_exact(&mut received).unwrap();
        assert_eq!(received, payload);
    });
    setsockopt(&udp, UdpGsoSegment, &1100).unwrap();
    udp.send_to(&payload[..30_000], to).unwrap();
}

/// Two hosts with the offloads of the kernel's choice, on two ports of a bridge.
#[test]
fn what_hosts_leave_to_their_devices_arrives_like_this() {
    let lab = lab(1500);
    let wire = lab.wire(0).unwrap();
    lab.bridge(0).unwrap();
    offloads(lab.ns(wire.a.host), &wire.a.host_name, "on");
    offloads(lab.dut(), &wire.b.name, "off");
    let near = lab.dut().enter(|| PacketSocket::open_with_offloads(wire.a.ifindex).unwrap()).unwrap();
    let far = lab.ns(wire.b.host).enter(|| PacketSocket::open(wire.b.host_ifindex).unwrap()).unwrap();
    address(&lab, &wire.a, 1);
    address(&lab, &wire.b, 2);
    talk(&lab, &wire.a, &wire.b, "10.77.9.2");
    talk(&lab, &wire.a, &wire.b, "fd00::2");
    let (mut ours, mut arrived) = (Vec::new(), Vec::new());
    let mut kinds = std::collections::BTreeMap::<u8, usize>::new();
    let deadline = Instant::now() + LIMIT;
    // Two processors may send at the same time: what arrives has an order of its own.
    while kinds.len() < 4 || ours.is_empty() || ours != arrived {
        assert!(Instant::now() < deadline, "{kinds:?}: {} frames, and {} arrived", ours.len(), arrived.len());
        while let Some(bytes) = next(&near) {
            let (offload, frame) = bytes.split_at(OFFLOAD);
            *kinds.entry(offload[1] & !GSO_ECN).or_default() += 1;
            ours.extend(expected(offload, frame));
        }
        arrived.extend(std::iter::from_fn(|| next(&far)));
        ours.sort();
        arrived.sort();
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(kinds.keys().copied().collect::<Vec<_>>(), [GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4]);
}
