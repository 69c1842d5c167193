//! Segments of super-frames, and checksums that were left to a device: held against what any segments have to be, and
//! against those that the kernel makes. The latter needs root.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod frames;
mod holds;
mod kernel;

use std::fs;
use std::path::Path;

use frames::{Field, Frame, any_frame};
use holds::holds;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use spanwire::checksum::{complete_checksum, is_unfinished};
use spanwire::segment::Segments;

/// What the fuzz target `segments` starts from: a GSO size and a frame.
#[test]
fn every_seed_is_a_super_frame() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/fuzz/seeds/segments");
    let seeds = fs::read_dir(seeds).expect("the seeds are part of the sources");
    let seeds: Vec<_> = seeds.map(|entry| entry.unwrap().path()).collect();
    assert!(!seeds.is_empty());
    for path in seeds {
        let seed = fs::read(&path).unwrap();
        let (size, frame) = seed.split_first_chunk().expect("a size");
        assert!(holds(frame, u16::from_le_bytes(*size)), "{}", path.display());
    }
}

#[test]
fn a_super_frame_of_64_kib_and_more() {
    for (v6, udp) in [(false, false), (true, false), (false, true), (true, true)] {
        let (frame, _) = Frame::new(v6, udp, 65_535).build();
        assert!(holds(&frame, 1448));
        assert!(holds(&frame, 8948));
        let longer = Frame { field: Field::Other(9), ..Frame::new(v6, udp, 300_000) };
        assert!(holds(&longer.build().0, 1448));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn segments_are_what_any_have_to_be(frame in any_frame(3000), size in prop_oneof![1..40u16, 1..3000u16]) {
        let bytes = frame.build().0;
        prop_assert_eq!(holds(&bytes, size), frame.payload.len() > size.into());
        let unfinished = match frame.field {
            Field::Partial => Some(true),
            Field::Complete => Some(false),
            Field::Other(_) => None,
        };
        if let Some(unfinished) = unfinished {
            let mut done = bytes.clone();
            // A finished one that would be the same unfinished is finished.
            let same = Frame { field: Field::Complete, ..frame.clone() }.build().0 == bytes;
            prop_assert_eq!(is_unfinished(&bytes), Some(unfinished && !same));
            prop_assert_eq!(complete_checksum(&mut done), unfinished && !same);
        }
    }

    #[test]
    fn cut_short_it_is_none_or_a_shorter_one(frame in any_frame(300), size in 1..300u16, cut in any::<Index>()) {
        let bytes = frame.build().0;
        let kept = cut.index(bytes.len());
        let headers = bytes.len() - frame.payload.len();
        prop_assert_eq!(holds(&bytes[..kept], size), kept > headers + usize::from(size));
    }

    #[test]
    fn nothing_panics_over_damage(frame in any_frame(300), size: u16, damage in vec((any::<Index>(), any::<u8>()), 1..8)) {
        let mut bytes = frame.build().0;
        for (at, byte) in damage {
            // Most of it where the headers are.
            let at = at.index(2 * bytes.len());
            let len = bytes.len();
            bytes[if at < len { at } else { (at - len).min(80) % len }] = byte;
        }
        holds(&bytes, size);
        holds(&bytes, size % 300);
    }

    #[test]
    fn nothing_panics_over_any_bytes(mut bytes in vec(any::<u8>(), 0..400), size: u16, kind in 0..4usize) {
        if let Some(ethertype) = bytes.get_mut(12..14) {
            ethertype.copy_from_slice(&[[0x08, 0x00], [0x86, 0xdd], [0x81, 0x00], [0x12, 0x34]][kind]);
        }
        holds(&bytes, size);
        holds(&bytes, size % 64);
    }
}

/// What the kernel would not make segments of either, or makes of the packet within.
#[test]
fn what_is_no_super_frame_has_no_segments() {
    let frame = Frame::new(false, false, 3000);
    let (bytes, transport) = frame.build();
    assert!(Segments::of(&bytes, 0).is_none());
    assert!(Segments::of(&bytes, 3000).is_none() && Segments::of(&bytes, 2999).is_some());
    let with = |at: usize, byte: u8| {
        let mut other = bytes.clone();
        other[at] = byte;
        Segments::of(&other, 1000).is_none()
    };
    assert!(!with(14 + 8, 1));
    assert!(with(14 + 6, 0x20) && with(14 + 7, 0x01), "fragments");
    for protocol in [1, 4, 41, 47, 50, 132, 136] {
        assert!(with(14 + 9, protocol), "protocol {protocol}");
    }
    assert!(with(transport + 12, 0x40), "a TCP header of 16 bytes");
    assert!(with(14, 0x44), "an IPv4 header of 16 bytes");
    assert!(with(12, 0x88), "another ethertype");
    // A segment longer than a packet's length can say.
    let long = Frame { options: 10, field: Field::Other(1), ..Frame::new(false, false, 70_000) };
    let (long, _) = long.build();
    assert!(Segments::of(&long, u16::MAX - 60 - 20).is_some_and(|found| holds(&long, 65_455) && found.count() == 2));
    assert!(Segments::of(&long, u16::MAX - 60 - 19).is_none());
    let (long, _) = Frame { field: Field::Other(1), ..Frame::new(true, true, 70_000) }.build();
    assert!(Segments::of(&long, u16::MAX - 8).is_some() && Segments::of(&long, u16::MAX - 7).is_none());
    // A jumbogram: its length is in a hop-by-hop option, which no segment may keep.
    let jumbo = Frame { extensions: vec![0], ..Frame::new(true, false, 70_000) };
    assert!(Segments::of(&jumbo.build().0, 1000).is_none());
    assert!(Segments::of(&Frame { extensions: vec![], ..jumbo }.build().0, 1000).is_some());
}

/// A packet within UDP that ends where the frame does is what is segmented.
#[test]
fn tunnels_have_no_segments() {
    let udp = |v6, payload: &[u8]| Frame { payload: payload.to_vec(), ..Frame::new(v6, true, 0) };
    for (v6, inner) in [(false, false), (true, true), (false, true), (true, false)] {
        let frame = Frame::new(inner, false, 2000).build().0;
        let packet = &frame[14..];
        for (what, before, within) in [
            ("VXLAN", &[8, 0, 0, 0, 0, 0, 42, 0][..], &frame[..]),
            ("Geneve", &[0, 0, 0x65, 0x58, 0, 0, 42, 0], &frame),
            ("Geneve with options", &[2, 0, 0x65, 0x58, 0, 0, 42, 0, 1, 1, 1, 1, 2, 2, 2, 2], &frame),
            ("VXLAN-GPE", &[0x0c, 0, 0, 1, 0, 0, 42, 0], packet),
            ("FOU", &[], packet),
            ("GUE", &[1, 4, 0, 0, 7, 7, 7, 7], packet),
        ] {
            let payload = [before, within].concat();
            let outer = udp(v6, &payload);
            assert!(Segments::of(&outer.build().0, 1000).is_none(), "{what}");
            // One more byte, and it is no packet's end.
            let other = udp(v6, &[&payload[..], &[0]].concat());
            assert!(Segments::of(&other.build().0, 1000).is_some(), "{what}");
        }
    }
    let bare = Frame { field: Field::Other(0), ..Frame::new(false, true, 3000) };
    assert!(Segments::of(&bare.build().0, 1000).is_none(), "no checksum");
    let tcp = Frame { field: Field::Other(0), ..Frame::new(false, false, 3000) };
    assert!(holds(&tcp.build().0, 1000));
}
