//! Frames of TCP and UDP, as senders with offloads make them.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::holds::ones_complement;

/// Of TCP's flags.
pub const FIN: u8 = 0x01;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;
pub const ECE: u8 = 0x40;
pub const CWR: u8 = 0x80;

/// What is in the checksum's field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// The pseudo-header's sum: it is left to a device.
    Partial,
    /// What fits.
    Complete,
    /// Something else.
    Other(u16),
}

/// A frame in parts.
#[derive(Debug, Clone)]
pub struct Frame {
    /// TPIDs, the outermost first.
    pub tags: Vec<u16>,
    pub v6: bool,
    pub udp: bool,
    /// Words of IPv4's options; IPv6 has none.
    pub options: usize,
    /// Numbers of IPv6's extension headers, each of 8 or 16 bytes; IPv4 has none.
    pub extensions: Vec<u8>,
    pub identification: u16,
    pub sequence: u32,
    /// Words of TCP's options.
    pub tcp_options: usize,
    pub accurate: bool,
    pub flags: u8,
    pub field: Field,
    pub payload: Vec<u8>,
}

impl Frame {
    /// Without tags and options, its payload a pattern of this length.
    pub fn new(v6: bool, udp: bool, payload: usize) -> Frame {
        Frame {
            tags: vec![],
            v6,
            udp,
            options: 0,
            extensions: vec![],
            identification: 7,
            sequence: 1000,
            tcp_options: 0,
            accurate: false,
            flags: ACK,
            field: Field::Partial,
            payload: (0..payload).map(|at| (at * 7 + at / 251) as u8).collect(),
        }
    }

    /// Its bytes; and where the header of TCP or UDP begins.
    pub fn build(&self) -> (Vec<u8>, usize) {
        let protocol = if self.udp { 17u8 } else { 6 };
        let mut transport = vec![0x13, 0x88, 0x12, 0x34];
        if self.udp {
            transport.extend(((8 + self.payload.len()) as u16).to_be_bytes());
            transport.extend([0, 0]);
        } else {
            transport.extend(self.sequence.to_be_bytes());
            transport.extend([9, 8, 7, 6, (5 + self.tcp_options as u8) << 4 | u8::from(self.accurate), self.flags]);
            transport.extend([0x40, 0, 0, 0, 0, 0]);
            transport.extend([1, 1, 8, 10].repeat(self.tcp_options));
        }
        let mut frame = vec![0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1];
        self.tags.iter().for_each(|tag| frame.extend([tag.to_be_bytes(), [0x20, 42]].concat()));
        let len = transport.len() + self.payload.len();
        let addresses =
            if self.v6 { self.ipv6(&mut frame, protocol, len) } else { self.ipv4(&mut frame, protocol, len) };
        let begin = frame.len();
        frame.extend(&transport);
        frame.extend(&self.payload);
        let pseudo = [&addresses[..], &[0, protocol], &(len as u16).to_be_bytes()].concat();
        let value = match self.field {
            Field::Partial => ones_complement(&pseudo) as u16,
            Field::Complete => match !ones_complement(&[&pseudo, &frame[begin..]].concat()) as u16 {
                0 if self.udp => 0xffff,
                checksum => checksum,
            },
            Field::Other(value) => value,
        };
        let at = begin + self.field_at();
        frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
        (frame, begin)
    }

    /// Where the checksum is in the header of TCP or UDP.
    pub fn field_at(&self) -> usize {
        if self.udp { 6 } else { 16 }
    }

    fn ipv4(&self, frame: &mut Vec<u8>, protocol: u8, len: usize) -> Vec<u8> {
        frame.extend([0x08, 0x00]);
        let addresses = [10, 77, 9, 1, 10, 77, 9, 2];
        let mut ip = vec![0x45 + self.options as u8, 0x02];
        // More than the field holds: 0, as the kernel writes it.
        ip.extend(u16::try_from(20 + 4 * self.options + len).unwrap_or(0).to_be_bytes());
        ip.extend(self.identification.to_be_bytes());
        ip.extend([0x40, 0, 64, protocol, 0, 0]);
        ip.extend(addresses);
        ip.extend([1, 1, 1, 0].repeat(self.options));
        let checksum = !ones_complement(&ip) as u16;
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        frame.extend(ip);
        addresses.to_vec()
    }

    fn ipv6(&self, frame: &mut Vec<u8>, protocol: u8, len: usize) -> Vec<u8> {
        frame.extend([0x86, 0xdd, 0x60, 0x12, 0x34, 0x56]);
        let numbers: Vec<u8> = self.extensions.iter().copied().chain([protocol]).collect();
        // PadN over all that is behind the first two bytes; a routing header has no segments left.
        let extension = |(at, next): (usize, &u8)| {
            let words = (at % 2) as u8;
            let mut header = vec![*next, words, 1, if self.extensions[at] == 43 { 0 } else { 4 + 8 * words }];
            header.resize(8 + 8 * usize::from(words), 0);
            header
        };
        let extensions: Vec<u8> = numbers[1..].iter().enumerate().flat_map(extension).collect();
        frame.extend(u16::try_from(extensions.len() + len).unwrap_or(0).to_be_bytes());
        frame.extend([numbers[0], 64]);
        let addresses: Vec<u8> = (0..32).map(|at| if at % 16 == 0 { 0xfd } else { at * 7 }).collect();
        frame.extend(&addresses);
        frame.extend(extensions);
        addresses
    }
}

/// Any of those that the kernel makes segments of, with up to this much payload.
pub fn any_frame(payload: usize) -> impl Strategy<Value = Frame> {
    let of_ip =
        (vec(select(vec![0x8100u16, 0x88a8]), 0..3), any::<bool>(), 0..11usize, vec(select(vec![0, 43, 60]), 0..4));
    let of_tcp = (any::<u32>(), 0..11usize, any::<bool>(), any::<u8>());
    let field = prop_oneof![Just(Field::Partial), Just(Field::Complete), (1..=u16::MAX).prop_map(Field::Other)];
    let payload = prop_oneof![vec(any::<u8>(), 0..60), vec(any::<u8>(), 60..payload)];
    (of_ip, of_tcp, any::<bool>(), any::<u16>(), field, payload).prop_map(
        |((tags, v6, options, extensions), of_tcp, udp, identification, field, payload)| {
            let (sequence, tcp_options, accurate, flags) = of_tcp;
            let of_ip = Frame { tags, options, extensions, identification, ..Frame::new(v6, udp, 0) };
            Frame { sequence, tcp_options, accurate, flags, field, payload, ..of_ip }
        },
    )
}
