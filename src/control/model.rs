//! What a snapshot is: plain data without I/O.
//!
//! An ifindex is a kernel interface index. Interfaces without a kernel device of their own carry synthetic
//! ones from 2^30 up, so an ifindex is never an array index. 0 stands for "none".

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

use super::quote::quoted;

/// The snapshot protocol version of a snapshot that is made here or does not say its own. Every reader takes this one:
/// those of newer versions, as nothing that mirroring needs has changed since, and those that take no newer.
pub const VERSION: u32 = 3;
/// The oldest snapshot protocol version that is read; every one from here up is.
pub const MIN_VERSION: u32 = 1;
/// The newest snapshot protocol version that is known. A newer one is read as this one is, with a warning.
pub const KNOWN_VERSION: u32 = 43;
/// The largest ifindex: the kernel keeps it in a C `int`.
pub const MAX_IFINDEX: u32 = i32::MAX as u32;
/// The largest VLAN id; 4095 is reserved by IEEE 802.1Q.
pub const MAX_VLAN_ID: u16 = 4094;
/// The largest MTU in bytes: the kernel keeps it in a C `int`.
pub const MAX_MTU: u32 = i32::MAX as u32;

/// One configuration of the dataplane, as imported or built; [`admit`](super::admission::admit) judges it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Snapshot protocol version, from [`MIN_VERSION`] up.
    pub version: u32,
    /// The producer's generation of the configuration.
    pub generation: u64,
    /// The producer's generation of its forwarding table; carried along, not interpreted.
    pub fib_generation: u64,
    /// When the producer made the snapshot: RFC 3339 as written, `""` if it did not say.
    pub generated_at: String,
    /// The interfaces the producer knows. Mirrors and wires may name ifindexes that are not among them.
    pub interfaces: Vec<Interface>,
    /// The mirror table, in the producer's order.
    pub mirrors: Vec<Mirror>,
    /// The wires, in the producer's order.
    pub wires: Vec<Wire>,
}

impl Default for Snapshot {
    /// An empty snapshot of [`VERSION`]: no interfaces, mirrors or wires, generation 0.
    fn default() -> Self {
        Self {
            version: VERSION,
            generation: 0,
            fib_generation: 0,
            generated_at: String::new(),
            interfaces: Vec::new(),
            mirrors: Vec::new(),
            wires: Vec::new(),
        }
    }
}

impl Snapshot {
    /// The interface that answers to `name`, among those with a device (ifindex above 0).
    ///
    /// `name` is compared as written with all interfaces first, and only then in its Linux form ('/'
    /// replaced by '-'), so an exact match always wins. Of several equal matches the last is taken: the Go
    /// builder fills a map from names to ifindexes in the order of the list, and both must agree.
    #[must_use]
    pub fn find_interface(&self, name: &str) -> Option<&Interface> {
        let find = |name: &str| self.interfaces.iter().rev().find(|i| i.ifindex > 0 && i.is_called(name));
        find(name).or_else(|| find(&linux_form(name)?))
    }

    /// The first interface with this ifindex; `None` for 0, which means that there is no device.
    #[must_use]
    pub fn interface_by_index(&self, ifindex: u32) -> Option<&Interface> {
        self.interfaces.iter().find(|i| ifindex > 0 && i.ifindex == ifindex)
    }
}

/// One network interface as the producer describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// The configuration's name, e.g. `ge-0/0/0.0`.
    pub name: String,
    /// The kernel's name, e.g. `ge-0-0-0`; `""` if unknown.
    pub linux_name: String,
    /// Kernel or synthetic ifindex; 0 if no device was resolved.
    pub ifindex: u32,
    /// ifindex of the port below a VLAN interface; 0 if there is none.
    pub parent_ifindex: u32,
    /// VLAN id on the parent, 1..=4094; 0 if untagged.
    pub vlan_id: u16,
    /// Of a port: the VLAN that its frames without a tag belong to, 1..=4094; 0 if they belong to none.
    pub native_vlan_id: u16,
    /// MTU in bytes; 0 if unknown.
    pub mtu: u32,
    /// The Ethernet address; `None` if there is none or the link is not Ethernet.
    pub mac: Option<[u8; 6]>,
    /// Whether a device was called by its Linux name when it was published: the dataplane then takes no other for it.
    /// In no document.
    pub seen: bool,
}

impl Interface {
    /// Whether a configuration that says `name` may mean this interface: `name` equals its name or Linux
    /// name, as written or with '/' replaced by '-'. An empty name means no interface.
    ///
    /// To choose among interfaces use [`Snapshot::find_interface`], where exact matches come first.
    #[must_use]
    pub fn answers_to(&self, name: &str) -> bool {
        self.is_called(name) || linux_form(name).is_some_and(|name| self.is_called(&name))
    }

    /// `(parent ifindex, VLAN id)` if this is a VLAN unit: one with a tag and a parent other than itself. Which of
    /// several interfaces with one ifindex counts is for [`Units`](super::units::Units) to say.
    #[must_use]
    pub fn vlan(&self) -> Option<(u32, u16)> {
        let is_unit = self.parent_ifindex > 0 && self.parent_ifindex != self.ifindex && self.vlan_id > 0;
        is_unit.then_some((self.parent_ifindex, self.vlan_id))
    }

    /// What to call it: the configuration's name, or else the kernel's; `""` if it has neither.
    #[must_use]
    pub fn label(&self) -> &str {
        if self.name.is_empty() { &self.linux_name } else { &self.name }
    }

    fn is_called(&self, name: &str) -> bool {
        !name.is_empty() && (self.name == name || self.linux_name == name)
    }
}

/// The interfaces by the names they answer to: what [`Snapshot::find_interface`] finds, for many questions.
#[derive(Clone, Debug)]
pub struct NameIndex<'a>(HashMap<&'a str, &'a Interface>);

impl<'a> NameIndex<'a> {
    /// The names of these.
    #[must_use]
    pub fn of(interfaces: &'a [Interface]) -> Self {
        let with_device = interfaces.iter().filter(|i| i.ifindex > 0);
        Self(with_device.flat_map(|i| [(i.name.as_str(), i), (i.linux_name.as_str(), i)]).collect())
    }

    /// The interface that answers to `name`.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&'a Interface> {
        let find = |name: &str| self.0.get(name).copied().filter(|_| !name.is_empty());
        find(name).or_else(|| find(&linux_form(name)?))
    }
}

/// A place in a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} column {}", self.line, self.column)
    }
}

/// Where a mirror entry comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The name of the port-mirroring instance.
    pub instance: String,
    /// The ingress as the instance names it.
    pub ingress: Written,
    /// The output as the instance names it.
    pub output: Written,
}

/// A name as a configuration has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The name.
    pub name: String,
    /// Where it stands; `None` if the configuration came as data.
    pub at: Option<Position>,
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&quoted(&self.name))?;
        self.at.map_or(Ok(()), |at| write!(f, " ({at})"))
    }
}

/// `name` with '/' replaced by '-', or `None` if that changes nothing.
pub(crate) fn linux_form(name: &str) -> Option<String> {
    name.contains('/').then(|| name.replace('/', "-"))
}

/// One entry of the mirror table.
///
/// The three keys and their order are the wire contract of `mirror_configs`; serialisation follows the
/// order of the fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Mirror {
    /// Frames received here are mirrored: a port or a VLAN interface, 1..=[`MAX_IFINDEX`].
    pub ingress_ifindex: u32,
    /// The monitor port that sends the clones, 1..=[`MAX_IFINDEX`].
    pub output_ifindex: u32,
    /// N mirrors one frame in N; 0 and 1 mirror every frame.
    pub rate: u32,
}

/// Two ports between which frames cross.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Wire {
    /// The wire's name, unique in a snapshot.
    pub name: String,
    /// One port, 1..=[`MAX_IFINDEX`].
    pub a_ifindex: u32,
    /// The other port, 1..=[`MAX_IFINDEX`].
    pub b_ifindex: u32,
    /// Whether the loss of one port's link takes the other port down, until that link is back. Not written where not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub link_loss_forwarding: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, linux_name: &str, ifindex: u32) -> Interface {
        Interface { name: name.into(), linux_name: linux_name.into(), ifindex, ..Interface::default() }
    }

    #[test]
    fn names_answer_as_written_and_in_linux_form() {
        let port = interface("ge-0/0/0.0", "ge-0-0-0", 11);
        for name in ["ge-0/0/0.0", "ge-0-0-0", "ge-0/0/0"] {
            assert!(port.answers_to(name), "{name}");
        }
        for name in ["", "ge-0-0-0.0", "GE-0-0-0", "ge-0/0/1"] {
            assert!(!port.answers_to(name), "{name}");
        }
        assert!(!interface("", "", 1).answers_to(""));
    }

    #[test]
    fn an_exact_match_wins_over_the_linux_form_and_the_last_of_equals_over_the_first() {
        let snapshot = Snapshot {
            interfaces: vec![
                interface("a-b", "", 1),
                interface("a/b", "", 2),
                interface("no/device", "", 0),
                interface("", "twice", 3),
                interface("twice", "", 4),
            ],
            ..Snapshot::default()
        };
        let find = |name| snapshot.find_interface(name).map(|i| i.ifindex);
        assert_eq!(find("a/b"), Some(2));
        assert_eq!(find("a-b"), Some(1));
        assert_eq!(find("no/device"), None);
        assert_eq!(find("twice"), Some(4));
        assert_eq!(find(""), None);
        let names = NameIndex::of(&snapshot.interfaces);
        for name in ["a/b", "a-b", "no/device", "twice", "", "no-device", "c"] {
            assert_eq!(names.find(name), snapshot.find_interface(name), "{name}");
        }
        assert_eq!(snapshot.interface_by_index(2).map(|i| i.name.as_str()), Some("a/b"));
        assert_eq!(snapshot.interface_by_index(0), None);
        assert_eq!(snapshot.interface_by_index(9), None);
    }

    #[test]
    fn vlan_needs_parent_and_tag() {
        let vlan = |parent_ifindex, vlan_id| Interface { parent_ifindex, vlan_id, ..Interface::default() }.vlan();
        assert_eq!(vlan(11, 10), Some((11, 10)));
        assert_eq!(vlan(11, 0), None);
        assert_eq!(vlan(0, 10), None);
    }
}
