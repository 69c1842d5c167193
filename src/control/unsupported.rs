//! What of a Junos configuration asks for mirroring, or may, and has no effect here: each is worth a word, as who wrote
//! it counts on it.

use super::diagnostic::{Diagnostic, Severity};
use super::junos::Node;
use super::model::Written;

/// The statements of `forwarding-options` that have nothing to do with mirroring, of all platforms.
const FOREIGN: [&str; 59] = [
    "access-security",
    "accounting",
    "alternate-hash-key",
    "apply-flags",
    "apply-groups",
    "apply-groups-except",
    "apply-macro",
    "cut-through",
    "dhcp-relay",
    "dhcp-security",
    "ecmp-alb",
    "ecmp-do-local-lookup",
    "ecmp-local-bias",
    "enhanced-hash-key",
    "evpn-vxlan",
    "family",
    "fast-reroute-priority",
    "forwarding-sandbox",
    "hash-key",
    "helpers",
    "hyper-mode",
    "ipv6-neighbor-discovery",
    "l2circuit-control-passthrough",
    "link-layer-broadcast-inline",
    "load-balance",
    "load-balance-group",
    "load-balance-label-capability",
    "local-bias",
    "monitoring",
    "mpls",
    "multicast",
    "multicast-replication",
    "next-hop",
    "next-hop-group",
    "no-hierarchical-ecmp",
    "no-load-balance-label-capability",
    "packet-capture",
    "packet-capture-telemetry",
    "pfe-sensor",
    "profile",
    "route-accounting",
    "rpf-loose-mode-discard",
    "sampling",
    "satellite",
    "satellite-filter",
    "segment-routing",
    "sflow",
    "srv6",
    "storm-control",
    "storm-control-profiles",
    "suppress-interface-leaf-nodes",
    "traceoptions",
    "tunnel",
    "tunnel-termination",
    "tunnels",
    "vrf-fallback",
    "vxlan-disable-copy-tos-decap",
    "vxlan-disable-copy-tos-encap",
    "vxlan-routing",
];

/// The kinds of filters whose terms have actions.
const FILTERS: [&str; 4] = ["filter", "service-filter", "simple-filter", "fast-update-filter"];

/// What is read: where one of these was withheld from who got the text, nobody knows what it says.
const LOOKED_AT: [&[&str]; 6] = [
    &["interfaces"],
    &["forwarding-options"],
    &["forwarding-options", "port-mirroring"],
    &["security"],
    &["security", "forwarding-options"],
    &["security", "forwarding-options", "secure-wire"],
];

/// A warning for each statement in force that has no effect though someone may count on it, in the order of the
/// hierarchy.
pub(super) fn unsupported(config: &Node) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    if let Some(options) = config.child("forwarding-options") {
        for (word, node) in statements(options).filter(|(word, _)| *word != "port-mirroring" && !FOREIGN.contains(word))
        {
            let what = if mirrors(word) { MIRRORS } else { "is no statement that is known here, and has no effect" };
            found.push(told("forwarding-options", word, node, what));
        }
    }
    if let Some(options) = config.child("ethernet-switching-options") {
        let asking = statements(options).filter(|(word, _)| mirrors(word));
        found.extend(asking.map(|(word, node)| told("ethernet-switching-options", word, node, MIRRORS)));
    }
    if let Some(options) = config.at_path(&["security", "forwarding-options"]) {
        for (word, node) in statements(options).filter(|(word, _)| *word != "secure-wire") {
            let subject = "security forwarding-options";
            if mirrors(word) {
                found.push(told(subject, word, node, MIRRORS));
            } else if word.starts_with("secure") {
                found.push(told(subject, word, node, "is no statement that is known here, and has no effect"));
            }
        }
    }
    for (filter, actions) in config.child("firewall").into_iter().flat_map(actions) {
        let asking = statements(actions).filter(|(word, _)| mirrors(word));
        found.extend(asking.map(|(word, node)| told(&format!("firewall filter {filter}"), word, node, MIRRORS)));
    }
    for path in LOOKED_AT {
        if let Some(node) = config.at_path(path).filter(|node| node.is_withheld()) {
            let word = path.last().copied().unwrap_or_default();
            let what = "is left out of this text (OMITTED or ACCESS-DENIED), and so has no effect";
            found.push(told(&path.join(" "), word, node, what));
        }
    }
    found
}

const MIRRORS: &str = "asks for mirroring in a way that is not supported, and has no effect (supported: forwarding-options port-mirroring \
     instance)";

fn told(subject: &str, word: &str, node: &Node, what: &str) -> Diagnostic {
    let written = Written { name: word.to_owned(), at: Some(node.position()) };
    Diagnostic { severity: Severity::Warning, subject: subject.to_owned(), message: format!("{written} {what}") }
}

/// The statements right below that are in force, themselves or in part.
fn statements(node: &Node) -> impl Iterator<Item = (&str, &Node)> {
    node.children().filter(|(_, below)| below.has_effect())
}

fn mirrors(word: &str) -> bool {
    word.contains("mirror") || word.contains("analyzer")
}

/// The actions of every filter and term, with the filter's name.
fn actions(firewall: &Node) -> Vec<(&str, &Node)> {
    let families = firewall.child("family").into_iter().flat_map(Node::children).map(|(_, family)| family);
    let places = std::iter::once(firewall).chain(families);
    let filters = places.flat_map(|place| FILTERS.iter().filter_map(|kind| place.child(kind))).flat_map(Node::children);
    let mut found = Vec::new();
    for (name, filter) in filters {
        let terms = filter.child("term").into_iter().flat_map(Node::children).map(|(_, term)| term);
        let with_actions = std::iter::once(filter).chain(terms).filter_map(|term| term.child("then"));
        found.extend(with_actions.map(|then| (name, then)));
    }
    found
}
