//! Bytes to a value tree: JSON as such, before anything is known about its fields.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::control::model::{Reason, quoted};

/// The document's value tree, or the one reason why it is not JSON.
pub(super) fn read(bytes: &[u8]) -> Result<Value, Reason> {
    // serde_json would call it "expected value at line 1 column 1", and an editor does not show it.
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err(Reason::new(
            "JSON syntax: the input starts with a UTF-8 byte order mark (allowed: UTF-8 without one)",
        ));
    }
    if bytes.trim_ascii().is_empty() {
        return Err(Reason::new("JSON syntax: the input is empty (allowed: one JSON document)"));
    }
    match serde_json::from_slice::<Document>(bytes) {
        Ok(document) => Ok(document.0),
        Err(e) if e.is_eof() => Err(Reason::new(format!(
            "JSON syntax: the input is truncated: it ends at line {} column {}, inside the document",
            e.line(),
            e.column()
        ))),
        Err(e) => Err(Reason::new(format!("JSON syntax: {e}"))),
    }
}

/// A [`Value`] in which no object has a key twice; `Value` itself keeps the last one and says nothing.
struct Document(Value);

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DocumentVisitor).map(Self)
    }
}

struct DocumentVisitor;

impl<'de> Visitor<'de> for DocumentVisitor {
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
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Document(entry)) = entries.next_element()? {
            list.push(entry);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            // Before the value is read, so that the error's position is the key's.
            if map.contains_key(&key) {
                return Err(A::Error::custom(format!("the key {} is given twice", quoted(&key))));
            }
            map.insert(key, entries.next_value::<Document>()?.0);
        }
        Ok(Value::Object(map))
    }
}
