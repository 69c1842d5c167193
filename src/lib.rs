//! spanwire: a port-mirroring (SPAN) dataplane for Linux over AF_XDP.
pub mod clock;
pub mod control;
pub mod region;
pub mod xsk;
