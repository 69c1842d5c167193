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
/// Tags that are looked through: as many as the kernel does (VLAN_MAX_DEPTH, linux/if_vlan.h).
const TAGS: usize = 8;
/// Of IPv4's offset field: more fragments, or an offset.
const FRAGMENT: u16 = 0x3fff;
/// Bytes of IPv4's shortest header.
const IPV4_HEADER: usize = 20;
/// Bytes of IPv6's header, without extension headers.
pub const IPV6_HEADER: usize = 40;
/// IPv6 extension headers that are looked through. RFC 8200 has a packet bear each but one at most once.
const EXTENSIONS: usize = 8;

// Protocol numbers (IANA).
const HOP_BY_HOP: u8 = 0;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ROUTING: u8 = 43;
const DESTINATION: u8 = 60;

/// A protocol above IP whose packets can be super-frames, and whose checksum can be left to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    fn of(number: u8) -> Option<Transport> {
        match number {
            TCP => Some(Transport::Tcp),
            UDP => Some(Transport::Udp),
            _ => None,
        }
    }

    /// Its protocol number.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Transport::Tcp => TCP,
            Transport::Udp => UDP,
        }
    }

    /// Where the checksum is in its header, bytes.
    #[must_use]
    pub fn checksum_at(self) -> usize {
        match self {
            Transport::Tcp => 16,
            Transport::Udp => 6,
        }
    }

    /// Where the payload begins behind the header that is there; `None` where that is cut short.
    fn payload(self, frame: &[u8], header: usize) -> Option<usize> {
        let (least, len) = match self {
            Transport::Tcp => (20, usize::from(frame.get(header + 12)? >> 4) * 4),
            Transport::Udp => (8, 8),
        };
        (least <= len && header + len <= frame.len()).then_some(header + len)
    }
}

/// Where the headers of a TCP or UDP packet are, in bytes of the frame:
///
/// ```text
///          ip          transport   payload              end
/// ┌────────┬───────────┬───────────┬────────────────────┬─────┐
/// │Ethernet│ IPv4, IPv6│ TCP, UDP  │                    │ pad │
/// │ tags   │ options   │ options   │                    │     │
/// └────────┴───────────┴───────────┴────────────────────┴─────┘
/// ```
///
/// The frame has every byte up to `payload`; it may end before `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers {
    /// Whether it is IPv6.
    pub ipv6: bool,
    /// What is above IP.
    pub protocol: Transport,
    /// Where the IP header begins.
    pub ip: usize,
    /// Where the header of TCP or UDP begins, behind IP's options or extension headers.
    pub transport: usize,
    /// Where its payload begins.
    pub payload: usize,
    /// Where the packet ends, by its IP header. A super-frame above 64 KiB has 0 for its length there.
    pub end: usize,
}

impl Headers {
    /// `None` for another protocol, a fragment, headers that are cut short, and IPv6 extension headers through which
    /// the kernel does not look for a super-frame's segments either, or behind which the destination is another one
    /// (a routing header on its way).
    #[must_use]
    pub fn of(frame: &[u8]) -> Option<Headers> {
        let mut ip = 14;
        let mut ethertype = word(frame, 12)?;
        while matches!(ethertype, ETH_P_8021Q | ETH_P_8021AD) && ip < 14 + 4 * TAGS {
            ethertype = word(frame, ip + 2)?;
            ip += 4;
        }
        match ethertype {
            ETH_P_IP => Headers::ipv4(frame, ip),
            ETH_P_IPV6 => Headers::ipv6(frame, ip),
            _ => None,
        }
    }

    /// The same of a packet without a link's header, by the version it says it is of.
    #[must_use]
    pub fn of_packet(packet: &[u8]) -> Option<Headers> {
        match packet.first()? >> 4 {
            4 => Headers::ipv4(packet, 0),
            6 => Headers::ipv6(packet, 0),
            _ => None,
        }
    }

    fn ipv4(frame: &[u8], ip: usize) -> Option<Headers> {
        let header = usize::from(*frame.get(ip)? & 0x0f) * 4;
        if header < IPV4_HEADER || word(frame, ip + 6)? & FRAGMENT != 0 {
            return None;
        }
        let end = ip + usize::from(word(frame, ip + 2)?);
        let transport = ip + header;
        let protocol = Transport::of(*frame.get(ip + 9)?)?;
        let payload = protocol.payload(frame, transport)?;
        Some(Headers { ipv6: false, protocol, ip, transport, payload, end })
    }

    fn ipv6(frame: &[u8], ip: usize) -> Option<Headers> {
        let end = ip + IPV6_HEADER + usize::from(word(frame, ip + 4)?);
        let mut next = *frame.get(ip + 6)?;
        let mut transport = ip + IPV6_HEADER;
        for _ in 0..=EXTENSIONS {
            if let Some(protocol) = Transport::of(next) {
                let payload = protocol.payload(frame, transport)?;
                return Some(Headers { ipv6: true, protocol, ip, transport, payload, end });
            }
            let &[following, units, _, segments_left] = frame.get(transport..)?.first_chunk()?;
            match next {
                HOP_BY_HOP | DESTINATION => {}
                ROUTING if segments_left == 0 => {}
                _ => return None,
            }
            transport += 8 * (1 + usize::from(units));
            next = following;
        }
        None
    }

    /// Both addresses, source first.
    #[must_use]
    pub fn addresses<'a>(&self, frame: &'a [u8]) -> Option<&'a [u8]> {
        let (from, to) = if self.ipv6 { (8, IPV6_HEADER) } else { (12, IPV4_HEADER) };
        frame.get(self.ip + from..self.ip + to)
    }
}

/// Two bytes in network order.
#[inline]
pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|&two| u16::from_be_bytes(two))
}

/// Puts two bytes there in network order; `None` where that is outside.
#[inline]
pub(crate) fn put_word(bytes: &mut [u8], at: usize, value: u16) -> Option<()> {
    *bytes.get_mut(at..)?.first_chunk_mut()? = value.to_be_bytes();
    Some(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn frame(tail: &[u8]) -> Vec<u8> {
        [&[0u8; 12][..], tail].concat()
    }

    /// A packet of UDP behind these extension headers, each of 8 bytes: its number, and its fourth byte.
    fn extended(headers: &[(u8, u8)]) -> Vec<u8> {
        let numbers: Vec<u8> = headers.iter().map(|&(number, _)| number).chain([UDP]).collect();
        let mut packet = vec![0x60, 0, 0, 0, 0, (8 * numbers.len()) as u8, numbers[0], 64];
        packet.resize(IPV6_HEADER, 1);
        for (&(_, fourth), &next) in headers.iter().zip(&numbers[1..]) {
            packet.extend([next, 0, 0, fourth, 0, 0, 0, 0]);
        }
        packet.extend([0, 7, 0, 9, 0, 8, 0, 0]);
        packet
    }

    #[test]
    fn headers_are_found_behind_tags_options_and_extension_headers() {
        let mut tail = [0x88, 0xa8, 0, 10].to_vec();
        for tags in 1..=TAGS + 1 {
            let mut packet = extended(&[]);
            packet[5] += 9;
            let found = Headers::of(&frame(&[&tail[..], &[0x86, 0xdd], &packet].concat()));
            let ip = 14 + 4 * tags;
            let (transport, payload) = (ip + 40, ip + 48);
            let want = Headers { ipv6: true, protocol: Transport::Udp, ip, transport, payload, end: payload + 9 };
            assert_eq!(found, (tags <= TAGS).then_some(want), "{tags} tags");
            tail.extend([0x81, 0, 0, 20]);
        }
        for (headers, found) in [
            (&[(HOP_BY_HOP, 0), (DESTINATION, 0), (ROUTING, 0), (DESTINATION, 0)][..], true),
            (&[(DESTINATION, 0); EXTENSIONS], true),
            (&[(DESTINATION, 0); EXTENSIONS + 1], false),
            // A routing header on its way: the checksum is for another destination.
            (&[(ROUTING, 1)], false),
            // Fragment, authentication, mobility.
            (&[(44, 0)], false),
            (&[(HOP_BY_HOP, 0), (51, 0)], false),
            (&[(135, 0)], false),
        ] {
            let packet = extended(headers);
            let transport = IPV6_HEADER + 8 * headers.len();
            let found_at = Headers::of_packet(&packet).map(|found| (found.transport, found.payload, found.end));
            assert_eq!(found_at, found.then_some((transport, packet.len(), packet.len())), "{headers:?}");
            for cut in 0..packet.len() {
                assert_eq!(Headers::of_packet(&packet[..cut]), None, "{headers:?} cut to {cut}");
            }
        }
    }

    #[test]
    fn a_tcp_header_is_as_long_as_it_says() {
        let mut packet = vec![0x46, 0, 0, 99, 0, 0, 0x40, 0, 64, TCP, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 1, 1, 1, 1];
        packet.resize(24 + 60, 0);
        for words in 0..16u8 {
            packet[24 + 12] = words << 4;
            let found = Headers::of_packet(&packet);
            assert_eq!(
                found.map(|found| found.payload),
                (words >= 5).then_some(24 + 4 * usize::from(words)),
                "{words}"
            );
            assert!(found.is_none_or(|found| found.addresses(&packet) == Some(&[1, 1, 1, 1, 2, 2, 2, 2])));
        }
        assert_eq!(Headers::of_packet(&packet[..packet.len() - 1]), None, "cut short");
        for (at, byte) in [(0, 0x44), (0, 0x56), (6, 0x20), (7, 1), (9, 1)] {
            let mut other = packet.clone();
            other[at] = byte;
            assert_eq!(Headers::of_packet(&other), None, "byte {at} is {byte}");
        }
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
