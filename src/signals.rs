//! Signals of the programs that hold what others rely on: none ends them by surprise.
//!
//! All that can be held back are blocked, from the first line of `main` on, and read where it suits: no thread is
//! interrupted, and however many are sent cost this process nothing. Those that ask for the end lead to a clean one,
//! the others are told of and ignored.
//!
//! Not held back are those that report a fault of the process itself (SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS,
//! SIGTRAP: it ends at once, as it should), those that do nothing by default, SIGPIPE, which Rust ignores, SIGKILL and
//! SIGSTOP, and two that belong to the C library (32 and 33).

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::alarm::sleep;
use crate::stop::Stop;

/// How often [`Signals::watch`] looks for those that are ignored.
const LOOK: Duration = Duration::from_secs(1);
/// Ignored signals read at one look: a storm of those that queue must not hold up who looks.
const AT_ONCE: usize = 1024;

/// What are not held back, of those that could be.
const FREE: [Signal; 12] = [
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGILL,
    Signal::SIGFPE,
    Signal::SIGABRT,
    Signal::SIGSYS,
    Signal::SIGTRAP,
    Signal::SIGPIPE,
    Signal::SIGCHLD,
    Signal::SIGCONT,
    Signal::SIGURG,
    Signal::SIGWINCH,
];

/// What SIGHUP, a closed terminal say, means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HangUp {
    /// Nothing: the program goes on.
    Ignored,
    /// The end, unless whoever started the program had SIGHUP ignored, as nohup does.
    Ends,
}

/// The signals held back, and whether one asks for the end.
#[derive(Debug)]
pub struct Signals {
    /// Apart from the others, so that no storm of those hides one.
    ending: SignalFd,
    ignored: SignalFd,
    /// Those that have been told of, a bit each.
    told: u128,
}

impl Signals {
    /// Holds them back from this thread and those that it starts from now on.
    ///
    /// # Errors
    /// Descriptors are short.
    pub fn hold(hang_up: HangUp) -> io::Result<Signals> {
        let mut ending = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT]);
        if hang_up == HangUp::Ends && !is_ignored(Signal::SIGHUP) {
            ending.add(Signal::SIGHUP);
        }
        let mut all = SigSet::all();
        FREE.into_iter().for_each(|signal| all.remove(signal));
        all.thread_block()?;
        let mut ignored = all;
        ending.iter().for_each(|signal| ignored.remove(signal));
        let open = |set| SignalFd::with_flags(set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC);
        Ok(Signals { ending: open(&ending)?, ignored: open(&ignored)?, told: 0 })
    }

    /// Whether one that asks for the end has come since this was asked last. Tells of the others, each once.
    pub fn ended(&mut self) -> bool {
        for _ in 0..AT_ONCE {
            let Some(number) = next(&self.ignored) else { break };
            let bit = 1u128.checked_shl(number).unwrap_or(0);
            if self.told & bit == 0 {
                self.told |= bit;
                tracing::info!("{} is ignored: {}", name(number), why_ignored(number));
            }
        }
        let Some(number) = next(&self.ending) else { return false };
        tracing::info!("{} asks for the end", name(number));
        true
    }

    /// Sleeps until one asks for the end, or `stop` is set, at most `timeout`. The others wake nobody: a storm of them would do
    /// nothing else.
    pub fn wait(&self, stop: &Stop, timeout: Duration) {
        sleep(&[self.ending.as_fd(), stop.as_fd()], Some(timeout));
    }

    /// Sets `stop` when one asks for the end. Until then, or until somebody else sets it.
    pub fn watch(mut self, stop: &Stop) {
        while !stop.is_set() {
            if self.ended() {
                stop.set();
            }
            self.wait(stop, LOOK);
        }
    }
}

/// The number of the next signal, if there is one.
fn next(signals: &SignalFd) -> Option<u32> {
    // An error of a descriptor that is ours is as good as none.
    signals.read_signal().ok().flatten().map(|signal| signal.ssi_signo)
}

fn name(number: u32) -> String {
    let known = i32::try_from(number).ok().and_then(|number| Signal::try_from(number).ok());
    known.map_or_else(|| format!("signal {number}"), |signal| signal.as_str().to_owned())
}

fn why_ignored(number: u32) -> &'static str {
    match i32::try_from(number).ok().and_then(|number| Signal::try_from(number).ok()) {
        Some(Signal::SIGHUP) => "settings come with the snapshot, so there is nothing to reload",
        Some(Signal::SIGTSTP | Signal::SIGTTIN | Signal::SIGTTOU) => "nothing here may stand still",
        Some(Signal::SIGXCPU) => "the limit on processor time is near, and then SIGKILL (raise it, or do without)",
        _ => "it means nothing here",
    }
}

/// Whether the process was started with the signal ignored.
fn is_ignored(signal: Signal) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (signal as i32 - 1)) != 0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::thread;

    use nix::sys::signal::raise;

    use super::*;

    /// In a thread of its own: it is the thread that holds them back, and gets what it raises.
    fn held(hang_up: HangUp, body: impl FnOnce(Signals) + Send) {
        thread::scope(|scope| scope.spawn(|| body(Signals::hold(hang_up).unwrap())).join().unwrap());
    }

    #[test]
    fn three_signals_ask_for_the_end_and_the_others_do_not() {
        held(HangUp::Ignored, |mut signals| {
            for signal in Signal::iterator().filter(|signal| !FREE.contains(signal)) {
                if matches!(signal, Signal::SIGKILL | Signal::SIGSTOP) {
                    continue;
                }
                raise(signal).unwrap();
                let ends = matches!(signal, Signal::SIGTERM | Signal::SIGINT | Signal::SIGQUIT);
                assert_eq!(signals.ended(), ends, "{signal}");
                assert_eq!(signals.told & (1 << (signal as u32)) != 0, !ends, "{signal}");
                assert!(!signals.ended(), "{signal} is over");
            }
        });
    }

    /// Also where the tests themselves run under nohup.
    #[test]
    fn hanging_up_ends_what_wants_to_end_by_it_unless_it_was_started_with_that_ignored() {
        held(HangUp::Ends, |mut signals| {
            raise(Signal::SIGHUP).unwrap();
            assert_eq!(signals.ended(), !is_ignored(Signal::SIGHUP));
        });
    }

    #[test]
    fn a_watcher_ends_by_a_signal_and_by_another_hand() {
        held(HangUp::Ends, |signals| {
            let stop = Stop::new().unwrap();
            raise(Signal::SIGTERM).unwrap();
            signals.watch(&stop);
            assert!(stop.is_set());
        });
        let stop = Stop::new().unwrap();
        stop.set();
        held(HangUp::Ends, |signals| signals.watch(&stop));
    }

    #[test]
    fn names_for_people() {
        assert_eq!((name(1).as_str(), name(40).as_str()), ("SIGHUP", "signal 40"));
        assert!(why_ignored(1).contains("snapshot") && why_ignored(200) == "it means nothing here");
    }
}
