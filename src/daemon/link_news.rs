//! News of the devices of this network namespace, from the kernel's routing socket.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

use crate::devices::{self, Gone};
use crate::stop::Stop;

/// `RTMGRP_LINK`: devices come, go, and change.
const LINK_GROUP: u32 = 1;
/// `RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV6_IFADDR`, `RTMGRP_IPV6_IFINFO`.
const ADDRESS_GROUPS: u32 = 0x10 | 0x100 | 0x800;
/// One change brings several messages: they are gathered for this long.
const GATHER: Duration = Duration::from_millis(2);

/// How long to wait where none can be had.
const BLIND: Duration = Duration::from_millis(50);

/// Bytes of a datagram: what tells of one device, which the kernel sends by itself.
const DATAGRAM: usize = 8 << 10;

/// Where news of devices comes from.
#[derive(Debug)]
pub struct LinkNews {
    socket: Option<OwnedFd>,
    /// Devices whose end was told of, as far as no news was lost.
    gone: Vec<Gone>,
}

impl LinkNews {
    /// News from now on. Where the kernel gives none, each question says that there was some.
    pub fn watch() -> LinkNews {
        LinkNews::watch_groups(LINK_GROUP)
    }

    /// News of their addresses and their IPv6 too.
    pub fn watch_addresses() -> LinkNews {
        LinkNews::watch_groups(LINK_GROUP | ADDRESS_GROUPS)
    }

    fn watch_groups(groups: u32) -> LinkNews {
        let open = || -> io::Result<OwnedFd> {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            // Protocol 0 is NETLINK_ROUTE.
            let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
            bind(&socket, &SocketAddrNetlink::new(0, groups))?;
            Ok(socket)
        };
        let socket = open().inspect_err(|error| tracing::debug!("no news of devices, they are asked: {error}")).ok();
        LinkNews { socket, gone: Vec::new() }
    }

    /// The devices that are gone since the last call, in the order they went.
    pub fn gone(&mut self) -> Vec<Gone> {
        std::mem::take(&mut self.gone)
    }

    /// Sleeps until a device has changed or `stop` is set, at most `timeout`, and where the kernel gives no news not for
    /// long. Whether one may have changed.
    pub fn wait(&mut self, stop: &Stop, timeout: Duration) -> bool {
        let LinkNews { socket: Some(socket), gone } = self else {
            stop.wait(timeout.min(BLIND));
            return true;
        };
        let mut fds = [PollFd::new(&*socket, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
        // A time out of range is as good as none. An error (EINTR) ends the sleep as well.
        let _ = poll(&mut fds, Timespec::try_from(timeout).ok().as_ref());
        let [news, end] = fds.map(|fd| !fd.revents().is_empty());
        if news && !end {
            std::thread::sleep(GATHER);
        }
        drain(socket, |message| gone.extend(devices::gone(message)))
    }

    /// Whether a device may have changed since the last question.
    pub fn take(&self) -> bool {
        self.socket.as_ref().is_none_or(|socket| drain(socket, |_| ()))
    }
}

/// Takes all messages. Whether there were any: what else they say is looked up, as one may have been lost (ENOBUFS).
fn drain(socket: &OwnedFd, mut each: impl FnMut(&[u8])) -> bool {
    let mut message = [0u8; DATAGRAM];
    let mut any = false;
    loop {
        match recv(socket, &mut message, RecvFlags::DONTWAIT) {
            Ok((len, _)) => each(message.get(..len).unwrap_or_default()),
            Err(Errno::NOBUFS) => {}
            Err(_) => return any,
        }
        any = true;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn without_a_socket_there_may_always_be_news() {
        let start = Instant::now();
        assert!(LinkNews { socket: None, gone: Vec::new() }.wait(&Stop::new().unwrap(), Duration::from_millis(3)));
        assert!(start.elapsed() >= Duration::from_millis(3));
        assert!(LinkNews { socket: None, gone: Vec::new() }.take());
    }
}
