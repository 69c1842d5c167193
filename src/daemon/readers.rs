//! Which shard reads whose clone ring.

use std::sync::{Mutex, PoisonError};

use crate::kernel::maps::Maps;
use crate::kernel::rings::Ring;

/// The readers of all rings.
#[derive(Debug)]
pub struct Readers {
    /// The processors whose rings each shard reads.
    own: Vec<Vec<u32>>,
    /// Those that have run by now.
    known: Mutex<Vec<u32>>,
}

impl Readers {
    /// Of the rings of so many processors, by shards that run on `cpus`.
    pub fn new(processors: u32, cpus: &[u32]) -> Readers {
        let mut own = vec![Vec::new(); cpus.len()];
        for (processor, reader) in (0..processors).zip(readers(processors, cpus)) {
            own[reader as usize].push(processor);
        }
        Readers { own, known: Mutex::default() }
    }

    /// The processors whose rings a shard reads.
    pub fn of(&self, shard: u32) -> &[u32] {
        self.own.get(shard as usize).map_or(&[], Vec::as_slice)
    }

    /// Makes the rings of the processors that run and did not before, and says which shards are to read them. Clones of one
    /// for which there is no memory are counted as those of a full ring, and wires cross all the same.
    pub fn rings(&self, maps: &Maps, running: &[u32]) -> Vec<(usize, Ring)> {
        // A list of numbers, whole whatever happens.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rings = Vec::new();
        for (shard, own) in self.own.iter().enumerate() {
            for processor in own.iter().filter(|processor| running.contains(processor)) {
                if known.contains(processor) {
                    continue;
                }
                known.push(*processor);
                match maps.add_ring(*processor) {
                    Ok(ring) => rings.push((shard, ring)),
                    Err(error) => tracing::warn!(
                        "what is selected on processor {processor} is not mirrored, and counts as mirror_drops_ring_full: \
                         {error} (--clone-ring {}: a smaller one may fit)",
                        maps.ring_bytes()
                    ),
                }
            }
        }
        rings
    }
}

/// The shard that reads the clone ring of each of so many processors, where shards run on `cpus`, one at least.
///
/// The one that runs on the processor itself, where there is one: the records are in its cache, waking it interrupts no
/// other processor, and one that what it receives leaves no time for its shard loses clones of its own alone. The others'
/// go to the shards that have the fewest.
fn readers(processors: u32, cpus: &[u32]) -> Vec<u32> {
    let on = |processor| cpus.iter().position(|&cpu| cpu == processor);
    let mut rings = vec![0u32; cpus.len()];
    (0..processors).filter_map(on).for_each(|shard| rings[shard] += 1);
    let reader = |processor| {
        let fewest = || {
            let shard = (0..rings.len()).min_by_key(|&shard| rings[shard]).unwrap_or(0);
            rings.iter_mut().skip(shard).take(1).for_each(|rings| *rings += 1);
            shard
        };
        on(processor).unwrap_or_else(fewest) as u32
    };
    (0..processors).map(reader).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_reads_its_own_processor_and_an_equal_part_of_the_others() {
        assert_eq!(readers(4, &[1]), [0; 4]);
        assert_eq!(readers(4, &[1, 2]), [0, 0, 1, 1]);
        assert_eq!(readers(6, &[5, 0]), [1, 0, 1, 0, 1, 0]);
        assert_eq!(readers(2, &[0, 1]), [0, 1]);
        assert_eq!(readers(1, &[7, 0]), [1]);
        assert_eq!(readers(8, &[9, 8, 7]), [0, 1, 0, 1, 2, 0, 1, 2]);
        assert_eq!(readers(3, &[]), [0; 3]);
    }
}
