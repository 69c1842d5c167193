//! What a shard reserves room for, so that nothing new ever allocates on the hot path.

/// Sockets a shard can serve.
pub const MAX_PORTS: usize = 1024;
/// Wires it can serve queues of: two ports each.
pub const MAX_STORES: usize = MAX_PORTS / 2;
/// Clone rings it can read.
pub const MAX_RINGS: usize = 1024;
/// Monitor ports it can send clones to.
pub const MAX_OUTPUTS: usize = 256;
