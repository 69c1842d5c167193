//! What holds of any bytes, taken as a super-frame and as a frame. Reads packets and sums on its own. The fuzz target
//! `segments` does this too.

use spanwire::checksum::{complete_checksum, is_unfinished};
use spanwire::segment::Segments;

/// A frame that was accepted as one of TCP or UDP, taken apart.
struct Parts<'a> {
    /// Up to the IP header.
    link: &'a [u8],
    ip: &'a [u8],
    transport: &'a [u8],
    payload: &'a [u8],
    udp: bool,
}

fn be16(bytes: &[u8], at: usize) -> u32 {
    u32::from(bytes[at]) << 8 | u32::from(bytes[at + 1])
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    be16(bytes, at) << 16 | be16(bytes, at + 2)
}

fn take_apart(frame: &[u8]) -> Parts<'_> {
    let mut link = 12;
    while matches!(be16(frame, link), 0x8100 | 0x88a8) {
        link += 4;
    }
    let (link, rest) = frame.split_at(link + 2);
    let v4 = link.ends_with(&[0x08, 0x00]);
    let (mut next, mut ip) = if v4 { (rest[9], usize::from(rest[0] & 15) * 4) } else { (rest[6], 40) };
    while !matches!(next, 6 | 17) {
        next = rest[ip];
        ip += 8 + 8 * usize::from(rest[ip + 1]);
    }
    let (ip, rest) = rest.split_at(ip);
    let (transport, payload) = rest.split_at(if next == 17 { 8 } else { usize::from(rest[12] >> 4) * 4 });
    Parts { link, ip, transport, payload, udp: next == 17 }
}

impl Parts<'_> {
    fn is_v4(&self) -> bool {
        self.link.ends_with(&[0x08, 0x00])
    }

    /// 0xffff where the checksum of TCP or UDP fits these bytes, which begin with its header.
    fn sum(&self, bytes: &[u8]) -> u32 {
        let mut whole = if self.is_v4() { &self.ip[12..20] } else { &self.ip[8..40] }.to_vec();
        whole.extend([0, if self.udp { 17 } else { 6 }]);
        whole.extend((bytes.len() as u16).to_be_bytes());
        whole.extend(bytes);
        ones_complement(&whole)
    }
}

/// By the word, with the carry put back at once.
pub fn ones_complement(bytes: &[u8]) -> u32 {
    bytes.chunks(2).fold(0, |sum, two| {
        let sum = sum + (u32::from(two[0]) << 8 | two.get(1).map_or(0, |&byte| u32::from(byte)));
        (sum & 0xffff) + (sum >> 16)
    })
}

/// Everything that can be said of the segments of one frame without knowing it. Whether it is a super-frame.
pub fn holds(frame: &[u8], gso_size: u16) -> bool {
    completes(frame);
    let Some(segments) = Segments::of(frame, gso_size) else { return false };
    let whole = take_apart(frame);
    assert!(usize::from(gso_size) < whole.payload.len());
    assert_eq!(segments.count() as usize, whole.payload.len().div_ceil(usize::from(gso_size)));
    let (mut rest, mut out) = (whole.payload, vec![0xee; frame.len() + 1]);
    for at in 0..segments.count() {
        let len = segments.len(at);
        assert!(len <= segments.len(0) && len < frame.len());
        assert_eq!(segments.write(at, &mut out[..len - 1]), None, "no room");
        assert_eq!(segments.write(at, &mut out), Some(len));
        assert_eq!(out[len], 0xee, "beyond its end");
        let segment = take_apart(&out[..len]);
        let (payload, others) = rest.split_at(rest.len().min(gso_size.into()));
        assert_eq!(segment.payload, payload);
        rest = others;
        is_segment(&whole, &segment, at, gso_size, rest.is_empty());
        assert_ne!(is_unfinished(&out[..len]), Some(true));
        assert!(!complete_checksum(&mut out[..len]));
        out[..len + 1].fill(0xee);
    }
    assert!(rest.is_empty());
    assert_eq!((segments.len(segments.count()), segments.write(segments.count(), &mut out)), (0, None));
    assert_eq!((segments.len(u32::MAX), segments.write(u32::MAX, &mut out)), (0, None));
    true
}

/// Field by field; what is not named is that of the whole.
fn is_segment(whole: &Parts<'_>, segment: &Parts<'_>, at: u32, gso_size: u16, last: bool) {
    let mut ip = whole.ip.to_vec();
    let len = segment.transport.len() + segment.payload.len();
    if whole.is_v4() {
        assert_eq!(be16(segment.ip, 2) as usize, segment.ip.len() + len);
        assert_eq!(be16(segment.ip, 4), (be16(whole.ip, 4) + at) & 0xffff, "identification");
        assert_eq!(ones_complement(segment.ip), 0xffff);
        ip[2..6].copy_from_slice(&segment.ip[2..6]);
        ip[10..12].copy_from_slice(&segment.ip[10..12]);
    } else {
        assert_eq!(be16(segment.ip, 4) as usize, segment.ip.len() - 40 + len);
        ip[4..6].copy_from_slice(&segment.ip[4..6]);
    }
    assert_eq!(segment.link, whole.link);
    assert_eq!(segment.ip, ip);
    assert_eq!(segment.sum(&[segment.transport, segment.payload].concat()), 0xffff);
    let mut transport = whole.transport.to_vec();
    if whole.udp {
        assert_eq!(be16(segment.transport, 4) as usize, len);
        assert_ne!(be16(segment.transport, 6), 0, "no checksum");
        transport[4..8].copy_from_slice(&segment.transport[4..8]);
    } else {
        let sequence = be32(whole.transport, 4).wrapping_add(at.wrapping_mul(gso_size.into()));
        assert_eq!(be32(segment.transport, 4), sequence);
        transport[4..8].copy_from_slice(&segment.transport[4..8]);
        transport[16..18].copy_from_slice(&segment.transport[16..18]);
        if !last {
            transport[13] &= !0b1001;
        }
        // Of an Accurate ECN flow, CWR is one of three bits of a number.
        if at > 0 && transport[12] & 1 == 0 {
            transport[13] &= 0x7f;
        }
    }
    assert_eq!(segment.transport, transport);
}

/// An unfinished checksum is finished, once, and nothing else is touched.
fn completes(frame: &[u8]) {
    let mut done = frame.to_vec();
    let unfinished = is_unfinished(frame);
    assert_eq!(complete_checksum(&mut done), unfinished == Some(true));
    if unfinished != Some(true) {
        assert_eq!(done, frame);
        return;
    }
    assert!(!complete_checksum(&mut done));
    let parts = take_apart(&done);
    let transport = parts.link.len() + parts.ip.len();
    // Behind the packet a frame may be padded.
    let len = if parts.is_v4() { be16(parts.ip, 2) } else { 40 + be16(parts.ip, 4) };
    assert_eq!(parts.sum(&done[transport..parts.link.len() + len as usize]), 0xffff);
    let field = transport + if parts.udp { 6 } else { 16 };
    assert_ne!(be16(&done, field), 0, "no checksum");
    done[field..field + 2].copy_from_slice(&frame[field..field + 2]);
    assert_eq!(done, frame);
}
