//! Text from elsewhere in a message: on one line, and no more of it than says what is meant.

use crate::text::{cut, excerpt, printable};

/// The most characters of a foreign text that a message repeats.
pub(super) const MAX_SHOWN: usize = 80;
/// The most characters of what a parser says that a message repeats.
const MAX_FAULT: usize = 200;

/// `text` in double quotes, fit for a [`Reason`](super::diagnostic::Reason) or a [`Diagnostic`](super::diagnostic::Diagnostic): on one line, with control characters
/// escaped, and cut after 80 characters as shown.
#[must_use]
pub fn quoted(text: &str) -> String {
    let escaped = |c: char| {
        let json = serde_json::Value::from(c.to_string()).to_string();
        printable(json.get(1..json.len() - 1).unwrap_or_default())
    };
    format!("\"{}\"", cut(text, MAX_SHOWN, escaped))
}

/// The beginning of a JSON text on one line: cut after 80 characters, unprintable ones escaped (JSON lets
/// some through, and a terminal would act on them).
pub(crate) fn clipped(json: &str) -> String {
    excerpt(json, MAX_SHOWN)
}

/// What is wrong with a JSON text, and where; what the text has there is cut, as serde_json repeats all of it.
pub(crate) fn json_fault(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let at = format!(" at line {} column {}", error.line(), error.column());
    match text.strip_suffix(&at) {
        Some(what) => excerpt(what, MAX_FAULT) + &at,
        None => excerpt(&text, MAX_FAULT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_stays_on_one_line_and_short() {
        assert_eq!(quoted("ge-0/0/0.0"), r#""ge-0/0/0.0""#);
        assert_eq!(quoted("a\"b\\c'd"), r#""a\"b\\c'd""#);
        assert_eq!(quoted("line\nand \u{1b}[31m\u{202e}"), r#""line\nand \u001b[31m\u{202e}""#);
        let long = quoted(&"ä".repeat(1000));
        assert_eq!(long.chars().count(), MAX_SHOWN + 3, "{long}");
        assert!(long.ends_with("ä…\""), "{long}");
    }
}
