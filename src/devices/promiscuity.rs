//! Promiscuous mode that outlives the process: the flag of the device itself, `IFF_PROMISC`, as `ip link set promisc on` sets
//! it.
//!
//! A wire carries frames for every address, so its ports take them all, whether or not this process runs. The flag is one
//! for everybody, unlike the memberships of packet sockets, which the kernel counts: who sets it has to know whether it was
//! set before, and clears it only then.

use std::io;

use super::{message, netlink};

const PROMISC: u32 = libc::IFF_PROMISC.cast_unsigned();

/// Whether the flag of a device of the calling thread's network namespace is set. Memberships of packet sockets do not set
/// it.
///
/// # Errors
/// ENODEV where there is no such device; or the kernel's answer is none.
pub fn is_on(ifindex: u32) -> io::Result<bool> {
    Ok(message::flags(&netlink::one(netlink::LINKS, ifindex)?)? & PROMISC != 0)
}

/// Sets or clears the flag. Whether that changed anything.
///
/// # Errors
/// ENODEV where there is no such device, EPERM without CAP_NET_ADMIN.
pub fn set(ifindex: u32, on: bool) -> io::Result<bool> {
    if is_on(ifindex)? == on {
        return Ok(false);
    }
    netlink::change(ifindex, if on { PROMISC } else { 0 }, PROMISC).map(|()| true)
}
