//! Tokens to the tree, from either syntax.

use super::lexer::{Kind, Lexer, Token, wrong};
use super::tree::Node;
use crate::control::diagnostic::Reason;
use crate::control::model::Position;
use crate::control::quote::quoted;
use crate::control::text::unmarked;

/// The most words on one path. Real configurations have some twenty; a bound keeps hostile ones off the stack.
const MAX_DEPTH: usize = 128;

/// What a prompt of several routing engines or nodes says of this one: `{master:0}`, `{primary:node0}`.
const MEMBERS: [&str; 5] = ["master", "backup", "primary", "secondary", "linecard"];

/// What a pager shows where it stops.
const PAGER: &str = "---(more";

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
    let bytes = unmarked(bytes).map_err(|what| wrong(Position { line: 1, column: 1 }, &what))?;
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

/// Whether a text begins with what a terminal shows around a prompt, which begins a JSON document otherwise.
pub(in crate::control) fn is_terminal(text: &[u8]) -> bool {
    let of_member = |text: &[u8]| MEMBERS.iter().any(|member| text.starts_with(member.as_bytes()));
    text.starts_with(b"[edit") || text.starts_with(PAGER.as_bytes()) || text.strip_prefix(b"{").is_some_and(of_member)
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

    /// Statements up to the end of the block that was opened at `opened`, or of the text. Whether there were any.
    fn block(&mut self, node: &mut Node, depth: usize, opened: Option<Position>) -> Result<bool, Reason> {
        let mut any = false;
        loop {
            let at = self.lexer.position();
            match (self.token()?, opened) {
                (None, None) => return Ok(any),
                (None, Some(opened)) => {
                    let what =
                        format!("the text ends inside the block that \"{{\" opened at {opened} (allowed: \"}}\")");
                    return Err(wrong(at, &what));
                }
                (Some(Token { kind: Kind::Close, .. }), Some(_)) => return Ok(any),
                (Some(Token { kind: Kind::Close, at, .. }), None) => {
                    return Err(wrong(at, "\"}\" closes no block (allowed: a statement, or the end of the text)"));
                }
                (Some(token @ Token { kind: Kind::Word { .. }, .. }), _) => {
                    if let Some(what) = self.pasted(&token, depth) {
                        return Err(what);
                    }
                    self.statement(node, token, depth)?;
                    any = true;
                }
                (Some(token), _) => {
                    return Err(self.pasted(&token, depth).unwrap_or_else(|| expected(&token, "a statement")));
                }
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
                    let any = self.block(here, depth, Some(token.at))?;
                    if !any && self.ends()? {
                        here.set_withheld();
                    }
                    return Ok(());
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

    /// Takes a `;`, if that is next.
    fn ends(&mut self) -> Result<bool, Reason> {
        let mut ahead = self.lexer.clone();
        let ends = matches!(ahead.next()?, Some(Token { kind: Kind::End, .. }));
        if ends {
            self.lexer = ahead;
        }
        Ok(ends)
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
                _ => {
                    let allowed = || format!("a line that begins with {}", COMMANDS.join(", "));
                    return Err(self.pasted(&token, 0).unwrap_or_else(|| expected(&token, &allowed())));
                }
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
                    // Where braces are, something was withheld.
                    Kind::Open if depth > 0 => {
                        let close = self.lexer.next()?.ok_or_else(|| self.ended("\"}\""))?;
                        if close.kind != Kind::Close {
                            return Err(expected(&close, "\"}\" at once, in a line that begins with set"));
                        }
                        self.ends()?;
                        here.set_withheld();
                        return match self.lexer.next()? {
                            None | Some(Token { kind: Kind::Newline, .. }) => Ok(()),
                            Some(token) => Err(expected(&token, "the end of the line after \"}\"")),
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

    /// That what begins with `token` was copied off a terminal and is no configuration: a prompt (`user@host>`), what
    /// stands before one (`[edit]`, `{master:0}`), or a command.
    fn pasted(&self, token: &Token<'_>, depth: usize) -> Option<Reason> {
        // The word after it.
        let next = || match self.lexer.clone().next() {
            Ok(Some(Token { kind: Kind::Word { .. }, source, .. })) => source,
            _ => "",
        };
        let what = match &token.kind {
            Kind::Word { text, bare: true } if text.starts_with(PAGER) => "where a pager stopped",
            Kind::Word { text, bare: true } if is_terminal_word(text) => "a prompt",
            Kind::Word { text, bare: true } if depth == 0 && text == "show" && next() == "configuration" => "a command",
            Kind::OpenList if next() == "edit" => "part of a prompt",
            Kind::Open if depth == 0 && MEMBERS.iter().any(|member| next().starts_with(member)) => "part of a prompt",
            _ => return None,
        };
        let what = format!("{} is {what}, copied off a terminal (allowed: the configuration alone)", token.shown());
        Some(wrong(token.at, &what))
    }

    fn ended(&self, allowed: &str) -> Reason {
        wrong(self.lexer.position(), &format!("the text ends inside a statement (allowed: {allowed})"))
    }
}

/// Whether the first word of a statement is none but a prompt, `user@host>`, `user@host#`, `host>`, or what a pager shows.
/// A wildcard (`<ge-*>`) is none.
pub(super) fn is_terminal_word(word: &str) -> bool {
    let of_user = word.split_once('@').filter(|(user, _)| !user.is_empty());
    let of_user = of_user.is_some_and(|(_, rest)| rest.contains(['>', '#', '%']) || rest.ends_with(":~"));
    word.starts_with(PAGER) || of_user || word.len() > 1 && word.ends_with(['>', '#']) && !word.starts_with('<')
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
