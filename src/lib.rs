//! spanwire

pub mod steer;
pub mod xsk;
