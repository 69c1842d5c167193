//! The Internet checksum (RFC 1071), and the frames whose sender left it to a device that never finished it.

use std::ops::Add;

use crate::packet::{Headers, Transport, put_word, word};

/// A sum of 16-bit words in one's complement arithmetic. Pieces of a whole may be summed apart, if each but the last has
/// an even length.
///
/// The words are taken as the machine reads them, four bytes at a time; [`Sum::folded`] puts the order right (RFC 1071,
/// 2B).
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum(u64);

impl Sum {
    /// Of these bytes, the last one padded with zero.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Sum {
        let (words, rest) = bytes.as_chunks();
        Sum::reduced(words.iter().map(|&word| u64::from(u32::from_ne_bytes(word))).sum(), rest)
    }

    /// Copies bytes to the start of a buffer and sums them on the way; `None` where it has no room.
    ///
    /// A tenth faster than one after the other with both in the nearer caches, a quarter where the source is in none.
    pub fn of_copy(from: &[u8], to: &mut [u8]) -> Option<Sum> {
        let to = to.get_mut(..from.len())?;
        let (from, from_rest) = from.as_chunks();
        let (to, to_rest) = to.as_chunks_mut();
        let mut sum = 0;
        for (from, to) in from.iter().zip(to) {
            *to = *from;
            sum += u64::from(u32::from_ne_bytes(*from));
        }
        to_rest.copy_from_slice(from_rest);
        Some(Sum::reduced(sum, from_rest))
    }

    /// Of one word.
    #[must_use]
    pub fn of_word(word: u16) -> Sum {
        Sum(u16::from_ne_bytes(word.to_be_bytes()).into())
    }

    /// With up to 3 bytes at the end, and small enough for any number of such sums to be added.
    fn reduced(sum: u64, rest: &[u8]) -> Sum {
        let mut last = [0; 4];
        last.iter_mut().zip(rest).for_each(|(to, &from)| *to = from);
        Sum((sum & u64::from(u32::MAX)) + (sum >> 32) + u64::from(u32::from_ne_bytes(last)))
    }

    /// The sum in 16 bits; 0 only of nothing but zeros.
    #[must_use]
    pub fn folded(self) -> u16 {
        let mut sum = self.0;
        while sum > u64::from(u16::MAX) {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::from_be_bytes((sum as u16).to_ne_bytes())
    }

    /// What makes the whole add up to 0xffff, once it is in the field that was 0.
    #[must_use]
    pub fn checksum(self) -> u16 {
        !self.folded()
    }
}

impl Add for Sum {
    type Output = Sum;

    fn add(self, other: Sum) -> Sum {
        Sum(self.0 + other.0)
    }
}

/// Of the pseudo-header of a TCP or UDP packet, by the addresses in its IP header: `len` are the bytes from the header
/// of TCP or UDP on. `None` where the frame does not have these headers.
#[must_use]
pub fn pseudo_header(frame: &[u8], headers: &Headers, len: u16) -> Option<Sum> {
    let addresses = Sum::of(headers.addresses(frame)?);
    Some(addresses + Sum::of_word(headers.protocol.number().into()) + Sum::of_word(len))
}

/// Whether the sender of a TCP or UDP frame left its checksum to hardware that never finished it: the field holds the
/// sum of the pseudo-header alone, and does not fit the bytes.
///
/// `None` where there is no such checksum to look at: another protocol, a fragment, a UDP checksum of 0, or a frame cut
/// short.
#[must_use]
pub fn is_unfinished(frame: &[u8]) -> Option<bool> {
    field(frame).map(|(_, due)| due.is_some())
}

/// Finishes the checksum of a frame of which [`is_unfinished`] holds, and says whether it did. The payload of another
/// frame is read only where its checksum is by chance the sum of the pseudo-header.
pub fn complete_checksum(frame: &mut [u8]) -> bool {
    let Some((at, Some(due))) = field(frame) else { return false };
    put_word(frame, at, due).is_some()
}

/// Where the checksum of a TCP or UDP frame is and, if it is unfinished, what is due there.
fn field(frame: &[u8]) -> Option<(usize, Option<u16>)> {
    let headers = Headers::of(frame)?;
    let segment = frame.get(headers.transport..headers.end)?;
    let at = headers.protocol.checksum_at();
    let field = word(segment, at)?;
    if field == 0 && headers.protocol == Transport::Udp {
        return None;
    }
    let at = headers.transport + at;
    let pseudo = pseudo_header(frame, &headers, u16::try_from(segment.len()).ok()?)?;
    if field != pseudo.folded() {
        return Some((at, None));
    }
    let sum = Sum::of(segment);
    // By chance a finished one may be the same: the bytes tell.
    let finished = (pseudo + sum).folded() == u16::MAX;
    // As the field is part of the sum, the pseudo-header is in it. A 0 is made 0xffff for TCP too, as the kernel does
    // (skb_checksum_help).
    Some((at, (!finished).then(|| not_zero(sum.checksum()))))
}

/// The checksum 0 means that there is none; 0xffff stands for it (RFC 768).
#[must_use]
pub fn not_zero(checksum: u16) -> u16 {
    if checksum == 0 { u16::MAX } else { checksum }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const TCP: u8 = 6;
    const UDP: u8 = 17;

    /// By the word, with the carry put back at once.
    fn plain(bytes: &[u8]) -> u16 {
        let sum = bytes.chunks(2).fold(0u32, |sum, two| {
            let sum = sum + u32::from(u16::from_be_bytes([two[0], *two.get(1).unwrap_or(&0)]));
            (sum & 0xffff) + (sum >> 16)
        });
        sum as u16
    }

    #[test]
    fn a_sum_is_that_of_its_words_whatever_their_number() {
        let bytes: Vec<u8> = (0..300u32).map(|at| (at * at / 7) as u8).chain([0xff; 300]).collect();
        for begin in [0, 1, 2, 3, 290] {
            for len in 0..bytes.len() - begin {
                let piece = &bytes[begin..begin + len];
                let mut copy = vec![0xee; len + 1];
                assert_eq!(Sum::of(piece).folded(), plain(piece), "{begin} {len}");
                assert_eq!(Sum::of_copy(piece, &mut copy).unwrap().folded(), plain(piece), "{begin} {len}");
                assert_eq!((&copy[..len], copy[len]), (piece, 0xee));
                assert!(len == 0 || Sum::of_copy(piece, &mut copy[1..len]).is_none());
                let (front, back) = piece.split_at(len / 4 * 2);
                let pieces = Sum::of(front) + Sum::of(back) + Sum::of_word(0x1234);
                assert_eq!(pieces.folded(), plain(&[&[0x12, 0x34], front, back].concat()), "{begin} {len}");
            }
        }
        assert_eq!(Sum::of(&[0xff; 1 << 20]).folded(), 0xffff);
        assert_eq!((Sum::of(&[0; 99]).folded(), Sum::default().checksum()), (0, 0xffff));
    }

    /// An IPv4 or IPv6 frame with these tags, its checksum field as a sender with (or without) hardware for it leaves it.
    fn segment(v6: bool, protocol: u8, payload: &[u8], tags: usize, finished: bool) -> Vec<u8> {
        let mut l4 = vec![0x13, 0x88, 0x12, 0x34];
        l4.resize(if protocol == TCP { 20 } else { 8 }, 0);
        if protocol == TCP {
            l4[12] = 0x50;
        }
        l4.extend(payload);
        let field = if protocol == TCP { 16 } else { 6 };
        let mut ip = if v6 {
            let mut ip = vec![0x60, 0, 0, 0];
            ip.extend((l4.len() as u16).to_be_bytes());
            ip.extend([protocol, 64]);
            ip.extend((0..32).map(|n| n * 7));
            ip
        } else {
            let mut ip = vec![0x46, 0];
            ip.extend((24 + l4.len() as u16).to_be_bytes());
            ip.extend([0, 1, 0x40, 0, 64, protocol, 0, 0, 10, 77, 9, 1, 10, 77, 9, 2, 1, 1, 1, 1]);
            ip
        };
        let addresses = if v6 { 8..40 } else { 12..20 };
        let pseudo = [&ip[addresses], &[0, protocol], &(l4.len() as u16).to_be_bytes()].concat();
        let value = if finished { !plain(&[&pseudo[..], &l4].concat()) } else { plain(&pseudo) };
        l4[field..field + 2].copy_from_slice(&value.to_be_bytes());
        ip.extend(l4);
        let mut tail: Vec<u8> = [0x81, 0x00, 0x00, 0x2a].repeat(tags);
        tail.extend(if v6 { [0x86, 0xdd] } else { [0x08, 0x00] });
        tail.extend(ip);
        [&[0u8; 12][..], &tail].concat()
    }

    #[test]
    fn a_checksum_left_to_hardware_is_the_sum_of_the_pseudo_header() {
        for (v6, protocol, tags) in [(false, TCP, 0), (false, UDP, 1), (true, TCP, 2), (true, UDP, 0)] {
            for payload in [&b""[..], b"odd", b"even"] {
                let of = |finished| segment(v6, protocol, payload, tags, finished);
                assert_eq!(is_unfinished(&of(true)), Some(false), "{v6} {protocol} {tags} {payload:?}");
                assert_eq!(is_unfinished(&of(false)), Some(true), "{v6} {protocol} {tags} {payload:?}");
                // Padded to the least length of a frame.
                let mut padded = [of(false), vec![9; 20]].concat();
                assert_eq!(is_unfinished(&padded), Some(true));
                assert!(complete_checksum(&mut padded));
                assert_eq!(padded, [of(true), vec![9; 20]].concat());
                assert!(!complete_checksum(&mut padded));
            }
        }
    }

    #[test]
    fn a_finished_checksum_that_looks_unfinished_is_told_by_the_bytes() {
        // Words of the segment that add up to nothing: both sums are the same.
        let mut found = 0;
        for n in 0..=u16::MAX {
            let frame = segment(false, TCP, &n.to_be_bytes(), 0, true);
            assert_eq!(is_unfinished(&frame), Some(false), "{n}");
            found += usize::from(segment(false, TCP, &n.to_be_bytes(), 0, false) == frame);
        }
        assert!(found > 0, "there are such segments");
    }

    #[test]
    fn what_has_no_checksum_to_look_at_is_left_alone() {
        let whole = segment(false, UDP, b"payload", 0, false);
        for cut in 0..whole.len() {
            assert_eq!(is_unfinished(&whole[..cut]), None, "{cut}");
        }
        let with = |at: usize, bytes: &[u8]| {
            let mut frame = whole.clone();
            frame[at..at + bytes.len()].copy_from_slice(bytes);
            is_unfinished(&frame)
        };
        let ip = 14;
        assert_eq!(with(ip + 6, &[0x20, 0]), None, "a first fragment");
        assert_eq!(with(ip + 6, &[0, 9]), None, "a later fragment");
        assert_eq!(with(ip + 9, &[1]), None, "ICMP");
        assert_eq!(with(ip + 24 + 6, &[0, 0]), None, "UDP without a checksum");
        assert_eq!(with(12, &[0x88, 0xb5]), None, "no IP");
        assert_eq!(with(ip, &[0x4f]), None, "a header longer than the packet");
    }

    #[test]
    fn a_checksum_of_0_is_written_as_0xffff() {
        for (v6, protocol) in [(false, TCP), (true, UDP)] {
            let begin = if v6 { 54 } else { 38 };
            let field = begin + if protocol == TCP { 16 } else { 6 };
            // With its own checksum behind it, the whole adds up to 0xffff without one.
            let bare = segment(v6, protocol, &[0; 6], 0, true);
            let payload = [&bare[field..field + 2], &[0; 4]].concat();
            let mut frame = segment(v6, protocol, &payload, 0, false);
            assert!(complete_checksum(&mut frame));
            assert_eq!(frame[field..field + 2], [0xff, 0xff], "{v6} {protocol}");
            assert_eq!(is_unfinished(&frame), Some(false));
        }
    }
}
