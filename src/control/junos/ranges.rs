//! `interface-range`: one name for several interfaces, and what they have in common.
//!
//! ```text
//! interfaces { interface-range R { member ge-0/0/1; member "ge-0/0/[3-5]"; member-range ge-0/0/7 to ge-0/0/9; … } }
//! ```
//! Each member takes over what the range says and it does not say itself, of several ranges from the first; and where
//! interfaces are listed, R and R.UNIT stand for its members and these units of theirs.

use std::collections::HashMap;

use super::inherit::Inheritance;
use super::tree::Node;
use crate::control::diagnostic::{Diagnostic, Severity};
use crate::control::quote::quoted;

/// The ports of a `*` in the name of a member.
const PORTS: std::ops::RangeInclusive<u32> = 0..=47;

/// The most members of a range. Devices have some hundred ports.
const MAX_MEMBERS: usize = 4096;

/// The hierarchies in which interfaces are listed that are read.
const LISTS: [&str; 3] = ["forwarding-options", "ethernet-switching-options", "security"];

/// Puts the members of the ranges in their places, with warnings of what is no member.
pub(super) fn expand(config: &mut Node, said: &mut Vec<Diagnostic>) {
    let Some(ranges) = config.at_path(&["interfaces", "interface-range"]).cloned() else { return };
    let Some(interfaces) = config.existing("interfaces") else { return };
    interfaces.remove("interface-range");
    let mut inheritance = Inheritance::default();
    let mut members: HashMap<&str, Vec<String>> = HashMap::new();
    for (name, range) in ranges.children() {
        let of_range = members_of(name, range, said);
        let mut common = range.clone();
        ["member", "member-range", "description"].iter().for_each(|word| common.remove(word));
        for member in of_range.iter().filter(|_| !common.is_leaf()) {
            let mut path = vec!["interfaces".to_owned(), member.clone()];
            inheritance.inherit(interfaces.enter(member, range.position()), None, &common, name, &mut path);
        }
        members.insert(name, of_range);
    }
    if inheritance.is_exhausted() {
        said.push(warned(&ranges, "interface-range", "gives more statements than are read".to_owned()));
    }
    let instead = |word: &str| match members.get(word) {
        Some(names) => Some(names.clone()),
        None => {
            let (range, unit) = word.rsplit_once('.')?;
            Some(members.get(range)?.iter().map(|name| format!("{name}.{unit}")).collect())
        }
    };
    for hierarchy in LISTS {
        if let Some(node) = config.existing(hierarchy) {
            replace(node, &instead);
        }
    }
}

/// Puts members in place of ranges wherever interfaces are listed.
fn replace(node: &mut Node, instead: &dyn Fn(&str) -> Option<Vec<String>>) {
    for (word, below) in node.all_mut() {
        if word == "interface" {
            below.replace(instead);
        } else {
            replace(below, instead);
        }
    }
}

fn members_of(name: &str, range: &Node, said: &mut Vec<Diagnostic>) -> Vec<String> {
    let mut members: Vec<String> = Vec::new();
    for (word, at) in range.child("member").into_iter().flat_map(Node::children) {
        match spelt_out(word) {
            Some(names) => members.extend(names),
            None => said.push(warned(at, name, format!("member {} is not understood and left out", quoted(word)))),
        }
    }
    for (first, node) in range.child("member-range").into_iter().flat_map(Node::children) {
        for (last, at) in node.child("to").into_iter().flat_map(Node::children) {
            match between(first, last) {
                Some(names) => members.extend(names),
                None => {
                    let (first, last) = (quoted(first), quoted(last));
                    let what = format!(
                        "member-range {first} to {last} is left out (allowed: the ports of one PIC, as in ge-0/0/4 to ge-0/0/7)"
                    );
                    said.push(warned(at, name, what));
                }
            }
        }
    }
    let mut seen = std::collections::HashSet::new();
    members.retain(|member| seen.insert(member.clone()));
    if members.len() > MAX_MEMBERS {
        said.push(warned(
            range,
            name,
            format!("has more than {MAX_MEMBERS} members, of which the others are left out"),
        ));
        members.truncate(MAX_MEMBERS);
    }
    members
}

fn warned(at: &Node, range: &str, what: String) -> Diagnostic {
    let subject = format!("interface-range {} ({})", quoted(range), at.position());
    Diagnostic { severity: Severity::Warning, subject, message: what }
}

/// The names that `ge-0/0/[1-3,5]` and `ge-0/0/*` stand for.
fn spelt_out(pattern: &str) -> Option<Vec<String>> {
    let mut names = vec![String::new()];
    let mut rest = pattern;
    while let Some(at) = rest.find(['[', '*', '?', ']']) {
        let (before, special) = rest.split_at(at);
        let (numbers, after): (Vec<u32>, &str) = match special.strip_prefix('[') {
            Some(class) => {
                let (class, after) = class.split_once(']')?;
                (numbers(class)?, after)
            }
            None => (PORTS.collect(), special.strip_prefix('*')?),
        };
        if names.len() * numbers.len() > MAX_MEMBERS {
            return None;
        }
        let with = |name: &String| -> Vec<String> { numbers.iter().map(|n| format!("{name}{before}{n}")).collect() };
        names = names.iter().flat_map(with).collect();
        rest = after;
    }
    Some(names.into_iter().map(|name| name + rest).collect())
}

/// `1-3,5`: 1, 2, 3 and 5.
fn numbers(class: &str) -> Option<Vec<u32>> {
    let mut numbers = Vec::new();
    for part in class.split(',') {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let (low, high) = (number(low)?, number(high)?);
        if low > high || numbers.len() + (high - low) as usize >= MAX_MEMBERS {
            return None;
        }
        numbers.extend(low..=high);
    }
    Some(numbers)
}

fn between(first: &str, last: &str) -> Option<Vec<String>> {
    let ((pic, low), (other, high)) = (first.rsplit_once('/')?, last.rsplit_once('/')?);
    let (low, high) = (number(low)?, number(high)?);
    let fits = pic == other && low <= high && ((high - low) as usize) < MAX_MEMBERS;
    fits.then(|| (low..=high).map(|port| format!("{pic}/{port}")).collect())
}

fn number(text: &str) -> Option<u32> {
    let digits = text.trim();
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_spelt_out() {
        let list = |pattern| spelt_out(pattern).map(|names| names.join(" "));
        assert_eq!(list("ge-0/0/0").as_deref(), Some("ge-0/0/0"));
        assert_eq!(list("ge-0/0/[1-3,5]").as_deref(), Some("ge-0/0/1 ge-0/0/2 ge-0/0/3 ge-0/0/5"));
        assert_eq!(list("ge-[0,1]/0/[7-8]").as_deref(), Some("ge-0/0/7 ge-0/0/8 ge-1/0/7 ge-1/0/8"));
        assert_eq!(spelt_out("xe-0/0/*").map(|names| names.len()), Some(48));
        for bad in ["ge-0/0/[", "ge-0/0/[a]", "ge-0/0/[3-1]", "ge-0/0/?", "ge-*/*/*", "a]", "x[0-4294967295]"] {
            assert_eq!(list(bad), None, "{bad}");
        }
        assert_eq!(
            between("ge-0/0/4", "ge-0/0/6").map(|names| names.join(" ")).as_deref(),
            Some("ge-0/0/4 ge-0/0/5 ge-0/0/6")
        );
        for (first, last) in
            [("ge-0/0/4", "ge-0/1/6"), ("ge-0/0/4", "ge-0/0/3"), ("a", "b"), ("a/x", "a/9"), ("a/0", "a/4294967295")]
        {
            assert_eq!(between(first, last), None, "{first} {last}");
        }
    }
}
