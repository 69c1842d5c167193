//! What is known of the producer: the version it speaks, what it published last, and when it began anew.
//!
//! Its generations begin anew with its process, and are held against what this process has accepted. So two things are
//! told apart by whether the process that published last still lives:
//!
//! ```text
//! this server was started again   the producer lives    what it published is in force: nothing to do
//! the producer was started again  that process is gone  nothing of it is in force here: it publishes its first
//! ```
//!
//! What stands in `config.shm` and was published by somebody else since, or cannot be read, is nothing of the
//! producer's either; told that, it publishes again.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::path::Path;
use std::sync::Mutex;

use serde_json::Number;
use sha2::{Digest, Sha256};
use shm_layout::record::MetaRecord;

use super::lock::lock;
use super::options::Options;
use super::process::Process;
use super::record::Record;
use crate::control::model::{KNOWN_VERSION, Snapshot};
use crate::control::quote::clipped;

/// Up to this version a producer wants the other end to know at least its own, later ones want the same; and it opens
/// no second socket.
const OLD: u32 = 3;
/// Processes remembered beside the producer.
const LOOKERS: usize = 8;

/// A snapshot of the producer's, as far as the next one is held against it.
#[derive(Clone, Debug)]
pub(super) struct Publication {
    record: Record,
    /// The producer's own digest of the content, where it has one.
    stamp: Option<String>,
    /// The digest of what is read of it.
    content: [u8; 32],
}

impl Publication {
    /// A snapshot that was read from a document with this digest, and what that says of its content.
    ///
    /// # Errors
    /// A forwarding generation that no producer has.
    pub(super) fn of(
        snapshot: &Snapshot,
        document: [u8; 32],
        stamp: Option<String>,
        process: Option<Process>,
    ) -> Result<Publication, String> {
        // What is new in each document is no other content.
        let Snapshot { version, generation, fib_generation: fib, generated_at: _, interfaces, mirrors, wires } =
            snapshot;
        let mut content = Hasher(Sha256::new());
        // A hasher takes all there is.
        let _ = write!(content, "{interfaces:?}{mirrors:?}{wires:?}");
        let (version, generation, fib_generation) = (*version, *generation, fib_generation(Some(&(*fib).into()))?);
        let record = Record { version, generation, fib_generation, document, process };
        Ok(Publication { record, stamp, content: content.0.finalize().into() })
    }

    /// Whether both are the same table. The producer's digest says so where both have one.
    fn is_like(&self, other: &Publication) -> bool {
        match (&self.stamp, &other.stamp) {
            (Some(own), Some(others)) => own == others,
            _ => self.content == other.content,
        }
    }

    fn stamp(&self) -> String {
        self.stamp.as_deref().map_or_else(|| "none".to_owned(), |stamp| format!("\"{}\"", clipped(stamp)))
    }
}

/// The forwarding generation of a snapshot; what Go leaves out is zero.
///
/// # Errors
/// It has more than the 32 bits of the producer's.
pub(super) fn fib_generation(value: Option<&Number>) -> Result<u32, String> {
    let Some(value) = value else { return Ok(0) };
    value.as_u64().and_then(|value| u32::try_from(value).ok()).ok_or_else(|| {
        let shown = clipped(&value.to_string());
        format!("fib_generation: {shown} is out of range (allowed: an integer in 0..={})", u32::MAX)
    })
}

struct Hasher(Sha256);

impl fmt::Write for Hasher {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

/// The producer.
#[derive(Debug)]
pub(super) struct Producer {
    /// The version it is told whatever it speaks.
    protocol: Option<u32>,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    /// Of the last snapshot accepted in the directory.
    version: Option<u32>,
    /// Accepted by a server before this one.
    former: Option<Record>,
    /// Accepted by this one.
    accepted: Option<Publication>,
    /// On its way into `config.shm`.
    underway: Option<Record>,
    /// Its forwarding generation, which moves without a snapshot too.
    fib_generation: Option<u32>,
    /// Processes other than the producer that have looked, the last at the end.
    lookers: VecDeque<Process>,
    /// How often any of this has changed.
    changes: u64,
}

/// What of the producer's is in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct InForce {
    /// The generation of its snapshot; 0 where none of it is.
    pub generation: u64,
    /// Its forwarding generation.
    pub fib_generation: u32,
}

impl Producer {
    /// The producer of a directory.
    pub(super) fn new(options: &Options) -> Producer {
        let former = Record::read(&options.dir);
        let version = former.as_ref().map(|former| former.version);
        let producer = Producer { protocol: options.protocol, memory: Mutex::default() };
        let memory = Memory { version, former, ..Memory::default() };
        producer.log_version(&memory);
        Producer { memory: Mutex::new(memory), ..producer }
    }

    /// The version it is told.
    pub(super) fn version(&self) -> u32 {
        self.version_of(&lock(&self.memory))
    }

    fn version_of(&self, memory: &Memory) -> u32 {
        self.protocol.or(memory.version).unwrap_or(KNOWN_VERSION)
    }

    /// Says in the log which version it is told, and why: it publishes nothing where that does not suit it.
    fn log_version(&self, memory: &Memory) {
        let version = self.version_of(memory);
        match (self.protocol, memory.version) {
            (Some(_), _) => tracing::info!("telling producers version {version}, which --protocol says"),
            (None, Some(_)) => tracing::info!(
                "telling producers version {version}, that of the last snapshot accepted; --protocol N says another"
            ),
            (None, None) => {
                tracing::info!("telling producers version {version}, the newest known here; --protocol N says another")
            }
        }
    }

    /// Takes note of the version that the producer speaks, if it is known.
    fn learn_version(&self, memory: &mut Memory, version: Option<u32>) {
        let before = self.version_of(memory);
        memory.version = version;
        if self.version_of(memory) != before {
            self.log_version(memory);
        }
    }

    /// Checks a snapshot's version, of which every one is read from 1 up. What Go leaves out is zero.
    ///
    /// # Errors
    /// The sentence that the producer knows.
    pub(super) fn check_version(&self, version: Option<&Number>) -> Result<(), String> {
        let known = version.and_then(Number::as_u64).and_then(|version| u32::try_from(version).ok());
        if known.is_some_and(|version| version > 0) {
            return Ok(());
        }
        let shown = version.map_or_else(|| "0".to_owned(), Number::to_string);
        Err(format!("unsupported snapshot protocol version {} (want {})", clipped(&shown), self.version()))
    }

    /// Takes note of who asks. Where the process that published last is gone, and another one asks that has looked
    /// before, that is the producer, begun anew: it looks at the status before it publishes. One that only publishes may
    /// be anybody.
    pub(super) fn hear(&self, process: Option<&Process>) {
        let Some(process) = process else { return };
        let mut memory = lock(&self.memory);
        if memory.lookers.contains(process) && memory.published_by().is_some_and(|by| by != process && !by.lives()) {
            tracing::info!("the producer has begun anew: so have its generations");
            *memory = Memory { version: memory.version, changes: memory.changes + 1, ..Memory::default() };
        }
    }

    /// Takes note of one who looks at what there is: at the status, or whether there is a second socket.
    pub(super) fn note_look(&self, process: Option<&Process>) {
        let Some(process) = process else { return };
        let mut memory = lock(&self.memory);
        if memory.published_by().is_none_or(|by| by == process) || memory.lookers.contains(process) {
            return;
        }
        if memory.lookers.len() == LOOKERS {
            memory.lookers.pop_front();
        }
        memory.lookers.push_back(process.clone());
    }

    /// Takes note of a client at the second socket, which old producers do not open: where the last snapshot was an
    /// old producer's, a new one has taken its place, and would not publish to one who knows only the old version.
    pub(super) fn hear_sessions(&self) {
        let mut memory = lock(&self.memory);
        if memory.version.is_some_and(|version| version <= OLD) {
            self.learn_version(&mut memory, None);
        }
    }

    /// Holds a snapshot against the last one accepted.
    ///
    /// # Errors
    /// It is older, or another one under the same generation; in the sentences that the producer knows.
    pub(super) fn check(&self, next: &Publication) -> Result<(), String> {
        let memory = lock(&self.memory);
        let Some(last) = &memory.accepted else { return Ok(()) };
        let fib = memory.fib_generation.unwrap_or(last.record.fib_generation);
        let (now, then) = ((next.record.generation, next.record.fib_generation), (last.record.generation, fib));
        if now < then {
            return Err(format!(
                "snapshot generation rollback rejected: ({}, {}) < current ({}, {})",
                now.0, now.1, then.0, then.1
            ));
        }
        if now.0 == then.0 && !next.is_like(last) {
            return Err(format!(
                "snapshot content conflict at reused generation: generation {} is in force with content digest {}; \
                 this one carries {}",
                now.0,
                last.stamp(),
                next.stamp()
            ));
        }
        Ok(())
    }

    /// Publishes a snapshot that was checked, and takes note of it where that is done.
    ///
    /// # Errors
    /// As those of `publish`.
    pub(super) fn publish<T, E>(
        &self,
        dir: &Path,
        next: Publication,
        publish: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        self.change(|memory| memory.underway = Some(next.record.clone()));
        let done = publish();
        self.change(|memory| {
            memory.underway = None;
            if done.is_ok() {
                self.learn_version(memory, Some(next.record.version));
                memory.fib_generation = Some(next.record.fib_generation);
                memory.lookers.clear();
                memory.accepted = Some(next.clone());
            }
        });
        if done.is_ok()
            && let Err((path, error)) = next.record.write(dir)
        {
            tracing::warn!("{}: the producer's version is not kept: {error}", path.display());
        }
        done
    }

    /// Moves the forwarding generation.
    ///
    /// # Errors
    /// It would go back.
    pub(super) fn move_fib(&self, next: u32) -> Result<(), String> {
        let mut memory = lock(&self.memory);
        match memory.fib_generation {
            Some(current) if next < current => {
                Err(format!("fib generation rollback rejected: {next} < current {current}"))
            }
            _ => {
                memory.fib_generation = Some(next);
                memory.changes += 1;
                Ok(())
            }
        }
    }

    /// What of the producer's is in force, with what is published as `look` finds it.
    pub(super) fn in_force<T>(&self, look: impl Fn() -> (Option<MetaRecord>, T)) -> (InForce, T) {
        loop {
            let before = lock(&self.memory).changes;
            let (meta, looked) = look();
            let memory = lock(&self.memory);
            let known = memory.find(meta.as_ref());
            // What was published in between is not held against what was known before.
            if known.is_none() && memory.changes != before {
                continue;
            }
            let fib_generation = memory.fib_generation.or(known.map(|known| known.fib_generation)).unwrap_or(0);
            return (InForce { generation: known.map_or(0, |known| known.generation), fib_generation }, looked);
        }
    }

    fn change(&self, change: impl FnOnce(&mut Memory)) {
        let mut memory = lock(&self.memory);
        change(&mut memory);
        memory.changes += 1;
    }
}

impl Memory {
    /// The process whose snapshot was accepted last.
    fn published_by(&self) -> Option<&Process> {
        self.accepted.as_ref()?.record.process.as_ref()
    }

    /// The snapshot of the producer's that is published with these words, if it is one.
    fn find(&self, meta: Option<&MetaRecord>) -> Option<&Record> {
        let meta = meta?;
        let accepted = self.accepted.as_ref().map(|accepted| &accepted.record);
        // A former server's only while the process lives whose generations these are.
        let lives = |former: &&Record| former.process.as_ref().is_some_and(Process::lives);
        let former = if accepted.is_none() { self.former.as_ref().filter(lives) } else { None };
        let mut known = accepted.into_iter().chain(&self.underway).chain(former);
        known.find(|known| (known.generation, known.document) == (meta.source_generation, meta.digest))
    }
}
