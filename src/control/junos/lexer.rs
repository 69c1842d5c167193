//! Text to tokens: words, punctuation and the ends of lines, each with its position.

use std::borrow::Cow;

use crate::control::diagnostic::Reason;
use crate::control::model::Position;
use crate::control::quote::quoted;

/// What a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    /// A word; `bare` if it was written without quotes, and so may be a keyword of the syntax.
    Word {
        /// What it says, without the quotes.
        text: Cow<'a, str>,
        /// Whether it stood without quotes.
        bare: bool,
    },
    /// `{`
    Open,
    /// `}`
    Close,
    /// `[`
    OpenList,
    /// `]`
    CloseList,
    /// `;`
    End,
    /// The end of a line, which only `set` syntax cares for.
    Newline,
}

/// One token.
#[derive(Clone, Debug)]
pub(super) struct Token<'a> {
    pub kind: Kind<'a>,
    pub at: Position,
    /// As it stands in the text.
    pub source: &'a str,
}

impl Token<'_> {
    /// As messages call it.
    pub(super) fn shown(&self) -> String {
        match self.kind {
            Kind::Newline => "the end of the line".to_owned(),
            _ => quoted(self.source),
        }
    }
}

/// `Junos syntax: line 3 column 7: what`
pub(super) fn wrong(at: Position, what: &str) -> Reason {
    Reason::new(format!("Junos syntax: {at}: {what}"))
}

/// Whether a word that holds `c` has to be quoted wherever it stands.
pub(super) fn is_punctuation(c: char) -> bool {
    c.is_whitespace() || c.is_control() || matches!(c, ';' | '{' | '}' | '[' | ']' | '"')
}

/// Reads a text token by token.
#[derive(Clone, Debug)]
pub(super) struct Lexer<'a> {
    rest: &'a str,
    at: Position,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text, at: Position { line: 1, column: 1 } }
    }

    /// Where the next token begins, or the text ends.
    pub(super) fn position(&self) -> Position {
        self.at
    }

    /// The next token; `None` at the end of the text.
    pub(super) fn next(&mut self) -> Result<Option<Token<'a>>, Reason> {
        self.skip()?;
        let Some(first) = self.rest.chars().next() else { return Ok(None) };
        let kind = match first {
            '{' => Kind::Open,
            '}' => Kind::Close,
            '[' => Kind::OpenList,
            ']' => Kind::CloseList,
            ';' => Kind::End,
            '\n' => Kind::Newline,
            '"' => return self.quoted_word().map(Some),
            _ => return self.bare_word(first).map(Some),
        };
        let at = self.at;
        Ok(Some(Token { kind, at, source: self.take(1) }))
    }

    /// Skips blanks and comments.
    fn skip(&mut self) -> Result<(), Reason> {
        loop {
            let blanks = self.rest.len() - self.rest.trim_start_matches([' ', '\t', '\r']).len();
            self.take(blanks);
            if self.rest.starts_with('#') {
                self.take(self.rest.find('\n').unwrap_or(self.rest.len()));
            } else if self.rest.starts_with("/*") {
                let Some(end) = self.rest.get(2..).and_then(|rest| rest.find("*/")) else {
                    return Err(wrong(self.at, "the comment that \"/*\" begins here is never ended (allowed: \"*/\")"));
                };
                self.take(2 + end + 2);
            } else {
                return Ok(());
            }
        }
    }

    fn quoted_word(&mut self) -> Result<Token<'a>, Reason> {
        let at = self.at;
        let mut escaped = false;
        let mut chars = self.rest.char_indices().skip(1);
        let end = chars.find(|&(_, c)| match c {
            '"' if !escaped => true,
            _ => {
                escaped = c == '\\' && !escaped;
                false
            }
        });
        let Some((end, _)) = end else {
            return Err(wrong(at, "the string that begins here is never ended (allowed: a second '\"')"));
        };
        let source = self.take(end + 1);
        let text = unescape(source.get(1..end).unwrap_or_default());
        Ok(Token { kind: Kind::Word { text, bare: false }, at, source })
    }

    fn bare_word(&mut self, first: char) -> Result<Token<'a>, Reason> {
        let at = self.at;
        // Brackets that begin inside a word belong to it: ge-0/0/[0-3].
        let mut open = 0_usize;
        let ends = |c: char| match c {
            '[' => {
                open += 1;
                false
            }
            ']' if open > 0 => {
                open -= 1;
                false
            }
            _ => is_punctuation(c),
        };
        let end = self.rest.find(ends).unwrap_or(self.rest.len());
        if end == 0 {
            let what = format!(
                "unexpected character U+{:04X} (allowed outside of quotes: text and plain spaces)",
                u32::from(first)
            );
            return Err(wrong(at, &what));
        }
        let source = self.take(end);
        Ok(Token { kind: Kind::Word { text: Cow::Borrowed(source), bare: true }, at, source })
    }

    /// Goes on by `len` bytes, which end at a character.
    fn take(&mut self, len: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(len);
        for c in taken.chars() {
            if c == '\n' {
                self.at.line = self.at.line.saturating_add(1);
                self.at.column = 1;
            } else {
                self.at.column = self.at.column.saturating_add(1);
            }
        }
        self.rest = rest;
        taken
    }
}

/// What a string between quotes says. A backslash before any other character stands for itself.
fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, chars.clone().next()) {
            ('\\', Some(escaped @ ('\\' | '"' | 'n'))) => {
                plain.push(if escaped == 'n' { '\n' } else { escaped });
                chars.next();
            }
            _ => plain.push(c),
        }
    }
    Cow::Owned(plain)
}
