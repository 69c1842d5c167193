//! The control socket of a producer, which speaks JSON over a Unix stream socket.
//!
//! ```text
//! socket ── accept ──> clients: a thread each ── exchange: one request ──> desk ──> writer, role
//!                                                      one answer <── status <── config.shm, stats.shm
//! ```
//!
//! - `socket`: the listening socket's file, and who may connect
//! - `clients`: how many there are at once, and who has to go when there are too many
//! - `exchange`: one request in, one answer out, bounded in bytes and time
//! - `desk`: what each request does
//! - `status`: what a producer reads of it
//!
//! A connection carries one exchange: a JSON object and a newline each way. Nothing a client does holds up
//! another: each has a thread of its own and a deadline for all of its request, and only what is complete comes to
//! the desk. All clients together hold a bounded amount of memory.

mod clients;
mod desk;
mod exchange;
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
use clients::{Clients, Seat};
use desk::Desk;
use exchange::Unread;
use socket::Socket;

pub use exchange::{MAX_REQUEST, READ_TIME};

/// How long it may take until a request to stop is seen.
const TICK: Duration = Duration::from_millis(50);
/// Clients served at once. One more takes the place of the one that has been sending longest.
const MAX_CLIENTS: usize = 128;
/// Requests above [`exchange::SMALL`] in memory at once. One more takes the place of the one that takes longest.
const MAX_LARGE: usize = 4;

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
    #[error("{}: somebody listens there already (end that one first, or use another --socket)", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something else has its name.
    #[error("{}: is there and is no socket; it is left alone (remove it, or use another --socket)", path.display())]
    NoSocket {
        /// The file.
        path: PathBuf,
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

/// A bound socket. Dropping it removes the file.
#[derive(Debug)]
pub struct Server {
    socket: Socket,
    clients: Clients,
    desk: Desk,
}

impl Server {
    /// Listens. A socket file that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// [`ServeError`]; what was there before stays.
    pub fn bind(options: Options) -> Result<Server, ServeError> {
        let socket = Socket::bind(&options.socket)?;
        tracing::info!("listening at {} for {}", options.socket.display(), options.dir.display());
        Ok(Server { socket, clients: Clients::new(MAX_CLIENTS, MAX_LARGE), desk: Desk::new(options) })
    }

    /// The status, as a client is told it.
    pub fn status(&self) -> Option<Arc<RawValue>> {
        self.desk.status()
    }

    /// Serves until `stop` or a request to shut down, and until the last exchange has ended.
    ///
    /// # Errors
    /// The socket cannot be waited on.
    pub fn run(&self, stop: &AtomicBool) -> Result<(), ServeError> {
        thread::scope(|scope| {
            let ended = loop {
                if stop.load(Relaxed) {
                    break Ok(());
                }
                let stream = match self.socket.accept(TICK) {
                    Ok(Some(stream)) => stream,
                    Ok(None) => continue,
                    Err(error) => break Err(error),
                };
                let seat = self.clients.seat(stream);
                let spawned = thread::Builder::new()
                    .name("client".to_owned())
                    .spawn_scoped(scope, move || self.serve(&seat, stop));
                if let Err(error) = spawned {
                    tracing::warn!("a client is turned away: cannot start a thread: {error}");
                }
            };
            tracing::info!("stopping");
            self.clients.dismiss();
            ended
        })
    }

    /// One exchange. What a client does not hear any more is its own loss.
    fn serve(&self, seat: &Seat<'_>, stop: &AtomicBool) {
        let deadline = Instant::now() + READ_TIME;
        let stream: &UnixStream = seat.stream();
        let answer = match self.socket.check_peer(stream) {
            Err(why) => {
                tracing::warn!("a client is refused: {why}");
                self.desk.refuse(why)
            }
            Ok(()) => match exchange::read(seat, deadline) {
                Ok(request) => {
                    if !seat.keep() {
                        // Sent away, so this may be a part of it.
                        return;
                    }
                    self.desk.answer(request.bytes(), deadline, stop)
                }
                Err(Unread::Gone) => return,
                Err(why) => {
                    tracing::warn!("a request is refused: {why}");
                    self.desk.refuse(why.to_string())
                }
            },
        };
        if let Err(error) = exchange::write(stream, &answer)
            && !matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
        {
            tracing::debug!("an answer did not get through: {error}");
        }
    }
}
