//! Follows the links of the ports, and forwards their loss: however long it takes to open or close sockets, the shards and
//! the far ends of wires hear of a link at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::link_loss::{LinkLoss, Look};
use super::roster::{Pairs, Roster};
use crate::daemon::link_news::LinkNews;
use crate::devices::{self, Gone};
use crate::stop::Stop;

/// How often all ports are looked at even if the kernel tells of no change: of a change of queues it may not, and that a carrier has
/// gone it tells up to a second late, but for veth and the like. No frame waits for either.
const LOOK: Duration = Duration::from_millis(500);
/// And where the loss of a link is forwarded: far ends wait for that, and what was taken down has been so for long enough when
/// nothing tells of it.
const KEEN_LOOK: Duration = Duration::from_millis(250);
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
    pub fn run(mut self, stop: &Stop) {
        // On Linux the priority of "this process" is that of this thread.
        if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
            tracing::debug!("the follower keeps the priority of the others: {error}");
        }
        let mut links = LinkNews::watch();
        let mut gone = Vec::new();
        while !stop.is_set() {
            let looked = Instant::now();
            let look = if self.look(&gone) { KEEN_LOOK } else { LOOK };
            links.wait(stop, look.saturating_sub(looked.elapsed()));
            std::thread::sleep(PAUSE.saturating_sub(looked.elapsed()));
            gone = links.gone();
        }
        self.roster.look(gone.clone());
        let Pairs { devices, .. } = self.roster.pairs();
        self.link_loss.end(&Look::of(&devices, &gone), &mut devices::enable);
        self.roster.set_taken_down(Vec::new());
    }

    /// Looks at the devices, of which these have gone. Whether they are to be looked at again soon: the loss of a
    /// link is forwarded, or they could not be looked at.
    fn look(&mut self, gone: &[Gone]) -> bool {
        // What was last seen of them is no ground to take one up or down.
        if !self.roster.look(gone.to_vec()) {
            return true;
        }
        let Pairs { pairs, devices } = self.roster.pairs();
        let pairs = pairs.as_deref().map(Vec::as_slice);
        let taken_down = self.link_loss.step(pairs, &Look::of(&devices, gone), &mut devices::enable);
        self.roster.set_taken_down(taken_down);
        pairs.is_some_and(|pairs| !pairs.is_empty())
    }
}
