//! How large the rings of an AF_XDP socket are: made so by the dataplane, and told by the control plane.

/// Entries of a wire port's rx ring, and of every port's tx ring. A power of two.
pub const RING_ENTRIES: u32 = 2048;
