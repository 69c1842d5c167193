//! Bytes to a value tree: JSON as such, of which only what is asked for stays in memory.
//!
//! A producer's document is megabytes long, and little of it concerns mirroring. All of it is looked through, so that
//! what is not JSON, and a key given twice, is found anywhere.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::miscased::Miscased;
use crate::control::diagnostic::Reason;
use crate::control::quote::{MAX_SHOWN, json_fault, quoted};
use crate::control::text::unmarked;

/// What of a value is kept. Where it is of another kind than this expects, it is kept as far as a message can show it;
/// below [`Keep::Every`], of which no message tells, it is not.
#[derive(Debug)]
pub(super) enum Keep {
    /// Neither a list nor an object.
    Scalar,
    /// A list, with this of each entry.
    List(&'static Keep),
    /// A list of this name, whose entries, with this of each, go to the sink as they are read; it stays empty.
    Stream(&'static str, &'static Keep),
    /// An object of a snapshot, with this of each of these keys; one that is written in another case is told of.
    Own(&'static [(&'static str, Keep)]),
    /// An object, with this of each of these keys.
    Keys(&'static [(&'static str, Keep)]),
    /// An object, with this of every key.
    Every(&'static Keep),
}

/// Takes the entries of lists: the list's name, and the entry.
pub(super) type Sink<'a> = &'a mut dyn FnMut(&'static str, Value);

/// What is kept of the document, and its keys in the wrong case; or the one reason why it is not JSON; the sink may then
/// have got some of it.
pub(super) fn read(bytes: &[u8], keep: &'static Keep, sink: Sink<'_>) -> Result<(Value, Miscased), Reason> {
    let bytes = unmarked(bytes).map_err(|what| Reason::new(format!("JSON syntax: {what}")))?;
    if bytes.trim_ascii().is_empty() {
        return Err(Reason::new("JSON syntax: the input is empty (allowed: one JSON document)"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let mut reader = Reader { room: 0, miscased: Miscased::default(), sink };
    let read = Part { mode: Mode::Keep(keep, true), reader: &mut reader }.deserialize(&mut deserializer);
    match read.and_then(|document| deserializer.end().map(|()| document)) {
        Ok(document) => Ok((document, reader.miscased)),
        Err(e) if e.is_eof() => Err(Reason::new(format!(
            "JSON syntax: the input is truncated: it ends at line {} column {}, inside the document",
            e.line(),
            e.column()
        ))),
        Err(e) => Err(Reason::new(format!("JSON syntax: {}", json_fault(&e)))),
    }
}

/// What is done with a value.
#[derive(Clone, Copy)]
enum Mode {
    /// And whether it is to be shown where it is of another kind.
    Keep(&'static Keep, bool),
    /// Inside of a value of another kind than expected: kept to be shown, while there is room.
    Show,
    /// Looked through.
    Skip,
}

/// What the reading of all values has in common.
struct Reader<'a> {
    /// How many more values may be kept to be shown.
    room: usize,
    miscased: Miscased,
    sink: Sink<'a>,
}

/// Values that fill a message, each with a character at least, also where the keys of an object have another order in
/// it than in the document.
const ROOM: usize = 1000;
const _: () = assert!(ROOM > MAX_SHOWN);

impl Reader<'_> {
    /// Inside of a value of another kind than expected.
    fn unexpected(&mut self, show: bool) -> Mode {
        self.room = ROOM;
        if show { Mode::Show } else { Mode::Skip }
    }

    /// For the next value inside of a list or object.
    fn next(&mut self, mode: Mode) -> Mode {
        match (mode, self.room.checked_sub(1)) {
            (Mode::Show, None) => Mode::Skip,
            (Mode::Show, Some(room)) => {
                self.room = room;
                mode
            }
            _ => mode,
        }
    }
}

/// A value to be read; null where it is skipped.
struct Part<'r, 's> {
    mode: Mode,
    reader: &'r mut Reader<'s>,
}

impl<'de> DeserializeSeed<'de> for Part<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Part<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(if let Mode::Skip = self.mode { Value::Null } else { value.into() })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let Part { mode, reader } = self;
        let (inside, stream) = match mode {
            Mode::Keep(Keep::List(each), show) => (Mode::Keep(each, show), None),
            Mode::Keep(Keep::Stream(name, each), show) => (Mode::Keep(each, show), Some(*name)),
            Mode::Keep(_, show) => (reader.unexpected(show), None),
            Mode::Show | Mode::Skip => (mode, None),
        };
        let mut list = Vec::new();
        for i in 0.. {
            if let Some(name) = stream {
                reader.miscased.enter(Some((name, i)));
            }
            let mode = reader.next(inside);
            let Some(entry) = entries.next_element_seed(Part { mode, reader })? else { break };
            match (stream, mode) {
                (Some(name), _) => (reader.sink)(name, entry),
                (None, Mode::Skip) => {}
                (None, _) => list.push(entry),
            }
        }
        if stream.is_some() {
            reader.miscased.enter(None);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let Part { mode, reader } = self;
        let inside = match mode {
            Mode::Keep(Keep::Own(_) | Keep::Keys(_) | Keep::Every(_), _) => mode,
            Mode::Keep(_, show) => reader.unexpected(show),
            Mode::Show | Mode::Skip => mode,
        };
        let mut seen = HashSet::new();
        let mut map = Map::new();
        while let Some(Key(key)) = entries.next_key()? {
            // Before the value is read, so that the error's position is the key's.
            if seen.contains(&key) {
                return Err(A::Error::custom(format!("the key {} is given twice", quoted(&key))));
            }
            let mode = match inside {
                Mode::Keep(Keep::Every(each), _) => Mode::Keep(each, false),
                Mode::Keep(own @ (Keep::Own(keys) | Keep::Keys(keys)), show) => {
                    let known = keys.iter().find(|(known, _)| *known == key);
                    if known.is_none() && matches!(own, Keep::Own(_)) {
                        reader.miscased.note(&key, keys.iter().map(|(known, _)| *known));
                    }
                    known.map_or(Mode::Skip, |(_, keep)| Mode::Keep(keep, show))
                }
                _ => reader.next(inside),
            };
            let value = entries.next_value_seed(Part { mode, reader })?;
            if !matches!(mode, Mode::Skip) {
                map.insert(key.clone().into_owned(), value);
            }
            seen.insert(key);
        }
        Ok(Value::Object(map))
    }
}

/// A key, without a copy of it where the document has it as it is.
struct Key<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}
