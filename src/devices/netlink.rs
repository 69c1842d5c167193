//! Requests to the kernel over netlink (netlink(7)), and the payload of each message that answers one.
//!
//! ```text
//! len: u32 | type: u16 | flags: u16 | seq: u32 | port: u32 | payload … to len | padding to four bytes
//! ```

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::netlink::{GENERIC, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, connect, recv, send, socket_with,
};

use super::attribute::put;

/// What of the kernel is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Devices, addresses, queueing disciplines and filters (rtnetlink(7)).
    Route,
    /// Families by name.
    Generic,
}

/// A question or an order.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The message's type.
    pub(crate) kind: u16,
    /// `NLM_F_*`, but for what every request has.
    pub(crate) flags: u16,
    /// The type of the messages that answer; others are none of the answer.
    pub(crate) answer: u16,
    /// The payload.
    pub(crate) body: Vec<u8>,
}

/// What every device or address is asked for: the request, its answers, and the length of the fixed part of both.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dump {
    request: u16,
    answer: u16,
    fixed: usize,
    /// What is to be left out, where there is something.
    filter: Option<u32>,
}

/// Every device: RTM_GETLINK, RTM_NEWLINK, `struct ifinfomsg`. Without statistics, which take longest to gather.
pub(super) const LINKS: Dump = Dump { request: 18, answer: 16, fixed: 16, filter: Some(RTEXT_FILTER_SKIP_STATS) };
/// The same with statistics.
pub(super) const STATISTICS: Dump = Dump { filter: None, ..LINKS };
/// Every queueing discipline: RTM_GETQDISC, RTM_NEWQDISC, `struct tcmsg`.
pub(super) const DISCIPLINES: Dump = Dump { request: 38, answer: 36, fixed: 20, filter: None };
/// Every address: RTM_GETADDR, RTM_NEWADDR, `struct ifaddrmsg`.
pub(super) const ADDRESSES: Dump = Dump { request: 22, answer: 20, fixed: 8, filter: None };

/// A change of a device, which only an acknowledgement answers: RTM_SETLINK, `struct ifinfomsg`.
const CHANGE: u16 = 19;

// linux/rtnetlink.h, linux/if_link.h
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
const IFLA_EXT_MASK: u16 = 29;

/// A device is gone: RTM_DELLINK, `struct ifinfomsg`.
pub(super) const DELETED: u16 = 17;

impl Dump {
    /// Bytes of the fixed part.
    pub(super) fn fixed(self) -> usize {
        self.fixed
    }

    /// Of one device, or of all where `ifindex` is `None`.
    fn of(self, ifindex: Option<u32>) -> Request {
        let mut body = vec![0; self.fixed];
        if let Some(ifindex) = ifindex
            && let Some(place) = body.get_mut(4..8)
        {
            place.copy_from_slice(&ifindex.to_ne_bytes());
        }
        if let Some(filter) = self.filter {
            put(&mut body, IFLA_EXT_MASK, &filter.to_ne_bytes());
        }
        let flags = if ifindex.is_none() { NLM_F_DUMP } else { 0 };
        Request { kind: self.request, flags, answer: self.answer, body }
    }
}

// linux/netlink.h
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
/// All there are, and not one.
pub(crate) const NLM_F_DUMP: u16 = 0x300;
const NLM_F_DUMP_INTR: u16 = 0x10;
const HEADER: usize = 16;

/// Dumps that something changed under, before one is taken as it is.
const ATTEMPTS: u32 = 4;
/// Bytes of one datagram: the kernel sends at most 32 KiB at once in a dump.
const DATAGRAM: usize = 1 << 16;

/// The payloads of the answer about everything.
///
/// # Errors
/// As [`ask`].
pub(super) fn dump(what: Dump) -> io::Result<Vec<Vec<u8>>> {
    ask(Protocol::Route, &what.of(None))
}

/// The payload of the answer about one device of the calling thread's network namespace.
///
/// # Errors
/// ENODEV where it has none of this ifindex; else as [`ask`].
pub(super) fn one(what: Dump, ifindex: u32) -> io::Result<Vec<u8>> {
    check(ifindex)?;
    ask(Protocol::Route, &what.of(Some(ifindex)))?.pop().ok_or_else(no_device)
}

/// Sets those flags of a device (`IFF_*`) that `mask` has, and waits until that is done.
///
/// # Errors
/// ENODEV, EPERM; else as [`ask`].
pub(super) fn change(ifindex: u32, flags: u32, mask: u32) -> io::Result<()> {
    check(ifindex)?;
    // family and type first
    let body = [0, ifindex, flags, mask].into_iter().flat_map(u32::to_ne_bytes).collect();
    ask(Protocol::Route, &Request { kind: CHANGE, flags: 0, answer: 0, body }).map(drop)
}

/// An ifindex that a device can have: the kernel takes 0 for a question by name.
fn check(ifindex: u32) -> io::Result<()> {
    i32::try_from(ifindex).ok().filter(|&ifindex| ifindex > 0).map(drop).ok_or_else(no_device)
}

fn no_device() -> io::Error {
    io::Error::from_raw_os_error(libc::ENODEV)
}

/// The payloads of the answer, once the kernel has said that this is all.
///
/// # Errors
/// The kernel refused, or its answer is not one.
pub(crate) fn ask(protocol: Protocol, request: &Request) -> io::Result<Vec<Vec<u8>>> {
    let protocol = match protocol {
        Protocol::Route => None,
        Protocol::Generic => Some(GENERIC),
    };
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
    bind(&socket, &SocketAddrNetlink::new(0, 0))?;
    // Only the kernel, which is port 0, can send to a socket that is connected to it.
    connect(&socket, &SocketAddrNetlink::new(0, 0))?;
    let mut buffer = vec![0; DATAGRAM];
    for attempt in 1.. {
        let answer = once(&socket, request, attempt, &mut buffer)?;
        if !answer.interrupted || attempt >= ATTEMPTS {
            return Ok(answer.payloads);
        }
    }
    Ok(Vec::new())
}

/// What has come of an answer.
#[derive(Debug, Default)]
struct Answer {
    payloads: Vec<Vec<u8>>,
    /// Something changed meanwhile, and so something may be missing.
    interrupted: bool,
    done: bool,
}

fn once(socket: &OwnedFd, request: &Request, seq: u32, buffer: &mut [u8]) -> io::Result<Answer> {
    send(socket, &message(request, seq), SendFlags::empty())?;
    let mut answer = Answer::default();
    while !answer.done {
        let (received, len) = recv(socket.as_fd(), &mut *buffer, RecvFlags::TRUNC)?;
        let datagram = buffer.get(..len).filter(|_| received == len).ok_or_else(|| broken("a datagram too large"))?;
        answer.take(datagram, request.answer, seq)?;
    }
    Ok(answer)
}

fn message(Request { kind, flags, body, .. }: &Request, seq: u32) -> Vec<u8> {
    let len = HEADER + body.len();
    // A dump has an end of its own; whatever else is acknowledged after its answer.
    let ends = if flags & NLM_F_DUMP == NLM_F_DUMP { 0 } else { NLM_F_ACK };
    let mut bytes = Vec::with_capacity(len);
    bytes.extend(u32::try_from(len).unwrap_or_default().to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((flags | NLM_F_REQUEST | ends).to_ne_bytes());
    bytes.extend(seq.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(body);
    bytes
}

impl Answer {
    /// Takes the messages of one datagram.
    fn take(&mut self, datagram: &[u8], kind: u16, seq: u32) -> io::Result<()> {
        let mut rest = datagram;
        while !rest.is_empty() && !self.done {
            let cut = || broken("a message cut short");
            let len = number(rest, 0).map(u32::from_ne_bytes).ok_or_else(cut)? as usize;
            let message = rest.get(..len).ok_or_else(cut)?;
            let payload = message.get(HEADER..).ok_or_else(cut)?;
            let half = |at| number(message, at).map(u16::from_ne_bytes).ok_or_else(cut);
            let (of, flags) = (half(4)?, half(6)?);
            // The last may lack its padding.
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
            if number(message, 8).map(u32::from_ne_bytes) != Some(seq) {
                continue;
            }
            self.interrupted |= flags & NLM_F_DUMP_INTR != 0;
            match of {
                // Both begin with a negative errno, or zero.
                NLMSG_DONE | NLMSG_ERROR => match number(payload, 0).map(i32::from_ne_bytes) {
                    Some(errno @ ..0) => return Err(io::Error::from_raw_os_error(errno.saturating_neg())),
                    _ => self.done = true,
                },
                of if of == kind => self.payloads.push(payload.to_owned()),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The kind and the payload of each message of a datagram, up to the first that does not fit.
pub(super) fn messages(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = u32::from_ne_bytes(number(rest, 0)?) as usize;
        let kind = u16::from_ne_bytes(number(rest, 4)?);
        let payload = rest.get(HEADER..len)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, payload))
    })
}

/// `N` bytes from `at` on.
pub(crate) fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

pub(crate) fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} from the kernel's netlink socket"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn message(kind: u16, flags: u16, seq: u32, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(HEADER + payload.len()).unwrap();
        let mut bytes: Vec<u8> = len.to_ne_bytes().into();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(seq.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(payload);
        bytes
    }

    fn taken(datagram: &[u8]) -> io::Result<Answer> {
        let mut answer = Answer::default();
        answer.take(datagram, LINKS.answer, 7).map(|()| answer)
    }

    #[test]
    fn an_answer_is_its_payloads_to_the_end() {
        // Padded in between; another question's; of another kind; the end.
        let mut datagram = message(16, 0, 7, b"abcde");
        datagram.extend([0; 3]);
        for other in [message(16, 0, 6, b"old."), message(20, 0, 7, b"addr"), message(16, NLM_F_DUMP_INTR, 7, b"fg")] {
            datagram.extend(other);
        }
        let answer = taken(&datagram).unwrap();
        assert_eq!(answer.payloads, [b"abcde".to_vec(), b"fg".to_vec()]);
        assert!(answer.interrupted && !answer.done);
        let mut end = message(NLMSG_DONE, 0, 7, &[0; 4]);
        end.extend(message(16, 0, 7, b"late"));
        assert!(taken(&end).is_ok_and(|answer| answer.done && answer.payloads.is_empty()));
    }

    #[test]
    fn a_refusal_is_an_error_and_says_which() {
        for kind in [NLMSG_ERROR, NLMSG_DONE] {
            let refused = taken(&message(kind, 0, 7, &(-libc::EPERM).to_ne_bytes())).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
        }
    }

    /// Whatever is cut or wrong in a datagram: an error or fewer messages, and never a panic or a loop.
    #[test]
    fn a_datagram_cut_anywhere_ends() {
        let mut whole = message(16, 0, 7, b"four");
        whole.extend(message(16, 0, 7, b"more"));
        for len in 0..whole.len() {
            let cut = taken(&whole[..len]);
            assert_eq!(cut.is_ok(), [0, HEADER + 4].contains(&len), "{len}");
        }
        for len in (0..u32::try_from(HEADER).unwrap()).chain([whole.len() as u32 + 1, u32::MAX]) {
            whole[..4].copy_from_slice(&len.to_ne_bytes());
            assert_eq!(taken(&whole).unwrap_err().kind(), io::ErrorKind::InvalidData, "{len}");
        }
    }
}
