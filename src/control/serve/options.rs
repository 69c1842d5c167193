//! What is asked of a server.

use std::path::{Path, PathBuf};

use crate::control::draft::OnAmbiguous;
use crate::control::link::Links;

/// What to serve, and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory of the regions.
    pub dir: PathBuf,
    /// Where the socket is to be.
    pub socket: PathBuf,
    /// Wires for snapshots that name none, each `A:B`; see [`add_wires`](crate::control::wires::add_wires).
    pub wires: Vec<String>,
    /// The devices of the dataplane in that directory, where they can be known: what is missing there, or slow, is said
    /// of a snapshot.
    pub links: fn(&Path) -> Option<Links>,
    /// What to do where only the mirror table of a snapshot is refused.
    pub on_ambiguous: OnAmbiguous,
    /// The snapshot protocol version that producers are told; `None` for that of the last snapshot a producer published
    /// in this directory, and [`KNOWN_VERSION`](crate::control::model::KNOWN_VERSION) where there is none.
    pub protocol: Option<u32>,
    /// What a producer that starts this server itself asks for.
    pub asked: Asked,
}

impl Options {
    /// For regions in `dir`, with a socket there, and nothing else asked for.
    #[must_use]
    pub fn new(dir: PathBuf, socket: PathBuf) -> Options {
        Options {
            dir,
            socket,
            wires: Vec::new(),
            links: |_| None,
            on_ambiguous: OnAmbiguous::Reject,
            protocol: None,
            asked: Asked::default(),
        }
    }
}

/// What a producer asks for of the helper it starts, told back to it in the status: what is really so where that is
/// known, otherwise this.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Where the helper is to keep its state; `config.shm` where it does not say.
    pub state_file: Option<PathBuf>,
    /// Workers; the shards of the dataplane once it runs.
    pub workers: Option<usize>,
    /// Entries of a ring; those of the dataplane once it runs.
    pub ring_entries: Option<u32>,
    /// How a worker waits for frames.
    pub poll_mode: Option<String>,
}
