//! Junos configuration text to a tree and back.
//!
//! ```text
//! bytes ── lexer ──> tokens ── parse ──> Node     or the one Reason why it is not a configuration
//!                                Node ── print ──> text that parses to an equal Node
//!                                Node ── expand ─> Node with its groups and interface ranges in their places
//! ```
//!
//! Both ways to write a configuration give the same tree: `a { b c; }` and `set a b c` are the path a, b, c. Which
//! words belong to one statement, say `instance NAME`, only a schema knows, so every word is a level of its own
//! and the [builder](super::builder) finds its way by the words it knows.
//!
//! - Statements that say the same path are one; a list `x [ a b ]` is the statements `x a` and `x b`.
//! - `#` and `/* */` comments may stand wherever a word may begin. Words with spaces or punctuation in them are
//!   quoted, `\"`, `\\` and `\n` are understood in quotes.
//! - `inactive:` before a statement, or `deactivate` of its path, keeps it in the tree and out of
//!   [`Node::children`].
//! - A block without statements that ends in `;` is what a device writes for what it does not show:
//!   `login { /* OMITTED */ };`.
//! - In `set` syntax, which the first word of the text decides, each line is `set`, `deactivate` or `activate` and
//!   a path.

mod expand;
mod groups;
mod inherit;
mod lexer;
mod parse;
mod print;
mod ranges;
mod tree;

pub use expand::{Expanded, expand};
pub(in crate::control) use parse::is_terminal;
pub use parse::parse;
pub use tree::Node;
