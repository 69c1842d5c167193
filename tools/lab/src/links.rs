//! The devices of a namespace, as iproute2 tells them.

use serde::Deserialize;

use crate::error::{LabError, Result};
use crate::netns::Namespace;

/// The part of `ip -j -d link` that is used here.
#[derive(Debug, Deserialize)]
pub(crate) struct Link {
    pub(crate) ifname: String,
    pub(crate) ifindex: u32,
    pub(crate) mtu: u32,
    pub(crate) operstate: String,
    #[serde(default)]
    pub(crate) num_rx_queues: u32,
    pub(crate) master: Option<String>,
    linkinfo: Option<LinkInfo>,
}

#[derive(Debug, Deserialize)]
struct LinkInfo {
    info_slave_data: Option<SlaveData>,
}

#[derive(Debug, Deserialize)]
struct SlaveData {
    state: Option<String>,
}

impl Link {
    pub(crate) fn is_up(&self) -> bool {
        self.operstate == "UP"
    }

    pub(crate) fn forwards(&self) -> bool {
        let slave = self.linkinfo.as_ref().and_then(|info| info.info_slave_data.as_ref());
        slave.and_then(|data| data.state.as_deref()) == Some("forwarding")
    }
}

/// The devices of a namespace.
pub(crate) fn links(ns: &Namespace) -> Result<Vec<Link>> {
    let output = ns.ip(&["-j", "-d", "link", "show"])?;
    serde_json::from_slice(&output.stdout)
        .map_err(|source| LabError::Parse { command: format!("ip -n {} -j -d link show", ns.name()), source })
}
