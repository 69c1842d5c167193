//! Looks at some of what arrives: whether its senders finished the checksums. One batch in [`EVERY`] pays for it.

use shm_layout::counters::Sight;

use crate::checksum::is_unfinished;
use crate::counters::BindingBlock;
use crate::xsk::area::Area;
use crate::xsk::frame::{Extent, Frame, Primary};

/// Batches from one look at a port to the next: a look may fetch what is in no cache.
const EVERY: u32 = 64;
/// Batches that are all looked at, of a new port and after something was found: there may be few frames.
const EAGER: u32 = 256;
/// Frames at the start of a batch among which the first of TCP or UDP is looked for.
const FRAMES: usize = 4;

/// When a port is looked at.
#[derive(Debug)]
pub(super) struct Looks {
    /// Batches to the next look, itself included.
    next: u32,
    /// Batches from now on that are all looked at.
    eager: u32,
}

impl Default for Looks {
    fn default() -> Looks {
        Looks { next: 1, eager: EAGER }
    }
}

impl Looks {
    /// Looks at a batch that the port received, if it is time. What is found is counted in the port's `block`.
    #[inline]
    pub(super) fn look(&mut self, packets: &[(Frame<Primary>, Extent)], area: &Area, block: &BindingBlock) {
        self.next -= 1;
        if self.next == 0 {
            self.look_closely(packets, area, block);
        }
    }

    #[cold]
    #[inline(never)]
    fn look_closely(&mut self, packets: &[(Frame<Primary>, Extent)], area: &Area, block: &BindingBlock) {
        let first = packets.iter().take(FRAMES);
        let found = first.filter_map(|(frame, at)| is_unfinished(area.packet(frame, *at))).next();
        self.eager = if found == Some(true) { EAGER } else { self.eager.saturating_sub(1) };
        self.next = if self.eager > 0 { 1 } else { EVERY };
        if found == Some(true) {
            block.add(Sight::UnfinishedChecksums, 1);
        }
    }
}
