//! The network devices there are: what the control plane builds and judges snapshots with.
//!
//! One netlink dump for all of them, then per device what only ethtool tells. Asked in the network namespace of the
//! dataplane where one runs, since that is where a snapshot's ports are.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use thiserror::Error;

use crate::control::model::{Interface, Link, Links};
use crate::xsk::netdev;

/// Why the devices are not known.
#[derive(Debug, Error)]
pub enum LinksError {
    /// The dataplane's namespace cannot be entered.
    #[error(
        "cannot enter the network namespace of the dataplane (process {pid}): {source}; run this as root, or as the \
         dataplane's user in that namespace"
    )]
    Namespace {
        /// The dataplane.
        pid: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel did not answer as it should.
    #[error("cannot list the network devices: {0}")]
    Netlink(#[from] io::Error),
}

/// The devices in the network namespace of the process `dataplane`, or in the caller's own without one.
///
/// # Errors
/// [`LinksError`].
pub fn read(dataplane: Option<u32>) -> Result<Links, LinksError> {
    let Some(pid) = dataplane else {
        return Ok(Links { all: all()?, place: "in this network namespace".to_owned() });
    };
    let place = "in the network namespace of the dataplane".to_owned();
    let path = format!("/proc/{pid}/ns/net");
    // Links to the same namespace read the same; one that may not be read may not be entered either.
    let own = std::fs::read_link("/proc/thread-self/ns/net");
    if matches!((own, std::fs::read_link(&path)), (Ok(own), Ok(its)) if own == its) {
        return Ok(Links { all: all()?, place });
    }
    let entered = || enter(Path::new(&path)).map_err(|source| LinksError::Namespace { pid, source });
    // A thread of its own, which takes the namespace with it when it ends.
    std::thread::scope(|scope| {
        let there = scope.spawn(|| entered().and_then(|()| Ok(Links { all: all()?, place })));
        there.join().unwrap_or_else(|_| Err(LinksError::Netlink(io::Error::other("the asking thread ended"))))
    })
}

fn enter(namespace: &Path) -> io::Result<()> {
    let namespace = File::open(namespace)?;
    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// Every device of the calling thread's namespace.
fn all() -> io::Result<Vec<Link>> {
    Ok(dump()?.into_iter().map(link).collect())
}

/// The answer to one RTM_GETLINK dump.
fn dump() -> io::Result<Vec<LinkMessage>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_DUMP | NLM_F_REQUEST;
    let get = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let mut request = NetlinkMessage::new(header, NetlinkPayload::from(get));
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;

    let mut links = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
            // Messages are padded to four bytes; the last may lack that.
            let len = (message.header.length as usize).next_multiple_of(4).max(4);
            rest = rest.get(len..).unwrap_or_default();
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(links),
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => links.push(link),
                _ => {}
            }
        }
    }
}

fn link(message: LinkMessage) -> Link {
    let up = LinkFlags::Up | LinkFlags::Running;
    let mut interface = Interface { ifindex: message.header.index, ..Interface::default() };
    let (mut below, mut tag) = (0, None);
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.linux_name = name,
            LinkAttribute::Mtu(mtu) => interface.mtu = mtu,
            LinkAttribute::Address(address) => interface.mac = address.try_into().ok(),
            LinkAttribute::Link(ifindex) => below = ifindex,
            LinkAttribute::LinkInfo(infos) => tag = infos.iter().find_map(vlan_id),
            _ => {}
        }
    }
    // Other devices have something below them too, veth its peer.
    if let Some(tag) = tag {
        (interface.parent_ifindex, interface.vlan_id) = (below, tag);
    }
    interface.name.clone_from(&interface.linux_name);
    let ifindex = interface.ifindex;
    Link {
        interface,
        up: Some(message.header.flags.contains(up)),
        // Devices that do not tell are not worth an error.
        speed: netdev::speed(ifindex).ok().flatten(),
        stuck_offload: netdev::stuck_vlan_offload(ifindex).ok().flatten().map(str::to_owned),
    }
}

fn vlan_id(info: &LinkInfo) -> Option<u16> {
    let LinkInfo::Data(InfoData::Vlan(about)) = info else { return None };
    about.iter().find_map(|info| if let InfoVlan::Id(id) = info { Some(*id) } else { None })
}
