//! Tokens to the tree, from either syntax.

use super::lexer::{Kind, Lexer, Token, wrong};
use super::tree::Node;
use crate::control::model::{Position, Reason, quoted};

/// The most words on one path. Real configurations have some twenty; a bound keeps hostile ones off the stack.
const MAX_DEPTH: usize = 128;

/// The commands of `set` syntax.
const COMMANDS: [&str; 3] = ["set", "deactivate", "activate"];
/// Commands and tags that change or remove what stands elsewhere; a configuration as shown has none.
const EDITS: [&str; 8] = ["delete", "rename", "copy", "insert", "annotate", "protect", "unprotect", "wildcard"];

/// Reads a configuration in either syntax. A text without any statement is an empty configuration.
///
/// # Errors
/// The first thing that is not Junos syntax: line and column in characters from 1, the text found there, what is
/// allowed.
pub fn parse(bytes: &[u8]) -> Result<Node, Reason> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => return Err(not_utf8(bytes, error.valid_up_to())),
    };
    let mut parser = Parser { lexer: Lexer::new(text) };
    let mut root = Node::default();
    if parser.is_set_syntax()? {
        parser.lines(&mut root)?;
    } else {
        parser.block(&mut root, 0, None)?;
    }
    Ok(root)
}

fn not_utf8(bytes: &[u8], valid: usize) -> Reason {
    let before = String::from_utf8_lossy(bytes.get(..valid).unwrap_or_default());
    let last = before.rsplit('\n').next().unwrap_or_default();
    let number = |n: usize| u32::try_from(n + 1).unwrap_or(u32::MAX);
    let at = Position { line: number(before.matches('\n').count()), column: number(last.chars().count()) };
    let byte = bytes.get(valid).copied().unwrap_or_default();
    wrong(at, &format!("the byte 0x{byte:02x} is not UTF-8 (allowed: UTF-8 text)"))
}

struct Parser<'a> {
    lexer: Lexer<'a>,
}

impl<'a> Parser<'a> {
    /// Whether the first word is a command.
    fn is_set_syntax(&self) -> Result<bool, Reason> {
        let mut ahead = Parser { lexer: self.lexer.clone() };
        let first = ahead.token()?.map(|token| token.kind);
        Ok(
            matches!(first, Some(Kind::Word { text, bare: true }) if COMMANDS.contains(&&*text) || EDITS.contains(&&*text)),
        )
    }

    /// The next token that is not the end of a line.
    fn token(&mut self) -> Result<Option<Token<'a>>, Reason> {
        loop {
            match self.lexer.next()? {
                Some(Token { kind: Kind::Newline, .. }) => {}
                token => return Ok(token),
            }
        }
    }

    /// Statements up to the end of the block that was opened at `opened`, or of the text.
    fn block(&mut self, node: &mut Node, depth: usize, opened: Option<Position>) -> Result<(), Reason> {
        loop {
            let at = self.lexer.position();
            match (self.token()?, opened) {
                (None, None) => return Ok(()),
                (None, Some(opened)) => {
                    let what =
                        format!("the text ends inside the block that \"{{\" opened at {opened} (allowed: \"}}\")");
                    return Err(wrong(at, &what));
                }
                (Some(Token { kind: Kind::Close, .. }), Some(_)) => return Ok(()),
                (Some(Token { kind: Kind::Close, at, .. }), None) => {
                    return Err(wrong(at, "\"}\" closes no block (allowed: a statement, or the end of the text)"));
                }
                (Some(token @ Token { kind: Kind::Word { .. }, .. }), _) => self.statement(node, token, depth)?,
                (Some(token), _) => return Err(expected(&token, "a statement")),
            }
        }
    }

    /// One statement, from its first word to `;` or the end of its block. Its words stand on one line.
    fn statement(&mut self, node: &mut Node, mut token: Token<'a>, depth: usize) -> Result<(), Reason> {
        let mut inactive = false;
        while let Kind::Word { text, bare: true } = &token.kind {
            match &**text {
                "inactive:" => inactive = true,
                "protect:" => {}
                "replace:" | "delete:" => return Err(expected(&token, "inactive:, or a statement as it is to be")),
                _ => break,
            }
            token = self.token()?.ok_or_else(|| self.ended("a statement after the tag"))?;
        }
        if !matches!(token.kind, Kind::Word { .. }) {
            return Err(expected(&token, "a statement"));
        }
        let mut here = node;
        let mut depth = depth;
        // Where the last word ended.
        let mut line = token.at.line;
        loop {
            match &token.kind {
                // A statement that forgot its end would swallow the next one, and what that says.
                Kind::Word { .. } if token.at.line > line => {
                    return Err(expected(&token, &format!("\";\" or \"{{\" at the end of line {line}")));
                }
                Kind::Word { text, .. } => {
                    depth = deeper(depth, &token)?;
                    here = here.enter(text, token.at);
                    line = self.lexer.position().line;
                }
                Kind::OpenList => {
                    self.list(here, depth, inactive)?;
                    let end = self.token()?.ok_or_else(|| self.ended("\";\""))?;
                    return if end.kind == Kind::End { Ok(()) } else { Err(expected(&end, "\";\" after a list")) };
                }
                Kind::Open => {
                    here.set_inactive(here.is_inactive() || inactive);
                    return self.block(here, depth, Some(token.at));
                }
                Kind::End => {
                    here.set_inactive(here.is_inactive() || inactive);
                    return Ok(());
                }
                _ => return Err(expected(&token, "\";\", \"{\", or another word")),
            }
            token = self.token()?.ok_or_else(|| self.ended("\";\" or \"{\""))?;
        }
    }

    /// The words of a list, after its `[`, each below `node`.
    fn list(&mut self, node: &mut Node, depth: usize, inactive: bool) -> Result<(), Reason> {
        let mut empty = true;
        loop {
            let token = self.lexer.next()?.ok_or_else(|| self.ended("\"]\""))?;
            match &token.kind {
                Kind::Word { text, .. } => {
                    deeper(depth, &token)?;
                    let member = node.enter(text, token.at);
                    member.set_inactive(member.is_inactive() || inactive);
                    empty = false;
                }
                Kind::Newline => {}
                Kind::CloseList if !empty => return Ok(()),
                Kind::CloseList => return Err(expected(&token, "a list with something in it")),
                _ => return Err(expected(&token, "a word, or \"]\"")),
            }
        }
    }

    /// The lines of `set` syntax.
    fn lines(&mut self, root: &mut Node) -> Result<(), Reason> {
        while let Some(token) = self.token()? {
            match &token.kind {
                Kind::Word { text, bare: true } if text == "set" => self.set(root)?,
                Kind::Word { text, bare: true } if COMMANDS.contains(&&**text) => {
                    let inactive = text == "deactivate";
                    self.existing(root, &token)?.set_inactive(inactive);
                }
                _ => return Err(expected(&token, &format!("a line that begins with {}", COMMANDS.join(", ")))),
            }
        }
        Ok(())
    }

    /// The path of a `set` line.
    fn set(&mut self, root: &mut Node) -> Result<(), Reason> {
        let mut here = root;
        let mut depth = 0;
        loop {
            let at = self.lexer.position();
            match self.lexer.next()? {
                None | Some(Token { kind: Kind::Newline, .. }) if depth == 0 => {
                    return Err(wrong(at, "the line ends after the command (allowed: a path)"));
                }
                None | Some(Token { kind: Kind::Newline, .. }) => return Ok(()),
                Some(token) => match &token.kind {
                    Kind::Word { text, .. } => {
                        depth = deeper(depth, &token)?;
                        here = here.enter(text, token.at);
                    }
                    Kind::OpenList if depth > 0 => {
                        self.list(here, depth, false)?;
                        return match self.lexer.next()? {
                            None | Some(Token { kind: Kind::Newline, .. }) => Ok(()),
                            Some(token) => Err(expected(&token, "the end of the line after a list")),
                        };
                    }
                    _ => return Err(expected(&token, "a word, or the end of the line")),
                },
            }
        }
    }

    /// What the path of a `deactivate` or `activate` line stands for.
    fn existing<'n>(&mut self, root: &'n mut Node, command: &Token<'_>) -> Result<&'n mut Node, Reason> {
        let mut here = root;
        let mut empty = true;
        loop {
            let token = match self.lexer.next()? {
                None | Some(Token { kind: Kind::Newline, .. }) if empty => {
                    return Err(expected(command, "the command with a path"));
                }
                None | Some(Token { kind: Kind::Newline, .. }) => return Ok(here),
                Some(token) => token,
            };
            let Kind::Word { text, .. } = &token.kind else {
                return Err(expected(&token, "a word, or the end of the line"));
            };
            empty = false;
            here = here
                .existing(text)
                .ok_or_else(|| expected(&token, &format!("a statement set before, to {}", command.source)))?;
        }
    }

    fn ended(&self, allowed: &str) -> Reason {
        wrong(self.lexer.position(), &format!("the text ends inside a statement (allowed: {allowed})"))
    }
}

fn deeper(depth: usize, token: &Token<'_>) -> Result<usize, Reason> {
    if depth < MAX_DEPTH {
        return Ok(depth + 1);
    }
    Err(wrong(token.at, &format!("{} is word {} of its path (allowed: {MAX_DEPTH})", quoted(token.source), depth + 1)))
}

fn expected(token: &Token<'_>, allowed: &str) -> Reason {
    wrong(token.at, &format!("unexpected {} (allowed: {allowed})", token.shown()))
}
