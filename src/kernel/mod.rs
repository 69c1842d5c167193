//! What runs in the kernel for a port, and what holds it there.
//!
//! - [`link`]: attaches an XDP program to a device, in the mode asked for
//! - [`steer`]: the program of one port, and the map from its receive queues to AF_XDP sockets

pub mod link;
pub mod steer;
