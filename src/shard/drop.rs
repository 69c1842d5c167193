//! Drops: why a selected frame was not mirrored, and the counters of each reason.

use shm_layout::counters::Entry;

use crate::counters::Row;

/// Why a selected frame was not mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// No free frame in the Mirror partition.
    NoFrame,
    /// No queue of the monitor port serves this shard.
    NoBinding,
    /// The tx ring of the monitor port, on this shard, is full.
    QueueFullSameWorker,
    /// The way to the shard that owns the monitor port's queue, or the tx ring there, is full.
    QueueFullCrossWorker,
    /// Larger than a mirror frame or the monitor port's MTU.
    Oversize,
    /// The monitor port is down or not there.
    OutputDown,
    /// The clone's descriptor would have been refused by the kernel.
    TxInvalid,
    /// The monitor port's device refused the clone.
    Refused,
}

impl DropReason {
    pub(super) const ALL: [DropReason; 8] = [
        DropReason::NoFrame,
        DropReason::NoBinding,
        DropReason::QueueFullSameWorker,
        DropReason::QueueFullCrossWorker,
        DropReason::Oversize,
        DropReason::OutputDown,
        DropReason::TxInvalid,
        DropReason::Refused,
    ];

    /// Whether it holds for the rest of a batch, whatever the frames.
    pub(super) fn lasts(self) -> bool {
        !matches!(self, DropReason::Oversize | DropReason::TxInvalid | DropReason::Refused)
    }

    /// From `reason as u32`.
    pub(super) fn from_code(code: u32) -> DropReason {
        DropReason::ALL.get(code as usize).copied().unwrap_or(DropReason::OutputDown)
    }

    /// Enters `n` drops for this reason.
    pub(super) fn enter(self, row: &mut Row<'_>, n: u64) {
        let (counter, part) = self.counters();
        row.add(counter, n);
        if let Some(part) = part {
            row.add(part, n);
        }
    }

    /// Enters a clone that was on its way and is dropped for this reason.
    pub(super) fn enter_in_flight(self, row: &mut Row<'_>) {
        self.enter(row, 1);
        row.subtract(Entry::InFlight, 1);
    }

    /// The counters of the reason: the one that closes the ledger, and its part where it has one.
    fn counters(self) -> (Entry, Option<Entry>) {
        match self {
            DropReason::NoFrame => (Entry::DropNoFrame, None),
            DropReason::NoBinding => (Entry::DropNoBinding, None),
            DropReason::QueueFullSameWorker => (Entry::DropQueueFull, Some(Entry::DropQueueFullSameWorker)),
            DropReason::QueueFullCrossWorker => (Entry::DropQueueFull, Some(Entry::DropQueueFullCrossWorker)),
            DropReason::Oversize => (Entry::DropOversize, None),
            DropReason::OutputDown => (Entry::DropOutputDown, None),
            DropReason::TxInvalid => (Entry::DropTxInvalid, None),
            DropReason::Refused => (Entry::DropRefused, None),
        }
    }
}
