//! The bench's BPF objects.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use libbpf_rs::{MapCore, MapHandle, Object, ObjectBuilder, OpenObject};
use spanwire::kernel::steer::{Aligned, with_libbpf_log};

use super::error::{Result, WireError};

/// The far ends: `bpf/sink.bpf.c`.
pub(crate) static SINK: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/sink.bpf.o")));
/// `bpf/devmap.bpf.c`.
pub(crate) static DEVMAP: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/devmap.bpf.o")));
/// `bpf/tc.bpf.c`.
pub(crate) static TC: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/tc.bpf.o")));

/// A loaded instance of an object.
#[derive(Debug)]
pub(crate) struct Loaded(Object);

impl Loaded {
    /// Loads an object after `prepare` has changed it.
    ///
    /// # Errors
    /// [`WireError::Bpf`], with the verifier's log.
    pub(crate) fn load(
        object: &Aligned<[u8]>,
        prepare: impl FnOnce(&mut OpenObject) -> libbpf_rs::Result<()>,
    ) -> Result<Loaded> {
        let (loaded, log) = with_libbpf_log(|| {
            let mut open = ObjectBuilder::default().open_memory(&object.0)?;
            prepare(&mut open)?;
            open.load()
        });
        loaded.map(Loaded).map_err(|source| WireError::Bpf { what: "loading a program".to_owned(), source, log })
    }

    /// A program, to attach.
    ///
    /// # Errors
    /// The object has none of this name.
    pub(crate) fn program(&self, name: &str) -> Result<OwnedFd> {
        let program = self.0.progs().find(|program| program.name() == name).ok_or_else(|| missing("program", name))?;
        program.as_fd().try_clone_to_owned().map_err(WireError::io("keeping a BPF program"))
    }

    /// A map, which outlives the object.
    ///
    /// # Errors
    /// The object has none of this name.
    pub(crate) fn map(&self, name: &str) -> Result<MapHandle> {
        let map = self.0.maps().find(|map| map.name() == name).ok_or_else(|| missing("map", name))?;
        MapHandle::try_from(&map).map_err(WireError::bpf("keeping a map"))
    }
}

fn missing(kind: &str, name: &str) -> WireError {
    let source = io::Error::new(io::ErrorKind::InvalidData, "not in the embedded object");
    WireError::io(format!("BPF {kind} {name}"))(source)
}
