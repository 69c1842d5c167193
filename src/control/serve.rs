//! The control socket of a producer, which speaks JSON over a Unix stream socket, and a second one beside it.
//!
//! ```text
//! socket ── accept ──> clients: a thread each ── exchange: one request ──> desk ──> writer, role
//!                                                      one answer <── status <── config.shm, stats.shm
//! ```
//!
//! - `socket`: the files of the two listening sockets, and who may connect; `process`: who has
//! - `clients`: how many there are at once, who has to go when there are too many, and in which order they are served
//! - `exchange`: one request in, one answer out, bounded in bytes and time
//! - `request`: what it says; `desk`: what it does
//! - `producer`: what is known of the one who publishes; `record`: what of that is kept
//! - `status`: what a producer reads of it
//!
//! A connection carries one exchange: a JSON object and a newline each way. Nothing a client does holds up
//! another: each has a thread of its own and a deadline for all of its request, and only what is complete comes to
//! the desk, where changes are made in the order in which they came. All clients together hold a bounded amount of
//! memory. What is refused is read to its end, so that the client reads why.

mod clients;
mod desk;
mod exchange;
mod process;
mod producer;
mod record;
mod request;
mod socket;
mod status;

use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use thiserror::Error;

use super::draft::OnAmbiguous;
use super::model::Links;
use crate::region::RegionError;
use crate::told;
use clients::{Clients, Seat};
use desk::{Answer, Client, Desk};
use exchange::{LARGER, Unread, per_mib};
use process::Process;
use socket::{Door, Sockets};

pub use exchange::{MAX_REQUEST, MIB_TIME, READ_TIME};
pub use record::RECORD_FILE;
pub use socket::SESSIONS_SOCKET;

/// How long it may take until a request to stop is seen.
const TICK: Duration = Duration::from_millis(50);
/// Clients served at once. One more takes the place of the one that has been sending longest.
const MAX_CLIENTS: usize = 128;

/// What to serve, and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory of the regions.
    pub dir: PathBuf,
    /// Where the socket is to be.
    pub socket: PathBuf,
    /// Wires for snapshots that name none, each `A:B`; see [`add_wires`](super::wires::add_wires).
    pub wires: Vec<String>,
    /// The devices of the dataplane in that directory, where they can be known: what is missing there, or slow, is said
    /// of a snapshot.
    pub links: fn(&Path) -> Option<Links>,
    /// What to do where only the mirror table of a snapshot is refused.
    pub on_ambiguous: OnAmbiguous,
    /// The snapshot protocol version that producers are told; `None` for that of the last snapshot a producer published
    /// in this directory, and [`KNOWN_VERSION`](super::model::KNOWN_VERSION) where there is none.
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

/// Why there is no server.
#[derive(Debug, Error)]
pub enum ServeError {
    /// Another server has the socket.
    #[error("{}: somebody listens there already (end that one first, or use a --socket in another directory)", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// The second socket would have this name.
    #[error("{}: is the name of the second socket beside this one (give --socket another name)", path.display())]
    Reserved {
        /// The socket.
        path: PathBuf,
    },
    /// Something else has its name.
    #[error("{}: is there and is no socket; it is left alone (remove it, or use another --socket)", path.display())]
    NoSocket {
        /// The file.
        path: PathBuf,
    },
    /// Its lock file is not to be trusted, or cannot be locked.
    #[error("{}: cannot be served: {source}", path.display())]
    Lock {
        /// The socket.
        path: PathBuf,
        /// What is wrong with the lock file.
        source: RegionError,
    },
    /// The system refuses.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The socket.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// Bound sockets. Dropping them removes the files.
#[derive(Debug)]
pub struct Server {
    sockets: Sockets,
    clients: Clients,
    desk: Desk,
    /// Of clients and requests that do not come as far as the desk.
    refused: told::Shared,
}

impl Server {
    /// Listens. A socket file that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// [`ServeError`]; what was there before stays.
    pub fn bind(options: Options) -> Result<Server, ServeError> {
        let sockets = Sockets::bind(&options.socket)?;
        tracing::info!("listening at {} for {}", options.socket.display(), options.dir.display());
        Ok(Server {
            sockets,
            clients: Clients::new(MAX_CLIENTS, &LARGER),
            desk: Desk::new(options),
            refused: told::Shared::default(),
        })
    }

    /// The status, as a client is told it.
    pub fn status(&self) -> Option<Arc<RawValue>> {
        self.desk.status()
    }

    /// Serves until `stop` or a request to shut down, and until the last exchange has ended.
    ///
    /// # Errors
    /// The sockets cannot be waited on.
    pub fn run(&self, stop: &AtomicBool) -> Result<(), ServeError> {
        thread::scope(|scope| {
            let ended = loop {
                if stop.load(Relaxed) {
                    break Ok(());
                }
                let arrived = match self.sockets.accept(TICK) {
                    Ok(arrived) => arrived,
                    Err(error) => break Err(error),
                };
                for (door, stream) in arrived {
                    let seat = self.clients.seat(stream);
                    let spawned = thread::Builder::new()
                        .name("client".to_owned())
                        .spawn_scoped(scope, move || self.serve(door, &seat, stop));
                    if let Err(error) = spawned
                        && let Some(news) = self.refused.is(&format!("cannot start a thread: {error}"))
                    {
                        tracing::warn!("a client is turned away: {news}");
                    }
                }
            };
            tracing::info!("stopping");
            self.clients.dismiss();
            ended
        })
    }

    /// One exchange. What a client does not hear any more is its own loss.
    fn serve(&self, door: Door, seat: &Seat<'_>, stop: &AtomicBool) {
        let start = Instant::now();
        let stream: &UnixStream = seat.stream();
        let answer = match self.sockets.check_peer(door, stream) {
            Err(why) => {
                if let Some(news) = self.refused.is(&why) {
                    tracing::warn!("a client is refused: {news}");
                }
                Answer::refusal(why)
            }
            Ok(pid) => match exchange::read(seat, start + READ_TIME) {
                Ok(request) => {
                    if !seat.keep() {
                        // Sent away, so this may be a part of it.
                        return;
                    }
                    self.refused.ends();
                    // At once: those that are whole later come later.
                    let turn = self.desk.turn();
                    let deadline = start + READ_TIME + per_mib(request.bytes().len());
                    let client = Client { door, stream, process: pid.and_then(Process::of), turn, deadline };
                    self.desk.answer(&request, client, stop)
                }
                Err(Unread::Gone) => return,
                Err(why) => {
                    if let Some(news) = self.refused.is(&why.to_string()) {
                        tracing::warn!("a request is refused: {news}");
                    }
                    Answer::refusal(why.to_string())
                }
            },
        };
        match exchange::write(stream, &answer, exchange::reading_ends(answer.len())) {
            Ok(()) if answer.ok => {}
            Ok(()) => {
                seat.release();
                // Nobody is dismissed any more.
                if !stop.load(Relaxed) {
                    exchange::drain(stream);
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
            Err(error) => tracing::debug!("an answer did not get through: {error}"),
        }
    }
}
