//! What a frame's first bytes say. Pure: bytes in, facts out.

/// 802.1Q, a customer tag.
pub const ETH_P_8021Q: u16 = 0x8100;
/// 802.1ad, a service tag.
pub const ETH_P_8021AD: u16 = 0x88a8;

/// The VLAN id of the outermost tag, 1..=4094.
///
/// `None` for an untagged frame, for a priority tag (id 0, which belongs to no VLAN), for the reserved id 4095,
/// and for a frame too short to hold a tag.
#[inline]
pub fn outer_vlan(frame: &[u8]) -> Option<u16> {
    let &[a, b, c, d] = frame.get(12..16)?.first_chunk::<4>()?;
    let ethertype = u16::from_be_bytes([a, b]);
    if ethertype != ETH_P_8021Q && ethertype != ETH_P_8021AD {
        return None;
    }
    let id = u16::from_be_bytes([c, d]) & 0x0fff;
    (1..=4094).contains(&id).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(tail: &[u8]) -> Vec<u8> {
        [&[0u8; 12][..], tail].concat()
    }

    #[test]
    fn reads_the_outermost_tag_only() {
        assert_eq!(outer_vlan(&frame(&[0x08, 0x00, 0x45, 0x00])), None);
        assert_eq!(outer_vlan(&frame(&[0x81, 0x00, 0x00, 0x2a, 0x08, 0x00])), Some(42));
        assert_eq!(outer_vlan(&frame(&[0x81, 0x00, 0xe0, 0x2a])), Some(42), "priority and DEI bits are no id");
        assert_eq!(outer_vlan(&frame(&[0x88, 0xa8, 0x00, 0x64, 0x81, 0x00, 0x00, 0x2a])), Some(100));
        assert_eq!(outer_vlan(&frame(&[0x81, 0x00, 0x20, 0x00])), None, "a priority tag");
        assert_eq!(outer_vlan(&frame(&[0x81, 0x00, 0x0f, 0xff])), None, "the reserved id");
        assert_eq!(outer_vlan(&frame(&[0x81, 0x00, 0x00])), None, "cut short");
        assert_eq!(outer_vlan(&[]), None);
    }
}
