//! Which shard reads whose clone ring.

/// The shard that reads the clone ring of each of so many processors, where shards run on `cpus`, one at least.
///
/// The one that runs on the processor itself, where there is one: the records are in its cache, waking it interrupts no
/// other processor, and one that what it receives leaves no time for its shard loses clones of its own alone. The others'
/// go to the shards that have the fewest.
pub fn readers(processors: u32, cpus: &[u32]) -> Vec<u32> {
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
