//! Super-frames that cross in the kernel as they are: their clones leave as the segments that a device would make.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use spanwire::checksum::{Sum, pseudo_header};
use spanwire::packet::{Headers, Transport};
use spanwire_lab::topology::{Lab, LabSpec};

use crate::far_end::{RECEIVER, hosts, send};
use crate::node::{A, B, MON, Node, document, lab, mirror_of};

const PORT: u16 = 7009;
/// Bytes sent before the receiver answers: no more super-frames at once than there are mirror frames for.
const ROUND: usize = 48 << 10;
const ROUNDS: usize = 60;

/// What is sent, a pattern in which no two places of a round are alike for long.
fn stream() -> Vec<u8> {
    (0..ROUND * ROUNDS).map(|at| (at * 7 + at / 251 + at / 65_521) as u8).collect()
}

/// Sends the stream over TCP, a round at a time.
fn exchange(lab: &Lab) {
    let wire = lab.wire(0).unwrap();
    let listener = lab.ns(wire.b.host).enter(|| TcpListener::bind((RECEIVER, PORT)).unwrap()).unwrap();
    let receiver = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let (mut round, mut all) = (vec![0u8; ROUND], Vec::<u8>::new());
        for _ in 0..ROUNDS {
            socket.read_exact(&mut round).unwrap();
            all.extend_from_slice(&round);
            socket.write_all(&[1]).unwrap();
        }
        all
    });
    let connected = lab.ns(wire.a.host).enter(|| TcpStream::connect((RECEIVER, PORT)).unwrap());
    let mut socket = connected.unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let sent = stream();
    for round in sent.chunks(ROUND) {
        socket.write_all(round).unwrap();
        socket.read_exact(&mut [0]).unwrap();
    }
    assert_eq!(receiver.join().unwrap(), sent, "it crosses as it is");
}

/// The headers of a clone of TCP or UDP, whose checksum must fit its bytes.
fn checked(clone: &[u8]) -> Option<Headers> {
    assert!(clone.len() <= 1514, "{} bytes", clone.len());
    let headers = Headers::of(clone)?;
    let segment = &clone[headers.transport..headers.end];
    let pseudo = pseudo_header(clone, &headers, segment.len() as u16).unwrap();
    assert_eq!((pseudo + Sum::of(segment)).folded(), u16::MAX, "its checksum");
    Some(headers)
}

#[test]
fn clones_of_super_frames_are_their_segments() {
    let lab = lab(LabSpec::default());
    let node = Node::start(&lab, &["--path", "tc", "--mirror-frames", "4096"]);
    node.import(&document(&[(A, MON, 1)]));
    node.wait_for_ports(&[A, B, MON]);
    let (left, right) = hosts(&lab);
    let capture = lab.capture(lab.monitor(0).unwrap()).unwrap();

    let datagrams = lab.ns(right.host).enter(|| {
        let socket = UdpSocket::bind((RECEIVER, PORT)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        (0..20).all(|_| {
            send(&lab, left, 1, 20);
            (0..20).all(|_| socket.recv(&mut [0; 2000]).unwrap() == 1000)
        })
    });
    assert!(datagrams.unwrap(), "they cross");
    exchange(&lab);

    let stats = node.settled_stats();
    let entry = mirror_of(&stats, A);
    let value = |name: &str| entry[name].as_u64().unwrap();
    assert_eq!((value("selected"), value("mirrored_packets")), (value("observed"), value("observed")), "{entry}");
    let tcp_segments = (ROUND * ROUNDS) as u64 / 1448;
    assert!(value("mirrored_segments") >= 400 + tcp_segments / 2, "{entry}");
    assert!(value("mirrored_packets") < 400 + tcp_segments, "super-frames are one each: {entry}");
    let port = stats["ports"].as_array().unwrap().iter().find(|port| port["ifindex"] == MON).unwrap();
    let sent = port["tx_packets"].as_u64().unwrap();
    let captured = capture.finish(sent as usize, Duration::from_secs(20)).unwrap();
    assert_eq!((captured.frames.len() as u64, captured.drops), (sent, 0));
    let bytes: usize = captured.frames.iter().map(Vec::len).sum();
    assert_eq!(bytes as u64, value("mirrored_bytes"), "{entry}");

    // Together they are what was sent, in its place.
    let (mut stream_seen, mut first, mut udp) = (vec![None; ROUND * ROUNDS], None, 0);
    for clone in &captured.frames {
        let Some(headers) = checked(clone) else { continue };
        let payload = &clone[headers.payload..headers.end];
        match headers.protocol {
            Transport::Udp if payload.len() == 1000 => udp += 1,
            Transport::Udp => {}
            Transport::Tcp => {
                let at = headers.transport + 4;
                let sequence = u32::from_be_bytes(clone[at..at + 4].try_into().unwrap());
                // The SYN has the one before.
                let first = *first.get_or_insert(sequence.wrapping_add(1));
                let place = sequence.wrapping_sub(first) as usize;
                for (seen, byte) in stream_seen.iter_mut().skip(place).zip(payload) {
                    *seen = Some(*byte);
                }
            }
        }
    }
    assert_eq!(udp, 400);
    assert_eq!(stream_seen, stream().into_iter().map(Some).collect::<Vec<_>>());
}
