//! How large the rings of an AF_XDP socket are and how many frames it gets: made so by the dataplane, and told by the
//! control plane.

/// Entries of a wire port's rx ring, and of every port's tx ring. A power of two.
pub const RING_ENTRIES: u32 = 2048;

/// Frames of a queue of a wire port, at most: its rx ring full, and as many on their way out.
pub const SHARE_MOST: u32 = 2 * RING_ENTRIES;
/// Frames it gets where their number is spanwired's choice and there are many: a burst of 300 finds room while the shard
/// sleeps. 640 KiB.
pub const SHARE_ENOUGH: u32 = 320;
/// Frames it gets of a given `--frames` at least.
pub const SHARE_LEAST: u32 = 32;
