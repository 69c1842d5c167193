//! How it is found out what is lost of the frames that cross from a port.

use std::sync::Arc;

use crate::devices::drops::Drops;
use crate::kernel::abi::Loss;
use crate::kernel::loss::Losses;

/// Who is asked what was lost, with the last look at it.
#[derive(Debug, Default)]
pub(super) enum Meter {
    #[default]
    None,
    Xdp {
        losses: Arc<Losses>,
        last: Loss,
        /// By the other port's device, what it did not take. `None` where it does not tell, and a tracepoint does.
        unsent: Option<Drops>,
    },
    Tc {
        last: Drops,
        /// Where the other port is down.
        down: Option<Down>,
    },
}

impl Meter {
    /// Whether a device is to be asked: that of the other port.
    pub(super) fn asks(&self) -> bool {
        matches!(self, Meter::Tc { .. } | Meter::Xdp { unsent: Some(_), .. })
    }

    /// Whether the tracepoint of batches is to be watched.
    pub(super) fn needs_batches(&self) -> bool {
        matches!(self, Meter::Xdp { unsent: None, .. })
    }
}

/// Since a wire's other port is down. Before Linux 6.11 no count has the frames that are given to it, and none of them is sent.
#[derive(Debug)]
pub(super) struct Down {
    /// What it had dropped.
    then: Drops,
    /// What had crossed.
    crossed: u64,
    /// Frames that have crossed and that nobody tells of: at least so many, by the looks so far.
    pub(super) untold: u64,
}

impl Down {
    pub(super) fn new(then: Drops, crossed: u64) -> Down {
        Down { then, crossed, untold: 0 }
    }

    /// Looks at what has become of so many frames that had crossed before. Of those that were on their way nothing is said
    /// yet, nor of what others send by that device, so the most that a look has found is what is known.
    pub(super) fn look(&mut self, crossed: u64, now: &Drops) {
        let told = now.sent_since(&self.then) + now.since(&self.then).iter().sum::<u64>();
        self.untold = self.untold.max(crossed.saturating_sub(self.crossed).saturating_sub(told));
    }
}
