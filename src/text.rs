//! Text from elsewhere, fit for a line that people read: it may hold anything, and be as long as it likes.

/// The beginning of a text on one line: cut after `most` characters, unprintable ones escaped.
#[must_use]
pub fn excerpt(text: &str, most: usize) -> String {
    cut(text, most, |c| printable(c.encode_utf8(&mut [0; 4])))
}

/// The beginning of a text, each character as it is shown: at most so many of those, and of what is cut a sign.
pub(crate) fn cut(text: &str, most: usize, shown: impl Fn(char) -> String) -> String {
    let mut cut = String::new();
    let mut left = most;
    for c in text.chars() {
        // As it is where nothing acts on it.
        let plain = c.is_ascii_alphanumeric() || matches!(c, ' ' | '-' | '.' | '/' | ':' | '_');
        let escaped = (!plain).then(|| shown(c));
        let Some(rest) = left.checked_sub(escaped.as_ref().map_or(1, |escaped| escaped.chars().count())) else {
            cut.push('…');
            break;
        };
        left = rest;
        match escaped {
            None => cut.push(c),
            Some(escaped) => cut.push_str(&escaped),
        }
    }
    cut
}

/// Text from elsewhere on one line and fit for a terminal: control characters, which it would act on, escaped.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            // Nothing acts on these, and JSON has escaped them where it needs to.
            '"' | '\'' | '\\' => shown.push(c),
            _ => shown.extend(c.escape_debug()),
        }
    }
    shown
}
