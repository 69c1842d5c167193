//! What is told of the frames that cross: of those whose end is known by now.
//!
//! A frame counts as crossed before a device has it, and what that loses a look finds later. So what crosses is told only with a
//! look that finds it if it is lost, and what was told stands: of the frames that were sent there are never fewer.

use shm_layout::counters::LOST_VALUES;

/// Counts of selectors: frames sent on, their bytes, frames without another port.
pub(super) type Sent = [u64; 3];

/// What is told.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// What has crossed.
    pub(super) crossed: Sent,
    /// What of that was lost.
    pub(super) lost: [u64; LOST_VALUES],
}

impl Outcome {
    /// So much had crossed in all, and a while later so much of it and of what came after it was `found` to be lost. Frames that
    /// were told of before and not as lost have been sent: what is found of more than the others waits for those to come.
    pub(super) fn take(&mut self, crossed: Sent, found: &[u64; LOST_VALUES]) {
        let [more, ..] = crossed;
        let [told, ..] = self.crossed;
        let mut open = more.saturating_sub(told);
        self.crossed.iter_mut().zip(crossed).for_each(|(told, now)| *told = now.max(*told));
        for (told, found) in self.lost.iter_mut().zip(found) {
            let lost = found.saturating_sub(*told).min(open);
            *told += lost;
            open -= lost;
        }
    }
}
