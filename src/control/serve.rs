//! The control socket of a producer, which speaks JSON over a Unix stream socket, and a second one beside it.
//!
//! ```text
//! socket ── accept ──> clients: a thread each ── exchange: one request ──> desk ──> writer, role
//!                                                      one answer <── status <── config.shm, stats.shm
//! ```
//!
//! - `socket`: the files of the two listening sockets, and who may connect; `process`: who has
//! - `options`: what is asked of the server; `error`: why there is none
//! - `clients`: how many there are at once, and who has to go when there are too many; `line`: in which order they are served
//! - `exchange`: one request in, one answer out, within the `limits` of bytes and time
//! - `request`: what it says; `desk`: what it does
//! - `producer`: what is known of the one who publishes; `record`: what of that is kept
//! - `status`: what a producer reads of it; its `bindings` and `heartbeats`
//!
//! A connection carries one exchange: a JSON object and a newline each way. Nothing a client does holds up
//! another: each has a thread of its own and a deadline for all of its request, and only what is complete comes to
//! the desk, where changes are made in the order in which they came. All clients together hold a bounded amount of
//! memory. What is refused is read to its end, so that the client reads why.

mod bindings;
mod clients;
mod desk;
mod error;
mod exchange;
mod heartbeats;
mod limits;
mod line;
mod lock;
mod options;
mod process;
mod producer;
mod record;
mod request;
mod socket;
mod status;

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use serde_json::value::RawValue;

use crate::stop::Stop;
use crate::told;
use clients::{Clients, Seat};
use desk::{Answer, Client, Desk};
use limits::{LARGER, Unread, per_mib};
use process::Process;
use socket::{Door, Sockets};

pub use error::ServeError;
pub use limits::{MAX_REQUEST, MIB_TIME, READ_TIME};
pub use options::{Asked, Options};
pub use record::RECORD_FILE;
pub use socket::SESSIONS_SOCKET;

/// Clients served at once. One more takes the place of the one that has been sending longest.
const MAX_CLIENTS: usize = 128;

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
    pub fn run(&self, stop: &Stop) -> Result<(), ServeError> {
        thread::scope(|scope| {
            let ended = loop {
                if stop.is_set() {
                    break Ok(());
                }
                let arrived = match self.sockets.accept(stop) {
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
    fn serve(&self, door: Door, seat: &Seat<'_>, stop: &Stop) {
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
                if !stop.is_set() {
                    exchange::drain(stream);
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
            Err(error) => tracing::debug!("an answer did not get through: {error}"),
        }
    }
}
