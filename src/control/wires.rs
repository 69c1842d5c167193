//! The `--wire A:B` arguments: wires for a snapshot that names none itself.
//!
//! Producers do not know the wires; they are a property of how the appliance is plugged in. The snapshot stays
//! the only place that says which wires there are, so the arguments become part of it before it is admitted,
//! and are refused where it has wires already.

use super::model::{Interface, MAX_IFINDEX, Reason, Snapshot, Wire, quoted};
use super::units::Units;

/// The most names that a message lists as known.
const MAX_LISTED: usize = 16;

/// Adds one wire per argument `A:B` to a snapshot that has none; without arguments nothing changes.
///
/// A and B are each the name of an interface of the snapshot (as [`Snapshot::find_interface`] reads it), or else
/// a decimal ifindex, which need not be among its interfaces. The wire's name is the argument as given:
/// it is what the operator will look for, and it is unique as long as no port is on two wires.
///
/// # Errors
/// The snapshot has wires already; an argument has no or several ':' or an empty side; a name is unknown (the
/// known ones are listed) or belongs to an interface without a device; an ifindex is out of range; a side is a VLAN
/// interface, while a wire takes all that its port receives. All of them are reported, and the snapshot is left as
/// it was.
pub fn add_wires(snapshot: &mut Snapshot, arguments: &[String]) -> Result<(), Vec<Reason>> {
    if arguments.is_empty() {
        return Ok(());
    }
    let mut reasons = Vec::new();
    if !snapshot.wires.is_empty() {
        reasons.push(Reason::new(format!(
            "--wire: the snapshot names its own wires, {} of them (allowed: --wire with a snapshot without wires)",
            snapshot.wires.len()
        )));
    }
    let mut wires = Vec::with_capacity(arguments.len());
    for argument in arguments {
        match wire(snapshot, argument) {
            Ok(wire) => wires.push(wire),
            Err(mut found) => reasons.append(&mut found),
        }
    }
    if !reasons.is_empty() {
        return Err(reasons);
    }
    snapshot.wires = wires;
    Ok(())
}

/// The sides of the arguments: the names and ifindexes that [`add_wires`] will look for.
pub fn sides(arguments: &[String]) -> impl Iterator<Item = &str> {
    arguments.iter().flat_map(|argument| argument.split(':'))
}

fn wire(snapshot: &Snapshot, argument: &str) -> Result<Wire, Vec<Reason>> {
    let refuse = |what: String| Reason::new(format!("--wire {}: {what}", quoted(argument)));
    let (a, b) = match argument.split_once(':') {
        Some((a, b)) if !b.contains(':') => (a, b),
        _ => {
            let colons = argument.matches(':').count();
            return Err(vec![refuse(format!("{colons} colons (allowed: A:B, two names or ifindexes and one colon)"))]);
        }
    };
    match (port(snapshot, a), port(snapshot, b)) {
        (Ok(a_ifindex), Ok(b_ifindex)) => Ok(Wire { name: argument.to_owned(), a_ifindex, b_ifindex }),
        (a, b) => Err([a, b].into_iter().filter_map(Result::err).map(refuse).collect()),
    }
}

/// The ifindex of one side, or what is wrong with it.
fn port(snapshot: &Snapshot, side: &str) -> Result<u32, String> {
    if side.is_empty() {
        return Err("one side is empty (allowed: A:B, two names or ifindexes)".to_owned());
    }
    // Names come first: a device may be called "11".
    if let Some(interface) = snapshot.find_interface(side) {
        return whole(snapshot, interface.ifindex);
    }
    if side.bytes().all(|b| b.is_ascii_digit()) {
        let ifindex = side.parse().ok().filter(|n| (1..=MAX_IFINDEX).contains(n));
        let ifindex = ifindex.ok_or_else(|| {
            format!("ifindex {} is out of range (allowed: an integer in 1..={MAX_IFINDEX})", quoted(side))
        })?;
        return whole(snapshot, ifindex);
    }
    if snapshot.interfaces.iter().any(|i| i.answers_to(side)) {
        return Err(format!("the interface {} has no device (allowed: an interface with an ifindex)", quoted(side)));
    }
    Err(format!("no interface is called {} (allowed: an ifindex, or {})", quoted(side), known(snapshot)))
}

/// The ifindex of a port that a wire can have.
fn whole(snapshot: &Snapshot, ifindex: u32) -> Result<u32, String> {
    let Some((parent, tag)) = Units::of(snapshot).vlan(ifindex) else { return Ok(ifindex) };
    let name = snapshot.interface_by_index(ifindex).map_or("", Interface::label);
    Err(format!(
        "ifindex {ifindex} ({}) is VLAN {tag} on ifindex {parent} (allowed: a whole port, with all its VLANs)",
        quoted(name)
    ))
}

fn known(snapshot: &Snapshot) -> String {
    let named = || snapshot.interfaces.iter().filter(|i| i.ifindex > 0 && !i.name.is_empty());
    let listed: Vec<String> = named().take(MAX_LISTED).map(|i| quoted(&i.name)).collect();
    match named().count() - listed.len() {
        _ if listed.is_empty() => "a name, but the snapshot has no interfaces".to_owned(),
        0 => format!("one of {}", listed.join(", ")),
        more => format!("one of {} and {more} more", listed.join(", ")),
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
        match add_wires(&mut snapshot, &arguments) {
            Ok(()) => Ok(snapshot.wires),
            Err(reasons) => {
                assert_eq!(snapshot, before, "an error changes nothing");
                Err(reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
            }
        }
    }

    #[test]
    fn names_and_ifindexes() {
        let wire = |name: &str, a_ifindex, b_ifindex| Wire { name: name.into(), a_ifindex, b_ifindex };
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

    #[test]
    fn every_problem_is_reported() {
        let text = add(&["x:y", "11:12", "1:2:3"]).expect_err("three problems");
        assert_eq!(text.lines().count(), 3, "{text}");
    }

    #[test]
    fn a_snapshot_with_wires_takes_none() {
        let mut snapshot = snapshot();
        snapshot.wires.push(Wire { name: "w".into(), a_ifindex: 1, b_ifindex: 2 });
        let reasons = add_wires(&mut snapshot, &["11:12".into()]).expect_err("has wires");
        assert!(reasons[0].as_str().contains("names its own wires, 1 of them"), "{reasons:?}");
        assert_eq!(add_wires(&mut snapshot, &[]), Ok(()));
    }

    #[test]
    fn the_list_of_known_names_is_bounded() {
        let mut snapshot = Snapshot::default();
        let text = add_wires(&mut snapshot, &["x:1".into()]).expect_err("unknown")[0].to_string();
        assert!(text.contains("no interfaces"), "{text}");
        snapshot.interfaces =
            (1..=1000).map(|n| Interface { name: format!("eth{n}"), ifindex: n, ..Interface::default() }).collect();
        let text = add_wires(&mut snapshot, &["x:1".into()]).expect_err("unknown")[0].to_string();
        assert!(text.contains("\"eth16\" and 984 more"), "{text}");
        assert!(!text.contains("eth17"), "{text}");
    }
}
