//! A document's bytes behind the byte-order mark that editors on other systems begin a text with.

/// Marks of encodings that are not read, the longer ones first.
const OTHERS: [(&[u8], &str); 4] = [
    (&[0xff, 0xfe, 0, 0], "UTF-32"),
    (&[0, 0, 0xfe, 0xff], "UTF-32"),
    (&[0xff, 0xfe], "UTF-16"),
    (&[0xfe, 0xff], "UTF-16"),
];

/// The text behind a mark of UTF-8, if there is one.
///
/// # Errors
/// Its mark says that it is of another encoding: what is wrong, and what is allowed.
pub(super) fn unmarked(bytes: &[u8]) -> Result<&[u8], String> {
    match OTHERS.iter().find(|(mark, _)| bytes.starts_with(mark)) {
        Some((_, name)) => Err(format!("the text is {name}, as its byte-order mark says (allowed: UTF-8 text)")),
        None => Ok(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)),
    }
}

/// The first bytes that say something, whatever the encoding: all that a guess of the format looks at.
pub(super) fn beginning(bytes: &[u8]) -> &[u8] {
    let marks = OTHERS.iter().map(|(mark, _)| *mark).chain([&b"\xef\xbb\xbf"[..]]);
    let behind = marks.into_iter().find_map(|mark| bytes.strip_prefix(mark)).unwrap_or(bytes);
    let blank = |byte: &u8| *byte == 0 || byte.is_ascii_whitespace();
    behind.get(behind.iter().take_while(|byte| blank(byte)).count()..).unwrap_or_default()
}
