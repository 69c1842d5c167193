//! The configuration as a tree of words.

use indexmap::IndexMap;

use crate::control::model::Position;

/// One word of a configuration and what is written below it, in the order of writing.
///
/// Two nodes are equal if they say the same in the same order, wherever it was written.
#[derive(Clone, Debug, Default)]
pub struct Node {
    children: IndexMap<String, Node>,
    inactive: bool,
    at: Position,
    withheld: bool,
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.inactive == other.inactive && self.children.iter().eq(other.children.iter())
    }
}

impl Eq for Node {}

impl Node {
    /// The words below that are in force, with what is below them.
    pub fn children(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.all().filter(|(_, node)| !node.inactive)
    }

    /// The word `word` below, if it is in force.
    #[must_use]
    pub fn child(&self, word: &str) -> Option<&Node> {
        self.children.get(word).filter(|node| !node.inactive)
    }

    /// What is below these words, each below the one before, if all are in force.
    #[must_use]
    pub fn at_path(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, word| node.child(word))
    }

    /// Where the word was first written; meaningless for the root.
    #[must_use]
    pub fn position(&self) -> Position {
        self.at
    }

    /// Whether it is deactivated, and so without effect together with all below it.
    #[must_use]
    pub fn is_inactive(&self) -> bool {
        self.inactive
    }

    /// Whether it, or anything below it, is in force.
    pub(in crate::control) fn has_effect(&self) -> bool {
        self.is_leaf() || self.children().any(|(_, below)| below.has_effect())
    }

    /// Whether what is below was kept from who got the text: `login { /* OMITTED */ };`. No part of what it says.
    #[must_use]
    pub fn is_withheld(&self) -> bool {
        self.withheld
    }

    /// Whether nothing is written below, deactivated or not.
    #[must_use]
    pub fn is_leaf(&self) -> bool {
        self.children.is_empty()
    }

    /// All words below, deactivated ones too.
    pub(super) fn all(&self) -> impl ExactSizeIterator<Item = (&str, &Node)> {
        self.children.iter().map(|(word, node)| (word.as_str(), node))
    }

    /// The word `word` below, made where it is new.
    pub(super) fn enter(&mut self, word: &str, at: Position) -> &mut Node {
        let index = match self.children.get_index_of(word) {
            Some(index) => index,
            None => self.children.insert_full(word.to_owned(), Node { at, ..Node::default() }).0,
        };
        &mut self.children[index]
    }

    /// A node in its place with nothing below.
    pub(super) fn bare(&self) -> Node {
        Node { at: self.at, withheld: self.withheld, ..Node::default() }
    }

    /// Puts `node` below as `word`, after what is there.
    pub(super) fn put(&mut self, word: &str, node: Node) {
        self.children.insert(word.to_owned(), node);
    }

    /// Takes the word `word` away with all below it.
    pub(super) fn remove(&mut self, word: &str) {
        self.children.shift_remove(word);
    }

    /// Puts in place of each word below the words that `instead` has for it, if any.
    pub(super) fn replace(&mut self, instead: impl Fn(&str) -> Option<Vec<String>>) {
        let mut children = IndexMap::with_capacity(self.children.len());
        for (word, node) in std::mem::take(&mut self.children) {
            let words = instead(&word).unwrap_or_else(|| vec![word]);
            for word in words {
                children.entry(word).or_insert_with(|| node.clone());
            }
        }
        self.children = children;
    }

    /// All words below, to be changed.
    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = (&str, &mut Node)> {
        self.children.iter_mut().map(|(word, node)| (word.as_str(), node))
    }

    /// The word `word` below, deactivated or not.
    pub(super) fn existing(&mut self, word: &str) -> Option<&mut Node> {
        self.children.get_mut(word)
    }

    pub(super) fn set_withheld(&mut self) {
        self.withheld = true;
    }

    pub(super) fn set_inactive(&mut self, inactive: bool) {
        self.inactive = inactive;
    }
}
