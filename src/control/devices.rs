//! The devices there are, as the ports of a snapshot: what is known of each.

use super::labels::Names;
use super::link::{Link, Links};
use super::located::Located;
use super::model::Snapshot;
use super::quote::quoted;
use crate::text::printable;

/// The devices, as far as they are known.
pub(super) struct Devices<'a> {
    pub(super) names: &'a Names<'a>,
    located: Option<Located<'a>>,
    /// Where they are, to end a sentence with.
    pub(super) place: &'a str,
}

impl<'a> Devices<'a> {
    /// Those in `links`, under the names that a snapshot has for them.
    pub(super) fn of(snapshot: &Snapshot, names: &'a Names<'a>, links: Option<&'a Links>) -> Self {
        let located = links.map(|links| Located::of(snapshot, &names.units, links));
        Self { names, located, place: links.map_or("", |links| links.place.as_str()) }
    }

    /// A port with its name: the snapshot's, or else the kernel's.
    pub(super) fn show(&self, port: u32) -> String {
        let live = || self.link(port).map(|link| link.interface.linux_name.as_str()).filter(|name| !name.is_empty());
        match (self.names.row(port), live()) {
            (None, Some(name)) => format!("{port} ({})", quoted(name)),
            _ => self.names.show(port),
        }
    }

    /// That a port is no Ethernet device, and what it is.
    pub(super) fn foreign(&self, port: u32) -> Option<String> {
        let what = self.link(port)?.foreign.as_ref()?;
        let (shown, what) = (self.show(port), printable(what));
        Some(format!("ifindex {shown} is no Ethernet device but {what} (allowed: an Ethernet device)"))
    }

    /// Whether it is known at all which there are.
    pub(super) fn are_known(&self) -> bool {
        self.located.is_some()
    }

    /// Whether a device is there that is called as the snapshot calls this port's.
    pub(super) fn is_named(&self, port: u32) -> bool {
        self.located.as_ref().is_some_and(|located| located.is_named(port))
    }

    /// The device of a port. That of a VLAN unit, if it has one, is of no account.
    pub(super) fn link(&self, port: u32) -> Option<&Link> {
        self.located.as_ref()?.get(port)
    }

    /// Its MTU in bytes: the device's, or else what the snapshot says.
    pub(super) fn mtu(&self, port: u32) -> Option<u32> {
        let live = self.link(port).map(|link| link.interface.mtu).filter(|mtu| *mtu > 0);
        live.or_else(|| self.names.mtu(port))
    }

    /// Megabits (10^6 bits) a second, if that is known.
    pub(super) fn speed(&self, port: u32) -> Option<u32> {
        self.link(port)?.speed
    }
}
