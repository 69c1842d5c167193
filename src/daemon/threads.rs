//! The threads of a dataplane, none of which may end before the dataplane does.

use std::io;
use std::sync::{Arc, OnceLock};
use std::thread::{Builder, JoinHandle};

use super::berths::Berths;
use crate::stop::Stop;

/// Starts them, and has the dataplane end with the first that does.
#[derive(Clone, Debug)]
pub struct Threads {
    over: Arc<Stop>,
    first: Arc<OnceLock<String>>,
    berths: Option<Berths>,
}

impl Threads {
    /// None yet; `over` is set when one of them ends. Control threads come to these processors.
    pub fn new(over: Arc<Stop>, berths: Option<Berths>) -> Threads {
        Threads { over, first: Arc::default(), berths }
    }

    /// Starts one of control.
    ///
    /// # Errors
    /// The system refused.
    pub fn spawn_control(&self, name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
        let berths = self.berths.clone();
        self.spawn(name, move || {
            berths.iter().for_each(Berths::come);
            body();
        })
    }

    /// Starts one.
    ///
    /// # Errors
    /// The system refused.
    pub fn spawn(&self, name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
        let end = End { name: name.to_owned(), threads: self.clone() };
        spawn(name, move || {
            // Moved in, so that it drops, and tells, however the thread ends.
            let _end = end;
            body();
        })
    }

    /// The one that ended first.
    pub fn ended(&self) -> Option<String> {
        self.first.get().cloned()
    }
}

#[derive(Debug)]
struct End {
    name: String,
    threads: Threads,
}

impl Drop for End {
    fn drop(&mut self) {
        // The first stays.
        let _ = self.threads.first.set(std::mem::take(&mut self.name));
        self.threads.over.set();
    }
}

/// Starts a thread that may end whenever it likes.
///
/// # Errors
/// The system refused.
pub fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name.to_owned()).spawn(body)
}

/// Waits for the end of a thread.
pub fn join(thread: JoinHandle<()>) {
    let name = thread.thread().name().unwrap_or("unnamed").to_owned();
    if thread.join().is_err() {
        tracing::error!("the {name} thread panicked");
    }
}

#[cfg(test)]
#[allow(clippy::panic, clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn with_the_first_that_ends_it_is_over_and_that_one_is_known() {
        let over = Arc::new(Stop::new().unwrap());
        let threads = Threads::new(Arc::clone(&over), None);
        let (second, first) = (Arc::clone(&over), Arc::clone(&over));
        let second = threads.spawn("second", move || second.wait(Duration::from_secs(1 << 40))).unwrap();
        assert!(!first.is_set() && threads.ended().is_none());
        let first = threads.spawn("first", || panic!("on its own")).unwrap();
        // Without an end, if nobody told.
        over.wait(Duration::from_secs(1 << 40));
        join(first);
        join(second);
        assert_eq!(threads.ended().as_deref(), Some("first"));
    }
}
