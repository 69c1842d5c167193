//! Which mirror entry a frame belongs to.

use crate::packet::outer_vlan;
use crate::snapshot::table::{PortPolicy, Tap};

/// The entry that samples this frame: that of its outer VLAN tag, else the port's own; `None` for neither.
#[inline]
pub fn classify<'a>(policy: &'a PortPolicy, frame: &[u8]) -> Option<&'a Tap> {
    match &policy.vlans {
        None => policy.plain.as_ref(),
        Some(vlans) => outer_vlan(frame).and_then(|id| vlans.get(id)).or(policy.plain.as_ref()),
    }
}
