//! Warnings of one kind are told once: the first of them, and how many more there are.
//!
//! ```text
//! mirror_configs[0]: ingress on no wire: ifindex 11 …       as it is
//! …                                                         up to EXAMPLES of the kind
//! mirror_configs: and 65528 more like these                 in the place of the others
//! ```
//!
//! Of one kind are those that differ only in numbers and in quoted text. So what a snapshot is published with, and what
//! is told of it, does not grow with its table. Linear in what there is to tell.
//!
//! Where it is the numbers and names that matter, as with entries that are left out, each is told, up to [`MOST`] of
//! them ([`bounded`]).

use std::collections::HashMap;

use super::diagnostic::{Diagnostic, Severity};

/// Told of each kind.
const EXAMPLES: usize = 8;
/// Told in all, whatever the kinds: a producer's own words may all differ.
pub(super) const MOST: usize = 2000;

/// How often there was one of a kind, and where those beyond the examples are told.
#[derive(Default)]
struct Kind {
    count: usize,
    rest: usize,
}

/// The same, in the same order, with those that are too many told as a number.
pub(super) fn condense(all: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut kinds: HashMap<(Severity, String), Kind> = HashMap::new();
    let mut told = Vec::new();
    for diagnostic in all {
        let kind = kinds.entry((diagnostic.severity, kind_of(&diagnostic))).or_default();
        kind.count += 1;
        // One more than the examples takes no more room than its number.
        if kind.count <= EXAMPLES + 1 {
            kind.rest = told.len();
            told.push(diagnostic);
        }
    }
    for kind in kinds.values().filter(|kind| kind.count > EXAMPLES + 1) {
        let Diagnostic { severity, subject, .. } = &told[kind.rest];
        let subject = list_of(subject).to_owned();
        told[kind.rest] = more(*severity, subject, &format!("{} more like these", kind.count - EXAMPLES));
    }
    bounded(told)
}

/// The first [`MOST`], and how many there are in all where there are more.
pub(super) fn bounded(mut all: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let total = all.len();
    if total > MOST {
        all.truncate(MOST);
        all.push(more(Severity::Warning, "diagnostics".to_owned(), &format!("more, {total} in all")));
    }
    all
}

fn more(severity: Severity, subject: String, what: &str) -> Diagnostic {
    Diagnostic { severity, subject, message: format!("and {what}") }
}

/// What all subjects of a kind begin with, `mirror_configs` of `mirror_configs[3]`; the subject itself where that is
/// nothing.
fn list_of(subject: &str) -> &str {
    let own = |c: char| c.is_ascii_digit() || matches!(c, '[' | '(' | '"');
    let list = subject.split(own).next().unwrap_or_default().trim_end();
    if list.is_empty() { subject } else { list }
}

/// What is the same of all of one kind.
fn kind_of(Diagnostic { subject, message, .. }: &Diagnostic) -> String {
    let mut kind = String::with_capacity(subject.len() + message.len() + 1);
    for text in [subject, "\n", message] {
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '0'..='9' => {
                    kind.push('0');
                    while chars.next_if(char::is_ascii_digit).is_some() {}
                }
                '"' => {
                    kind.push('"');
                    while let Some(inside) = chars.next().filter(|inside| *inside != '"') {
                        if inside == '\\' {
                            chars.next();
                        }
                    }
                }
                other => kind.push(other),
            }
        }
    }
    kind
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warning(subject: impl Into<String>, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, subject: subject.into(), message: message.into() }
    }

    fn condensed(all: &[Diagnostic]) -> Vec<String> {
        condense(all.to_vec()).iter().map(ToString::to_string).collect()
    }

    fn of(n: usize) -> Vec<Diagnostic> {
        let one = |i| {
            warning(format!("mirror_configs[{i}] (instance \"x\\\"{i}\")"), format!("ifindex {i} (\"ge-{i}\") is gone"))
        };
        (0..n).map(one).collect()
    }

    #[test]
    fn a_few_are_told_as_they_are() {
        for n in [0, 1, EXAMPLES, EXAMPLES + 1] {
            assert_eq!(condense(of(n)), of(n), "{n}");
        }
    }

    #[test]
    fn many_are_told_by_examples_and_a_number() {
        let mut all = of(65_536);
        all.insert(3, warning("wires", "there are none"));
        all.push(Diagnostic { severity: Severity::Note, ..all[0].clone() });
        let told = condensed(&all);
        assert_eq!(told.len(), EXAMPLES + 3, "{told:#?}");
        let as_it_is: Vec<String> = all[..=EXAMPLES].iter().map(ToString::to_string).collect();
        assert_eq!(told[..=EXAMPLES], as_it_is);
        assert_eq!(told[EXAMPLES + 1], "warning: mirror_configs: and 65528 more like these");
        assert_eq!(told[EXAMPLES + 2], all[all.len() - 1].to_string(), "another severity is another kind");
    }

    #[test]
    fn what_differs_in_words_is_of_several_kinds() {
        let kinds = ["a 1", "b 1", "b", "\"b\"", "\"b\\\"c\" 1", "\"b\" 1 x", "\"never ended"];
        let all: Vec<Diagnostic> = kinds.iter().flat_map(|text| vec![warning("s", *text); EXAMPLES + 2]).collect();
        let told = condensed(&all);
        let numbers = told.iter().filter(|line| line.ends_with(": and 2 more like these")).count();
        assert_eq!(numbers, kinds.len() - 2, "the fourth and the last are of one kind: {told:#?}");
        assert!(told.contains(&format!("warning: s: and {} more like these", EXAMPLES + 4)), "{told:#?}");
    }

    #[test]
    fn subjects_of_all_shapes_have_a_list() {
        for (subject, list) in [
            ("mirror_configs[3]", "mirror_configs"),
            ("wires[1] \"w\"", "wires"),
            ("output ifindex 22 (\"mon\")", "output ifindex"),
            ("instance \"x\" (line 3 column 5)", "instance"),
            ("port-mirroring", "port-mirroring"),
            ("7", "7"),
            ("", ""),
        ] {
            assert_eq!(list_of(subject), list);
        }
    }

    #[test]
    fn words_without_end_have_an_end() {
        let word = |i: usize| (0..16).map(|bit| if i >> bit & 1 == 0 { 'a' } else { 'b' }).collect::<String>();
        let told = condensed(&(0..MOST + 7).map(|i| warning("exclusions", word(i))).collect::<Vec<_>>());
        assert_eq!(told.len(), MOST + 1);
        assert_eq!(told[MOST], format!("warning: diagnostics: and more, {} in all", MOST + 7));
    }
}
