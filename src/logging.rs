//! Where the programs that run for long say what they do.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing_subscriber::EnvFilter;

/// How long a line waits for a reader that is slow.
const PATIENCE: Duration = Duration::from_millis(100);
/// What a pipe that has room takes without a wait (PIPE_BUF).
const PIECE: usize = 4096;

/// Writes what is told through `tracing` to standard error, from the level in `SPANWIRE_LOG` on (`info` where it is
/// not set or empty). Coloured only on a terminal, and not where `NO_COLOR` is set.
///
/// What nobody takes is lost, and that is all: where a terminal was closed or stopped, or the reader of a pipe has gone
/// or stands still, the work goes on.
pub fn init() {
    let level = std::env::var("SPANWIRE_LOG").ok().filter(|level| !level.is_empty());
    let filter = level.and_then(|level| EnvFilter::try_new(level).ok()).unwrap_or_else(|| EnvFilter::new("info"));
    let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Log(io::stderr()))
        .with_ansi(io::stderr().is_terminal() && colour)
        .with_target(false)
        // The complaint would go the same way, and panic.
        .log_internal_errors(false)
        .init();
}

/// Lines that did not get through since one did. One log is written at a time.
static LOST: Mutex<u64> = Mutex::new(0);

/// A log that holds nobody up for long.
struct Log<T>(T);

impl<T: Write + std::os::fd::AsFd> Log<T> {
    /// Writes a line piece by piece, as there is room.
    fn put(&mut self, line: &[u8], patience: Duration) -> io::Result<()> {
        let limit = Timespec::try_from(patience).ok();
        line.chunks(PIECE).try_for_each(|piece| {
            if poll(&mut [PollFd::new(&self.0, PollFlags::OUT)], limit.as_ref())? == 0 {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.0.write_all(piece)
        })
    }

    fn line(&mut self, line: &[u8], lost: &mut u64) {
        // Once it is known that nobody reads, nobody waits.
        let patience = if *lost == 0 { PATIENCE } else { Duration::ZERO };
        let told = match *lost {
            0 => Ok(()),
            lost => self.put(format!("{lost} lines of this log are lost: nobody took them\n").as_bytes(), patience),
        };
        match told.and_then(|()| self.put(line, patience)) {
            Ok(()) => *lost = 0,
            Err(_) => *lost += 1,
        }
    }
}

impl<T: Write + std::os::fd::AsFd> Write for Log<T> {
    /// One line, which is taken whole.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.line(line, &mut LOST.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Read;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_reader_that_stands_still_loses_lines_and_holds_nobody_up() {
        let (mut reader, writer) = io::pipe().unwrap();
        let (mut log, mut lost) = (Log(writer), 0);
        let line = [&[b'x'; 10_000][..], b"\n"].concat();
        let start = Instant::now();
        for _ in 0..1000 {
            log.line(&line, &mut lost);
        }
        assert!(lost > 900, "a pipe holds 64 KiB: {lost}");
        assert!(start.elapsed() < Duration::from_secs(60), "it waits once");
        // Room for more: the next line says how many are missing.
        reader.read_exact(&mut [0; 20_000]).unwrap();
        log.line(b"again\n", &mut lost);
        assert_eq!(lost, 0);
        drop(log);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert!(
            rest.ends_with("lines of this log are lost: nobody took them\nagain\n"),
            "{}",
            &rest[rest.len() - 200..]
        );
    }

    #[test]
    fn a_reader_that_has_gone_is_no_error() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let (mut log, mut lost) = (Log(writer), 0);
        log.line(b"x\n", &mut lost);
        assert_eq!(lost, 1);
    }
}
