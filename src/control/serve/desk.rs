//! What each request does, and its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Number;
use serde_json::value::RawValue;
use shm_layout::record::Role;

use super::Options;
use super::clients::Permits;
use super::status::Reporter;
use crate::control::admission::Admission;
use crate::control::compile::Source;
use crate::control::json::{self, AND_MORE, MAX_REASONS};
use crate::control::model::{Diagnostic, Reason, Snapshot, VERSION, clipped};
use crate::control::role::{self, Reach};
use crate::control::wires::add_wires;
use crate::control::writer::{Standing, publish, remark};

/// How long a change of the role is seen through to the shards: well within what a producer waits.
const ROLE_PATIENCE: Duration = Duration::from_secs(1);

/// What concerns a forwarding table that is not here.
const NOTHING_TO_DO: [&str; 7] = [
    "bump_fib_generation",
    "update_neighbors",
    "update_fabrics",
    "clear_policy_counters",
    "sync_session",
    "drain_session_deltas",
    "rebind",
];

/// A request, as far as it concerns this end.
#[derive(Deserialize)]
struct Request<'a> {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    suppress_status: Option<bool>,
    // These are read only by the types of request they belong to.
    #[serde(borrow, default)]
    snapshot: Option<&'a RawValue>,
    #[serde(borrow, default)]
    forwarding: Option<&'a RawValue>,
    #[serde(borrow, default)]
    ha_state: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Versioned {
    version: Option<Number>,
}

#[derive(Deserialize)]
struct Forwarding {
    #[serde(default)]
    armed: bool,
}

#[derive(Deserialize)]
struct HaState {
    groups: Option<Vec<Group>>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    active: bool,
}

#[derive(Serialize)]
struct Answer<'a> {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a RawValue>,
}

/// Where requests are dealt with.
#[derive(Debug)]
pub(super) struct Desk {
    options: Options,
    reporter: Reporter,
    /// One change at a time, and so one large document taken apart at a time.
    changing: Permits,
}

impl Desk {
    /// A desk that begins now.
    pub(super) fn new(options: Options) -> Desk {
        let reporter = Reporter::new(&options);
        Desk { options, reporter, changing: Permits::new(1) }
    }

    /// The status, gathered now.
    pub(super) fn status(&self) -> Option<Arc<RawValue>> {
        self.reporter.status()
    }

    /// The answer to a request that was not read.
    pub(super) fn refuse(&self, why: String) -> Vec<u8> {
        line(&Answer { ok: false, error: Some(why), status: None })
    }

    /// Does what a request asks, which may set `stop`, and gives the answer. What has to wait for others is given
    /// up at `deadline`.
    pub(super) fn answer(&self, request: &[u8], deadline: Instant, stop: &AtomicBool) -> Vec<u8> {
        let (done, suppressed) = match parse(request) {
            Ok(request) => (self.obey(&request, deadline, stop), request.suppress_status == Some(true)),
            Err(why) => (Err(why), false),
        };
        let status = if suppressed { None } else { self.reporter.status() };
        line(&Answer { ok: done.is_ok(), error: done.err(), status: status.as_deref() })
    }

    fn obey(&self, request: &Request<'_>, deadline: Instant, stop: &AtomicBool) -> Result<(), String> {
        let alone = || self.changing.take(deadline).ok_or("other changes take too long (try again)");
        match request.kind.as_str() {
            "ping" | "status" => Ok(()),
            "apply_snapshot" => {
                let snapshot = required("snapshot", request.snapshot, "a snapshot object")?;
                let said = |reasons: Vec<Reason>| joined(&reasons);
                // Reading may take its time without holding up others.
                let (snapshot, admission, digest) = self.judge(snapshot.get()).map_err(said)?;
                let _alone = alone()?;
                self.publish(&snapshot, &admission, digest).map_err(said)
            }
            "set_forwarding_state" => {
                let forwarding = required("forwarding", request.forwarding, r#"{"armed": true or false}"#)?;
                let Forwarding { armed } = read("forwarding", forwarding)?;
                if armed {
                    self.reporter.can_mirror().map_err(|reasons| reasons.join("; "))?;
                }
                let _alone = alone()?;
                self.restand(|standing| standing.with_armed(armed))
            }
            "update_ha_state" => {
                let state = required("ha_state", request.ha_state, r#"{"groups": […]}"#)?;
                let HaState { groups } = read("ha_state", state)?;
                let groups = groups.unwrap_or_default();
                if groups.is_empty() {
                    // It says nothing: a node of no group is neither active nor standby in one.
                    return Ok(());
                }
                let active = groups.iter().any(|group| group.active);
                let role = if active { Role::Active } else { Role::Standby };
                let _alone = alone()?;
                self.restand(|standing| Standing { role, ..standing })
            }
            "shutdown" => {
                tracing::info!("a client asks to shut down");
                stop.store(true, Relaxed);
                Ok(())
            }
            kind if NOTHING_TO_DO.contains(&kind) => Ok(()),
            "" => Err("type: the key is missing (allowed: a request type)".to_owned()),
            other => Err(format!("unknown request type {}", clipped(other))),
        }
    }

    /// Builds and admits a snapshot, as `spanctl import` does. With it, the digest of the document.
    fn judge(&self, document: &str) -> Result<(Snapshot, Admission, [u8; 32]), Vec<Reason>> {
        check_version(document).map_err(|reason| vec![reason])?;
        let links = (self.options.links)(&self.options.dir);
        let mut draft = json::parse_draft(document.as_bytes(), None)?;
        draft.faults.extend(add_wires(&mut draft.snapshot, &self.options.wires).err().unwrap_or_default());
        let admission = draft.admit_or(self.options.on_ambiguous, links.as_ref());
        let snapshot = draft.snapshot;
        if !admission.accepted() {
            tracing::warn!(
                "generation {} of the producer is refused: {}",
                snapshot.generation,
                joined(&admission.reasons)
            );
            return Err(admission.reasons);
        }
        Ok((snapshot, admission, Source::of(document.as_bytes()).digest))
    }

    fn publish(&self, snapshot: &Snapshot, admission: &Admission, digest: [u8; 32]) -> Result<(), Vec<Reason>> {
        let receipt = publish(&self.options.dir, snapshot, admission, digest)
            .map_err(|error| vec![Reason::new(error.to_string())])?;
        let (published, given) = (receipt.generation, snapshot.generation);
        tracing::info!("published generation {published}, generation {given} of the producer");
        if let Some(error) = receipt.unkept {
            tracing::warn!("generation {published} is not in the history: {error}");
        }
        if let Some(Diagnostic { subject, message, .. }) = remark(&self.options.dir, snapshot) {
            tracing::warn!("generation {published}: {subject}: {message}");
        }
        Ok(())
    }

    fn restand(&self, change: impl FnOnce(Standing) -> Standing) -> Result<(), String> {
        let done = role::change(&self.options.dir, ROLE_PATIENCE, change).map_err(|error| error.to_string())?;
        if done.changed {
            let (role, armed) = (done.standing.role, done.standing.armed());
            tracing::info!("role {role:?}, armed {armed}, since generation {}", done.generation);
        }
        match done.reach {
            Reach::NoDataplane | Reach::InUse { .. } => Ok(()),
            Reach::Behind(adoption) => Err(adoption.behind(ROLE_PATIENCE).to_string()),
        }
    }
}

fn parse(request: &[u8]) -> Result<Request<'_>, String> {
    let wrong = |what: &str| format!("the request {what} (allowed: one JSON object on one line)");
    match request.trim_ascii_start().first() {
        None => Err(wrong("is empty")),
        Some(b'{') => serde_json::from_slice(request).map_err(|error| wrong(&format!("does not hold: {error}"))),
        Some(_) => Err(wrong("is no JSON object")),
    }
}

fn required<'a>(key: &str, value: Option<&'a RawValue>, allowed: &str) -> Result<&'a RawValue, String> {
    value.ok_or_else(|| format!("{key}: the key is missing (allowed: {allowed})"))
}

fn read<'a, T: Deserialize<'a>>(key: &str, value: &'a RawValue) -> Result<T, String> {
    serde_json::from_str(value.get()).map_err(|error| format!("{key}: {error}"))
}

/// The socket takes the newest version alone; files may be older. A version that is no number is left to the parser.
fn check_version(document: &str) -> Result<(), Reason> {
    match serde_json::from_str::<Versioned>(document) {
        Ok(Versioned { version }) if version.as_ref().and_then(Number::as_u64) != Some(VERSION.into()) => {
            // What Go leaves out is zero.
            let version = version.map_or_else(|| "0".to_owned(), |version| version.to_string());
            Err(Reason::new(format!("unsupported snapshot protocol version {} (want {VERSION})", clipped(&version))))
        }
        _ => Ok(()),
    }
}

/// All of them on one line, as far as a producer could want to read them.
fn joined(reasons: &[Reason]) -> String {
    let more = (reasons.len() > MAX_REASONS).then_some(AND_MORE);
    let told = reasons.iter().take(MAX_REASONS).map(Reason::as_str);
    told.chain(more).collect::<Vec<_>>().join("; ")
}

fn line(answer: &Answer<'_>) -> Vec<u8> {
    // Plain data: that it cannot be written does not happen, and must not go unanswered if it does.
    let mut text = serde_json::to_vec(answer).unwrap_or_else(|_| br#"{"ok":false,"error":"no answer"}"#.to_vec());
    text.push(b'\n');
    text
}
