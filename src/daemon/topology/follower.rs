//! Follows the links of the ports, and forwards their loss: however long it takes to open or close sockets, the shards and
//! the far ends of wires hear of a link at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::link_loss::{LinkLoss, Look};
use super::roster::{Pairs, Roster};
use crate::daemon::TICK;
use crate::daemon::link_news::LinkNews;
use crate::devices::{self, Gone};

/// How often all ports are looked at even if the kernel tells of no change: of a change of queues it may not.
const LOOK: Duration = Duration::from_millis(250);
/// The shortest time between two looks, however much the kernel tells.
const PAUSE: Duration = Duration::from_millis(10);
/// Niceness: it rarely runs, but what it does is waited for.
const NICENESS: i32 = -20;

/// The follower.
#[derive(Debug)]
pub struct Follower {
    pub(super) roster: Arc<Roster>,
    pub(super) link_loss: LinkLoss,
}

impl Follower {
    /// Follows the links until `stop`, and takes up again then what it took down.
    pub fn run(mut self, stop: &AtomicBool) {
        // On Linux the priority of "this process" is that of this thread.
        if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
            tracing::debug!("the follower keeps the priority of the others: {error}");
        }
        let mut links = LinkNews::watch();
        let mut gone = Vec::new();
        while !stop.load(Relaxed) {
            let looked = Instant::now();
            self.look(&gone);
            while !links.wait(TICK) && looked.elapsed() < LOOK && !stop.load(Relaxed) {}
            std::thread::sleep(PAUSE.saturating_sub(looked.elapsed()));
            gone = links.gone();
        }
        self.roster.look(gone.clone());
        let Pairs { devices, .. } = self.roster.pairs();
        self.link_loss.end(&Look::of(&devices, &gone), &mut devices::enable);
        self.roster.set_taken_down(Vec::new());
    }

    /// Looks at the devices, of which these have gone.
    fn look(&mut self, gone: &[Gone]) {
        // What was last seen of them is no ground to take one up or down.
        if !self.roster.look(gone.to_vec()) {
            return;
        }
        let Pairs { pairs, devices } = self.roster.pairs();
        let pairs = pairs.as_deref().map(Vec::as_slice);
        let taken_down = self.link_loss.step(pairs, &Look::of(&devices, gone), &mut devices::enable);
        self.roster.set_taken_down(taken_down);
    }
}
