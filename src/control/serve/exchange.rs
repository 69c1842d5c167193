//! One request in, one answer out.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::clients::{Room, Seat};

/// How long a whole request may take, from the accept on: as long as the producer itself waits for an exchange.
pub const READ_TIME: Duration = Duration::from_secs(3);
/// How long an answer may take to be read.
const WRITE_TIME: Duration = Duration::from_secs(1);
/// The largest request, bytes: room for a full mirror table and as many interfaces.
pub const MAX_REQUEST: usize = 16 << 20;
/// Up to here every client may hold its request in memory at once; of larger ones there is a bounded number.
pub(super) const SMALL: usize = 64 << 10;
/// Bytes taken from the socket at once.
const CHUNK: usize = 16 << 10;

/// Why there is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Unread {
    /// It takes too long.
    #[error("the request was not whole after {} s (allowed: one JSON object and a newline in that time)", READ_TIME.as_secs())]
    Late,
    /// It has too many bytes.
    #[error("the request has more than the {MAX_REQUEST} bytes allowed")]
    TooLarge,
    /// Other large ones are being read, all the time there was.
    #[error("too many large requests at once (try again)")]
    Busy,
    /// The client has gone, or had to.
    #[error("the client has gone")]
    Gone,
}

/// A request in memory.
#[derive(Debug)]
pub(super) struct Request<'a> {
    bytes: Vec<u8>,
    /// Its room, where it is large.
    _room: Option<Room<'a>>,
}

impl Request<'_> {
    /// Its bytes, without the newline.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads a request: all that comes before the first newline, or before the client's end of sending.
pub(super) fn read<'a>(seat: &'a Seat<'_>, deadline: Instant) -> Result<Request<'a>, Unread> {
    let mut stream = seat.stream();
    let mut chunk = [0; CHUNK];
    let mut bytes = Vec::new();
    let mut room = None;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Unread::Late);
        }
        let read = stream.set_read_timeout(Some(left)).and_then(|()| stream.read(&mut chunk));
        let got = match read {
            Ok(0) if bytes.is_empty() => return Err(Unread::Gone),
            Ok(0) => return Ok(Request { bytes, _room: room }),
            Ok(n) => &chunk[..n],
            Err(error) => match error.kind() {
                ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut => continue,
                _ => return Err(Unread::Gone),
            },
        };
        let end = got.iter().position(|&byte| byte == b'\n');
        let part = &got[..end.unwrap_or(got.len())];
        let len = bytes.len() + part.len();
        if len > MAX_REQUEST {
            return Err(Unread::TooLarge);
        }
        if len > SMALL && room.is_none() {
            room = Some(seat.room(deadline).ok_or(Unread::Busy)?);
            // Once, and not by doubling, which would take more than what is allowed.
            bytes.reserve_exact(MAX_REQUEST - bytes.len());
        }
        bytes.extend_from_slice(part);
        if end.is_some() {
            return Ok(Request { bytes, _room: room });
        }
    }
}

/// Writes an answer. A client that does not read it in time does not get it.
pub(super) fn write(mut stream: &UnixStream, mut answer: &[u8]) -> io::Result<()> {
    let deadline = Instant::now() + WRITE_TIME;
    while !answer.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_write_timeout(Some(left))?;
        match stream.write(answer) {
            Ok(n) => answer = &answer[n..],
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::Shutdown;
    use std::thread;

    use super::super::clients::Clients;
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(200)
    }

    #[test]
    fn a_request_ends_with_a_newline_or_with_the_sending() {
        let clients = Clients::new(2, 1);
        for (sent, want) in [("{}\n", "{}"), ("{}\nmore", "{}"), ("{}", "{}"), ("\n", "")] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            theirs.write_all(sent.as_bytes()).unwrap();
            theirs.shutdown(Shutdown::Write).unwrap();
            assert_eq!(read(&clients.seat(ours), soon()).unwrap().bytes(), want.as_bytes(), "{sent:?}");
        }
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        assert_eq!(read(&clients.seat(ours), soon()).unwrap_err(), Unread::Gone);
    }

    #[test]
    fn the_deadline_is_for_the_whole_request() {
        let clients = Clients::new(2, 1);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let deadline = soon();
        thread::scope(|scope| {
            // Until the other end is gone.
            scope.spawn(move || {
                while theirs.write_all(b" ").is_ok() {
                    thread::sleep(Duration::from_millis(10));
                }
            });
            assert_eq!(read(&clients.seat(ours), deadline).unwrap_err(), Unread::Late);
        });
        assert!(Instant::now() >= deadline);
    }

    #[test]
    fn large_requests_are_bounded_in_size_and_number() {
        let clients = Clients::new(2, 1);
        /// Reads a request of so many bytes, and looks at what was read while it is in memory.
        fn send<T>(
            clients: &Clients,
            bytes: usize,
            deadline: Instant,
            look: impl FnOnce(&Seat<'_>, Result<Request<'_>, Unread>) -> T,
        ) -> T {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            thread::scope(|scope| {
                scope.spawn(move || {
                    // It may be cut off.
                    let _ = theirs.write_all(&vec![b' '; bytes]).and_then(|()| theirs.write_all(b"\n"));
                });
                let seat = clients.seat(ours);
                look(&seat, read(&seat, deadline))
            })
        }
        let long = || Instant::now() + Duration::from_secs(60);
        send(&clients, MAX_REQUEST, long(), |seat, held| {
            let held = held.unwrap();
            assert!(seat.keep());
            assert_eq!((held.bytes().len(), held.bytes.capacity()), (MAX_REQUEST, MAX_REQUEST));
            let second = send(&clients, SMALL + 1, soon(), |_, read| read.map(|_| ()));
            assert_eq!(second, Err(Unread::Busy), "the first one is still in memory");
            let small = send(&clients, SMALL, long(), |_, read| read.map(|read| read.bytes().len()));
            assert_eq!(small, Ok(SMALL), "a small one always has room");
        });
        let beyond = send(&clients, MAX_REQUEST + 1, long(), |_, read| read.map(|_| ()));
        assert_eq!(beyond, Err(Unread::TooLarge));
    }

    #[test]
    fn an_answer_nobody_reads_is_given_up() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        assert_eq!(write(&ours, &vec![0; 64 << 20]).unwrap_err().kind(), ErrorKind::TimedOut);
    }
}
