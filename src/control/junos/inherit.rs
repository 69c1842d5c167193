//! What one statement takes over from another: all that it does not say itself.
//!
//! A tree of words does not tell a list from a value, so which statements have one value, and which of several exclude each
//! other, is said here for those that are read.

use super::tree::Node;

/// How many statements may be taken over in all: wildcards in wildcards multiply, and a bound keeps hostile ones off the
/// memory.
pub(super) const MAX_INHERITED: usize = 500_000;

/// The statement that keeps a group away, and the one that applies it.
pub(super) const EXCEPT: &str = "apply-groups-except";
pub(super) const APPLY: &str = "apply-groups";

/// Takes over statements, up to a bound.
#[derive(Debug)]
pub(super) struct Inheritance {
    left: usize,
}

impl Default for Inheritance {
    fn default() -> Self {
        Self { left: MAX_INHERITED }
    }
}

impl Inheritance {
    /// Whether the bound was met, and something is missing.
    pub(super) fn is_exhausted(&self) -> bool {
        self.left == 0
    }

    /// Adds to `node` what is below `from` and not there. `own` is what was written of the node itself: a wildcard stands
    /// for the names in that alone, and `apply-groups-except` there keeps `group` away.
    pub(super) fn inherit(
        &mut self,
        node: &mut Node,
        own: Option<&Node>,
        from: &Node,
        group: &str,
        path: &mut Vec<String>,
    ) {
        let kept_away = own.and_then(|own| own.at_path(&[EXCEPT, group])).is_some();
        if kept_away || is_single(path) && node.children().next().is_some() {
            return;
        }
        let rivals = rivals(path);
        let taken = rivals.iter().any(|word| node.child(word).is_some());
        for (word, below) in from.children() {
            if let Some(pattern) = wildcard(word) {
                for (name, own) in own.into_iter().flat_map(Node::children) {
                    if is_name(path, name) && matches(pattern, name) {
                        self.one(node, name, Some(own), below, group, path);
                    }
                }
            } else if is_application(word, below) || taken && rivals.contains(&word) {
                // What is in a group was expanded there.
            } else {
                self.one(node, word, own.and_then(|own| own.child(word)), below, group, path);
            }
        }
    }

    fn one(
        &mut self,
        node: &mut Node,
        word: &str,
        own: Option<&Node>,
        from: &Node,
        group: &str,
        path: &mut Vec<String>,
    ) {
        self.left = self.left.saturating_sub(1);
        if self.is_exhausted() {
            return;
        }
        if node.child(word).is_none() {
            node.remove(word);
            node.put(word, from.bare());
        }
        let Some(node) = node.existing(word) else { return };
        path.push(word.to_owned());
        self.inherit(node, own, from, group, path);
        path.pop();
    }
}

/// Whether the statement applies groups or keeps them away, and is no name that happens to be spelt so.
pub(super) fn is_application(word: &str, node: &Node) -> bool {
    matches!(word, APPLY | EXCEPT) && !node.is_leaf()
}

/// Whether a statement has one value: what is below it is not a list.
fn is_single(path: &[String]) -> bool {
    let [first, .., parent, last] = path else { return false };
    match (first.as_str(), parent.as_str(), last.as_str()) {
        ("forwarding-options" | "ethernet-switching-options", "output", "interface" | "vlan") => true,
        ("forwarding-options" | "ethernet-switching-options", _, last) => {
            matches!(last, "rate" | "ratio" | "run-length" | "maximum-packet-length")
        }
        ("interfaces", "filter", "input" | "output") | ("interfaces" | "vlans", _, "vlan-id" | "native-vlan-id") => {
            true
        }
        ("firewall", "from", "tcp-flags" | "fragment-flags") => true,
        _ => false,
    }
}

/// The statements below a path of which there is one at most.
fn rivals(path: &[String]) -> &'static [&'static str] {
    let [first, .., last] = path else { return &[] };
    match (first.as_str(), last.as_str()) {
        ("firewall", "then") => &["accept", "discard", "reject", "next"],
        ("forwarding-options" | "ethernet-switching-options", "output") => {
            &["interface", "vlan", "ip-address", "next-hop-group", "routing-instance"]
        }
        _ => &[],
    }
}

/// Whether what is written below a path is a name, which a wildcard may stand for, and no statement.
fn is_name(path: &[String], word: &str) -> bool {
    let is_statement = word == "interface-range" && path == ["interfaces"];
    !is_statement && !matches!(word, APPLY | EXCEPT)
}

/// The pattern of a wildcard `<…>`.
pub(super) fn wildcard(word: &str) -> Option<&str> {
    word.strip_prefix('<')?.strip_suffix('>')
}

/// Whether a name is as a shell pattern says: `*`, `?`, `[a-f]`, `[!0-3]`.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where the last asterisk is, and what it stands for so far.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match step(&pattern[p..], name[n]) {
            Step::Star => {
                star = Some((p, n));
                p += 1;
            }
            Step::Goes(len) => {
                p += len;
                n += 1;
            }
            Step::Fails => match star {
                None => return false,
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    (p, n) = (at + 1, taken + 1);
                }
            },
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

enum Step {
    Star,
    /// The character is as so much of the pattern says.
    Goes(usize),
    Fails,
}

fn step(pattern: &[char], c: char) -> Step {
    match *pattern {
        [] => Step::Fails,
        ['*', ..] => Step::Star,
        ['?', ..] => Step::Goes(1),
        ['[', ref class @ ..] => match class_len(class) {
            // Without an end it is a bracket.
            None if c == '[' => Step::Goes(1),
            None => Step::Fails,
            Some(len) => {
                let (negated, class) = match class[..len] {
                    ['!', ref class @ ..] => (true, class),
                    ref class => (false, class),
                };
                if in_class(class, c) == negated { Step::Fails } else { Step::Goes(len + 2) }
            }
        },
        [first, ..] => {
            if first == c {
                Step::Goes(1)
            } else {
                Step::Fails
            }
        }
    }
}

/// How many characters are between the brackets; a `]` that is the first of them is one of them.
fn class_len(class: &[char]) -> Option<usize> {
    let first = if class.first() == Some(&'!') { 2 } else { 1 };
    class.iter().skip(first).position(|&c| c == ']').map(|at| at + first)
}

fn in_class(class: &[char], c: char) -> bool {
    let mut at = 0;
    while at < class.len() {
        if let [low, '-', high, ..] = class[at..] {
            if (low..=high).contains(&c) {
                return true;
            }
            at += 3;
        } else {
            if class[at] == c {
                return true;
            }
            at += 1;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_a_shell_s() {
        for (pattern, fine, not) in [
            ("*", &["", "a", "ge-0/0/0"][..], &[][..]),
            ("ge-*", &["ge-", "ge-0/0/0"], &["xe-0/0/0", "age-1", "ge"]),
            ("*a*", &["a", "bab", "aaa"], &["", "bcb"]),
            ("ge-0/0/?", &["ge-0/0/7"], &["ge-0/0/", "ge-0/0/12"]),
            ("ge-0/0/[0-35]", &["ge-0/0/0", "ge-0/0/3", "ge-0/0/5"], &["ge-0/0/4", "ge-0/0/-"]),
            ("[!a-c]x", &["dx"], &["ax", "x", "!"]),
            ("[]a]", &["]", "a"], &["b", "[]a]"]),
            ("[a-]", &["a", "-"], &["b"]),
            ("a[b", &["a[b"], &["ab"]),
            ("*[0-9].*", &["ge-0/0/1.0", "1.."], &["ge-0/0/1", "x.0"]),
        ] {
            fine.iter().for_each(|name| assert!(matches(pattern, name), "{pattern} {name}"));
            not.iter().for_each(|name| assert!(!matches(pattern, name), "{pattern} {name}"));
        }
    }
}
