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

#[cfg(test)]
mod tests {
    use super::*;

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
