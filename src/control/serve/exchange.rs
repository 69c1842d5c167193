//! One request in, one answer out.

use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use super::clients::{LOOK, Room, Seat};
use super::limits::{MAX_REQUEST, READ_TIME, SMALL, Unread, per_mib};

/// How long what a client goes on sending after its answer is read, and thrown away, and [`MIB_TIME`](super::limits::MIB_TIME) more for each MiB of
/// it: one that is not done by then does not mean to read the answer.
const DRAIN_TIME: Duration = Duration::from_secs(10);
/// Nor does one that sends so much, bytes.
const MAX_DRAINED: usize = 4 * MAX_REQUEST;
/// Bytes taken from the socket at once, of a request that is small so far.
const CHUNK: usize = 16 << 10;
/// And of a large one, as many as the socket holds: each time costs a change of processes.
const LARGE_CHUNK: usize = 256 << 10;

/// A request in memory.
#[derive(Debug)]
pub(super) struct Request<'a> {
    bytes: Vec<u8>,
    /// Its room, where it is large.
    room: Option<Room<'a>>,
}

impl Request<'_> {
    /// Its bytes, without the newline.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether taking it apart takes time and memory that not everybody may take at once.
    pub(super) fn is_large(&self) -> bool {
        self.room.is_some()
    }
}

/// Reads a request: all that comes before the first newline, or before the client's end of sending. It has until
/// `deadline`, and [`MIB_TIME`](super::limits::MIB_TIME) more for each MiB that has come.
pub(super) fn read<'a>(seat: &'a Seat<'_>, deadline: Instant) -> Result<Request<'a>, Unread> {
    let mut stream = seat.stream();
    let mut chunk = vec![0; CHUNK];
    let mut bytes: Vec<u8> = Vec::new();
    let mut room: Option<Room<'_>> = None;
    loop {
        let deadline = deadline + per_mib(bytes.len());
        let mut left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Unread::Late);
        }
        if let Some(room) = &room {
            room.note(0)?;
            // Others may want it.
            left = left.min(LOOK);
        }
        let read = stream.set_read_timeout(Some(left)).and_then(|()| stream.read(&mut chunk));
        let got = match read {
            Ok(0) if bytes.is_empty() => return Err(Unread::Gone),
            Ok(0) => return Ok(Request { bytes, room }),
            Ok(n) => &chunk[..n],
            Err(error) => match error.kind() {
                ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut => continue,
                _ => return Err(Unread::Gone),
            },
        };
        let end = got.iter().position(|&byte| byte == b'\n');
        let part = &got[..end.unwrap_or(got.len())];
        let len = bytes.len() + part.len();
        if len > SMALL {
            let room = match &mut room {
                Some(room) => room,
                none => none.insert(seat.room(deadline)?),
            };
            while len > room.size() {
                room.grow(deadline)?;
            }
            room.note(part.len())?;
            if room.size() > bytes.capacity() {
                // Once, and not by doubling, which would take more than what is allowed.
                bytes.reserve_exact(room.size() - bytes.len());
            }
        }
        bytes.extend_from_slice(part);
        if end.is_some() {
            return Ok(Request { bytes, room });
        }
        if room.is_some() {
            chunk.resize(LARGE_CHUNK, 0);
        }
    }
}

/// Whether the client has gone, and with it who would read the answer. One that has only ended its sending has not.
pub(super) fn has_gone(stream: &UnixStream) -> bool {
    let mut fds = [PollFd::new(stream, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}

/// When an answer of so many bytes has to be read: it may take what a request may.
pub(super) fn reading_ends(answer: usize) -> Instant {
    Instant::now() + READ_TIME + per_mib(answer)
}

/// Writes an answer and a newline. A client that does not read it before `deadline` does not get it.
pub(super) fn write(stream: &UnixStream, answer: &impl Serialize, deadline: Instant) -> io::Result<()> {
    let mut out = BufWriter::new(Timed { stream, deadline });
    serde_json::to_writer(&mut out, answer)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// A stream that is written to until a time.
struct Timed<'a> {
    stream: &'a UnixStream,
    deadline: Instant,
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.stream.set_write_timeout(Some(left))?;
            match self.stream.write(bytes) {
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads on, after the answer to a request that was refused, until the client has sent all of it: one that still writes
/// would see EPIPE, and not the reason.
pub(super) fn drain(mut stream: &UnixStream) {
    // Who reads to the end has it.
    let _ = stream.shutdown(Shutdown::Write);
    let start = Instant::now();
    let mut chunk = vec![0; SMALL];
    let mut drained = 0;
    while drained <= MAX_DRAINED {
        let left = (DRAIN_TIME + per_mib(drained)).saturating_sub(start.elapsed());
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
            return;
        }
        match stream.read(&mut chunk) {
            Ok(0) => return,
            Ok(n) => drained += n,
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::thread;

    use super::super::clients::Clients;
    use super::super::limits::{Class, MIB_TIME};
    use super::*;

    const ONE: [Class; 1] = [Class { size: MAX_REQUEST, most: 1 }];

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(200)
    }

    fn long() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn a_request_ends_with_a_newline_or_with_the_sending() {
        let clients = Clients::new(2, &ONE);
        for (sent, want) in [("{}\n", "{}"), ("{}\nmore", "{}"), ("{}", "{}"), ("\n", "")] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            theirs.write_all(sent.as_bytes()).unwrap();
            theirs.shutdown(Shutdown::Write).unwrap();
            assert_eq!(read(&clients.seat(ours), long()).unwrap().bytes(), want.as_bytes(), "{sent:?}");
        }
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        assert_eq!(read(&clients.seat(ours), long()).unwrap_err(), Unread::Gone);
    }

    #[test]
    fn one_who_has_closed_has_gone_and_one_who_has_sent_all_has_not() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        assert!(!has_gone(&ours));
        theirs.shutdown(Shutdown::Write).unwrap();
        assert!(!has_gone(&ours));
        drop(theirs);
        assert!(has_gone(&ours));
    }

    #[test]
    fn the_deadline_is_for_the_whole_request() {
        let clients = Clients::new(2, &ONE);
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
    fn the_deadline_grows_with_what_has_come() {
        assert_eq!((per_mib(0), per_mib(1 << 20), per_mib(3 << 19)), (Duration::ZERO, MIB_TIME, 3 * MIB_TIME / 2));
        assert!(per_mib(usize::MAX) > per_mib(MAX_REQUEST));
        let clients = Clients::new(2, &ONE);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let deadline = Instant::now() + READ_TIME;
        thread::scope(|scope| {
            scope.spawn(move || {
                theirs.write_all(&vec![b' '; 16 << 20]).unwrap();
                // Beyond the time of a small one.
                thread::sleep(READ_TIME);
                theirs.write_all(b"\n").unwrap();
            });
            let read = read(&clients.seat(ours), deadline).map(|request| request.bytes().len());
            assert_eq!(read, Ok(16 << 20));
        });
        assert!(Instant::now() > deadline);
    }

    #[test]
    fn large_requests_are_bounded_in_size_and_number() {
        let clients = Clients::new(2, &ONE);
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
        send(&clients, MAX_REQUEST, long(), |seat, held| {
            let held = held.unwrap();
            assert!(seat.keep() && held.is_large());
            assert_eq!((held.bytes().len(), held.bytes.capacity()), (MAX_REQUEST, MAX_REQUEST));
            let second = send(&clients, SMALL + 1, Instant::now() + Duration::from_secs(2), |_, read| read.map(|_| ()));
            assert_eq!(second, Err(Unread::Busy), "the first one is still in memory");
            let small = send(&clients, SMALL, long(), |_, read| read.map(|read| (read.bytes().len(), read.is_large())));
            assert_eq!(small, Ok((SMALL, false)), "a small one always has room");
        });
        let beyond = send(&clients, MAX_REQUEST + 1, long(), |_, read| read.map(|_| ()));
        assert_eq!(beyond, Err(Unread::TooLarge));
    }

    #[test]
    fn what_is_refused_is_read_to_its_end() {
        let clients = Clients::new(2, &ONE);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        thread::scope(|scope| {
            let sent = scope.spawn(move || {
                theirs.write_all(&vec![b'['; MAX_REQUEST + (6 << 20)]).unwrap();
                let mut answer = String::new();
                theirs.read_to_string(&mut answer).unwrap();
                answer
            });
            let seat = clients.seat(ours);
            assert_eq!(read(&seat, long()).unwrap_err(), Unread::TooLarge);
            write(seat.stream(), &"why", reading_ends(5)).unwrap();
            drain(seat.stream());
            assert_eq!(sent.join().unwrap(), "\"why\"\n");
        });
    }

    #[test]
    fn one_who_never_ends_is_not_read_for_ever() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        thread::scope(|scope| {
            let sent = scope.spawn(move || {
                let chunk = vec![b' '; 1 << 20];
                (0..).take_while(|_| theirs.write_all(&chunk).is_ok()).count()
            });
            drain(&ours);
            drop(ours);
            let sent = sent.join().unwrap();
            assert!((MAX_DRAINED >> 20..=(MAX_DRAINED >> 20) + 2).contains(&sent), "{sent} MiB");
        });
    }

    #[test]
    fn an_answer_nobody_reads_is_given_up() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let answer = "x".repeat(8 << 20);
        assert_eq!(write(&ours, &answer, soon()).unwrap_err().kind(), ErrorKind::TimedOut);
    }
}
