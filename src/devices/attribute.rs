//! The attributes of netlink messages, which may have attributes in them.
//!
//! ```text
//! len: u16 | type: u16 | value … to len | padding to four bytes | len: u16 | …
//! ```

use super::netlink::number;

/// Bytes before the value.
const HEADER: usize = 4;
/// The two bits beside an attribute's type.
const TYPE: u16 = 0x3fff;

/// The attributes up to the first that does not fit: type and value.
pub(crate) fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16::from_ne_bytes(number(rest, 0)?));
        let kind = u16::from_ne_bytes(number(rest, 2)?) & TYPE;
        let value = rest.get(HEADER..len)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of a type.
pub(crate) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|attribute| attribute.0 == kind).map(|attribute| attribute.1)
}

/// A value that is a word; 0 for one that is too short.
pub(crate) fn word(value: &[u8]) -> u32 {
    number(value, 0).map(u32::from_ne_bytes).unwrap_or_default()
}

/// The text before the first zero byte, if it is UTF-8.
pub(crate) fn text(value: &[u8]) -> Option<String> {
    let text = value.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8(text.to_owned()).ok()
}

/// Adds an attribute, padded. A value that its length cannot say, 64 KiB and more, is cut.
pub(crate) fn put(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = u16::try_from(HEADER + value.len()).unwrap_or(u16::MAX);
    bytes.extend(len.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value.iter().take(usize::from(len) - HEADER));
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// Adds a text, which a zero byte ends.
pub(crate) fn put_text(bytes: &mut Vec<u8>, kind: u16, text: &str) {
    let value: Vec<u8> = text.bytes().chain([0]).collect();
    put(bytes, kind, &value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_what_is_read() {
        let (mut inner, mut all) = (Vec::new(), Vec::new());
        put_text(&mut inner, 7, "bpf");
        put(&mut inner, 8, &[]);
        put(&mut all, 1, &9u32.to_ne_bytes());
        put(&mut all, 2 | 0x8000, &inner);
        assert_eq!(attribute(&all, 1).map(word), Some(9));
        let nested: Vec<_> = attribute(&all, 2).into_iter().flat_map(attributes).collect();
        assert_eq!(nested, [(7, b"bpf\0".as_slice()), (8, b"".as_slice())]);
        assert_eq!(attribute(nested[0].1, 7), None);
        assert_eq!(text(nested[0].1).as_deref(), Some("bpf"));
    }

    #[test]
    fn a_value_too_long_is_cut_and_harms_no_other() {
        let mut all = Vec::new();
        put(&mut all, 1, &vec![3; 1 << 17]);
        put(&mut all, 2, &[4]);
        let lens: Vec<_> = attributes(&all).map(|(kind, value)| (kind, value.len())).collect();
        assert_eq!(lens, [(1, 65531), (2, 1)]);
    }
}
