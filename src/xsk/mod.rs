//! The kernel's side of a port: every system call, and every `unsafe` block, lives below here.

pub mod link;
pub mod netdev;
pub mod packet_socket;
