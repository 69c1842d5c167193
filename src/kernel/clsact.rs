//! A selector at tc where the kernel has no links there, before Linux 6.6: a filter at the ingress of the device's queueing
//! discipline `clsact`. It stays when the process goes, and its program is exchanged in one step, as in a link.
//!
//! ```text
//! device ── clsact ── ingress ── filter of priority 7, handle 0x7370616e, name "spanwire OWNER PORT"
//! ```
//!
//! What tells a filter of ours from those of others is all there to see: place, handle, and a name, which says whose it is
//! among several dataplanes and whether the discipline was made for it. Nothing of others is ever changed: a discipline goes
//! with our filter only where it was made for it, and nobody has put anything on it since.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::devices;
use crate::devices::attribute::{attribute, put, put_text, text, word};
use crate::devices::netlink::{NLM_F_DUMP, Protocol, Request, ask, number};

/// Early among the filters, as links come before all of them: a wire's frames are for nobody else here.
const PRIORITY: u16 = 7;
/// `span`
const HANDLE: u32 = 0x7370_616e;
/// First word of a filter's name, before the owner and the port.
const OURS: &str = "spanwire";
/// Last word, where the discipline was made for the filter.
const MADE: &str = "clsact";

// linux/rtnetlink.h
const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const RTM_GETTFILTER: u16 = 46;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_CHAIN: u16 = 11;
/// Bytes of `struct tcmsg`.
const TCMSG: usize = 20;

// linux/netlink.h
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;

// linux/pkt_sched.h
const TC_H_CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;

// linux/pkt_cls.h
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_FLAGS_GEN: u16 = 9;
const TCA_BPF_ID: u16 = 11;
/// The program's verdict is what is done.
const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;
/// Not into the device, whatever it could run.
const TCA_CLS_FLAGS_SKIP_HW: u32 = 1;

/// Frames of every protocol, in network order.
const ALL: u16 = (libc::ETH_P_ALL as u16).to_be();

/// A selector of ours at the ingress of a device of the calling thread's network namespace. It stays there when this is
/// dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    device: u32,
    name: Name,
}

/// What a filter's name says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    /// One word.
    owner: String,
    port: u32,
    /// Whether the discipline was made for it.
    made: bool,
}

impl Name {
    fn read(text: &str) -> Option<Name> {
        let words: Vec<&str> = text.split(' ').collect();
        let (owner, port, made) = match words[..] {
            [OURS, owner, port] => (owner, port, false),
            [OURS, owner, port, MADE] => (owner, port, true),
            _ => return None,
        };
        Some(Name { owner: owner.to_owned(), port: port.parse().ok()?, made })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{OURS} {} {}", self.owner, self.port)?;
        if self.made { write!(f, " {MADE}") } else { Ok(()) }
    }
}

impl Filter {
    /// Attaches a program to a device, in the name of `owner`, one word: of the dataplane, say, and the same in its next run.
    /// `port` is what the owner calls the device. One of the same owner there has its program exchanged.
    ///
    /// # Errors
    /// Another owner's is there, or a filter of another kind at the same priority; or what the kernel says.
    pub fn attach(program: BorrowedFd<'_>, device: u32, owner: &str, port: u32) -> io::Result<Filter> {
        let present = filters(device, INGRESS)?;
        if let Some(found) = Filter::among(&present, device) {
            if found.name.owner != owner {
                return Err(busy(format!("the selector of another dataplane is there ({})", found.name.owner)));
            }
            let filter = Filter { name: Name { port, ..found.name }, ..found };
            return filter.swap(program).map(|()| filter);
        }
        if let Some(other) = present.iter().find(|other| other.chain == 0 && other.priority == PRIORITY) {
            return Err(busy(format!("priority {PRIORITY} at its ingress is taken by a {} filter", other.kind)));
        }
        let made = make_discipline(device)?;
        let filter = Filter { device, name: Name { owner: owner.to_owned(), port, made } };
        filter.put(program, NLM_F_EXCL).inspect_err(|_| {
            if made && let Err(error) = drop_discipline(device) {
                tracing::warn!("clsact of ifindex {device} cannot be taken off: {error}");
            }
        })?;
        Ok(filter)
    }

    /// What an earlier run of `owner` attached, if it is there still.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn find(device: u32, owner: &str) -> io::Result<Option<Filter>> {
        let found = Filter::among(&filters(device, INGRESS)?, device);
        Ok(found.filter(|found| found.name.owner == owner))
    }

    /// Whoever's is there.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn any(device: u32) -> io::Result<Option<Filter>> {
        Ok(Filter::among(&filters(device, INGRESS)?, device))
    }

    /// Whose it is.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.name.owner
    }

    /// All that `owner` has in the calling thread's network namespace.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn all(owner: &str) -> io::Result<Vec<Filter>> {
        let devices = devices::present()?;
        devices.iter().filter_map(|device| Filter::find(device.ifindex, owner).transpose()).collect()
    }

    fn among(present: &[Present], device: u32) -> Option<Filter> {
        present.iter().find_map(Present::name).map(|name| Filter { device, name })
    }

    /// What its owner calls the device.
    #[must_use]
    pub fn port(&self) -> u32 {
        self.name.port
    }

    /// The device it is on; `None` once that is gone, or the filter was taken off.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn device(&self) -> io::Result<Option<u32>> {
        Ok(Filter::find(self.device, &self.name.owner)?.map(|found| found.device))
    }

    /// The id of the program that it holds, and the filters that meet frames before it does, in words; `None` once it is gone.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn held(&self) -> io::Result<Option<(u32, Vec<String>)>> {
        let present = filters(self.device, INGRESS)?;
        let own = present.iter().find(|own| own.name().is_some_and(|name| name.owner == self.name.owner));
        // What holds the filters of a priority is told of as well.
        let first = present.iter().filter(|other| other.chain == 0 && other.priority < PRIORITY && other.handle != 0);
        let first = first.map(|other| format!("a {} filter of priority {}", other.kind, other.priority));
        Ok(own.and_then(|own| own.program).map(|program| (program, first.collect())))
    }

    /// Exchanges the program: each frame meets the older one or this one.
    ///
    /// # Errors
    /// The device is gone, or the program does not fit there.
    pub fn swap(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        self.put(program, NLM_F_REPLACE)
    }

    fn put(&self, program: BorrowedFd<'_>, how: u16) -> io::Result<()> {
        let mut options = Vec::new();
        // An open descriptor is not negative.
        put(&mut options, TCA_BPF_FD, &program.as_raw_fd().to_ne_bytes());
        put_text(&mut options, TCA_BPF_NAME, &self.name.to_string());
        put(&mut options, TCA_BPF_FLAGS, &TCA_BPF_FLAG_ACT_DIRECT.to_ne_bytes());
        put(&mut options, TCA_BPF_FLAGS_GEN, &TCA_CLS_FLAGS_SKIP_HW.to_ne_bytes());
        let mut body = tcmsg(self.device, HANDLE, INGRESS, info());
        put_text(&mut body, TCA_KIND, "bpf");
        put(&mut body, TCA_OPTIONS, &options);
        order(RTM_NEWTFILTER, NLM_F_CREATE | how, body).map_err(explained)
    }

    /// Takes it off, and the discipline with it where that was made for it and has nothing else. One that is not there any
    /// more is fine.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn detach(&self) -> io::Result<()> {
        // As it is by now: in its place there may be another owner's, or a discipline that somebody else has made.
        let Some(found) = Filter::find(self.device, &self.name.owner)? else { return Ok(()) };
        let mut body = tcmsg(self.device, HANDLE, INGRESS, info());
        put_text(&mut body, TCA_KIND, "bpf");
        gone_is_fine(order(RTM_DELTFILTER, 0, body))?;
        let is_idle = || {
            Ok::<_, io::Error>(filters(self.device, INGRESS)?.is_empty() && filters(self.device, EGRESS)?.is_empty())
        };
        if found.name.made && is_idle()? { gone_is_fine(drop_discipline(self.device)) } else { Ok(()) }
    }
}

/// Makes the discipline. Whether there was none.
fn make_discipline(device: u32) -> io::Result<bool> {
    let mut body = tcmsg(device, CLSACT_HANDLE, TC_H_CLSACT, 0);
    put_text(&mut body, TCA_KIND, "clsact");
    match order(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, body) {
        // clsact, or ingress, which takes the same filters
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the kernel has neither tcx nor clsact (CONFIG_NET_SCH_INGRESS)",
        )),
        done => done.map(|()| true),
    }
}

fn drop_discipline(device: u32) -> io::Result<()> {
    order(RTM_DELQDISC, 0, tcmsg(device, CLSACT_HANDLE, TC_H_CLSACT, 0))
}

/// `struct tcmsg`: family and padding, ifindex, handle, parent, info.
fn tcmsg(device: u32, handle: u32, parent: u32, info: u32) -> Vec<u8> {
    [0, device, handle, parent, info].into_iter().flat_map(u32::to_ne_bytes).collect()
}

/// The filter's priority and protocol, as `tcm_info` has them.
fn info() -> u32 {
    u32::from(PRIORITY) << 16 | u32::from(ALL)
}

fn order(kind: u16, flags: u16, body: Vec<u8>) -> io::Result<()> {
    ask(Protocol::Route, &Request { kind, flags, answer: 0, body }).map(drop)
}

/// A filter, or what holds the filters of one priority.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Present {
    kind: String,
    chain: u32,
    priority: u16,
    handle: u32,
    /// Of a BPF filter; empty for another.
    name: String,
    /// The id of its program, if it has one.
    program: Option<u32>,
}

impl Present {
    fn of(message: &[u8]) -> Option<Present> {
        let handle = number(message, 8).map(u32::from_ne_bytes)?;
        let info = number(message, 16).map(u32::from_ne_bytes)?;
        let rest = message.get(TCMSG..)?;
        let options = attribute(rest, TCA_OPTIONS).unwrap_or_default();
        let kind = attribute(rest, TCA_KIND).and_then(text).unwrap_or_default();
        let is_bpf = kind == "bpf";
        Some(Present {
            chain: attribute(rest, TCA_CHAIN).map(word).unwrap_or_default(),
            priority: (info >> 16) as u16,
            handle,
            name: attribute(options, TCA_BPF_NAME).filter(|_| is_bpf).and_then(text).unwrap_or_default(),
            program: attribute(options, TCA_BPF_ID).filter(|_| is_bpf).map(word),
            kind,
        })
    }

    /// The name of a selector; `None` for what is none of ours.
    fn name(&self) -> Option<Name> {
        let place = (self.chain, self.priority, self.handle) == (0, PRIORITY, HANDLE) && self.program.is_some();
        place.then(|| Name::read(&self.name))?
    }
}

/// The filters of a device on one side; none where there is no discipline for them.
fn filters(device: u32, side: u32) -> io::Result<Vec<Present>> {
    let body = tcmsg(device, 0, side, 0);
    let request = Request { kind: RTM_GETTFILTER, flags: NLM_F_DUMP, answer: RTM_NEWTFILTER, body };
    Ok(ask(Protocol::Route, &request)?.iter().filter_map(|message| Present::of(message)).collect())
}

fn busy(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::ResourceBusy, why)
}

/// The kernel's word with its meaning here.
fn explained(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => busy("its filters are a block that it shares with other devices".to_owned()),
        Some(libc::ENOENT) => io::Error::new(
            io::ErrorKind::Unsupported,
            "the kernel has neither tcx nor BPF filters (CONFIG_NET_CLS_BPF)",
        ),
        _ => error,
    }
}

/// What was to go has gone already: the filter, the discipline, or the device.
fn gone_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL | libc::ENODEV)) => Ok(()),
        done => done,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn message(handle: u32, priority: u16, kind: &str, name: &str) -> Vec<u8> {
        let mut options = Vec::new();
        put_text(&mut options, TCA_BPF_NAME, name);
        put(&mut options, TCA_BPF_ID, &77u32.to_ne_bytes());
        let mut bytes = tcmsg(3, handle, INGRESS, u32::from(priority) << 16 | u32::from(ALL));
        put_text(&mut bytes, TCA_KIND, kind);
        put(&mut bytes, TCA_CHAIN, &0u32.to_ne_bytes());
        put(&mut bytes, TCA_OPTIONS, &options);
        bytes
    }

    fn name(message: &[u8]) -> Option<Name> {
        Present::of(message)?.name()
    }

    #[test]
    fn a_filter_of_ours_says_whose_it_is() {
        for made in [false, true] {
            let ours = Name { owner: "run-1".to_owned(), port: 11, made };
            assert_eq!(name(&message(HANDLE, PRIORITY, "bpf", &ours.to_string())), Some(ours));
        }
        for other in [
            message(HANDLE + 1, PRIORITY, "bpf", "spanwire a 1"),
            message(HANDLE, PRIORITY + 1, "bpf", "spanwire a 1"),
            message(HANDLE, PRIORITY, "flower", "spanwire a 1"),
            message(HANDLE, PRIORITY, "bpf", "span_tc"),
            message(HANDLE, PRIORITY, "bpf", "spanwire a"),
            message(HANDLE, PRIORITY, "bpf", "spanwire a b"),
            message(HANDLE, PRIORITY, "bpf", "spanwire a 1 ingress"),
        ] {
            assert_eq!(name(&other), None);
        }
    }

    #[test]
    fn a_message_cut_anywhere_is_survived() {
        let whole = message(HANDLE, PRIORITY, "bpf", "spanwire a 1");
        for len in 0..whole.len() {
            assert_eq!(Present::of(&whole[..len]).is_some(), len >= TCMSG, "{len}");
            assert!(name(&whole[..len]).is_none() || len + 4 > whole.len(), "{len}");
        }
    }

    #[test]
    fn what_has_gone_needs_no_taking_off() {
        let error = |errno| Err(io::Error::from_raw_os_error(errno));
        assert!([libc::ENOENT, libc::ENODEV].into_iter().all(|errno| gone_is_fine(error(errno)).is_ok()));
        assert!(gone_is_fine(error(libc::EPERM)).is_err());
    }
}
