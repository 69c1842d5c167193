//! Looks at some of what arrives: whether its senders finished the checksums. One batch in [`EVERY`] pays for it.

use shm_layout::counters::Sight;

use super::port::Port;
use super::rx::Batch;
use crate::packet::is_unfinished;
use crate::xsk::umem::Area;

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

/// Looks at a batch that a port received, if it is time.
#[inline]
pub(super) fn look<D>(port: &mut Port<D>, batch: &Batch, area: &Area) {
    port.looks.next -= 1;
    if port.looks.next == 0 {
        look_closely(port, batch, area);
    }
}

#[cold]
#[inline(never)]
fn look_closely<D>(port: &mut Port<D>, batch: &Batch, area: &Area) {
    let first = batch.packets().iter().take(FRAMES);
    let found = first.filter_map(|(frame, at)| is_unfinished(area.packet(frame, *at))).next();
    let looks = &mut port.looks;
    looks.eager = if found == Some(true) { EAGER } else { looks.eager.saturating_sub(1) };
    looks.next = if looks.eager > 0 { 1 } else { EVERY };
    if found == Some(true) {
        port.block.add(Sight::UnfinishedChecksums, 1);
    }
}
