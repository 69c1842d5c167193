//! What the sockets of the ports have counted, by queue. A port's sockets are closed and opened anew for another MTU, other
//! queues, another device: what they counted stands for as long as the port is wanted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::counters::BindingBlock;
use crate::daemon::report::BindingStatus;
use crate::xsk::KernelStats;
use crate::xsk::socket::Socket;

/// How long after the close of a socket the kernel may hold its queue.
const RELEASE: Duration = Duration::from_millis(300);

/// What was counted on one queue of a port.
#[derive(Debug, Default)]
struct Queue {
    /// By shards, of one socket after the other.
    block: Arc<BindingBlock>,
    /// By the kernel, of sockets that are closed.
    closed: KernelStats,
    /// By the kernel, of the one that is open, as far as it has said.
    open: KernelStats,
    /// Whether a socket is bound to it.
    is_bound: bool,
    /// When the last one that was bound to it was closed.
    left: Option<Instant>,
}

impl Queue {
    fn kernel(&self) -> KernelStats {
        std::array::from_fn(|i| self.closed[i] + self.open[i])
    }

    fn ask(&mut self, socket: &Socket) {
        // A socket that is going away may have no more to tell than it has told.
        self.open = socket.kernel_stats().unwrap_or(self.open);
    }
}

/// By the port's ifindex in the snapshot and the queue.
#[derive(Debug, Default)]
pub(super) struct Totals(BTreeMap<(u32, u32), Queue>);

impl Totals {
    /// Where a new socket of a queue goes on counting.
    pub(super) fn block(&mut self, ifindex: u32, queue: u32) -> Arc<BindingBlock> {
        Arc::clone(&self.0.entry((ifindex, queue)).or_default().block)
    }

    /// What the kernel has counted on a queue by now, whose socket this is.
    pub(super) fn kernel(&mut self, ifindex: u32, queue: u32, socket: &Socket) -> KernelStats {
        let total = self.0.entry((ifindex, queue)).or_default();
        total.ask(socket);
        total.kernel()
    }

    /// The socket of a queue is to be closed.
    pub(super) fn close(&mut self, ifindex: u32, queue: u32, socket: &Socket) {
        let total = self.0.entry((ifindex, queue)).or_default();
        total.ask(socket);
        (total.closed, total.open) = (total.kernel(), KernelStats::default());
        if std::mem::take(&mut total.is_bound) {
            total.left = Some(Instant::now());
        }
    }

    /// A socket is bound to a queue.
    pub(super) fn bound(&mut self, ifindex: u32, queue: u32) {
        self.0.entry((ifindex, queue)).or_default().is_bound = true;
    }

    /// How long to wait for a queue that some socket holds: the kernel lets go of one that was ours a little after that
    /// was closed. For anybody else's nobody waits.
    pub(super) fn patience(&self, ifindex: u32, queue: u32) -> Duration {
        let left = self.0.get(&(ifindex, queue)).and_then(|total| total.left);
        left.map_or(Duration::ZERO, |left| RELEASE.saturating_sub(left.elapsed()))
    }

    /// What was counted on queues of a port that have no socket now, where there is something.
    pub(super) fn unserved(&self, ifindex: u32, is_served: impl Fn(u32) -> bool) -> Vec<BindingStatus> {
        let queues = self.0.range((ifindex, 0)..=(ifindex, u32::MAX));
        let unserved = queues.filter(|((_, queue), _)| !is_served(*queue));
        let row = |(&(ifindex, queue), total): (&(u32, u32), &Queue)| BindingStatus {
            ifindex,
            queue,
            shard: None,
            block: Arc::clone(&total.block),
            kernel: total.kernel(),
        };
        unserved.map(row).filter(BindingStatus::has_counted).collect()
    }

    /// Forgets the ports that are not wanted any more.
    pub(super) fn retain(&mut self, is_wanted: impl Fn(u32) -> bool) {
        self.0.retain(|&(ifindex, _), _| is_wanted(ifindex));
    }
}
