//! The two ways to say that something is wrong: a [`Reason`] to refuse it, and a [`Diagnostic`] that goes with it.

use std::fmt;

use serde::Serialize;

/// Why a document or a snapshot is refused: one sentence on one line for the operator, naming the place,
/// what was found there and what is allowed. Serialises as that string.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, thiserror::Error)]
#[serde(transparent)]
#[error("{0}")]
pub struct Reason(String);

impl Reason {
    /// A reason with this text. Quote foreign text in it with [`quoted`](super::quote::quoted).
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How much a [`Diagnostic`] matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Part of the configuration has no effect.
    Warning,
    /// Worth knowing; everything has its effect.
    Note,
}

impl Severity {
    /// `"warning"` or `"note"`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A remark on a snapshot that is not refused for it; published along with the snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How much it matters.
    pub severity: Severity,
    /// What it is about, e.g. `mirror_configs[0]`.
    pub subject: String,
    /// One sentence for the operator.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.severity, self.subject, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_is_a_plain_string() {
        let reason = Reason::new("x: 1");
        assert_eq!(serde_json::json!([reason]).to_string(), r#"["x: 1"]"#);
        assert_eq!(reason.to_string(), "x: 1");
    }
}
