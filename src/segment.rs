//! Super-frames (GSO) as the frames that the kernel would make of them where a device takes none. Pure: bytes in, bytes
//! out.

use crate::checksum::{Sum, not_zero, pseudo_header};
use crate::packet::{Headers, IPV6_HEADER, Transport, put_word, word};

// Of the byte of TCP's flags at 13, and of the one before it.
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;
const AE: u8 = 0x01;

/// The segments of a super-frame, in the order in which they are sent, each written where the caller says:
///
/// ```text
/// super-frame   headers │ payload ────────────────────────────────────────────
/// segment 0     headers │ gso_size │
/// segment 1     headers'           │ gso_size │
/// segment 2     headers'                      │ the rest │
/// ```
///
/// They are those of `skb_segment` and of what calls it (Linux 6.18: `inet_gso_segment`, `ipv6_gso_segment`,
/// `tcp_gso_segment`, `__udp_gso_segment`), their checksums complete, whatever was in the super-frame's fields. Of two
/// things the frame's bytes do not tell what the kernel's `gso_type` would:
/// - The IPv4 identification counts up. A receiver that merged frames which all had the same one had it stay
///   (`SKB_GSO_TCP_FIXEDID`).
/// - CWR is on the first segment alone, or on all of them where AE is set too, which only Accurate ECN (RFC 9768) does.
#[derive(Debug, Clone, Copy)]
pub struct Segments<'a> {
    headers: Headers,
    /// All up to the payload.
    head: &'a [u8],
    payload: &'a [u8],
    /// Payload bytes of each segment but the last, at least 1.
    size: usize,
    count: u32,
}

impl<'a> Segments<'a> {
    /// Of a super-frame, which has all of its bytes, and `gso_size` payload bytes in a segment.
    ///
    /// `None` for what is no super-frame of TCP or UDP over IPv4 or IPv6 ([`Headers::of`] says which headers are known):
    /// no more payload than a segment has, a segment that no IP packet can hold, UDP without a checksum, a tunnel's
    /// packet (whose segments are those of the packet within), a jumbogram.
    #[must_use]
    pub fn of(frame: &'a [u8], gso_size: u16) -> Option<Segments<'a>> {
        let headers = Headers::of(frame)?;
        let (head, payload) = frame.split_at_checked(headers.payload)?;
        let size = usize::from(gso_size);
        let fixed = headers.ip + if headers.ipv6 { IPV6_HEADER } else { 0 };
        let fits = head.len() + size - fixed <= usize::from(u16::MAX);
        if size == 0 || payload.len() <= size || !fits {
            return None;
        }
        // The kernel takes the jumbo payload option off; frames that long do not get here.
        let jumbogram = headers.ipv6 && headers.transport > fixed && headers.end == fixed;
        let refused = match headers.protocol {
            Transport::Tcp => false,
            Transport::Udp => word(head, headers.transport + Transport::Udp.checksum_at())? == 0 || is_tunnel(payload),
        };
        let count = u32::try_from(payload.len().div_ceil(size)).ok()?;
        (!jumbogram && !refused).then_some(Segments { headers, head, payload, size, count })
    }

    /// How many there are, at least 2.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of segment `at`; 0 behind the last one. None is longer than segment 0.
    #[must_use]
    pub fn len(&self, at: u32) -> usize {
        self.part(at).map_or(0, |part| self.head.len() + part.len())
    }

    /// Writes segment `at` to the start of `out` and returns its length; `None` behind the last one, and where it has
    /// no room.
    pub fn write(&self, at: u32, out: &mut [u8]) -> Option<usize> {
        let part = self.part(at)?;
        let len = self.head.len() + part.len();
        let (head, payload) = out.get_mut(..len)?.split_at_mut_checked(self.head.len())?;
        head.copy_from_slice(self.head);
        let payload = Sum::of_copy(part, payload)?;
        self.network(head, at, len)?;
        self.transport(head, at, len, payload)?;
        Some(len)
    }

    /// The payload of a segment.
    fn part(&self, at: u32) -> Option<&'a [u8]> {
        let begin = usize::try_from(at).ok()?.checked_mul(self.size)?;
        let rest = self.payload.get(begin..).filter(|rest| !rest.is_empty())?;
        Some(rest.get(..self.size).unwrap_or(rest))
    }

    /// Makes the IP header that of a segment of `len` bytes.
    fn network(&self, head: &mut [u8], at: u32, len: usize) -> Option<()> {
        let ip = self.headers.ip;
        if self.headers.ipv6 {
            return put_word(head, ip + 4, u16::try_from(len - ip - IPV6_HEADER).ok()?);
        }
        put_word(head, ip + 2, u16::try_from(len - ip).ok()?)?;
        // It has 16 bits, and begins anew.
        put_word(head, ip + 4, word(head, ip + 4)?.wrapping_add(at as u16))?;
        put_word(head, ip + 10, 0)?;
        let checksum = Sum::of(head.get(ip..self.headers.transport)?).checksum();
        put_word(head, ip + 10, checksum)
    }

    /// Makes the header of TCP or UDP that of a segment of `len` bytes, with this payload.
    fn transport(&self, head: &mut [u8], at: u32, len: usize, payload: Sum) -> Option<()> {
        let protocol = self.headers.protocol;
        let len = u16::try_from(len - self.headers.transport).ok()?;
        let pseudo = pseudo_header(head, &self.headers, len)?;
        let header = head.get_mut(self.headers.transport..)?;
        match protocol {
            Transport::Tcp => self.tcp(header, at)?,
            Transport::Udp => put_word(header, 4, len)?,
        }
        put_word(header, protocol.checksum_at(), 0)?;
        let checksum = (pseudo + Sum::of(header) + payload).checksum();
        let checksum = match protocol {
            Transport::Tcp => checksum,
            Transport::Udp => not_zero(checksum),
        };
        put_word(header, protocol.checksum_at(), checksum)
    }

    /// Sequence number and flags.
    fn tcp(&self, header: &mut [u8], at: u32) -> Option<()> {
        let sequence: &mut [u8; 4] = header.get_mut(4..)?.first_chunk_mut()?;
        // Both wrap, as sequence numbers do.
        let before = at.wrapping_mul(self.size as u32);
        *sequence = u32::from_be_bytes(*sequence).wrapping_add(before).to_be_bytes();
        let [offset, flags]: &mut [u8; 2] = header.get_mut(12..)?.first_chunk_mut()?;
        if at + 1 < self.count {
            *flags &= !(FIN | PSH);
        }
        if at > 0 && *offset & AE == 0 {
            *flags &= !CWR;
        }
        Some(())
    }
}

/// Whether what UDP carries is itself a packet, one that ends where this ends: a frame of VXLAN or Geneve, a packet of
/// FOU, GUE or VXLAN-GPE. A `gso_size` is of that one's payload then.
fn is_tunnel(payload: &[u8]) -> bool {
    let ends = |at: usize, of: fn(&[u8]) -> Option<Headers>| {
        let inner = payload.get(at..).unwrap_or_default();
        of(inner).is_some_and(|found| found.end == inner.len())
    };
    // Geneve and GUE say in their first byte how many words follow their own.
    let words = |mask: u8| payload.first().map_or(0, |first| 4 * usize::from(first & mask));
    let frames = [8, 8 + words(0x3f)];
    let packets = [0, 4 + words(0x1f), 8];
    frames.iter().any(|&at| ends(at, Headers::of)) || packets.iter().any(|&at| ends(at, Headers::of_packet))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ADDRESSES: [u8; 12] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];

    /// "hello" from 10.77.9.1 with CWR, ECE, ACK, PSH and FIN, its identification and sequence number about to wrap; what
    /// its checksums are does not matter.
    fn hello() -> Vec<u8> {
        let ip = [0x45, 0, 0, 45, 0xff, 0xff, 0x40, 0, 64, 6, 0xab, 0xcd, 10, 77, 9, 1, 10, 77, 9, 2];
        let tcp = [0x13, 0x88, 0x12, 0x34, 0xff, 0xff, 0xff, 0xfe, 9, 8, 7, 6, 0x50, 0xd9, 0x40, 0, 0xab, 0xcd, 0, 0];
        [&ADDRESSES[..], &[0x08, 0x00], &ip, &tcp, b"hello"].concat()
    }

    #[test]
    fn headers_are_counted_on_and_flags_have_their_places() {
        let frame = hello();
        let segments = Segments::of(&frame, 2).unwrap();
        assert_eq!(segments.count(), 3);
        let segment = |identification: [u8; 2], sequence: [u8; 4], flags, checksum: [u8; 2], payload: &[u8]| {
            let mut segment = [&frame[..54], payload].concat();
            segment[17] = 40 + payload.len() as u8;
            segment[18..20].copy_from_slice(&identification);
            segment[24..26].copy_from_slice(&[0x14, 0x32]);
            segment[38..42].copy_from_slice(&sequence);
            segment[47] = flags;
            segment[50..52].copy_from_slice(&checksum);
            segment
        };
        let wanted = [
            segment([0xff, 0xff], [0xff, 0xff, 0xff, 0xfe], 0xd0, [0xaa, 0x47], b"he"),
            segment([0, 0], [0, 0, 0, 0], 0x50, [0xa6, 0xbf], b"ll"),
            segment([0, 1], [0, 0, 0, 2], 0x59, [0xa4, 0x21], b"o"),
        ];
        for (at, want) in (0..).zip(wanted) {
            let mut out = [0xee; 100];
            assert_eq!(segments.write(at, &mut out), Some(want.len()));
            assert_eq!(segments.len(at), want.len());
            assert_eq!((&out[..want.len()], out[want.len()]), (&want[..], 0xee), "segment {at}");
        }
        assert_eq!((segments.len(3), segments.write(3, &mut [0; 100])), (0, None));
        assert_eq!(segments.write(0, &mut [0; 55]), None, "no room");
    }

    #[test]
    fn cwr_is_on_every_segment_of_accurate_ecn() {
        let mut frame = hello();
        frame[46] |= AE;
        let segments = Segments::of(&frame, 1).unwrap();
        let mut out = [0; 100];
        let flags: Vec<u8> = (0..5).map(|at| segments.write(at, &mut out).map_or(0, |_| out[47])).collect();
        assert_eq!(flags, [0xd0, 0xd0, 0xd0, 0xd0, 0xd9]);
    }
}
