//! Frames from a seed: the same bytes on every machine, each one recognisable wherever it turns up.
//!
//! ```text
//!  0        12      12+4t    14+4t                    len-8            len
//!  ├─ MACs ─┼─ tags ─┼─ type ─┼─ IP, UDP, random bytes ─┼─ 'S' 'W' d ^ seq ─┤
//!            t = 0..2                                    d direction, ^ xor of d and seq, seq big-endian u32
//! ```
//!
//! The tag sits at the very end so that it fits the shortest frame with two VLAN tags and is lost by any truncation.

use std::ops::RangeInclusive;

use crate::tag::{Direction, Tag};

/// Shortest Ethernet frame, without FCS, in bytes.
pub const MIN_FRAME: usize = 60;
/// Longest frame of a 1500-byte MTU, without FCS, in bytes; VLAN tags count towards it.
pub const MAX_FRAME: usize = 1514;

const MACS: usize = 12;
const VLAN_TAG: usize = 4;
const ETHERTYPE: usize = 2;
const IPV4: usize = 20;
const IPV6: usize = 40;
const UDP: usize = 8;

/// What follows the (possibly tagged) MAC addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Payload {
    Ipv4Udp,
    Ipv6Udp,
    Unknown(u16),
}

/// Tags in front of the payload, outermost first, as TPIDs.
const TAGGING: [&[u16]; 3] = [&[], &[0x8100], &[0x88A8, 0x8100]];

/// Ethertypes nobody parses: the two for local experiments (IEEE 802), and one never assigned.
const PAYLOADS: [Payload; 5] =
    [Payload::Ipv4Udp, Payload::Ipv6Udp, Payload::Unknown(0x88B5), Payload::Unknown(0x88B6), Payload::Unknown(0x1234)];

/// A reproducible sequence of frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameSpec {
    /// Everything random follows from it.
    pub seed: u64,
    /// How many frames.
    pub count: u32,
    /// Which way they will be sent: decides MAC addresses, IP addresses and the tag.
    pub direction: Direction,
    /// Frame lengths without FCS, at least [`MIN_FRAME`]. An IPv6 frame that needs more than the shortest gets it.
    pub lengths: RangeInclusive<usize>,
    /// VLAN ids to draw from (both tags of a QinQ frame); `1..=4094` unless a test needs certain ones.
    pub vlan_ids: RangeInclusive<u16>,
    /// Distinct UDP flows.
    pub flows: u16,
}

impl FrameSpec {
    /// `count` frames from `a` to `b`: 60 to 1514 bytes, any VLAN id, 64 flows.
    pub fn new(seed: u64, count: u32) -> Self {
        Self { seed, count, direction: Direction::AToB, lengths: MIN_FRAME..=MAX_FRAME, vlan_ids: 1..=4094, flows: 64 }
    }

    /// The same specification for the other (or the same) direction. The bytes differ too, not only the addresses.
    pub fn direction(self, direction: Direction) -> Self {
        Self { direction, ..self }
    }

    /// Builds the frames.
    ///
    /// The first thirty go through every tagging and payload at the shortest and at the longest length; from there on
    /// all is drawn at random, with one frame in eight at either end.
    pub fn build(&self) -> Vec<Vec<u8>> {
        let mut random = Random::new(self.seed ^ u64::from(self.direction.id()).rotate_left(56));
        (0..self.count).map(|sequence| self.frame(sequence, &mut random)).collect()
    }

    fn frame(&self, sequence: u32, random: &mut Random) -> Vec<u8> {
        let (shortest, longest) = (*self.lengths.start().max(&MIN_FRAME), *self.lengths.end());
        let shapes = TAGGING.len() * PAYLOADS.len();
        let position = usize::try_from(sequence).unwrap_or(usize::MAX);
        // Both ends at once: even positions are short, odd ones long.
        let (shape, end) = match position < 2 * shapes {
            true => (position / 2, position % 2),
            false => (random.below(shapes), random.below(16)),
        };
        let tagging = TAGGING.get(shape % TAGGING.len()).copied().unwrap_or_default();
        let payload = PAYLOADS.get(shape / TAGGING.len()).copied().unwrap_or(Payload::Ipv4Udp);
        let length = match end {
            0 => shortest,
            1 => longest,
            _ => shortest + random.below(longest.saturating_sub(shortest) + 1),
        };
        let tag = Tag { direction: self.direction, sequence };

        let mut frame = Vec::with_capacity(length);
        frame.extend_from_slice(&self.macs());
        for tpid in tagging {
            frame.extend_from_slice(&tpid.to_be_bytes());
            frame.extend_from_slice(&self.tci(random).to_be_bytes());
        }
        let l2 = MACS + VLAN_TAG * tagging.len() + ETHERTYPE;
        let flow = u16::try_from(random.below(usize::from(self.flows.max(1)))).unwrap_or_default();
        match payload {
            Payload::Ipv4Udp => {
                frame.extend_from_slice(&0x0800_u16.to_be_bytes());
                self.ipv4_udp(&mut frame, length.max(l2 + IPV4 + UDP + Tag::LEN) - l2, flow, tag, random);
            }
            Payload::Ipv6Udp => {
                frame.extend_from_slice(&0x86DD_u16.to_be_bytes());
                self.ipv6_udp(&mut frame, length.max(l2 + IPV6 + UDP + Tag::LEN) - l2, flow, tag, random);
            }
            Payload::Unknown(ethertype) => {
                frame.extend_from_slice(&ethertype.to_be_bytes());
                fill(&mut frame, length.max(l2 + Tag::LEN) - l2, tag, random);
            }
        }
        frame
    }

    /// Locally administered unicast addresses: a bridge forwards them, and they are nobody's on these cables.
    fn macs(&self) -> [u8; MACS] {
        let (dst, src) = match self.direction {
            Direction::AToB => (0xB0, 0xA0),
            Direction::BToA => (0xA0, 0xB0),
        };
        [0x02, b'S', b'W', 0, 0, dst, 0x02, b'S', b'W', 0, 0, src]
    }

    /// Any priority and drop-eligible bit, a VLAN id of the range.
    fn tci(&self, random: &mut Random) -> u16 {
        let (first, last) = (*self.vlan_ids.start(), *self.vlan_ids.end());
        let vid = first + u16::try_from(random.below(usize::from(last.saturating_sub(first)) + 1)).unwrap_or_default();
        (u16::try_from(random.below(16)).unwrap_or_default() << 12) | (vid & 0x0FFF)
    }

    fn ipv4_udp(&self, frame: &mut Vec<u8>, length: usize, flow: u16, tag: Tag, random: &mut Random) {
        let (source, target) = self.host_bytes();
        let [f0, f1] = flow.to_be_bytes();
        let [l0, l1] = be16(length);
        // Identification 0 and don't-fragment: RFC 6864 gives the field no meaning then.
        let mut header = [0x45, 0, l0, l1, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, source, f0, f1, 10, target, f0, f1];
        let [c0, c1] = fold(sum(&header)).to_be_bytes();
        header[10] = c0;
        header[11] = c1;
        let pseudo = sum(&header[12..20]);
        frame.extend_from_slice(&header);
        udp(frame, length - IPV4, flow, pseudo, tag, random);
    }

    fn ipv6_udp(&self, frame: &mut Vec<u8>, length: usize, flow: u16, tag: Tag, random: &mut Random) {
        let (source, target) = self.host_bytes();
        let [f0, f1] = flow.to_be_bytes();
        let [l0, l1] = be16(length - IPV6);
        let mut header = [0; IPV6];
        header[..8].copy_from_slice(&[0x60, 0, f0, f1, l0, l1, 17, 64]);
        header[8..24].copy_from_slice(&[0xFD, b'S', b'W', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, source, f0, f1]);
        header[24..40].copy_from_slice(&[0xFD, b'S', b'W', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, target, f0, f1]);
        let pseudo = sum(&header[8..40]);
        frame.extend_from_slice(&header);
        udp(frame, length - IPV6, flow, pseudo, tag, random);
    }

    fn host_bytes(&self) -> (u8, u8) {
        match self.direction {
            Direction::AToB => (0xA0, 0xB0),
            Direction::BToA => (0xB0, 0xA0),
        }
    }
}

/// `count` frames from `a` to `b` with every default of [`FrameSpec::new`].
pub fn frames(seed: u64, count: u32) -> Vec<Vec<u8>> {
    FrameSpec::new(seed, count).build()
}

/// A UDP datagram of `length` bytes with a correct checksum; `pseudo` is the sum over the IP addresses.
fn udp(frame: &mut Vec<u8>, length: usize, flow: u16, pseudo: u32, tag: Tag, random: &mut Random) {
    let start = frame.len();
    frame.extend_from_slice(&(20_000 + (flow & 0x3FFF)).to_be_bytes());
    frame.extend_from_slice(&4739_u16.to_be_bytes());
    frame.extend_from_slice(&be16(length));
    frame.extend_from_slice(&[0, 0]);
    fill(frame, length - UDP, tag, random);
    let datagram = frame.get(start..).unwrap_or_default();
    let total = pseudo + 17 + u32::from(u16::from_be_bytes(be16(length))) + sum(datagram);
    // A sum of zero is sent as all ones: zero means "no checksum" (RFC 768).
    let checksum = match fold(total) {
        0 => 0xFFFF,
        checksum => checksum,
    };
    if let Some(field) = frame.get_mut(start + 6..start + 8) {
        field.copy_from_slice(&checksum.to_be_bytes());
    }
}

/// `length` bytes: random ones, then the tag.
fn fill(frame: &mut Vec<u8>, length: usize, tag: Tag, random: &mut Random) {
    for _ in Tag::LEN..length {
        frame.push(random.byte());
    }
    frame.extend_from_slice(&tag.to_bytes());
}

fn be16(value: usize) -> [u8; 2] {
    u16::try_from(value).unwrap_or(u16::MAX).to_be_bytes()
}

/// The one's-complement sum of RFC 1071, not yet folded; an odd last byte counts as the high one.
fn sum(bytes: &[u8]) -> u32 {
    bytes
        .chunks(2)
        .map(|pair| match *pair {
            [high, low] => u32::from(u16::from_be_bytes([high, low])),
            [high] => u32::from(high) << 8,
            _ => 0,
        })
        .sum()
}

/// Folds the carries and complements.
fn fold(mut sum: u32) -> u16 {
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    !(u16::try_from(sum).unwrap_or(u16::MAX))
}

/// splitmix64 (Vigna, public domain). Own, because a library's generator may change and a seed in a bug report must
/// give the same frames for ever.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform enough below `bound` (the bias of a modulo by at most 1515 is nothing here); 0 for a bound of 0.
    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from((self.next() >> 16) % bound).unwrap_or_default()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// (VLAN ids, final ethertype, L3 offset)
    fn parse(frame: &[u8]) -> (Vec<u16>, u16, usize) {
        let (mut vids, mut at) = (Vec::new(), 12);
        loop {
            let ethertype = u16::from_be_bytes([frame[at], frame[at + 1]]);
            if !matches!(ethertype, 0x8100 | 0x88A8) {
                return (vids, ethertype, at + 2);
            }
            vids.push(u16::from_be_bytes([frame[at + 2], frame[at + 3]]) & 0xFFF);
            at += 4;
        }
    }

    #[test]
    fn a_seed_gives_the_same_frames_and_another_seed_others() {
        assert_eq!(frames(7, 200), frames(7, 200));
        assert_ne!(frames(7, 200), frames(8, 200));
        // A longer run begins with the shorter one.
        assert_eq!(frames(7, 500)[..200], frames(7, 200));
    }

    #[test]
    fn lengths_cover_both_ends_and_never_leave_the_range() {
        for count in [2, 30, 1000] {
            let lengths: HashSet<usize> = frames(1, count).iter().map(Vec::len).collect();
            assert!(lengths.contains(&MIN_FRAME) && lengths.contains(&MAX_FRAME), "{count}");
            assert!(lengths.iter().all(|length| (MIN_FRAME..=MAX_FRAME).contains(length)));
        }
        let lengths: HashSet<usize> = frames(1, 3000).iter().map(Vec::len).collect();
        assert!(lengths.len() > 1000, "spread over {} lengths only", lengths.len());
    }

    #[test]
    fn every_tagging_meets_every_payload_at_both_ends() {
        let mut seen = HashSet::new();
        for frame in frames(3, 30) {
            let (vids, ethertype, _) = parse(&frame);
            seen.insert((vids.len(), ethertype, frame.len() > 1000));
        }
        assert_eq!(seen.len(), 30);
        // Two tags fit the shortest frame.
        assert!(frames(3, 30).iter().any(|frame| frame.len() == MIN_FRAME && parse(frame).0.len() == 2));
    }

    #[test]
    fn every_frame_names_itself() {
        for direction in [Direction::AToB, Direction::BToA] {
            let frames = FrameSpec::new(5, 1000).direction(direction).build();
            for (sequence, frame) in (0..).zip(&frames) {
                assert_eq!(Tag::read(frame), Some(Tag { direction, sequence }));
                assert_eq!(Tag::read(&frame[..frame.len() - 1]), None);
            }
            assert_eq!(frames.iter().collect::<HashSet<_>>().len(), frames.len());
        }
        assert_eq!(Tag::read(b"SW"), None);
    }

    #[test]
    fn ip_lengths_and_checksums_are_right() {
        let (mut v4, mut v6) = (0, 0);
        for frame in frames(11, 2000) {
            let (_, ethertype, l3) = parse(&frame);
            let packet = &frame[l3..];
            let (addresses, datagram) = match ethertype {
                0x0800 => {
                    v4 += 1;
                    assert_eq!(fold(sum(&packet[..20])), 0);
                    assert_eq!(usize::from(u16::from_be_bytes([packet[2], packet[3]])), packet.len());
                    (&packet[12..20], &packet[20..])
                }
                0x86DD => {
                    v6 += 1;
                    assert_eq!(usize::from(u16::from_be_bytes([packet[4], packet[5]])), packet.len() - 40);
                    (&packet[8..40], &packet[40..])
                }
                _ => continue,
            };
            let length = u32::try_from(datagram.len()).unwrap();
            assert_eq!(u32::from(u16::from_be_bytes([datagram[4], datagram[5]])), length);
            assert_eq!(fold(sum(addresses) + 17 + length + sum(datagram)), 0);
        }
        assert!(v4 > 200 && v6 > 200);
    }

    #[test]
    fn vlan_ids_stay_in_the_range_asked_for() {
        let spec = FrameSpec { vlan_ids: 100..=101, ..FrameSpec::new(2, 500) };
        let vids: HashSet<u16> = spec.build().iter().flat_map(|frame| parse(frame).0).collect();
        assert_eq!(vids, HashSet::from([100, 101]));
    }

    #[test]
    fn macs_are_unicast() {
        for frame in frames(1, 10) {
            assert_eq!((frame[0] & 1, frame[6] & 1), (0, 0));
        }
    }
}
