//! A Junos configuration and the interfaces there are to a [`Draft`] of a snapshot.
//!
//! ```text
//! forwarding-options port-mirroring instance NAME {
//!     input { rate N; ingress { interface X; … } }           mirror entries X -> Y, one frame in N
//!     output { interface Y; }
//! }
//! security forwarding-options secure-wire NAME {
//!     interface [ A B ];                                     a wire A - B
//!     link-loss-forwarding;                                  where one port's link is lost, the other is taken down
//! }
//! interfaces DEVICE unit U vlan-id V;                                  what DEVICE.U stands for
//! ```
//!
//! Groups are applied and ranges of interfaces spelt out before ([`expand`]).
//!
//! All else in the configuration is not looked at, except that a unit in use with more than one VLAN or a bad `vlan-id` is
//! refused. A statement inside of
//! `port-mirroring` or a secure wire that is not one of these has no effect, and a warning says so; as one does of what
//! asks for mirroring elsewhere, and of a configuration in which there is nothing of this.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::diagnostic::{Diagnostic, Reason, Severity};
use super::draft::{Draft, EntriesOf, TableFault};
use super::instances::{Instance, RATE_ALLOWED, Rate, resolve, subject};
use super::junos::{Expanded, Node, expand};
use super::link::Links;
use super::model::{Interface, MAX_VLAN_ID, NameIndex, Snapshot, Wire, Written};
use super::naming::{as_linux, listed};
use super::quote::quoted;
use super::unsupported::unsupported;

const INSTANCES: [&str; 3] = ["forwarding-options", "port-mirroring", "instance"];
const SECURE_WIRES: [&str; 3] = ["security", "forwarding-options", "secure-wire"];
/// Of a secure wire: a statement of our own, which Junos does not have.
const LINK_LOSS: &str = "link-loss-forwarding";

/// The statements of a unit that give it more than one VLAN.
const SEVERAL_TAGS: [&str; 3] = ["vlan-tags", "vlan-id-list", "vlan-id-range"];

/// Where the ifindexes of interfaces without a kernel device begin.
const FIRST_SYNTHETIC: u32 = 1 << 30;

/// Builds the snapshot that `config` describes on these interfaces. What is wrong with it is in the draft.
#[must_use]
pub fn build(config: &Node, interfaces: Vec<Interface>) -> Draft {
    let Expanded { config, faults, diagnostics } = expand(config);
    let config = &config;
    let snapshot = Snapshot { interfaces, ..Snapshot::default() };
    let mut draft = Draft { snapshot, faults, diagnostics, ..Draft::default() };
    refuse_tags(config, &mut draft);
    draft.diagnostics.extend(unsupported(config));
    secure_wires(config, &mut draft);
    let instances = instances(config, &mut draft);
    let resolved = resolve(instances, &draft.snapshot.interfaces);
    draft.diagnostics.extend(resolved.skipped.into_iter().map(Into::into));
    draft.table_faults.extend(resolved.faults);
    for (mirror, origin) in resolved.entries {
        draft.snapshot.mirrors.push(mirror);
        draft.origins.push(Some(origin));
    }
    if draft.snapshot.mirrors.is_empty() && draft.snapshot.wires.is_empty() && draft.faults.is_empty() {
        draft.diagnostics.push(Diagnostic {
            severity: Severity::Warning,
            subject: "configuration".to_owned(),
            message: "nothing to mirror and no wire was read from it (read are forwarding-options port-mirroring \
                      instance and security forwarding-options secure-wire)"
                .to_owned(),
        });
    }
    draft
}

/// The devices of the live system, or of a list that stands for it, as interfaces, under the names that `config` has
/// for them and those in `also`.
///
/// `DEVICE.U` with a VLAN id is the VLAN device there is for it, or else an interface with a synthetic ifindex, whatever
/// else is called so: the dataplane needs only the parent and the tag. Otherwise a device answers to its own name and to
/// its alternative ones, and a name `DEVICE.0` that no device has is the device. What has several such names is listed
/// under each.
#[must_use]
pub fn live_interfaces<'a>(config: &Node, links: &Links, also: impl IntoIterator<Item = &'a str>) -> Vec<Interface> {
    let config = &expand(config).config;
    let mut interfaces = links.interfaces();
    let mut known: HashSet<String> = HashSet::new();
    // By every name in its Linux form; an own name hides an alternative one.
    let mut devices: HashMap<String, usize> = HashMap::new();
    let there = || links.all.iter().enumerate().filter(|(_, link)| link.interface.ifindex > 0);
    devices.extend(there().flat_map(|(at, link)| link.altnames.iter().map(move |name| (as_linux(name), at))));
    for (at, Interface { name, linux_name, .. }) in there().map(|(at, link)| (at, &link.interface)) {
        let names = [name, linux_name].into_iter().filter(|name| !name.is_empty());
        devices.extend(names.clone().map(|name| (as_linux(name), at)));
        known.extend(names.cloned());
    }
    let units = units(config);
    let mut names = mentioned(config);
    names.extend(also.into_iter().map(str::to_owned));
    for written in names {
        let name = as_linux(&written);
        let unit = name.rsplit_once('.').and_then(|(device, unit)| {
            let at = *devices.get(device)?;
            // A unit may be written under another name of its device.
            let nodes = links.all[at].names().map(as_linux).collect::<BTreeSet<_>>().into_iter();
            let nodes: Vec<&Node> =
                nodes.filter_map(|device| units.get(&format!("{device}.{unit}"))).flatten().copied().collect();
            Some((at, unit, vlan_tag(&nodes)))
        });
        if let Some((at, _, Ok(Some(tag)))) = unit {
            tagged(&mut interfaces, &written, &links.all[at].interface, tag);
            continue;
        }
        if known.contains(&written) || known.contains(&name) {
            continue;
        }
        if let Some(&at) = devices.get(&name) {
            known.insert(name.clone());
            call(&mut interfaces, at, name);
        } else if let Some((at, "0", Ok(None))) = unit {
            call(&mut interfaces, at, name);
        }
        // `build` refuses a bad tag; until then the unit must not pass for the whole device.
    }
    interfaces
}

/// Calls VLAN `tag` on `parent` as it is written, where it is not called so: its device, or a synthetic interface. Where
/// something else is, the last of a name is the one that is found.
fn tagged(interfaces: &mut Vec<Interface>, written: &str, parent: &Interface, tag: u16) {
    let is_unit = |interface: &Interface| interface.vlan() == Some((parent.ifindex, tag));
    let called = |interface: &&Interface| interface.ifindex > 0 && interface.answers_to(written);
    let disputed = interfaces.iter().filter(called).any(|interface| !is_unit(interface));
    if !disputed && interfaces.iter().any(|interface| called(&interface)) {
        return;
    }
    let name = if disputed { written.to_owned() } else { as_linux(written) };
    match interfaces.iter().position(is_unit) {
        Some(at) if disputed => interfaces.push(Interface { name, ..interfaces[at].clone() }),
        Some(at) => call(interfaces, at, name),
        None => interfaces.extend(synthetic(name, parent, tag)),
    }
}

/// Gives the interface at `at` a name of the configuration's, beside any it has already.
fn call(interfaces: &mut Vec<Interface>, at: usize, name: String) {
    let interface = &mut interfaces[at];
    if interface.name == interface.linux_name {
        interface.name = name;
    } else {
        let again = Interface { name, ..interface.clone() };
        interfaces.push(again);
    }
}

/// The interface of tag `tag` on `parent`. Its ifindex depends on these alone, so that an entry stays the same over
/// commits; none where the parent's ifindex leaves no room for that.
fn synthetic(name: String, parent: &Interface, tag: u16) -> Option<Interface> {
    let room = (FIRST_SYNTHETIC >> 12) - 1;
    (parent.ifindex <= room).then(|| Interface {
        name,
        linux_name: String::new(),
        ifindex: FIRST_SYNTHETIC | parent.ifindex << 12 | u32::from(tag),
        parent_ifindex: parent.ifindex,
        vlan_id: tag,
        ..parent.clone()
    })
}

/// Whether there is only an ifindex, for the dataplane to tell a VLAN by, and no device to send on.
fn is_synthetic(interface: &Interface) -> bool {
    interface.ifindex >= FIRST_SYNTHETIC && interface.linux_name.is_empty() && interface.vlan().is_some()
}

/// The interfaces that mirror entries and wires name, as written.
fn mentioned(config: &Node) -> BTreeSet<String> {
    let instances = || below(config, &INSTANCES);
    let ingresses = instances().filter_map(|instance| instance.at_path(&["input", "ingress", "interface"]));
    let outputs = instances().filter_map(|instance| instance.at_path(&["output", "interface"]));
    let mirrored = ingresses.chain(outputs).flat_map(Node::children).map(|(name, _)| name.to_owned());
    mirrored.chain(wired(config)).collect()
}

/// The interfaces that wires name, as written.
fn wired(config: &Node) -> BTreeSet<String> {
    let wired = below(config, &SECURE_WIRES).filter_map(|wire| wire.child("interface"));
    wired.flat_map(Node::children).map(|(name, _)| name.to_owned()).collect()
}

fn below<'a>(config: &'a Node, path: &[&str]) -> impl Iterator<Item = &'a Node> + use<'a> {
    config.at_path(path).into_iter().flat_map(Node::children).map(|(_, node)| node)
}

/// Each `interfaces DEVICE unit U` by the Linux form of `DEVICE.U`; more than one node where DEVICE is written both
/// ways.
fn units(config: &Node) -> HashMap<String, Vec<&Node>> {
    let mut units: HashMap<String, Vec<&Node>> = HashMap::new();
    for (device, node) in config.child("interfaces").into_iter().flat_map(Node::children) {
        for (unit, node) in node.child("unit").into_iter().flat_map(Node::children) {
            units.entry(format!("{}.{unit}", as_linux(device))).or_default().push(node);
        }
    }
    units
}

/// The VLAN id of the unit that is written at `nodes`, none if it is untagged; or what is wrong with it.
fn vlan_tag(nodes: &[&Node]) -> Result<Option<u16>, String> {
    let statements = |word| nodes.iter().filter_map(move |node| node.child(word).map(|found| (word, found)));
    if let Some(several) = SEVERAL_TAGS.into_iter().flat_map(statements).next() {
        return Err(format!("{} is not supported", shown(several)));
    }
    let mut values = statements("vlan-id").flat_map(|(_, node)| node.children());
    let Some((text, value)) = values.next() else {
        // A statement whose values are all deactivated is none.
        let empty = statements("vlan-id").find(|(_, node)| node.is_leaf());
        return empty.map_or(Ok(None), |empty| Err(format!("{} has no value", shown(empty))));
    };
    let written = shown((text, value));
    if let Some(second) = values.next() {
        return Err(format!("two values of vlan-id, {written} and {}", shown(second)));
    }
    if let Some(after) = value.children().next() {
        return Err(format!("vlan-id {written} is followed by {}", shown(after)));
    }
    if !digits(text) {
        return Err(format!("vlan-id {written} is not an integer"));
    }
    let tag = text.parse().ok().filter(|tag| (1..=MAX_VLAN_ID).contains(tag));
    tag.map(Some).ok_or_else(|| format!("vlan-id {written} is out of range"))
}

/// Refuses each unit in use whose VLAN is not known: taken for the whole device, it would mirror or connect more
/// than was meant.
fn refuse_tags(config: &Node, draft: &mut Draft) {
    let linux = |names: BTreeSet<String>| names.iter().map(|name| as_linux(name)).collect::<BTreeSet<_>>();
    let (units, wired) = (units(config), linux(wired(config)));
    for name in linux(mentioned(config)) {
        if let Some(Err(what)) = units.get(&name).map(|nodes| vlan_tag(nodes)) {
            let shown = quoted(&name);
            let reason =
                Reason::new(format!("unit {shown}: {what} (allowed: one vlan-id, an integer in 1..={MAX_VLAN_ID})"));
            match wired.contains(&name) {
                true => draft.faults.push(reason),
                false => draft.table_faults.push(TableFault { of: EntriesOf::Interface(name), reason }),
            }
        }
    }
}

/// The port-mirroring instances, with what is wrong about each.
fn instances(config: &Node, draft: &mut Draft) -> Vec<Instance> {
    if let Some(stanza) = config.at_path(&INSTANCES[..2]) {
        draft.ignored("port-mirroring", stanza, &["instance"]);
    }
    let nodes = config.at_path(&INSTANCES).into_iter().flat_map(Node::children);
    nodes.map(|(name, node)| instance(name, node, draft)).collect()
}

fn instance(name: &str, node: &Node, draft: &mut Draft) -> Instance {
    let subject = subject(name, Some(node.position()));
    draft.ignored(&subject, node, &["input", "output"]);
    let mut faults = Vec::new();
    let mut instance = Instance { name: name.to_owned(), at: Some(node.position()), ..Instance::default() };
    if let Some(input) = node.child("input") {
        draft.ignored(&subject, input, &["rate", "ingress"]);
        instance.rate = input.child("rate").map(|node| rate(node, &subject, &mut faults)).unwrap_or_default();
        if let Some(ingress) = input.child("ingress") {
            draft.ignored(&subject, ingress, &["interface"]);
            instance.ingresses = interfaces(ingress, &subject, &mut faults);
        }
    }
    if let Some(output) = node.child("output") {
        draft.ignored(&subject, output, &["interface"]);
        let outputs = interfaces(output, &subject, &mut faults);
        if let [first, second, ..] = outputs.as_slice() {
            faults.push(Reason::new(format!("{subject}: two output interfaces, {first} and {second} (allowed: one)")));
        }
        instance.output = outputs.into_iter().next();
    }
    let of = || EntriesOf::Instance(name.to_owned());
    draft.table_faults.extend(faults.into_iter().map(|reason| TableFault { of: of(), reason }));
    instance
}

/// The names after `interface`; one that is followed by more words goes to `faults`.
fn interfaces(node: &Node, subject: &str, faults: &mut Vec<Reason>) -> Vec<Written> {
    let mut written = Vec::new();
    for (name, below) in node.child("interface").into_iter().flat_map(Node::children) {
        let name = shown((name, below));
        faults.extend(below.children().map(|after| {
            Reason::new(format!("{subject}: interface {name} is followed by {} (allowed: \";\")", shown(after)))
        }));
        written.push(name);
    }
    written
}

fn rate(node: &Node, subject: &str, faults: &mut Vec<Reason>) -> Rate {
    let values: Vec<(&str, &Node)> = node.children().collect();
    let mut refuse = |what: String| {
        faults.push(Reason::new(format!("{subject}: {what} ({RATE_ALLOWED})")));
        Rate::Invalid
    };
    let (text, value) = match *values.as_slice() {
        [] if node.is_leaf() => return refuse(format!("rate ({}) has no value", node.position())),
        // Its values are all deactivated.
        [] => return Rate::default(),
        [only] => only,
        [first, second, ..] => {
            let (first, second) = (shown(first), shown(second));
            return refuse(format!("two rates, {first} and {second}"));
        }
    };
    let written = shown((text, value));
    if let Some((word, after)) = value.children().next() {
        return refuse(format!("rate {written} is followed by {}", shown((word, after))));
    }
    if text.strip_prefix('-').is_some_and(|n| digits(n) && n.bytes().any(|b| b != b'0')) {
        return Rate::Negative(written);
    }
    if !digits(text) {
        return refuse(format!("rate {written} is not an integer"));
    }
    text.parse().map_or_else(|_| refuse(format!("rate {written} is out of range")), Rate::Of)
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn shown((word, node): (&str, &Node)) -> Written {
    Written { name: word.to_owned(), at: Some(node.position()) }
}

/// The secure wires as wires, in the order of writing. Unlike a mirror entry, a wire is never left out: that would
/// take away a connection.
fn secure_wires(config: &Node, draft: &mut Draft) {
    let mut found = Vec::new();
    for (name, node) in config.at_path(&SECURE_WIRES).into_iter().flat_map(Node::children) {
        let subject = format!("secure-wire {} ({})", quoted(name), node.position());
        draft.ignored(&subject, node, &["interface", LINK_LOSS]);
        let ends = interfaces(node, &subject, &mut draft.faults);
        let after = node.child(LINK_LOSS).into_iter().flat_map(Node::children);
        draft.faults.extend(after.map(|after| {
            Reason::new(format!("{subject}: {LINK_LOSS} is followed by {} (allowed: \";\")", shown(after)))
        }));
        found.push((name, subject, ends, node.child(LINK_LOSS).is_some()));
    }
    let ports = draft.snapshot.interfaces.iter().filter(|i| i.ifindex > 0 && !is_synthetic(i));
    let there = listed(ports.map(Interface::label).filter(|name| !name.is_empty()));
    let there = if there.is_empty() { there } else { format!(": {there}") };
    let names = NameIndex::of(&draft.snapshot.interfaces);
    let mut wires = Vec::with_capacity(found.len());
    for (name, subject, ends, link_loss_forwarding) in found {
        let ports: Vec<Option<&Interface>> = ends.iter().map(|end| names.find(&end.name)).collect();
        let missing = ends.iter().zip(&ports).filter_map(|(end, port)| {
            let what = match port {
                None => format!("no interface is called {end}"),
                Some(port) if is_synthetic(port) => format!("interface {end} is a VLAN without a device"),
                Some(_) => return None,
            };
            Some(Reason::new(format!("{subject}: {what} (allowed: two interfaces that are there{there})")))
        });
        draft.faults.extend(missing);
        match *ports.as_slice() {
            [Some(a), Some(b)] => {
                let (name, a_ifindex, b_ifindex) = (name.to_owned(), a.ifindex, b.ifindex);
                wires.push(Wire { name, a_ifindex, b_ifindex, link_loss_forwarding });
            }
            [_, _] => {}
            ref other => draft.faults.push(Reason::new(format!(
                "{subject}: number of interfaces: {} (allowed: two, as in interface [ A B ])",
                other.len()
            ))),
        }
    }
    draft.snapshot.wires = wires;
}

impl Draft {
    /// Warns of each statement below `node` that is none of `known`.
    fn ignored(&mut self, subject: &str, node: &Node, known: &[&str]) {
        for (word, below) in node.children().filter(|(word, _)| !known.contains(word)) {
            self.diagnostics.push(Diagnostic {
                severity: Severity::Warning,
                subject: subject.to_owned(),
                message: format!("{} is not supported here and has no effect", shown((word, below))),
            });
        }
    }
}
