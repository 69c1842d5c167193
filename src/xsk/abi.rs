//! What `linux/if_xdp.h` defines beyond the `libc` crate, and the sizes the ring layer relies on.

use bytemuck::{Pod, Zeroable};

/// `struct xdp_desc`: one entry of an rx or tx ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Desc {
    /// Byte offset of the packet in the UMEM area.
    pub addr: u64,
    /// Bytes of the packet.
    pub len: u32,
    /// Zero, or [`XDP_PKT_CONTD`].
    pub options: u32,
}

const _: () = assert!(size_of::<Desc>() == size_of::<libc::xdp_desc>());
const _: () = assert!(std::mem::offset_of!(Desc, len) == std::mem::offset_of!(libc::xdp_desc, len));

/// `XDP_PACKET_HEADROOM`: bytes the kernel keeps free before a received packet.
pub const PACKET_HEADROOM: u32 = 256;

/// `XDP_PKT_CONTD`, since Linux 6.6: the packet goes on in the next descriptor.
pub const XDP_PKT_CONTD: u32 = 1;
/// `XDP_USE_SG`, a flag of bind since then: packets may do so.
pub const XDP_USE_SG: u16 = 1 << 4;
/// Descriptors of a packet, at most. In copy mode the kernel makes a fragment of each but the first, and has room for at least 17.
pub const MAX_PARTS: u32 = shm_layout::CLONE_FRAMES;

/// `XDP_MAX_TX_SKB_BUDGET`, a socket option since Linux 6.17: descriptors a copy-mode `sendto` may take.
pub const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

/// Bytes of an Ethernet header.
pub const ETH_HLEN: u32 = 14;
/// Bytes of a VLAN tag.
pub const VLAN_HLEN: u32 = 4;

/// The largest clone sent to a device with this MTU: the rule of the kernel's `is_skb_forwardable`, beyond which
/// a virtual device drops without a word. A clone must not be lost uncounted.
pub const fn max_clone_len(mtu: u32) -> u32 {
    mtu.saturating_add(ETH_HLEN + VLAN_HLEN)
}

/// The same where it lies in frames of this size, several of them if packets `may_go_on`.
pub const fn max_clone_in(mtu: u32, frame_size: u32, may_go_on: bool) -> u32 {
    let (most, holds) = (max_clone_len(mtu), frame_size.saturating_mul(if may_go_on { MAX_PARTS } else { 1 }));
    if most < holds { most } else { holds }
}

/// The largest frame forwarded to a device with this MTU: a full payload behind two tags. Whether the device
/// carries the second tag is its own affair, as it would be without spanwire in between.
pub const fn max_forward_len(mtu: u32) -> u32 {
    mtu.saturating_add(ETH_HLEN + 2 * VLAN_HLEN)
}

/// The largest packet the kernel can put into a UMEM frame.
pub const fn max_rx_len(frame_size: u32) -> u32 {
    frame_size.saturating_sub(PACKET_HEADROOM)
}
