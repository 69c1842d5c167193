//! The tree as text in either syntax.

use super::lexer::is_punctuation;
use super::parse::is_terminal_word;
use super::tree::Node;

/// Words that mean something by themselves where they stand without quotes: the tags, what begins a text in `set`
/// syntax, and a command.
const KEYWORDS: [&str; 16] = [
    "inactive:",
    "protect:",
    "replace:",
    "delete:",
    "set",
    "deactivate",
    "activate",
    "delete",
    "rename",
    "copy",
    "insert",
    "annotate",
    "protect",
    "unprotect",
    "wildcard",
    "show",
];

impl Node {
    /// The configuration below this node with braces; [`parse`](super::parse) reads it back to an equal tree.
    #[must_use]
    pub fn to_braces(&self) -> String {
        let mut text = String::new();
        block(self, 0, &mut text);
        text
    }

    /// The configuration below this node as `set` and `deactivate` lines; [`parse`](super::parse) reads it back to
    /// an equal tree.
    #[must_use]
    pub fn to_set(&self) -> String {
        let mut text = String::new();
        let mut path = Vec::new();
        lines(self, &mut path, &mut text, &|node| node.is_leaf().then_some("set"));
        lines(self, &mut path, &mut text, &|node| node.is_inactive().then_some("deactivate"));
        text
    }
}

fn block(node: &Node, depth: usize, text: &mut String) {
    for (word, mut child) in node.all() {
        let mut head = written(word);
        // A tag counts for the last word before the brace or the semicolon, so a deactivated word ends the line.
        while !child.is_inactive()
            && child.all().len() == 1
            && let Some((word, only)) = child.all().next()
        {
            head.push(' ');
            head += &written(word);
            child = only;
        }
        let indent = "    ".repeat(depth);
        let tag = if child.is_inactive() { "inactive: " } else { "" };
        if child.is_leaf() {
            *text += &format!("{indent}{tag}{head};\n");
        } else {
            *text += &format!("{indent}{tag}{head} {{\n");
            block(child, depth + 1, text);
            *text += &format!("{indent}}}\n");
        }
    }
}

/// A line for each node that `command` has one for, in the order of writing.
fn lines(node: &Node, path: &mut Vec<String>, text: &mut String, command: &dyn Fn(&Node) -> Option<&'static str>) {
    for (word, child) in node.all() {
        path.push(written(word));
        if let Some(command) = command(child) {
            *text += &format!("{command} {}\n", path.join(" "));
        }
        lines(child, path, text, command);
        path.pop();
    }
}

/// The word as it has to be written to be read as that word.
fn written(word: &str) -> String {
    let plain = !word.is_empty()
        && !word.contains(is_punctuation)
        && !word.starts_with('#')
        && !word.starts_with("/*")
        && !is_terminal_word(word)
        && !KEYWORDS.contains(&word);
    if plain {
        return word.to_owned();
    }
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}
