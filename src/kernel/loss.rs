//! What the kernel loses of the frames that selectors send on in the driver (`bpf/loss.bpf.c`).
//!
//! ```text
//! driver ── selector ── XDP_REDIRECT ──> to be sent on, or not: xdp_redirect_err ──> batch ──> the other driver
//!    └── xdp_exception, for a failure of its own                                       └── not all taken: xdp_devmap_xmit
//! ```
//!
//! xdp_devmap_xmit tells of every batch, lost or not, and on veth each frame is one: the program there is on only while somebody
//! asks for it ([`Losses::watch_unsent`]).
//!
//! The tracepoints are read through the kernel's BTF, with programs of their own that need CAP_PERFMON. Without one or the
//! other, frames cross as they do, and nobody knows what is lost.

use std::io;
use std::os::unix::fs::MetadataExt;

use bytemuck::{Zeroable, bytes_of, pod_read_unaligned};
use libbpf_rs::{ErrorKind, Link, MapCore, MapFlags, MapHandle, Object, ObjectBuilder, num_possible_cpus};

use super::abi::Loss;
use super::steer::{Aligned, with_libbpf_log};
use crate::xsk::shortage::shortage_in;

pub(super) static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/loss.bpf.o")));

/// The program that runs for every batch, not for failures alone.
const UNSENT: &str = "span_unsent";

/// The name of its map.
const LOSSES: &str = "losses";

/// The kernel's BTF.
const BTF: &str = "/sys/kernel/btf/vmlinux";

/// Why the tracepoints cannot be watched.
#[derive(Debug, thiserror::Error)]
#[error("the kernel's tracepoints of XDP cannot be watched: {source:#}{}", hint(source))]
pub struct LossError {
    source: libbpf_rs::Error,
}

impl From<libbpf_rs::Error> for LossError {
    fn from(source: libbpf_rs::Error) -> LossError {
        LossError { source }
    }
}

fn hint(source: &libbpf_rs::Error) -> &'static str {
    match source.kind() {
        ErrorKind::PermissionDenied => "; needs CAP_PERFMON and CAP_BPF",
        _ if !std::path::Path::new(BTF).exists() => "; the kernel has no BTF (CONFIG_DEBUG_INFO_BTF)",
        _ => shortage_in(&format!("{source:#}")),
    }
}

/// The program at the tracepoint of batches, for as long as this lives.
#[derive(Debug)]
pub struct Unsent {
    _link: Link,
}

/// The programs at the tracepoints of failures. Dropping it takes them off.
#[derive(Debug)]
pub struct Losses {
    map: MapHandle,
    processors: usize,
    object: Object,
    // They hold the programs, which hold the map.
    _links: Vec<Link>,
}

impl Losses {
    /// Puts the programs there. What they count is of devices of the calling thread's network namespace.
    ///
    /// # Errors
    /// [`LossError`]: nothing stays.
    pub fn open() -> Result<Losses, LossError> {
        let (opened, log) = with_libbpf_log(open);
        opened.inspect_err(|_| tracing::debug!("{log}")).map_err(LossError::from)
    }

    /// Whether the kernel takes the programs. Nothing is put anywhere.
    ///
    /// # Errors
    /// [`LossError`]: it does not.
    pub fn try_load() -> Result<(), LossError> {
        let (loaded, log) = with_libbpf_log(load);
        loaded.map(drop).inspect_err(|_| tracing::debug!("{log}")).map_err(LossError::from)
    }

    /// Counts what is lost of the frames from a device, from now on or as before.
    ///
    /// # Errors
    /// Memory is short, or there are more devices than there is room for.
    pub fn watch(&self, device: u32) -> Result<(), LossError> {
        let zero = vec![bytes_of(&Loss::zeroed()).to_vec(); self.processors];
        match self.map.update_percpu(&device.to_ne_bytes(), &zero, MapFlags::NO_EXIST) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            done => Ok(done?),
        }
    }

    /// Counts what drivers do not take, too, while the value lives. All batches that cross pay for that, wherever they do.
    ///
    /// # Errors
    /// [`LossError`]: nothing stays.
    pub fn watch_unsent(&self) -> Result<Unsent, LossError> {
        let program = self.object.progs_mut().find(|program| program.name() == UNSENT);
        let program = program.ok_or_else(|| broken("the embedded object lacks a program"))?;
        let (attached, log) = with_libbpf_log(|| program.attach());
        let link = attached.inspect_err(|_| tracing::debug!("{log}"))?;
        Ok(Unsent { _link: link })
    }

    /// What was lost of the frames from a device since it is watched; `None` where it is not.
    #[must_use]
    pub fn of(&self, device: u32) -> Option<Loss> {
        let rows = self.map.lookup_percpu(&device.to_ne_bytes(), MapFlags::ANY).ok()??;
        let mut sum = Loss::zeroed();
        for row in rows.iter().filter_map(|row| row.get(..size_of::<Loss>())) {
            let row: Loss = pod_read_unaligned(row);
            sum.refused += row.refused;
            sum.unsent += row.unsent;
            sum.aborted += row.aborted;
        }
        Some(sum)
    }

    /// Counts nothing of a device any more.
    pub fn leave(&self, device: u32) {
        // One that is not there is none to be left.
        let _ = self.map.delete(&device.to_ne_bytes());
    }
}

fn broken(what: &str) -> libbpf_rs::Error {
    io::Error::new(io::ErrorKind::InvalidData, what).into()
}

fn load() -> libbpf_rs::Result<Object> {
    let space = std::fs::metadata("/proc/thread-self/ns/net")?.ino();
    let space = u32::try_from(space).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    let mut open = ObjectBuilder::default().open_memory(&OBJECT.0)?;
    for mut map in open.maps_mut() {
        if map.name().to_string_lossy().ends_with(".rodata") {
            map.set_initial_value(&space.to_ne_bytes())?;
        }
    }
    open.load()
}

fn open() -> libbpf_rs::Result<Losses> {
    let object = load()?;
    let failures = object.progs_mut().filter(|program| program.name() != UNSENT);
    let links = failures.map(|program| program.attach()).collect::<libbpf_rs::Result<Vec<Link>>>()?;
    let map = object.maps().find(|map| map.name() == LOSSES);
    let map = map.ok_or_else(|| broken("the embedded object has no map"))?;
    Ok(Losses { map: MapHandle::try_from(&map)?, processors: num_possible_cpus()?, object, _links: links })
}
