//! What each request does, and its answer.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use shm_layout::record::Role;

use super::exchange;
use super::limits::MAX_ANSWER;
use super::line::{Line, Turn};
use super::options::Options;
use super::process::Process;
use super::producer::{Producer, Publication, fib_generation};
use super::request::{Forwarding, HaState, Head, Request, parse, read, required};
use super::socket::Door;
use super::status::Reporter;
use crate::control::admission::Admission;
use crate::control::compile::Provenance;
use crate::control::diagnostic::{Diagnostic, Reason};
use crate::control::draft::Draft;
use crate::control::json::{self, AND_MORE, MAX_REASONS};
use crate::control::model::Snapshot;
use crate::control::quote::clipped;
use crate::control::role::{self, Reach};
use crate::control::source::complete;
use crate::control::writer::{Standing, gate, publish, shortcomings};
use crate::stop::Stop;
use crate::told::Shared;

/// How long a change of the role is seen through to the shards: well within what a producer waits.
const ROLE_PATIENCE: Duration = Duration::from_secs(1);

/// What concerns forwarding, sessions and addresses that are not here.
const NOTHING_TO_DO: [&str; 21] = [
    "scheduler_heartbeat",
    "stop_workers",
    "update_neighbors",
    "update_fabrics",
    "rebind",
    "clear_policy_counters",
    "clear_nat_counters",
    "clear_zone_counters",
    "clear_flood_counters",
    "sync_session",
    "drain_session_deltas",
    "export_idle_leases",
    "import_idle_leases",
    "export_persistent_lease_display",
    "clear_persistent_nat_leases",
    "export_owner_rg_sessions",
    "export_all_sessions",
    "fib_dump",
    "set_queue_state",
    "set_binding_state",
    "inject_packet",
];

/// What the second socket is for: none of it waits behind a snapshot at the producer's end.
const OF_SESSIONS: [&str; 4] = ["ping", "sync_session", "list_sessions_by_policy", "update_ha_state"];

/// Who asks, and what it can wait for.
#[derive(Debug)]
pub(super) struct Client<'a> {
    /// Where it came in.
    pub door: Door,
    /// Its connection.
    pub stream: &'a UnixStream,
    /// Its process, where it can be seen from here.
    pub process: Option<Process>,
    /// Its place in line.
    pub turn: Turn<'a>,
    /// When it has waited long enough for others.
    pub deadline: Instant,
}

impl Client<'_> {
    /// Waits for its turn.
    fn wait(&self) -> Result<(), String> {
        match self.turn.wait(self.deadline) {
            true => self.is_there(),
            false => Err("other changes take too long (try again)".to_owned()),
        }
    }

    /// What nobody waits for any more is not done: nobody would know that it was, and what the client asks for next
    /// may have been done meanwhile.
    fn is_there(&self) -> Result<(), String> {
        match exchange::has_gone(self.stream) {
            true => Err("the client has gone before its turn".to_owned()),
            false => Ok(()),
        }
    }
}

/// What a client gets.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    /// Whether it was done.
    pub ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_policy_complete: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shared")]
    status: Option<Arc<RawValue>>,
}

fn shared<S: Serializer>(value: &Option<Arc<RawValue>>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_deref().serialize(serializer)
}

impl Answer {
    /// The answer to what was not done.
    pub(super) fn refusal(why: String) -> Answer {
        Answer { ok: false, error: Some(why), session_policy_complete: None, status: None }
    }

    /// About how many bytes it has.
    pub(super) fn len(&self) -> usize {
        self.error.as_ref().map_or(0, String::len) + self.status.as_ref().map_or(0, |status| status.get().len())
    }
}

/// What was done, and what is said of it beside the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    Nothing,
    /// There are no sessions, and so nothing is missing of them.
    NoSessions,
}

/// Where requests are dealt with.
#[derive(Debug)]
pub(super) struct Desk {
    options: Options,
    producer: Producer,
    reporter: Reporter,
    /// One change at a time, and so one large document taken apart at a time.
    line: Line,
    /// Of snapshots that are refused.
    refused: Shared,
}

impl Desk {
    /// A desk that begins now.
    pub(super) fn new(options: Options) -> Desk {
        Desk {
            producer: Producer::new(&options),
            reporter: Reporter::new(&options),
            options,
            line: Line::default(),
            refused: Shared::default(),
        }
    }

    /// The status, gathered now.
    pub(super) fn status(&self) -> Option<Arc<RawValue>> {
        self.reporter.status(&self.producer)
    }

    /// A place in line for a request that is whole.
    pub(super) fn turn(&self) -> Turn<'_> {
        self.line.join()
    }

    /// Does what a request asks, which may set `stop`, and gives the answer.
    pub(super) fn answer(&self, request: &exchange::Request<'_>, client: Client<'_>, stop: &Stop) -> Answer {
        self.producer.hear(client.process.as_ref());
        if client.door == Door::Sessions {
            self.producer.note_look(client.process.as_ref());
            self.producer.hear_sessions();
        }
        // Taking a large one apart is work for one at a time too.
        let parsed = if request.is_large() { client.wait() } else { Ok(()) }.and_then(|()| parse(request.bytes()));
        let (done, suppressed) = match parsed {
            Ok(request) => (self.obey(&request, client, stop), request.suppress_status == Some(true)),
            Err(why) => {
                // Others need not wait until the status is gathered.
                drop(client);
                (Err(why), false)
            }
        };
        let status = if suppressed { None } else { self.reporter.status(&self.producer) };
        let status = status.filter(|status| {
            let len = status.get().len();
            if len >= MAX_ANSWER {
                tracing::warn!("the status has {len} bytes, more than a producer reads: it is left out");
            }
            len < MAX_ANSWER
        });
        let session_policy_complete = (done == Ok(Done::NoSessions)).then_some(true);
        Answer { ok: done.is_ok(), error: done.err(), session_policy_complete, status }
    }

    fn obey(&self, request: &Request<'_>, client: Client<'_>, stop: &Stop) -> Result<Done, String> {
        let kind = request.kind.as_str();
        if client.door == Door::Sessions && !OF_SESSIONS.contains(&kind) {
            return Err(format!(
                "type: {} is no request for the socket of sessions (allowed: {}; all others at {})",
                clipped(kind),
                OF_SESSIONS.join(", "),
                self.options.socket.display()
            ));
        }
        match kind {
            "ping" | "status" => self.producer.note_look(client.process.as_ref()),
            "apply_snapshot" => {
                let snapshot = required("snapshot", request.snapshot, "a snapshot object")?;
                client.wait()?;
                self.apply(snapshot.get(), &client)?;
            }
            "bump_fib_generation" => {
                let snapshot = request.snapshot.ok_or("missing snapshot")?;
                let head: Head<'_> = read("snapshot", snapshot)?;
                self.producer.check_version(head.version.as_ref())?;
                let next = fib_generation(head.fib_generation.as_ref())?;
                client.wait()?;
                self.producer.move_fib(next)?;
            }
            "set_forwarding_state" => {
                let forwarding = required("forwarding", request.forwarding, r#"{"armed": true or false}"#)?;
                let Forwarding { armed } = read("forwarding", forwarding)?;
                let Some(armed) = armed else { return Ok(Done::Nothing) };
                if armed {
                    self.reporter.can_mirror().map_err(|reasons| reasons.join("; "))?;
                }
                client.wait()?;
                self.restand(|standing| standing.with_armed(armed))?;
            }
            "update_ha_state" => {
                let state = required("ha_state", request.ha_state, r#"{"groups": […]}"#)?;
                let state: HaState = read("ha_state", state)?;
                let Some(active) = state.active() else { return Ok(Done::Nothing) };
                let role = if active { Role::Active } else { Role::Standby };
                client.wait()?;
                self.restand(|standing| Standing { role, ..standing })?;
            }
            "list_sessions_by_policy" => return Ok(Done::NoSessions),
            "shutdown" => {
                tracing::info!("a client asks to shut down");
                stop.set();
            }
            kind if NOTHING_TO_DO.contains(&kind) => {}
            "" => return Err("type: the key is missing (allowed: a request type)".to_owned()),
            other => return Err(format!("unknown request type {}", clipped(other))),
        }
        Ok(Done::Nothing)
    }

    /// Publishes a snapshot, as `spanctl import` does, if it is the next one.
    fn apply(&self, document: &str, client: &Client<'_>) -> Result<(), String> {
        // What this cannot read, the reader of documents refuses, with the place.
        let head: Option<Head<'_>> = serde_json::from_str(document).ok();
        let stamp = match &head {
            Some(head) => {
                self.producer.check_version(head.version.as_ref())?;
                head.content_digest.map(|stamp| read::<String>("content_digest", stamp)).transpose()?
            }
            None => None,
        };
        let said = |reasons: Vec<Reason>| joined(&reasons);
        let draft = json::parse_draft(document.as_bytes(), None).map_err(said)?;
        let digest = Provenance::of(document.as_bytes()).digest;
        let stamp = stamp.filter(|stamp| !stamp.is_empty());
        let next = Publication::of(&draft.snapshot, digest, stamp, client.process.clone())?;
        self.producer.check(&next)?;
        let (snapshot, admission) = self.judge(draft).map_err(said)?;
        client.is_there()?;
        self.producer.publish(&self.options.dir, next, || self.publish(&snapshot, &admission, digest)).map_err(said)
    }

    /// Completes and admits a snapshot.
    fn judge(&self, mut draft: Draft) -> Result<(Snapshot, Admission), Vec<Reason>> {
        let links = (self.options.links)(&self.options.dir);
        complete(&mut draft, links.as_ref(), &self.options.wires);
        if let Some(links) = &links {
            links.note(&mut draft.snapshot);
        }
        let admission =
            draft.admit_or(self.options.on_ambiguous, links.as_ref(), |snapshot| gate(&self.options.dir, snapshot));
        let snapshot = draft.snapshot;
        if !admission.accepted() {
            if let Some(news) = self.refused.is(&joined(&admission.reasons)) {
                tracing::warn!("generation {} of the producer is refused: {news}", snapshot.generation);
            }
            return Err(admission.reasons);
        }
        Ok((snapshot, admission))
    }

    fn publish(&self, snapshot: &Snapshot, admission: &Admission, digest: [u8; 32]) -> Result<(), Vec<Reason>> {
        let receipt = publish(&self.options.dir, snapshot, admission, digest)
            .map_err(|error| vec![Reason::new(error.to_string())])?;
        let (published, given) = (receipt.generation, snapshot.generation);
        self.refused.ends();
        tracing::info!("published generation {published}, generation {given} of the producer");
        if let Some(error) = receipt.unkept {
            tracing::warn!("generation {published} is not in the history: {error}");
        }
        for Diagnostic { subject, message, .. } in shortcomings(&self.options.dir, snapshot) {
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

/// All of them on one line, as far as a producer could want to read them.
fn joined(reasons: &[Reason]) -> String {
    let more = (reasons.len() > MAX_REASONS).then_some(AND_MORE);
    let told = reasons.iter().take(MAX_REASONS).map(Reason::as_str);
    told.chain(more).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;
    use std::thread;

    use super::super::clients::Clients;
    use super::super::limits::Class;
    use super::*;
    use crate::control::state::published;

    /// Asks at a desk; the client is there until it has its answer, or closes as soon as it has sent its request.
    fn ask(desk: &Desk, turn: Turn<'_>, request: &str, stays: bool) -> Answer {
        let clients = Clients::new(1, &[Class { size: 1 << 20, most: 1 }]);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        writeln!(theirs, "{request}").unwrap();
        let theirs = stays.then_some(theirs);
        let seat = clients.seat(ours);
        let deadline = Instant::now() + Duration::from_secs(60);
        let request = exchange::read(&seat, deadline).unwrap();
        let client = Client { door: Door::Control, stream: seat.stream(), process: None, turn, deadline };
        let answer = desk.answer(&request, client, &Stop::new().unwrap());
        drop(theirs);
        answer
    }

    #[test]
    fn requests_are_done_in_order_and_only_for_those_who_are_still_there() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        let desk = Desk::new(Options::new(run.clone(), dir.path().join("socket")));
        let apply = |generation: u32, padding: usize| {
            let padding = "x".repeat(padding);
            format!(
                r#"{{"type":"apply_snapshot","snapshot":{{"version":3,"generation":{generation},"routes":"{padding}"}}}}"#
            )
        };
        // One large enough to be taken apart only in its turn.
        let requests = [(apply(1, 0), true), (apply(2, 100_000), true), (apply(4, 0), false), (apply(3, 0), true)];
        let before = desk.turn();
        thread::scope(|scope| {
            let asked: Vec<_> = requests
                .iter()
                .map(|(request, stays)| {
                    let (turn, desk) = (desk.turn(), &desk);
                    scope.spawn(move || ask(desk, turn, request, *stays))
                })
                .collect();
            drop(before);
            for ((_, stays), asked) in requests.iter().zip(asked) {
                let answer = asked.join().unwrap();
                assert_eq!(answer.ok, *stays, "{answer:?}");
            }
        });
        let now = published(&run).unwrap().unwrap();
        assert_eq!((now.generation, now.view().unwrap().meta.source_generation), (3, 3));
    }
}
