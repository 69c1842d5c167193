//! The `--wire A:B` arguments: wires for a snapshot that names none itself.
//!
//! Producers do not know the wires; they are a property of how the appliance is plugged in. The snapshot stays
//! the only place that says which wires there are, so the arguments become part of it before it is admitted,
//! and are refused where it has wires already.

use super::diagnostic::{Diagnostic, Reason};
use super::link::{Link, Links};
use super::model::{Interface, MAX_IFINDEX, Snapshot, Wire};
use super::naming::{join, listed};
use super::quote::quoted;
use super::units::Units;

/// Adds one wire per argument `A:B` to a snapshot that has none; without arguments nothing changes. Gives the warnings
/// there are.
///
/// A and B are each the name of an interface of the snapshot (as [`Snapshot::find_interface`] reads it), or of one of
/// the devices there are, which then joins its interfaces, with a warning where one of those has its ifindex and a name of
/// another; or else a decimal ifindex, which need not be among either.
/// The wire's name is the argument as given: it is what the operator will look for, and it is unique as long as no
/// port is on two wires.
///
/// # Errors
/// The snapshot has wires already; an argument has no or several ':' or an empty side; a name is unknown (the
/// known ones are listed) or belongs to an interface without a device; an ifindex is out of range; a side is a VLAN
/// interface, while a wire takes all that its port receives. All of them are reported, and the snapshot is left as
/// it was.
pub fn add_wires(
    snapshot: &mut Snapshot,
    arguments: &[String],
    links: Option<&Links>,
) -> Result<Vec<Diagnostic>, Vec<Reason>> {
    if arguments.is_empty() {
        return Ok(Vec::new());
    }
    let mut reasons = Vec::new();
    if !snapshot.wires.is_empty() {
        reasons.push(Reason::new(format!(
            "--wire: the snapshot names its own wires, {} of them (allowed: --wire with a snapshot without wires)",
            snapshot.wires.len()
        )));
    }
    let units = Units::of(snapshot);
    let known = Known { snapshot, units: &units, links };
    let (mut wires, mut devices) = (Vec::with_capacity(arguments.len()), Vec::new());
    for argument in arguments {
        match known.wire(argument) {
            Ok((wire, named)) => {
                wires.push(wire);
                devices.extend(named);
            }
            Err(mut found) => reasons.append(&mut found),
        }
    }
    if !reasons.is_empty() {
        return Err(reasons);
    }
    snapshot.wires = wires;
    let place = links.map_or("", |links| links.place.as_str());
    Ok(devices.into_iter().filter_map(|(name, device)| join(snapshot, name, device, place)).collect())
}

/// The sides of the arguments: the names and ifindexes that [`add_wires`] will look for.
pub fn sides(arguments: &[String]) -> impl Iterator<Item = &str> {
    arguments.iter().flat_map(|argument| argument.split(':'))
}

/// What names can mean.
#[derive(Clone, Copy)]
struct Known<'s, 'a> {
    snapshot: &'s Snapshot,
    units: &'s Units,
    links: Option<&'a Links>,
}

/// One side of a wire: its ifindex, and the device where its name means one that is no interface of the snapshot.
struct Side<'a> {
    ifindex: u32,
    device: Option<(&'a str, &'a Link)>,
}

/// The devices that a wire names, each with its name.
type Named<'a> = Vec<(&'a str, &'a Link)>;

impl<'a> Known<'_, 'a> {
    fn wire(self, argument: &'a str) -> Result<(Wire, Named<'a>), Vec<Reason>> {
        let refuse = |what: String| Reason::new(format!("--wire {}: {what}", quoted(argument)));
        let (a, b) = match argument.split_once(':') {
            Some((a, b)) if !b.contains(':') => (a, b),
            _ => {
                let colons = argument.matches(':').count();
                let what = format!("{colons} colons (allowed: A:B, two names or ifindexes and one colon)");
                return Err(vec![refuse(what)]);
            }
        };
        match (self.port(a), self.port(b)) {
            (Ok(a), Ok(b)) => {
                let (a_ifindex, b_ifindex) = (a.ifindex, b.ifindex);
                let wire = Wire { name: argument.to_owned(), a_ifindex, b_ifindex, link_loss_forwarding: false };
                Ok((wire, a.device.into_iter().chain(b.device).collect()))
            }
            (a, b) => Err([a, b].into_iter().filter_map(Result::err).map(refuse).collect()),
        }
    }

    /// The port that one side means, or what is wrong with it.
    fn port(self, side: &'a str) -> Result<Side<'a>, String> {
        if side.is_empty() {
            return Err("one side is empty (allowed: A:B, two names or ifindexes)".to_owned());
        }
        // Names come first: a device may be called "11".
        if let Some(interface) = self.snapshot.find_interface(side) {
            return Ok(Side { ifindex: self.whole(interface.ifindex)?, device: None });
        }
        if let Some(link) = self.device(side) {
            return Ok(Side { ifindex: self.whole(link.interface.ifindex)?, device: Some((side, link)) });
        }
        if side.bytes().all(|b| b.is_ascii_digit()) {
            let ifindex = side.parse().ok().filter(|n| (1..=MAX_IFINDEX).contains(n));
            let ifindex = ifindex.ok_or_else(|| {
                format!("ifindex {} is out of range (allowed: an integer in 1..={MAX_IFINDEX})", quoted(side))
            })?;
            return Ok(Side { ifindex: self.whole(ifindex)?, device: None });
        }
        if self.snapshot.interfaces.iter().any(|i| i.answers_to(side)) {
            return Err(format!(
                "the interface {} has no device (allowed: an interface with an ifindex)",
                quoted(side)
            ));
        }
        Err(format!("no interface is called {} (allowed: an ifindex, or {})", quoted(side), self.names()))
    }

    /// The ifindex of a port that a wire can have.
    fn whole(self, ifindex: u32) -> Result<u32, String> {
        let row = self.snapshot.interface_by_index(ifindex);
        let device = || self.links.and_then(|links| links.by_index(ifindex)).map(|link| &link.interface);
        let interface = row.or_else(device);
        let vlan = if row.is_some() { self.units.vlan(ifindex) } else { interface.and_then(Interface::vlan) };
        let Some((parent, tag)) = vlan else { return Ok(ifindex) };
        Err(format!(
            "ifindex {ifindex} ({}) is VLAN {tag} on ifindex {parent} (allowed: a whole port, with all its VLANs)",
            quoted(interface.map_or("", Interface::label))
        ))
    }

    /// The live device that a name means, also by what an interface of the snapshot without one calls it.
    fn device(self, name: &str) -> Option<&'a Link> {
        let links = self.links?;
        let unresolved = || self.snapshot.interfaces.iter().filter(|i| i.ifindex == 0 && i.answers_to(name));
        links.find(name).or_else(|| unresolved().find_map(|interface| links.find(&interface.linux_name)))
    }

    /// The names there are, for a message.
    fn names(self) -> String {
        let of_snapshot = self.snapshot.interfaces.iter().filter(|i| i.ifindex > 0 && !i.name.is_empty());
        let of_snapshot = listed(of_snapshot.map(|i| i.name.as_str()));
        let named = match of_snapshot.as_str() {
            "" => "a name, but the snapshot has no interfaces".to_owned(),
            names => format!("one of {names}"),
        };
        let Some(links) = self.links else { return named };
        let ports = links.all.iter().filter(|link| link.foreign.is_none());
        match (listed(ports.filter_map(|link| link.names().next())).as_str(), links.place.as_str()) {
            ("", place) => format!("{named}, nor any device {place}"),
            (names, place) if of_snapshot.is_empty() => format!("one of {names} {place}"),
            (names, place) => format!("{named}, or one of {names} {place}"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::expect_used)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        let interface = |name: &str, linux_name: &str, ifindex| Interface {
            name: name.into(),
            linux_name: linux_name.into(),
            ifindex,
            ..Interface::default()
        };
        Snapshot {
            interfaces: vec![
                interface("ge-0/0/0.0", "ge-0-0-0", 11),
                interface("ge-0/0/1.0", "ge-0-0-1", 12),
                interface("ge-0/0/9.0", "ge-0-0-9", 0),
                interface("77", "", 13),
                Interface { parent_ifindex: 11, vlan_id: 42, ..interface("ge-0/0/0.42", "", 1 << 30) },
            ],
            ..Snapshot::default()
        }
    }

    fn add(arguments: &[&str]) -> Result<Vec<Wire>, String> {
        let mut snapshot = snapshot();
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let before = snapshot.clone();
        match add_wires(&mut snapshot, &arguments, None) {
            Ok(said) => {
                assert_eq!(said, [], "there are no devices");
                Ok(snapshot.wires)
            }
            Err(reasons) => {
                assert_eq!(snapshot, before, "an error changes nothing");
                Err(reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
            }
        }
    }

    #[test]
    fn names_and_ifindexes() {
        let wire =
            |name: &str, a_ifindex, b_ifindex| Wire { name: name.into(), a_ifindex, b_ifindex, ..Wire::default() };
        assert_eq!(add(&[]), Ok(vec![]));
        assert_eq!(
            add(&["ge-0/0/0.0:ge-0-0-1", "99:2147483647"]),
            Ok(vec![wire("ge-0/0/0.0:ge-0-0-1", 11, 12), wire("99:2147483647", 99, 2_147_483_647)])
        );
        assert_eq!(
            add(&["ge-0/0/0:77"]),
            Ok(vec![wire("ge-0/0/0:77", 11, 13)]),
            "Linux form; a name before an ifindex"
        );
    }

    #[test]
    fn refusals_say_what_is_allowed() {
        for (argument, wants) in [
            ("ge-0/0/0.0", &["0 colons", "A:B"][..]),
            ("1:2:3", &["2 colons", "A:B"]),
            (":12", &["empty", "A:B"]),
            ("12:", &["empty", "A:B"]),
            ("0:12", &["\"0\" is out of range", "1..=2147483647"]),
            ("2147483648:12", &["\"2147483648\" is out of range", "1..=2147483647"]),
            ("99999999999999999999:12", &["out of range"]),
            ("eth9:12", &["no interface is called \"eth9\"", "\"ge-0/0/0.0\", \"ge-0/0/1.0\", \"77\""]),
            ("+11:12", &["no interface is called \"+11\""]),
            ("12:ge-0/0/9.0", &["\"ge-0/0/9.0\" has no device"]),
            (
                "ge-0-0-0:ge-0/0/0.42",
                &["1073741824 (\"ge-0/0/0.42\") is VLAN 42 on ifindex 11", "allowed: a whole port"],
            ),
            ("1073741824:12", &["1073741824 (\"ge-0/0/0.42\") is VLAN 42 on ifindex 11"]),
        ] {
            let text = add(&[argument]).expect_err(argument);
            assert!(text.starts_with("--wire "), "{text}");
            for want in wants {
                assert!(text.contains(want), "{argument}: {text}");
            }
        }
    }

    fn device(name: &str, ifindex: u32, altnames: &[&str]) -> Link {
        let interface = Interface {
            name: name.into(),
            linux_name: name.into(),
            ifindex,
            mtu: 1500,
            mac: Some([2; 6]),
            ..Interface::default()
        };
        Link { interface, altnames: altnames.iter().map(ToString::to_string).collect(), ..Link::default() }
    }

    /// What an interface of the snapshot is not called, a device may be; then it joins the interfaces.
    #[test]
    fn names_of_devices() {
        let vlan = Interface { parent_ifindex: 3, vlan_id: 7, ..device("p1.7", 6, &[]).interface };
        let all = vec![
            device("p1", 3, &["wan", "ge-0-0-0"]),
            device("p2", 4, &["ge-0/0/5"]),
            device("ge-0-0-9", 5, &[]),
            Link { interface: vlan, ..Link::default() },
            Link { foreign: Some("loopback".into()), ..device("lo", 1, &[]) },
        ];
        let links = Links { all, place: "over there".into() };
        let add = |snapshot: &mut Snapshot, argument: &str| add_wires(snapshot, &[argument.to_owned()], Some(&links));
        let rows = |snapshot: &Snapshot| -> Vec<(String, String, u32)> {
            snapshot.interfaces.iter().map(|i| (i.name.clone(), i.linux_name.clone(), i.ifindex)).collect()
        };
        let row = |name: &str, linux_name: &str, ifindex| (name.to_owned(), linux_name.to_owned(), ifindex);

        let mut bare = Snapshot::default();
        assert_eq!(add(&mut bare, "wan:ge-0-0-5"), Ok(vec![]));
        assert_eq!(bare.wires, [Wire { name: "wan:ge-0-0-5".into(), a_ifindex: 3, b_ifindex: 4, ..Wire::default() }]);
        assert_eq!(rows(&bare), [row("wan", "p1", 3), row("ge-0-0-5", "p2", 4)], "the kernel's names are beside");
        assert_eq!((bare.interfaces[0].mtu, bare.interfaces[0].mac), (1500, Some([2; 6])));
        let mut bare = Snapshot::default();
        assert_eq!(add(&mut bare, "3:4"), Ok(vec![]));
        assert_eq!(rows(&bare), [], "an ifindex is no name");

        // The document's come first, and one of it without a device is known by its name.
        let mut named = snapshot();
        assert_eq!(add(&mut named, "ge-0-0-0:ge-0/0/9.0"), Ok(vec![]));
        assert_eq!((named.wires[0].a_ifindex, named.wires[0].b_ifindex), (11, 5));
        assert_eq!(rows(&named)[5..], [row("ge-0/0/9.0", "ge-0-0-9", 5)]);

        for (argument, want) in [
            (
                "p1:p3",
                "no interface is called \"p3\" (allowed: an ifindex, or one of \"p1\", \"p2\", \"ge-0-0-9\", \"p1.7\" over there)",
            ),
            ("p1.7:p2", "ifindex 6 (\"p1.7\") is VLAN 7 on ifindex 3 (allowed: a whole port"),
            ("6:p2", "ifindex 6 (\"p1.7\") is VLAN 7 on ifindex 3 (allowed: a whole port"),
        ] {
            let mut bare = Snapshot::default();
            let text = add(&mut bare, argument).expect_err(argument)[0].to_string();
            assert!(text.contains(want), "{text}");
            assert_eq!(bare, Snapshot::default(), "an error changes nothing");
        }
        let text = add(&mut snapshot(), "p3:11").expect_err("unknown")[0].to_string();
        assert!(text.contains("one of \"ge-0/0/0.0\"") && text.contains(", or one of \"p1\", \"p2\""), "{text}");
        let none = Links { all: Vec::new(), place: "over there".into() };
        let text =
            add_wires(&mut Snapshot::default(), &["a:1".into()], Some(&none)).expect_err("unknown")[0].to_string();
        assert!(text.contains("the snapshot has no interfaces, nor any device over there"), "{text}");
    }

    #[test]
    fn every_problem_is_reported() {
        let text = add(&["x:y", "11:12", "1:2:3"]).expect_err("three problems");
        assert_eq!(text.lines().count(), 3, "{text}");
    }

    #[test]
    fn a_snapshot_with_wires_takes_none() {
        let mut snapshot = snapshot();
        snapshot.wires.push(Wire { name: "w".into(), a_ifindex: 1, b_ifindex: 2, ..Wire::default() });
        let reasons = add_wires(&mut snapshot, &["11:12".into()], None).expect_err("has wires");
        assert!(reasons[0].as_str().contains("names its own wires, 1 of them"), "{reasons:?}");
        assert_eq!(add_wires(&mut snapshot, &[], None), Ok(vec![]));
    }

    #[test]
    fn the_list_of_known_names_is_bounded() {
        let mut snapshot = Snapshot::default();
        let text = add_wires(&mut snapshot, &["x:1".into()], None).expect_err("unknown")[0].to_string();
        assert!(text.contains("no interfaces"), "{text}");
        snapshot.interfaces =
            (1..=1000).map(|n| Interface { name: format!("eth{n}"), ifindex: n, ..Interface::default() }).collect();
        let text = add_wires(&mut snapshot, &["x:1".into()], None).expect_err("unknown")[0].to_string();
        assert!(text.contains("\"eth16\" and 984 more"), "{text}");
        assert!(!text.contains("eth17"), "{text}");
    }
}
