//! What the kernel and the drivers of devices can. All of it is asked; no version number is looked at.
//!
//! Nothing here asks for `/sys/kernel/btf/vmlinux`: the objects that carry frames have no CO-RE relocations, so a kernel without BTF
//! of its own runs them as they are (a test of this module holds that). What only counts losses asks for it.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;

use libbpf_rs::libbpf_sys::{
    BPF_MAP_TYPE_RINGBUF, BPF_PROG_TYPE_SCHED_CLS, BPF_PROG_TYPE_XDP, BPF_TCX_INGRESS, bpf_insn, bpf_map_create,
    bpf_prog_load, bpf_prog_query_opts,
};
use rustix::thread::{CapabilitySet, capabilities};

use super::maps::Maps;
use super::program::{Hook, Instance, Selector};
use crate::devices;
use crate::devices::attribute::{attribute, put, put_text};
use crate::devices::netlink::{Protocol, Request, ask, broken, number};
use crate::xsk::netdev::Netdev;
use crate::xsk::offload::stuck_vlan_offload;
use crate::xsk::shortage::shortage;
use crate::xsk::socket::has_multi_buffer;

/// What a driver can with XDP, as it says: `xdp-features` of netdev (Linux 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XdpFeatures(u64);

impl XdpFeatures {
    /// XDP in the driver, with the verdicts that every driver must have (`NETDEV_XDP_ACT_BASIC`).
    pub const BASIC: XdpFeatures = XdpFeatures(1 << 0);
    /// XDP_REDIRECT from it.
    pub const REDIRECT: XdpFeatures = XdpFeatures(1 << 1);
    /// It is a target of redirects. Many drivers say so only while a program is attached to them.
    pub const NDO_XMIT: XdpFeatures = XdpFeatures(1 << 2);
    /// AF_XDP sockets in zero-copy: without it the kernel refuses to bind one (`xp_assign_dev`).
    pub const XSK_ZEROCOPY: XdpFeatures = XdpFeatures(1 << 3);
    /// Received frames may have several buffers.
    pub const RX_SG: XdpFeatures = XdpFeatures(1 << 5);
    /// And so may redirected ones.
    pub const NDO_XMIT_SG: XdpFeatures = XdpFeatures(1 << 6);

    /// Whether all of these are among them.
    #[must_use]
    pub fn has(self, these: XdpFeatures) -> bool {
        self.0 & these.0 == these.0
    }

    /// Both together.
    #[must_use]
    pub const fn and(self, more: XdpFeatures) -> XdpFeatures {
        XdpFeatures(self.0 | more.0)
    }
}

// linux/genetlink.h
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
/// Bytes of `struct genlmsghdr`.
const GENL_HEADER: usize = 4;

// linux/netdev.h
const NETDEV_FAMILY_NAME: &str = "netdev";
const NETDEV_FAMILY_VERSION: u8 = 1;
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;

/// What the driver of a device of the calling thread's network namespace can; `None` where the kernel does not say, before
/// Linux 6.3.
///
/// # Errors
/// ENODEV where there is no such device; or the kernel's answer is none.
pub fn xdp_features(ifindex: u32) -> io::Result<Option<XdpFeatures>> {
    let Some(family) = family()? else { return Ok(None) };
    let mut body = header(NETDEV_CMD_DEV_GET, NETDEV_FAMILY_VERSION);
    put(&mut body, NETDEV_A_DEV_IFINDEX, &ifindex.to_ne_bytes());
    let answer = ask(Protocol::Generic, &Request { kind: family, flags: 0, answer: family, body })?;
    features_of(&answer, ifindex).map(Some)
}

/// Whether the kernel says what drivers can.
///
/// # Errors
/// It cannot be asked.
pub fn tells_xdp_features() -> io::Result<bool> {
    Ok(family()?.is_some())
}

/// The message type of netdev, where the kernel has it.
fn family() -> io::Result<Option<u16>> {
    let mut body = header(CTRL_CMD_GETFAMILY, 1);
    put_text(&mut body, CTRL_ATTR_FAMILY_NAME, NETDEV_FAMILY_NAME);
    match ask(Protocol::Generic, &Request { kind: GENL_ID_CTRL, flags: 0, answer: GENL_ID_CTRL, body }) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        answer => family_of(&answer?).map(Some),
    }
}

/// `struct genlmsghdr`.
fn header(command: u8, version: u8) -> Vec<u8> {
    vec![command, version, 0, 0]
}

/// The message type of the family that an answer tells of.
fn family_of(answer: &[Vec<u8>]) -> io::Result<u16> {
    let family = answer.iter().find_map(|message| attribute(message.get(GENL_HEADER..)?, CTRL_ATTR_FAMILY_ID));
    let family = family.and_then(|id| number(id, 0)).map(u16::from_ne_bytes);
    family.ok_or_else(|| broken("no id of the family netdev"))
}

/// What an answer tells of a device.
fn features_of(answer: &[Vec<u8>], ifindex: u32) -> io::Result<XdpFeatures> {
    let of_it = |message: &&[u8]| attribute(message, NETDEV_A_DEV_IFINDEX) == Some(&ifindex.to_ne_bytes());
    let message = answer.iter().filter_map(|message| message.get(GENL_HEADER..)).find(of_it);
    let features = message.and_then(|message| attribute(message, NETDEV_A_DEV_XDP_FEATURES));
    let features = features.and_then(|features| number(features, 0)).map(u64::from_ne_bytes);
    features.map(XdpFeatures).ok_or_else(|| broken("no XDP features of the device"))
}

/// What decides about a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortFacts {
    /// Its device's name, for messages.
    pub name: String,
    /// Its driver; empty where that does not say.
    pub driver: String,
    /// Largest payload, in bytes, without the Ethernet header.
    pub mtu: u32,
    /// What its driver can; `None` where the kernel does not say.
    pub xdp: Option<XdpFeatures>,
    /// Whether a program is attached in its driver. What that can is all there is then.
    pub has_program: bool,
    /// Whether XDP there is the program's of somebody else, which stays.
    pub is_taken: bool,
    /// Why tags of what it receives are not in the frames that XDP sees, whatever is done; `None` where they are or will be.
    pub no_tags: Option<String>,
}

impl PortFacts {
    /// Asks the kernel about a device of the calling thread's network namespace; whose its XDP is is another question.
    ///
    /// # Errors
    /// It has gone; or the kernel's answer is none.
    pub fn of(device: &Netdev) -> io::Result<PortFacts> {
        // What cannot be read here is told of when the port is taken into use.
        let stuck = stuck_vlan_offload(device.ifindex()).ok().flatten();
        Ok(PortFacts {
            name: device.name().to_owned(),
            driver: device.driver().to_owned(),
            mtu: device.mtu(),
            xdp: xdp_features(device.ifindex())?,
            has_program: devices::has_native_xdp(device.ifindex())?,
            is_taken: false,
            no_tags: stuck.map(|offload| format!("{offload} of {} cannot be turned off", device.name())),
        })
    }
}

/// What this kernel lets this process do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelFacts {
    /// Why selectors cannot be loaded at all; `None` where they can.
    pub lacks: Option<String>,
    /// Whether links hold programs at tc (tcx, Linux 6.6); else filters of clsact do.
    pub tcx: bool,
    /// Whether what AF_XDP sends may lie in several frames (Linux 6.6).
    pub multi_buffer: bool,
}

impl KernelFacts {
    /// Asks the kernel. Nothing stays of it.
    #[must_use]
    pub fn probe() -> KernelFacts {
        KernelFacts { lacks: lacks(), tcx: has_tcx(), multi_buffer: has_multi_buffer() }
    }
}

/// What is missing, by the smallest that can be asked for: a selector that is refused tells much, and this little.
fn lacks() -> Option<String> {
    let tries: [(&str, &dyn Fn() -> io::Result<()>); 3] = [
        ("ring buffers of BPF", &try_ring),
        ("BPF programs at XDP", &|| try_program(BPF_PROG_TYPE_XDP)),
        ("BPF programs at tc", &|| try_program(BPF_PROG_TYPE_SCHED_CLS)),
    ];
    let least = tries.into_iter().find_map(|(what, attempt)| attempt().err().map(|e| refusal(what, &e, &lacking())));
    least.or_else(|| try_selectors().err())
}

/// Both selectors, in earnest: whatever else they need, the kernel has it.
fn try_selectors() -> Result<(), String> {
    let maps = Maps::create(1, page()).map_err(|error| error.to_string())?;
    [Hook::Xdp, Hook::Tc].into_iter().try_for_each(|hook| {
        let loaded = Selector::load(Instance { hook, port: 0, device: 0, peer: 0 }, &maps);
        loaded.map(drop).map_err(|error| {
            tracing::debug!("{error}");
            let needs = match &*lacking() {
                [] => String::new(),
                lacking => format!("; needs {}", lacking.join(" and ")),
            };
            format!("the kernel does not take the selector for {hook}: {}{needs}", error.why())
        })
    })
}

/// Bytes of a page, the smallest size of a ring buffer.
fn page() -> u32 {
    u32::try_from(rustix::param::page_size()).unwrap_or(1 << 16)
}

/// The smallest ring buffer there can be.
fn try_ring() -> io::Result<()> {
    // SAFETY: a string that ends in NUL, read only; no options.
    let made = unsafe { bpf_map_create(BPF_MAP_TYPE_RINGBUF, c"span_probe".as_ptr(), 0, 0, page(), ptr::null()) };
    let_go(made)
}

/// The smallest program there can be: `r0 = 0; exit`.
fn try_program(kind: u32) -> io::Result<()> {
    let code = [0xb7, 0x95].map(|code| bpf_insn { code, ..Default::default() });
    let name = c"span_probe".as_ptr();
    // SAFETY: `code` and the strings, which end in NUL, are read only and outlive the call; the length is that of `code`; no
    // options.
    let loaded = unsafe { bpf_prog_load(kind, name, c"GPL".as_ptr(), code.as_ptr(), code.len() as _, ptr::null_mut()) };
    let_go(loaded)
}

/// Closes the descriptor that libbpf returned.
///
/// # Errors
/// It returned an error's number, negative.
fn let_go(returned: i32) -> io::Result<()> {
    if returned < 0 {
        return Err(io::Error::from_raw_os_error(-returned));
    }
    // SAFETY: the kernel just gave this descriptor to us alone.
    drop(unsafe { OwnedFd::from_raw_fd(returned) });
    Ok(())
}

/// Whether the kernel knows tcx: it looks for the device then, and before that at what is asked.
fn has_tcx() -> bool {
    let mut opts = bpf_prog_query_opts { sz: size_of::<bpf_prog_query_opts>() as _, ..Default::default() };
    // SAFETY: `opts` is whole, says its size and has no pointers; it outlives the call.
    let queried = unsafe { bpf_prog_query_opts(i32::MAX, BPF_TCX_INGRESS, &raw mut opts) };
    [0, -libc::ENODEV].contains(&queried)
}

/// Of the capabilities that selectors take, those that this thread lacks.
fn lacking() -> Vec<&'static str> {
    // Unknown is taken for held.
    let held = capabilities(None).map_or(CapabilitySet::all(), |sets| sets.effective);
    let has_all = held.contains(CapabilitySet::SYS_ADMIN);
    // Without CAP_PERFMON the verifier puts barriers against Spectre into a program, and refuses what those cannot guard.
    let needed = [
        (CapabilitySet::BPF, has_all, "CAP_BPF"),
        (CapabilitySet::NET_ADMIN, false, "CAP_NET_ADMIN"),
        (CapabilitySet::PERFMON, has_all, "CAP_PERFMON"),
    ];
    let lacking = needed.into_iter().filter(|&(capability, is_given, _)| !is_given && !held.contains(capability));
    lacking.map(|(.., name)| name).collect()
}

/// Why `what` cannot be had, with what the operator can do about it.
fn refusal(what: &str, error: &io::Error, lacking: &[&str]) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) if lacking.is_empty() => format!(
            "{what} are not permitted, though CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON are held: by the user namespace of a container, or \
             by a security module"
        ),
        Some(libc::EPERM | libc::EACCES) => format!("{what} are not permitted: needs {}", lacking.join(" and ")),
        Some(libc::EINVAL | libc::ENOSYS) => format!("the kernel has no {what}"),
        _ => format!("{what} cannot be had: {error}{}", shortage(error)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn message(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = header(1, 1);
        attributes.iter().for_each(|(kind, value)| put(&mut bytes, *kind, value));
        bytes
    }

    #[test]
    fn the_family_is_known_by_its_id() {
        let name = message(&[(CTRL_ATTR_FAMILY_NAME, b"netdev\0"), (CTRL_ATTR_FAMILY_ID, &0x1c_u16.to_ne_bytes())]);
        assert_eq!(family_of(std::slice::from_ref(&name)).unwrap(), 0x1c);
        assert!(family_of(&[]).is_err() && family_of(&[message(&[])]).is_err());
        assert!(family_of(&[message(&[(CTRL_ATTR_FAMILY_ID, &[7])])]).is_err());
        (0..name.len()).for_each(|len| drop(family_of(&[name[..len].to_vec()])));
    }

    #[test]
    fn features_are_those_of_the_device_asked_for() {
        let of = |ifindex: u32, features: u64| {
            message(&[
                (NETDEV_A_DEV_IFINDEX, &ifindex.to_ne_bytes()),
                (NETDEV_A_DEV_XDP_FEATURES, &features.to_ne_bytes()),
                (9, b"what a later kernel says"),
            ])
        };
        let answer = [of(6, 0), of(7, 0b110_0111)];
        let features = features_of(&answer, 7).unwrap();
        let can = |which| features.has(which);
        assert!([XdpFeatures::BASIC, XdpFeatures::REDIRECT, XdpFeatures::NDO_XMIT].into_iter().all(can));
        assert!(can(XdpFeatures::RX_SG.and(XdpFeatures::NDO_XMIT_SG)));
        assert_eq!(features_of(&answer, 6).unwrap(), XdpFeatures::default());
        assert!(!XdpFeatures::BASIC.has(XdpFeatures::BASIC.and(XdpFeatures::REDIRECT)));
        assert!(features_of(&answer, 8).is_err());
        let whole = of(7, 1);
        for len in 0..whole.len() {
            // Whole from the end of the features on.
            assert_eq!(features_of(&[whole[..len].to_vec()], 7).is_ok(), len >= 4 + 8 + 12, "{len}");
        }
    }

    /// CO-RE relocations would make libbpf look for the kernel's BTF.
    #[test]
    fn no_object_that_carries_asks_for_the_btf_of_the_kernel() {
        let objects: [&[u8]; 3] = [
            include_bytes!(concat!(env!("OUT_DIR"), "/wire.bpf.o")),
            include_bytes!(concat!(env!("OUT_DIR"), "/tc.bpf.o")),
            include_bytes!(concat!(env!("OUT_DIR"), "/span.bpf.o")),
        ];
        for object in objects {
            // struct btf_ext_header: magic u16, version u8, flags u8, hdr_len u32, then offset and length of the functions',
            // the lines' and the relocations' part
            let start: Vec<u8> = [&0xeb9f_u16.to_ne_bytes()[..], &[1, 0], &32_u32.to_ne_bytes()].concat();
            let at = object.windows(start.len()).position(|window| window == start).unwrap();
            let words: Vec<u32> =
                (0..8).map(|word| u32::from_ne_bytes(number(object, at + 4 * word).unwrap())).collect();
            assert!(words[3] > 0 && words[5] > 0, "no .BTF.ext: {words:?}");
            assert_eq!(words[7], 0, "CO-RE relocations: {words:?}");
        }
    }

    #[test]
    fn a_refusal_says_what_is_missing() {
        let text =
            |errno, lacking: &[&str]| refusal("BPF programs at tc", &io::Error::from_raw_os_error(errno), lacking);
        assert_eq!(text(libc::EPERM, &["CAP_BPF"]), "BPF programs at tc are not permitted: needs CAP_BPF");
        assert!(text(libc::EPERM, &["CAP_BPF", "CAP_NET_ADMIN"]).ends_with("needs CAP_BPF and CAP_NET_ADMIN"));
        assert!(text(libc::EPERM, &[]).contains("security module"));
        assert_eq!(text(libc::ENOSYS, &[]), "the kernel has no BPF programs at tc");
        assert!(text(libc::EMFILE, &[]).contains("LimitNOFILE"));
    }
}
