//! spanwire: a port-mirroring (SPAN) dataplane for Linux over AF_XDP.
pub mod classify;
pub mod clock;
pub mod control;
pub mod counters;
pub mod daemon;
pub mod devices;
pub mod helper;
pub mod links;
pub mod logging;
pub mod packet;
pub mod region;
pub mod rings;
pub mod shard;
pub mod signals;
pub mod snapshot;
pub mod steer;
pub mod xsk;
