//! Configuration groups, expanded as `display inheritance` does.
//!
//! `apply-groups G` at a level takes over what group G says of that level and below:
//!
//! - What is written there itself wins over groups, a group applied further down over one applied further up, and of a
//!   list of groups the first. In a group what is written first wins.
//! - A wildcard `<ge-*>` in a group stands for the names in the configuration itself that it matches; it makes none.
//! - What is taken over comes after what is written, in the order of the groups.
//! - `apply-groups-except G` keeps a group away from a level and below that was applied further up.
//! - Groups may apply groups.

use std::collections::HashMap;
use std::rc::Rc;

use super::inherit::{APPLY, Inheritance, MAX_INHERITED, is_application, matches, wildcard};
use super::tree::Node;
use crate::control::diagnostic::Reason;
use crate::control::naming::listed;
use crate::control::quote::quoted;

/// How far groups may apply groups. A bound keeps hostile ones off the stack.
const MAX_NESTED: usize = 32;

/// The configuration with its groups applied, and without them; what is wrong with them goes to `faults`. What is
/// deactivated stays so.
pub(super) fn applied(config: &Node, faults: &mut Vec<Reason>) -> Node {
    let written = config.child("groups").into_iter().flat_map(Node::children).collect();
    let mut groups = Groups { written, done: HashMap::new(), inheritance: Inheritance::default(), faults };
    let mut expanded = groups.expanded(config, &mut Vec::new(), &mut Vec::new());
    if groups.inheritance.is_exhausted() {
        groups.faults.push(Reason::new(format!(
            "groups: they give more than {MAX_INHERITED} statements (allowed: {MAX_INHERITED})"
        )));
    }
    expanded.remove("groups");
    expanded
}

struct Groups<'a, 'f> {
    written: HashMap<&'a str, &'a Node>,
    /// Those that are expanded themselves; `None` for one that is not to be used.
    done: HashMap<&'a str, Option<Rc<Node>>>,
    inheritance: Inheritance,
    faults: &'f mut Vec<Reason>,
}

impl<'a> Groups<'a, '_> {
    /// A node with all that it and what is below it apply; `within` are the groups that it is in.
    fn expanded(&mut self, own: &'a Node, path: &mut Vec<String>, within: &mut Vec<&'a str>) -> Node {
        let mut node = own.bare();
        for (word, below) in own.all() {
            let is_group = path.is_empty() && within.is_empty() && word == "groups";
            if is_group || is_application(word, below) {
                continue;
            }
            if below.is_inactive() {
                node.put(word, below.clone());
                continue;
            }
            path.push(word.to_owned());
            node.put(word, self.expanded(below, path, within));
            path.pop();
        }
        for (name, at) in own.child(APPLY).into_iter().flat_map(Node::children) {
            let Some(group) = self.group(name, at, within) else { continue };
            for from in below(&group, path) {
                self.inheritance.inherit(&mut node, Some(own), from, name, path);
            }
        }
        node
    }

    /// The group `name`, expanded itself, for the statement at `at`.
    fn group(&mut self, name: &'a str, at: &Node, within: &mut Vec<&'a str>) -> Option<Rc<Node>> {
        if let Some(done) = self.done.get(name) {
            return done.clone();
        }
        let refuse = |what: String| {
            let at = at.position();
            Some(Reason::new(format!("{at}: apply-groups {}: {what}", quoted(name))))
        };
        let fault = match self.written.get(name).copied() {
            None => {
                let mut names: Vec<&str> = self.written.keys().copied().collect();
                names.sort_unstable();
                let names = listed(names.into_iter());
                let names = if names.is_empty() { "none is here".to_owned() } else { names };
                refuse(format!(
                    "there is no such group (allowed: a group of this text: {names}; or the text as \"show configuration \
                     | display inheritance no-comments\" writes it)"
                ))
            }
            Some(_) if within.contains(&name) => {
                refuse("it is applied in itself (allowed: groups that do not apply one another in a circle)".to_owned())
            }
            Some(_) if within.len() >= MAX_NESTED => {
                refuse(format!("it is applied in {MAX_NESTED} groups, each in the one before (allowed: fewer)"))
            }
            Some(group) if group.child("when").is_some() => refuse(
                "its \"when\" says in which case it applies, and that is not known here (allowed: a group without)"
                    .to_owned(),
            ),
            Some(group) => {
                within.push(name);
                let expanded = Rc::new(self.expanded(group, &mut Vec::new(), within));
                within.pop();
                self.done.insert(name, Some(Rc::clone(&expanded)));
                return Some(expanded);
            }
        };
        self.faults.extend(fault);
        None
    }
}

/// What a group says of this path, in the order of writing.
fn below<'n>(group: &'n Node, path: &[String]) -> Vec<&'n Node> {
    path.iter().fold(vec![group], |nodes, name| {
        let says = |word: &str| word == name || wildcard(word).is_some_and(|pattern| matches(pattern, name));
        nodes.into_iter().flat_map(Node::children).filter(|(word, _)| says(word)).map(|(_, node)| node).collect()
    })
}
