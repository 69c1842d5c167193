//! What a name means that an operator or a document gives: an interface of the document first, and then a device of
//! the live system, by its name or an alternative one.
//!
//! The device then has a row among the snapshot's interfaces, with the kernel's own name in it: that is what the
//! dataplane follows it by.

use std::collections::HashMap;

use super::diagnostic::{Diagnostic, Severity};
use super::link::{Link, Links};
use super::model::{Interface, Snapshot, linux_form};
use super::quote::quoted;

/// The most names that a message lists.
const MAX_LISTED: usize = 16;

impl Link {
    /// The names it answers to, its own before the alternative ones.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.own_names().chain(self.altnames.iter().map(String::as_str))
    }

    fn own_names(&self) -> impl Iterator<Item = &str> {
        let own = [self.interface.linux_name.as_str(), self.interface.name.as_str()];
        own.into_iter().filter(|name| !name.is_empty())
    }

    /// Whether `name` is one of its names, as written or in Linux form.
    pub(super) fn answers_to(&self, name: &str) -> bool {
        self.names().any(|own| own == name || as_linux(own) == as_linux(name))
    }
}

impl Links {
    /// The device that `name` means: as written before its Linux form, an own name before an alternative one, and of
    /// several equals the last, as among the interfaces of a snapshot.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Link> {
        if name.is_empty() {
            return None;
        }
        let devices = || self.all.iter().rev().filter(|link| link.interface.ifindex > 0);
        let linux = as_linux(name);
        devices()
            .find(|link| link.own_names().any(|own| own == name))
            .or_else(|| devices().find(|link| link.altnames.iter().any(|own| own == name)))
            .or_else(|| devices().find(|link| link.own_names().any(|own| as_linux(own) == linux)))
            .or_else(|| devices().find(|link| link.altnames.iter().any(|own| as_linux(own) == linux)))
    }

    /// The device with this ifindex.
    pub(super) fn by_index(&self, ifindex: u32) -> Option<&Link> {
        self.all.iter().find(|link| ifindex > 0 && link.interface.ifindex == ifindex)
    }
}

/// Gives the snapshot a row for a device that was meant by `name`, or the row that it has the device's own name. Says
/// where that row had one of another device's.
pub(super) fn join(snapshot: &mut Snapshot, name: &str, link: &Link, place: &str) -> Option<Diagnostic> {
    let device = &link.interface;
    let Some(row) = snapshot.interfaces.iter_mut().find(|row| row.ifindex == device.ifindex) else {
        snapshot.interfaces.push(Interface { name: name.to_owned(), ..device.clone() });
        return None;
    };
    let found = stranger(row, link, place);
    if !device.linux_name.is_empty() {
        row.linux_name.clone_from(&device.linux_name);
    }
    found
}

/// That a row with a device's ifindex has a name, and none of that device; `place` is where the device is.
pub(super) fn stranger(row: &Interface, link: &Link, place: &str) -> Option<Diagnostic> {
    let own = link.names().next()?;
    let called = if row.linux_name.is_empty() { &row.name } else { &row.linux_name };
    (!called.is_empty() && !may_mean(row, link)).then(|| {
        let (own, called) = (quoted(own), quoted(called));
        Diagnostic {
            severity: Severity::Warning,
            subject: format!("ifindex {}", row.ifindex),
            message: format!("it is called {own} {place}, the document calls it {called}: it may be another device"),
        }
    })
}

/// Puts the kernel's own name in place of an alternative one that a row calls its device by.
pub(super) fn settle(snapshot: &mut Snapshot, links: &Links) {
    let others = links.all.iter().filter(|link| !link.altnames.is_empty() && !link.interface.linux_name.is_empty());
    let others: HashMap<u32, &Link> = others.map(|link| (link.interface.ifindex, link)).collect();
    for row in &mut snapshot.interfaces {
        if let Some(link) = others.get(&row.ifindex).filter(|link| link.altnames.contains(&row.linux_name)) {
            row.linux_name.clone_from(&link.interface.linux_name);
        }
    }
}

/// Whether a row may mean this device: one of its names is one of the device's, `DEVICE.UNIT` as DEVICE too.
fn may_mean(row: &Interface, link: &Link) -> bool {
    let names = [row.linux_name.as_str(), row.name.as_str()].into_iter().filter(|name| !name.is_empty());
    let mut forms = names.flat_map(|name| [Some(name), name.rsplit_once('.').map(|(device, _)| device)]).flatten();
    forms.any(|name| link.answers_to(name))
}

/// `"a", "b" and 3 more`; empty for none.
pub(super) fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let (mut shown, mut more) = (Vec::new(), 0);
    for name in names {
        if shown.len() < MAX_LISTED { shown.push(quoted(name)) } else { more += 1 }
    }
    let shown = shown.join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

/// `name` with '/' replaced by '-'.
pub(super) fn as_linux(name: &str) -> String {
    linux_form(name).unwrap_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str, ifindex: u32, altnames: &[&str]) -> Link {
        let interface = Interface { name: name.into(), linux_name: name.into(), ifindex, ..Interface::default() };
        Link { interface, altnames: altnames.iter().map(ToString::to_string).collect(), ..Link::default() }
    }

    #[test]
    fn a_device_answers_to_every_name_it_has() {
        let all = vec![
            device("eth0", 3, &["ge-0-0-0", "uplink"]),
            device("ge-0-0-1", 4, &[]),
            device("eth2", 5, &["ge-0/0/2", "a/b"]),
            device("a-b", 6, &[]),
            device("", 7, &[]),
            device("none", 0, &[]),
        ];
        let links = Links { all, place: String::new() };
        let found = |name| links.find(name).map(|link| link.interface.ifindex);
        for (name, want) in [
            ("eth0", Some(3)),
            ("uplink", Some(3)),
            ("ge-0/0/0", Some(3)),
            ("ge-0-0-0", Some(3)),
            ("ge-0/0/1", Some(4)),
            ("ge-0/0/2", Some(5)),
            ("ge-0-0-2", Some(5)),
            ("a/b", Some(5)),
            ("a-b", Some(6)),
            ("", None),
            ("none", None),
            ("ge-0/0/0.0", None),
        ] {
            assert_eq!(found(name), want, "{name}");
        }
    }

    #[test]
    fn a_row_is_held_against_every_name_of_its_device() {
        let link = device("eth0", 3, &["ge-0-0-0"]);
        let row = |name: &str, linux_name: &str| Interface {
            name: name.into(),
            linux_name: linux_name.into(),
            ..Interface::default()
        };
        for fine in [row("eth0", ""), row("", "ge-0-0-0"), row("ge-0/0/0.0", ""), row("wan", "eth0")] {
            assert!(may_mean(&fine, &link), "{fine:?}");
        }
        assert!(!may_mean(&row("ge-0/0/1.0", "ge-0-0-1"), &link) && !may_mean(&row("eth", ""), &link));
    }

    #[test]
    fn rows_have_the_kernels_own_name() {
        let links = Links { all: vec![device("eth0", 3, &["wan"]), device("eth1", 4, &[])], place: String::new() };
        let row =
            |linux_name: &str, ifindex| Interface { linux_name: linux_name.into(), ifindex, ..Interface::default() };
        let mut snapshot =
            Snapshot { interfaces: vec![row("wan", 3), row("wan", 4), row("", 3)], ..Snapshot::default() };
        settle(&mut snapshot, &links);
        assert_eq!(snapshot.interfaces, [row("eth0", 3), row("wan", 4), row("", 3)]);
        let said = join(&mut snapshot, "lan", &links.all[1], "there").map(|said| said.to_string());
        let want =
            "warning: ifindex 4: it is called \"eth1\" there, the document calls it \"wan\": it may be another device";
        assert_eq!(said.as_deref(), Some(want));
        assert_eq!(join(&mut snapshot, "lan", &links.all[1], "there"), None, "it has the name by now");
        assert_eq!(join(&mut snapshot, "five", &device("eth5", 5, &[]), "there"), None);
        assert_eq!(snapshot.interfaces[1], row("eth1", 4), "the row of the device gets its name");
        assert_eq!(snapshot.interfaces[3], Interface { name: "five".into(), ..row("eth5", 5) });
    }
}
