//! What a request says, as far as it concerns this end.

use serde::Deserialize;
use serde_json::Number;
use serde_json::value::RawValue;

use crate::control::quote::json_fault;

/// A request.
#[derive(Deserialize)]
pub(super) struct Request<'a> {
    #[serde(rename = "type", default)]
    pub kind: String,
    #[serde(default)]
    pub suppress_status: Option<bool>,
    // These are read only by the types of request they belong to.
    #[serde(borrow, default)]
    pub snapshot: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub forwarding: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub ha_state: Option<&'a RawValue>,
}

/// What of a snapshot is looked at before it is read, or where only its generations count.
#[derive(Deserialize)]
pub(super) struct Head<'a> {
    pub version: Option<Number>,
    pub fib_generation: Option<Number>,
    #[serde(borrow, default)]
    pub content_digest: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct Forwarding {
    /// Missing is not false.
    pub armed: Option<bool>,
}

#[derive(Deserialize)]
pub(super) struct HaState {
    groups: Option<Vec<Group>>,
}

#[derive(Deserialize)]
struct Group {
    active: Option<bool>,
}

impl HaState {
    /// Whether any group is active; `None` where that is not said of all of them, or there is none: a node of no group
    /// is neither active nor standby in one.
    pub(super) fn active(&self) -> Option<bool> {
        let groups = self.groups.as_deref().unwrap_or_default();
        if groups.iter().any(|group| group.active == Some(true)) {
            return Some(true);
        }
        (!groups.is_empty() && groups.iter().all(|group| group.active.is_some())).then_some(false)
    }
}

/// Takes a request apart.
///
/// # Errors
/// It is no request.
pub(super) fn parse(request: &[u8]) -> Result<Request<'_>, String> {
    let wrong = |what: &str| format!("the request {what} (allowed: one JSON object on one line)");
    match request.trim_ascii_start().first() {
        None => Err(wrong("is empty")),
        Some(b'{') => {
            serde_json::from_slice(request).map_err(|error| wrong(&format!("does not hold: {}", json_fault(&error))))
        }
        Some(_) => Err(wrong("is no JSON object")),
    }
}

/// A part of a request that must be there.
///
/// # Errors
/// It is not.
pub(super) fn required<'a>(key: &str, value: Option<&'a RawValue>, allowed: &str) -> Result<&'a RawValue, String> {
    value.ok_or_else(|| format!("{key}: the key is missing (allowed: {allowed})"))
}

/// Reads a part of a request.
///
/// # Errors
/// It has another shape.
pub(super) fn read<'a, T: Deserialize<'a>>(key: &str, value: &'a RawValue) -> Result<T, String> {
    serde_json::from_str(value.get()).map_err(|error| format!("{key}: {}", json_fault(&error)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_says_nothing_is_not_passive() {
        for (groups, want) in [
            (r#"{"groups":[{"rg_id":1,"active":true},{"rg_id":2}]}"#, Some(true)),
            (r#"{"groups":[{"active":false,"unheard_of":{}},{"active":false}]}"#, Some(false)),
            (r#"{"groups":[{"active":false},{"rg_id":2}]}"#, None),
            (r#"{"groups":[{"active":null}]}"#, None),
            (r#"{"groups":[]}"#, None),
            (r#"{"groups":null,"more":1}"#, None),
            ("{}", None),
        ] {
            let state: HaState = serde_json::from_str(groups).unwrap();
            assert_eq!(state.active(), want, "{groups}");
        }
        assert!(serde_json::from_str::<HaState>(r#"{"groups":[{"active":1}]}"#).is_err());
    }
}
