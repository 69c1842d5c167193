//! The ledger of one mirror entry: what a shard counts of it, what the kernel does, and the whole that readers see.
//!
//! Of frames that pass through a shard it counts everything, and its row closes by itself. Of frames that the kernel
//! selects it counts what became of their clones, from the clone ring on; what was observed and selected, and what did not
//! get into the ring, the kernel counts. [`whole`] puts the two together.

use std::array;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64, fence};

use bytemuck::Zeroable;
use shm_layout::counters::{Entry, LEDGER_VALUES};

use super::add;

/// The values that a shard keeps. The others follow from them, or are the kernel's.
const KEPT: [Entry; 15] = [
    Entry::Observed,
    Entry::Selected,
    Entry::MirroredPackets,
    Entry::MirroredBytes,
    Entry::MirroredSegments,
    Entry::InFlight,
    Entry::DropNoFrame,
    Entry::DropNoBinding,
    Entry::DropQueueFull,
    Entry::DropQueueFullSameWorker,
    Entry::DropQueueFullCrossWorker,
    Entry::DropOversize,
    Entry::DropOutputDown,
    Entry::DropTxInvalid,
    Entry::DropRefused,
];

/// Where in [`KEPT`] each value is; behind its end for one that is not there.
const PLACES: [usize; LEDGER_VALUES] = {
    let mut places = [usize::MAX; LEDGER_VALUES];
    let mut at = 0;
    while at < KEPT.len() {
        places[KEPT[at] as usize] = at;
        at += 1;
    }
    places
};

/// What one shard counts of a mirror entry, and its sampler's phase.
#[derive(Debug, Zeroable)]
#[repr(C, align(128))]
pub struct EntryCell {
    sequence: AtomicU32,
    until: AtomicU32,
    values: [AtomicU64; KEPT.len()],
}

const _: () = assert!(size_of::<EntryCell>() == 128);

/// A row being changed; see [`EntryCell::commit`].
#[derive(Debug)]
pub struct Row<'a>(&'a [AtomicU64; KEPT.len()]);

impl Row<'_> {
    /// Adds to a value. One that a shard does not keep stays what it is: `not_sampled` follows from others, and
    /// `mirror_drops_ring_full` is the kernel's.
    #[inline]
    pub fn add(&mut self, value: Entry, n: u64) {
        if let Some(value) = self.0.get(PLACES[value as usize]) {
            add(value, n);
        }
    }

    /// Subtracts from a gauge.
    #[inline]
    pub fn subtract(&mut self, value: Entry, n: u64) {
        self.add(value, n.wrapping_neg());
    }
}

impl EntryCell {
    /// Changes several values so that a reader sees all of the change or none of it. Only the owning shard.
    pub fn commit(&self, change: impl FnOnce(&mut Row<'_>)) {
        let odd = self.sequence.load(Relaxed).wrapping_add(1) | 1;
        self.sequence.store(odd, Relaxed);
        // Release: pairs with the fence Acquire in `read`.
        fence(Release);
        change(&mut Row(&self.values));
        // Release: pairs with the Acquire load in `read`.
        self.sequence.store(odd.wrapping_add(1), Release);
    }

    /// A consistent copy of the row; `None` if the shard kept writing through a number of tries.
    pub fn read(&self) -> Option<[u64; LEDGER_VALUES]> {
        for attempt in 0..200 {
            // Acquire: pairs with the Release store in `commit`.
            let before = self.sequence.load(Acquire);
            let kept: [u64; KEPT.len()] = array::from_fn(|i| self.values[i].load(Relaxed));
            // Acquire: pairs with the fence Release in `commit`.
            fence(Acquire);
            if before.is_multiple_of(2) && self.sequence.load(Relaxed) == before {
                let mut row = array::from_fn(|i| kept.get(PLACES[i]).copied().unwrap_or(0));
                leave_out(&mut row);
                return Some(row);
            }
            // The shard may have been preempted inside its few stores.
            if attempt > 20 {
                std::thread::yield_now();
            }
        }
        None
    }

    /// Frames to pass before the next one is selected.
    pub fn until(&self) -> u32 {
        self.until.load(Relaxed)
    }

    /// Keeps the sampler's phase. Only the owning shard.
    pub fn set_until(&self, until: u32) {
        self.until.store(until, Relaxed);
    }

    /// Back to zero, for a new entry. Only while no shard uses the slot.
    pub fn reset(&self) {
        self.until.store(0, Relaxed);
        self.commit(|row| row.0.iter().for_each(|value| value.store(0, Relaxed)));
    }
}

/// Whether no clone of an entry is on its way, whose ledgers on the shards these are and of which the kernel has counted
/// `counted()`: read after them, for the reason in [`whole`]. Then, if neither a shard nor the kernel uses a table that has
/// the entry, nobody will touch its ledgers again.
pub fn is_drained<'a>(cells: impl Iterator<Item = &'a EntryCell>, counted: impl FnOnce() -> Counted) -> bool {
    let mut sum = [0u64; LEDGER_VALUES];
    for cell in cells {
        // A shard that is inside a commit will touch it again.
        let Some(row) = cell.read() else { return false };
        sum.iter_mut().zip(row).for_each(|(sum, value)| *sum = sum.wrapping_add(value));
    }
    whole(&sum, counted())[Entry::InFlight as usize] == 0
}

/// What the kernel has counted of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Frames that are the entry's.
    pub observed: u64,
    /// Of them selected.
    pub selected: u64,
    /// Of those not in a ring: it was full.
    pub ring_full: u64,
    /// Of those longer than any record.
    pub oversize: u64,
    /// Of those not to be read.
    pub unreadable: u64,
}

impl Counted {
    /// Clones that were put into a ring.
    pub fn handed_up(&self) -> u64 {
        self.selected.saturating_sub(self.ring_full + self.oversize + self.unreadable)
    }
}

impl std::ops::AddAssign for Counted {
    fn add_assign(&mut self, more: Counted) {
        self.observed += more.observed;
        self.selected += more.selected;
        self.ring_full += more.ring_full;
        self.oversize += more.oversize;
        self.unreadable += more.unreadable;
    }
}

/// The ledger of an entry on a shard as readers see it: `row`, what the shard counts, and what the kernel counts on the
/// processors whose clone rings the shard reads. It closes; what lies in rings is in flight.
///
/// `row` is read BEFORE `counted` is: a clone of which a shard has told what became of it was counted as selected before it
/// was put into the ring, so then it is in both, and what is in flight is never less than nothing.
pub fn whole(row: &[u64; LEDGER_VALUES], counted: Counted) -> [u64; LEDGER_VALUES] {
    let mut whole = *row;
    let kernels = [
        (Entry::Observed, counted.observed),
        (Entry::Selected, counted.selected),
        (Entry::DropRingFull, counted.ring_full),
        (Entry::DropOversize, counted.oversize),
        (Entry::DropTxInvalid, counted.unreadable),
    ];
    for (value, n) in kernels {
        whole[value as usize] = whole[value as usize].wrapping_add(n);
    }
    leave_out(&mut whole);
    let ended = whole[Entry::MirroredPackets as usize].wrapping_add(Entry::drops(&whole));
    whole[Entry::InFlight as usize] = whole[Entry::Selected as usize].saturating_sub(ended);
    whole
}

/// Enters what the sampler left out.
fn leave_out(row: &mut [u64; LEDGER_VALUES]) {
    row[Entry::NotSampled as usize] = row[Entry::Observed as usize].wrapping_sub(row[Entry::Selected as usize]);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[test]
    fn a_value_is_kept_or_follows() {
        let cell = EntryCell::zeroed();
        for (n, &value) in Entry::ALL.iter().enumerate() {
            cell.commit(|row| row.add(value, 1 << n));
        }
        let row = cell.read().unwrap();
        for (n, &value) in Entry::ALL.iter().enumerate() {
            let want = match value {
                Entry::NotSampled => 1u64.wrapping_sub(1 << Entry::Selected as usize),
                Entry::DropRingFull => 0,
                _ => 1 << n,
            };
            assert_eq!(row[value as usize], want, "{}", value.name());
        }
    }

    #[test]
    fn a_reader_never_sees_half_a_commit() {
        let cell = &EntryCell::zeroed();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for _ in 0..200_000 {
                    cell.commit(|row| {
                        row.add(Entry::Observed, 3);
                        row.add(Entry::Selected, 2);
                        row.add(Entry::InFlight, 1);
                        row.add(Entry::DropNoFrame, 1);
                    });
                    cell.commit(|row| {
                        row.add(Entry::MirroredPackets, 1);
                        row.subtract(Entry::InFlight, 1);
                    });
                }
            });
            let mut seen = 0u64;
            while !writer.is_finished() {
                if let Some(row) = cell.read() {
                    assert!(Entry::closes(&row), "{row:?}");
                    assert_eq!(whole(&row, Counted::default()), row, "as it is where the kernel selects nothing");
                    seen += 1;
                }
            }
            assert!(seen > 0);
        });
        assert_eq!(cell.read().unwrap()[Entry::Observed as usize], 600_000);
        cell.reset();
        assert_eq!(cell.read().unwrap(), [0; LEDGER_VALUES]);
    }

    #[test]
    fn the_kernels_part_is_added_and_what_is_in_rings_is_in_flight() {
        let cell = EntryCell::zeroed();
        cell.commit(|row| {
            // Of its own.
            row.add(Entry::Observed, 10);
            row.add(Entry::Selected, 2);
            row.add(Entry::MirroredPackets, 1);
            row.add(Entry::InFlight, 1);
            // From rings: one mirrored, one sent, two dropped.
            row.add(Entry::MirroredPackets, 1);
            row.add(Entry::MirroredSegments, 45);
            row.add(Entry::InFlight, 1);
            row.add(Entry::DropOversize, 1);
            row.add(Entry::DropOutputDown, 1);
        });
        let counted = Counted { observed: 100, selected: 50, ring_full: 20, oversize: 3, unreadable: 2 };
        assert_eq!(counted.handed_up(), 25);
        let row = whole(&cell.read().unwrap(), counted);
        assert!(Entry::closes(&row), "{row:?}");
        let at = |value: Entry| row[value as usize];
        assert_eq!([Entry::Observed, Entry::NotSampled, Entry::Selected].map(at), [110, 58, 52]);
        let drops = [Entry::DropRingFull, Entry::DropOversize, Entry::DropTxInvalid, Entry::DropOutputDown];
        assert_eq!(drops.map(at), [20, 4, 2, 1]);
        // Two were sent, 21 of the 25 are in rings.
        assert_eq!([Entry::MirroredPackets, Entry::MirroredSegments, Entry::InFlight].map(at), [2, 45, 23]);
    }

    #[test]
    fn an_entry_is_drained_when_nothing_of_it_is_in_a_ring_either() {
        let cells = [EntryCell::zeroed(), EntryCell::zeroed()];
        let counted = Counted { observed: 9, selected: 4, ring_full: 1, ..Counted::default() };
        let is_drained = |counted| is_drained(cells.iter(), || counted);
        assert!(is_drained(Counted::default()));
        assert!(!is_drained(counted));
        cells[0].commit(|row| row.add(Entry::DropNoFrame, 1));
        cells[1].commit(|row| row.add(Entry::InFlight, 2));
        assert!(!is_drained(counted));
        cells[1].commit(|row| {
            row.add(Entry::MirroredPackets, 2);
            row.subtract(Entry::InFlight, 2);
        });
        assert!(is_drained(counted));
        cells[0].commit(|row| {
            row.add(Entry::Observed, 1);
            row.add(Entry::Selected, 1);
            row.add(Entry::InFlight, 1);
        });
        assert!(!is_drained(counted), "one that passed through a shard");
    }

    /// A kernel that selects and hands up, a shard that takes and tells, a reader that looks.
    #[test]
    fn a_ledger_closes_and_nothing_is_negative_whenever_it_is_read() {
        let cell = &EntryCell::zeroed();
        let [selected, ring_full, ring] = [&AtomicU64::new(0), &AtomicU64::new(0), &AtomicU64::new(0)];
        let stop = &AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 1..=300_000u64 {
                    // As the selector does: the whole, then its part or the record.
                    selected.store(n, Relaxed);
                    if n.is_multiple_of(3) {
                        // Release: as the kernel's stores appear in order on the machines it has been seen on.
                        ring_full.store(n / 3, Release);
                    } else {
                        ring.store(n - n / 3, Release);
                    }
                }
                stop.store(true, Release);
            });
            scope.spawn(|| {
                let mut taken = 0;
                loop {
                    let is_over = stop.load(Acquire);
                    let there = ring.load(Acquire);
                    for _ in taken..there {
                        cell.commit(|row| row.add(Entry::InFlight, 1));
                        cell.commit(|row| {
                            row.add(Entry::MirroredPackets, 1);
                            row.subtract(Entry::InFlight, 1);
                        });
                    }
                    taken = there;
                    if is_over {
                        break;
                    }
                }
            });
            let mut before = 0;
            loop {
                let is_over = stop.load(Acquire);
                if let Some(row) = cell.read() {
                    let ring_full = ring_full.load(Acquire);
                    let selected = selected.load(Acquire);
                    let row = whole(&row, Counted { observed: selected, selected, ring_full, ..Counted::default() });
                    assert!(Entry::closes(&row), "{row:?}");
                    assert!(row[Entry::Selected as usize] >= before);
                    before = row[Entry::Selected as usize];
                }
                if is_over {
                    break;
                }
            }
        });
        assert_eq!(cell.read().unwrap()[Entry::MirroredPackets as usize], 200_000);
    }
}
