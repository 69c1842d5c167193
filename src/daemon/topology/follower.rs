//! Follows the links of the ports, and does nothing else: however long it takes to open or close sockets, the shards hear
//! of a link at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::roster::Roster;
use crate::daemon::TICK;
use crate::daemon::link_news::LinkNews;

/// How often all ports are looked at even if the kernel tells of no change: of a change of queues it may not.
const LOOK: Duration = Duration::from_millis(250);
/// The shortest time between two looks, however much the kernel tells.
const PAUSE: Duration = Duration::from_millis(10);
/// Niceness: it rarely runs, but what it does is waited for.
const NICENESS: i32 = -20;

/// The follower.
#[derive(Debug)]
pub struct Follower(pub(super) Arc<Roster>);

impl Follower {
    /// Follows the links until `stop`.
    pub fn run(self, stop: &AtomicBool) {
        // On Linux the priority of "this process" is that of this thread.
        if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
            tracing::debug!("the follower keeps the priority of the others: {error}");
        }
        let mut links = LinkNews::watch();
        let mut gone = Vec::new();
        while !stop.load(Relaxed) {
            let looked = Instant::now();
            self.0.look(std::mem::take(&mut gone));
            while !links.wait(TICK) && looked.elapsed() < LOOK && !stop.load(Relaxed) {}
            std::thread::sleep(PAUSE.saturating_sub(looked.elapsed()));
            gone = links.gone();
        }
    }
}
