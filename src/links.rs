//! The network devices that the control plane builds and judges snapshots with.
//!
//! [`devices`] of the network namespace of the dataplane where one runs, since that is where a snapshot's ports are: as
//! it tells of them, since a process with capabilities is closed to its own user. What it does not tell is looked up
//! in its namespace, where that can be entered.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use thiserror::Error;

use crate::clock;
use crate::control::link::{Link, Links};
use crate::control::model::Interface;
use crate::control::state::{FRESH_PATIENCE, Stats, fresh_devices, process};
use crate::devices::{self, Device, ETHERNET};
use crate::text::printable;

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
    /// The dataplane is of a release that tells none.
    #[error(
        "the running dataplane (process {pid} of another PID namespace, release {}) does not tell of its devices \
         (restart it with this release)",
        printable(release)
    )]
    Older {
        /// The dataplane.
        pid: u32,
        /// Its release.
        release: String,
    },
    /// There are more than it tells of.
    #[error(
        "the dataplane has {total} network devices and tells of {told}: run this as root in its PID namespace, where all \
         can be seen"
    )]
    TooMany {
        /// Devices there are.
        total: u32,
        /// Devices it tells of.
        told: usize,
    },
    /// The kernel did not answer as it should.
    #[error("cannot list the network devices: {0}")]
    Netlink(#[from] io::Error),
}

/// The devices in the network namespace of the dataplane that runs with `dir`, or in the caller's own without one.
///
/// # Errors
/// [`LinksError`].
pub fn read(dir: &Path) -> Result<Links, LinksError> {
    // A region that cannot be read says nothing.
    let stats = fresh_devices(dir, clock::monotonic_ns(), FRESH_PATIENCE).ok().flatten();
    match stats.filter(Stats::running) {
        Some(stats) => of_dataplane(dir, &stats),
        None => own(),
    }
}

/// The devices in the caller's network namespace.
///
/// # Errors
/// [`LinksError::Netlink`].
pub fn own() -> Result<Links, LinksError> {
    Ok(Links { all: all()?, place: "in this network namespace".to_owned() })
}

fn of_dataplane(dir: &Path, stats: &Stats) -> Result<Links, LinksError> {
    let told = stats.devices();
    let whole = told.filter(|told| told.is_whole());
    let place = "in the network namespace of the dataplane";
    if let Some(told) = whole.filter(|_| stats.fresh()) {
        return Ok(Links { all: links(&told.devices), place: place.to_owned() });
    }
    // One that hangs must not stop the configuration.
    let why = match process(dir, stats).map(inside) {
        Some(Ok(all)) => return Ok(Links { all, place: place.to_owned() }),
        Some(Err(why)) => why,
        None => LinksError::Older { pid: stats.pid(), release: stats.release().to_owned() },
    };
    match (whole, told) {
        (Some(told), _) => {
            let seconds = clock::monotonic_ns().saturating_sub(told.as_of) / 1_000_000_000;
            Ok(Links { all: links(&told.devices), place: format!("{place} {seconds} s ago, when it last answered") })
        }
        (None, Some(told)) => Err(LinksError::TooMany { total: told.total, told: told.devices.len() }),
        (None, None) => Err(why),
    }
}

/// The devices in the network namespace of a process.
fn inside(pid: u32) -> Result<Vec<Link>, LinksError> {
    let path = format!("/proc/{pid}/ns/net");
    // Links to the same namespace read the same; one that may not be read may not be entered either.
    let own = std::fs::read_link("/proc/thread-self/ns/net");
    if matches!((own, std::fs::read_link(&path)), (Ok(own), Ok(its)) if own == its) {
        return Ok(all()?);
    }
    let entered = || enter(Path::new(&path)).map_err(|source| LinksError::Namespace { pid, source });
    // A thread of its own, which takes the namespace with it when it ends.
    std::thread::scope(|scope| {
        let there = scope.spawn(|| entered().and_then(|()| Ok(all()?)));
        there.join().unwrap_or_else(|_| Err(LinksError::Netlink(io::Error::other("the asking thread ended"))))
    })
}

fn enter(namespace: &Path) -> io::Result<()> {
    let namespace = File::open(namespace)?;
    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// Every device of the calling thread's namespace.
fn all() -> io::Result<Vec<Link>> {
    Ok(links(&devices::all()?))
}

/// The devices of one network namespace as the control plane sees them.
#[must_use]
pub fn links(devices: &[Device]) -> Vec<Link> {
    devices.iter().map(|device| Link { uppers: uppers(device, devices), ..link(device) }).collect()
}

fn link(device: &Device) -> Link {
    // Other devices have something below them too, macvlan its port.
    let parent_ifindex = if device.vlan_id > 0 { device.below } else { 0 };
    Link {
        interface: Interface {
            name: device.name.clone(),
            linux_name: device.name.clone(),
            ifindex: device.ifindex,
            parent_ifindex,
            vlan_id: device.vlan_id,
            native_vlan_id: 0,
            mtu: device.mtu,
            mac: device.mac,
            seen: false,
        },
        altnames: device.altnames.clone(),
        up: Some(device.up),
        speed: device.speed,
        stuck_offload: device.stuck_offload.clone(),
        foreign: foreign(device),
        address: device.address,
        ipv6: Some(device.ipv6),
        uppers: Vec::new(),
    }
}

/// What takes the frames of a device: what it is a port of, and what stands on it.
fn uppers(device: &Device, devices: &[Device]) -> Vec<String> {
    let on = |upper: &&Device| upper.ifindex == device.master || upper.stands_on() == device.ifindex;
    devices.iter().filter(on).map(shown).collect()
}

/// What a device that is no Ethernet device is.
fn foreign(device: &Device) -> Option<String> {
    let what = match device.hardware {
        ETHERNET => return None,
        32 => "InfiniBand",
        512 => "PPP",
        768 | 769 => "IP tunnel",
        772 => "loopback",
        776 => "SIT tunnel",
        778 | 823 => "GRE tunnel",
        801..=804 => "wireless monitor",
        824 => "netlink monitor",
        _ if !device.kind.is_empty() => device.kind.as_str(),
        0xffff | 0xfffe => "no link layer",
        _ => "not Ethernet",
    };
    Some(format!("{what}, hardware type {}", device.hardware))
}

/// `bridge br0`
fn shown(device: &Device) -> String {
    let name = if device.name.is_empty() { format!("ifindex {}", device.ifindex) } else { device.name.clone() };
    if device.kind.is_empty() { name } else { format!("{} {name}", device.kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str, ifindex: u32) -> Device {
        Device { name: name.to_owned(), ifindex, hardware: ETHERNET, ..Device::default() }
    }

    #[test]
    fn only_a_vlan_has_a_parent() {
        let vlan = Device { kind: "vlan".to_owned(), below: 3, vlan_id: 42, ..device("eth0.42", 4) };
        assert_eq!(link(&vlan).interface.vlan(), Some((3, 42)));
        let macvlan = Device { kind: "macvlan".to_owned(), below: 3, ..device("mv0", 5) };
        assert_eq!((link(&macvlan).interface.parent_ifindex, link(&macvlan).foreign), (0, None));
    }

    #[test]
    fn what_takes_a_devices_frames_is_known() {
        let of = |name: &str, ifindex, kind: &str| Device { kind: kind.to_owned(), ..device(name, ifindex) };
        let all = [
            Device { master: 4, below: 9, ..of("p", 3, "veth") },
            of("br0", 4, "bridge"),
            Device { below: 3, ..of("mv0", 5, "macvlan") },
            Device { below: 3, ..of("p.7", 6, "vlan") },
            Device { below: 3, ..of("q", 9, "veth") },
        ];
        let found = links(&all);
        assert_eq!(found[0].uppers, ["bridge br0", "macvlan mv0", "vlan p.7"]);
        assert_eq!(found.len(), all.len());
        assert!(found[1..].iter().all(|link| link.uppers.is_empty()), "{found:?}");
    }

    #[test]
    fn what_is_no_ethernet_device_says_what_it_is() {
        let of = |hardware, kind: &str| foreign(&Device { hardware, kind: kind.to_owned(), ..device("d", 3) });
        assert_eq!(of(1, "veth"), None);
        assert_eq!(of(772, "").as_deref(), Some("loopback, hardware type 772"));
        assert_eq!(of(65534, "tun").as_deref(), Some("tun, hardware type 65534"));
        assert_eq!(of(65534, "").as_deref(), Some("no link layer, hardware type 65534"));
    }
}
