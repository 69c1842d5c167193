//! A port that the dataplane uses.

use serde::Serialize;
use shm_layout::record::{PortRole, PortStateRecord};
use shm_layout::view::Strings;

use super::live_name;

/// One port the dataplane uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PortState {
    /// The port, by its ifindex in the snapshot.
    pub ifindex: u32,
    /// ifindex of its device by now; `None` where that is not there, or the dataplane does not say.
    pub device_ifindex: Option<u32>,
    /// The kernel's name.
    pub name: String,
    /// `wire` or `monitor`.
    pub role: &'static str,
    /// `active` or `inactive`.
    pub state: &'static str,
    /// Why it is not in use, or what is to be known about it; empty for nothing.
    pub reason: String,
    /// Bytes.
    pub mtu: u32,
    /// Queues served.
    pub queues: u32,
    /// `native`, `generic` or empty.
    pub xdp_mode: String,
    /// Whether the sockets are zero-copy.
    pub zero_copy: bool,
    /// Its driver.
    pub driver: String,
}

/// What the dataplane says of a port, without its device.
pub(super) fn port_state(port: &PortStateRecord, text: Strings<'_>) -> PortState {
    let own = |at| text.text(at).to_owned();
    PortState {
        ifindex: port.ifindex,
        device_ifindex: None,
        name: own(port.name),
        role: match port.role {
            PortRole::Wire => "wire",
            PortRole::Monitor => "monitor",
        },
        state: live_name(port.state),
        reason: own(port.reason),
        mtu: port.mtu,
        queues: port.queues,
        xdp_mode: own(port.xdp_mode),
        zero_copy: port.zero_copy != 0,
        driver: own(port.driver),
    }
}
