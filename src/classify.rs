//! Which mirror entry a frame belongs to.

use crate::packet::outer_vlan;
use crate::snapshot::table::{PortPolicy, Tap};

/// The entry that samples this frame: that of its VLAN, by its outer tag or, without one, the port's native one; else
/// the port's own; `None` for neither.
#[inline]
pub fn classify<'a>(policy: &'a PortPolicy, frame: &[u8]) -> Option<&'a Tap> {
    match &policy.vlans {
        None => policy.plain.as_ref(),
        Some(vlans) => vlans.get(outer_vlan(frame)).or(policy.plain.as_ref()),
    }
}

#[cfg(test)]
mod tests {
    use shm_layout::record::{PLACE_UNTAGGED, PlaceRecord};

    use super::*;
    use crate::snapshot::table::VlanTaps;

    /// The slot of the entry of a frame with this tag, on a port with entries of VLANs 10 (slot 1) and 20 (slot 2).
    fn slot(native: bool, plain: bool, tag: Option<u16>) -> Option<u32> {
        let tap = |slot| Tap { slot, rate: 1, output: 0 };
        let mut vlans = VlanTaps::new();
        for (vlan_id, slot) in [(10, 1), (20, 2), (10, 3)] {
            let flags = if native && vlan_id == 10 { PLACE_UNTAGGED } else { 0 };
            vlans.insert(PlaceRecord { vlan_id, flags, ..PlaceRecord::of_ports(11, 22) }, tap(slot));
        }
        let policy = PortPolicy { plain: plain.then(|| tap(0)), vlans: Some(vlans), outputs: vec![22] };
        let mut frame = vec![0; 12];
        frame.extend(tag.into_iter().flat_map(|id| [[0x81, 0x00], (0xe000 | id).to_be_bytes()]).flatten());
        frame.extend([0x08, 0x00, 0x45, 0x00]);
        classify(&policy, &frame).map(|tap| tap.slot)
    }

    #[test]
    fn a_frame_is_of_its_vlan_then_of_the_port() {
        for native in [false, true] {
            for own in [None, Some(0)] {
                let of = |tag| slot(native, own.is_some(), tag);
                assert_eq!((of(Some(10)), of(Some(20))), (Some(1), Some(2)));
                assert_eq!((of(Some(30)), of(Some(4094)), of(Some(4095))), (own, own, own));
                let untagged = if native { Some(1) } else { own };
                assert_eq!((of(None), of(Some(0))), (untagged, untagged), "native: {native}");
            }
        }
    }
}
