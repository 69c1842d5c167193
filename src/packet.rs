//! What a frame's first bytes say. Pure: bytes in, facts out.

/// 802.1Q, a customer tag.
pub const ETH_P_8021Q: u16 = 0x8100;
/// 802.1ad, a service tag.
pub const ETH_P_8021AD: u16 = 0x88a8;

/// [`outer_vlan`] of a frame without a tag, and of one with a priority tag, whose id is this.
pub const UNTAGGED: u16 = 0;
/// [`outer_vlan`] of a frame that is in no VLAN: IEEE 802.1Q reserves the id.
pub const NO_VLAN: u16 = 4095;

/// The VLAN id of the outermost tag: 1..=4094, [`UNTAGGED`], or [`NO_VLAN`] for that id and for a frame that is too
/// short to tell.
#[inline]
pub fn outer_vlan(frame: &[u8]) -> u16 {
    let Some(&[a, b, c, d]) = frame.get(12..16).and_then(<[u8]>::first_chunk) else { return NO_VLAN };
    let ethertype = u16::from_be_bytes([a, b]);
    if ethertype != ETH_P_8021Q && ethertype != ETH_P_8021AD {
        return UNTAGGED;
    }
    u16::from_be_bytes([c, d]) & 0x0fff
}

const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// More fragments, or an offset.
const FRAGMENT: u16 = 0x3fff;

/// Whether the sender of a TCP or UDP frame left its checksum to hardware that never finished it: the field holds the
/// sum of the pseudo-header alone, and does not fit the bytes.
///
/// `None` where there is no such checksum to look at: another protocol, extension headers, a fragment, a UDP checksum
/// of 0, or a frame cut short.
#[must_use]
pub fn is_unfinished(frame: &[u8]) -> Option<bool> {
    let mut at = 12;
    let mut ethertype = word(frame, at)?;
    while matches!(ethertype, ETH_P_8021Q | ETH_P_8021AD) && at < 20 {
        at += 4;
        ethertype = word(frame, at)?;
    }
    let ip = frame.get(at + 2..)?;
    let (protocol, addresses, segment) = match ethertype {
        ETH_P_IP => {
            let header = usize::from(ip.first()? & 0x0f) * 4;
            let len = usize::from(word(ip, 2)?);
            let whole = word(ip, 6)? & FRAGMENT == 0;
            (*ip.get(9)?, ip.get(12..20)?, ip.get(header..len).filter(|_| whole)?)
        }
        ETH_P_IPV6 => {
            let len = usize::from(word(ip, 4)?);
            (*ip.get(6)?, ip.get(8..40)?, ip.get(40..40 + len)?)
        }
        _ => return None,
    };
    let field = word(
        segment,
        match protocol {
            TCP => 16,
            UDP => 6,
            _ => return None,
        },
    )?;
    let pseudo = sum(addresses) + u64::from(protocol) + segment.len() as u64;
    match field {
        0 if protocol == UDP => None,
        // By chance a finished one may be the same: the bytes tell.
        field => Some(field == folded(pseudo) && folded(pseudo + sum(segment)) != u16::MAX),
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|&two| u16::from_be_bytes(two))
}

/// The sum of the 16-bit words, the last one padded with zero.
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<2>();
    let last = rest.first().map_or(0, |&byte| u64::from(byte) << 8);
    words.iter().map(|&two| u64::from(u16::from_be_bytes(two))).sum::<u64>() + last
}

/// In one's complement arithmetic of 16 bits.
fn folded(mut sum: u64) -> u16 {
    while sum > u64::from(u16::MAX) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// An IPv4 or IPv6 frame with these tags, its checksum field as a sender with (or without) hardware for it leaves it.
    fn segment(v6: bool, protocol: u8, payload: &[u8], tags: usize, finished: bool) -> Vec<u8> {
        let mut l4 = vec![0x13, 0x88, 0x12, 0x34];
        l4.resize(if protocol == TCP { 20 } else { 8 }, 0);
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
        let pseudo = sum(&ip[addresses]) + u64::from(protocol) + l4.len() as u64;
        let value = if finished { !folded(pseudo + sum(&l4)) } else { folded(pseudo) };
        l4[field..field + 2].copy_from_slice(&value.to_be_bytes());
        ip.extend(l4);
        let mut tail: Vec<u8> = [0x81, 0x00, 0x00, 0x2a].repeat(tags);
        tail.extend(if v6 { [0x86, 0xdd] } else { [0x08, 0x00] });
        tail.extend(ip);
        frame(&tail)
    }

    #[test]
    fn a_checksum_left_to_hardware_is_the_sum_of_the_pseudo_header() {
        for (v6, protocol, tags) in [(false, TCP, 0), (false, UDP, 1), (true, TCP, 2), (true, UDP, 0)] {
            for payload in [&b""[..], b"odd", b"even"] {
                let of = |finished| segment(v6, protocol, payload, tags, finished);
                assert_eq!(is_unfinished(&of(true)), Some(false), "{v6} {protocol} {tags} {payload:?}");
                assert_eq!(is_unfinished(&of(false)), Some(true), "{v6} {protocol} {tags} {payload:?}");
                // Padded to the least length of a frame.
                assert_eq!(is_unfinished(&[of(false), vec![0; 20]].concat()), Some(true));
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

    fn frame(tail: &[u8]) -> Vec<u8> {
        [&[0u8; 12][..], tail].concat()
    }

    #[test]
    fn reads_the_outermost_tag_only() {
        assert_eq!(outer_vlan(&frame(&[0x08, 0x00, 0x45, 0x00])), UNTAGGED);
        assert_eq!(outer_vlan(&frame(&[0x81, 0x00, 0x00, 0x2a, 0x08, 0x00])), 42);
        assert_eq!(outer_vlan(&frame(&[0x81, 0x00, 0xe0, 0x2a])), 42, "priority and DEI bits are no id");
        assert_eq!(outer_vlan(&frame(&[0x88, 0xa8, 0x00, 0x64, 0x81, 0x00, 0x00, 0x2a])), 100);
        assert_eq!(outer_vlan(&frame(&[0x81, 0x00, 0xff, 0xfe])), 4094);
        for tpid in [0x8100u16, 0x88a8] {
            let [a, b] = tpid.to_be_bytes();
            assert_eq!(outer_vlan(&frame(&[a, b, 0x00, 0x00, 0x81, 0x00, 0x00, 0x2a])), UNTAGGED, "what is below");
            assert_eq!(outer_vlan(&frame(&[a, b, 0xf0, 0x00])), UNTAGGED, "a priority tag");
            assert_eq!(outer_vlan(&frame(&[a, b, 0x0f, 0xff])), NO_VLAN, "the reserved id");
            assert_eq!(outer_vlan(&frame(&[a, b, 0x00])), NO_VLAN, "cut short");
        }
        assert_eq!(outer_vlan(&frame(&[0x08, 0x00, 0x45])), NO_VLAN, "too short for Ethernet");
        assert_eq!(outer_vlan(&[]), NO_VLAN);
    }
}
