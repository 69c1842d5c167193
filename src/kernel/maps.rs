//! The maps that all ports of a dataplane share: the policy in force, the ledgers, the clone rings and their bells.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use bytemuck::Zeroable;
use libbpf_rs::libbpf_sys::{BPF_F_INNER_MAP, BPF_F_MMAPABLE, bpf_map_create_opts};
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType, num_possible_cpus};

use super::abi::{BankHeader, Bell, CHUNK_SLOTS, Cell};
use super::kept::{BELLS, Kept, POLICY, RING};
use super::rings::Ring;
use super::rows::Rows;
use crate::xsk::shortage::shortage_in;

/// Why a map could not be made, filled or mapped.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}: {source:#}{}", shortage_in(&format!("{source:#}")))]
pub struct MapError {
    /// What was tried.
    pub action: &'static str,
    /// What libbpf said.
    pub source: libbpf_rs::Error,
}

impl MapError {
    pub(super) fn of<E: Into<libbpf_rs::Error>>(action: &'static str) -> impl FnOnce(E) -> MapError {
        move |source| MapError { action, source: source.into() }
    }
}

/// The shared maps.
#[derive(Debug)]
pub struct Maps {
    policy: MapHandle,
    cells: MapHandle,
    rings: MapHandle,
    bells: MapHandle,
    /// Bytes of a clone ring.
    ring_bytes: u32,
    processors: u32,
    kept: Kept,
}

impl Maps {
    /// Empty ones: no bank, no ledger, no ring. There will be at most `slots` ledgers, and rings of `ring_bytes` bytes, a power
    /// of two of pages.
    ///
    /// # Errors
    /// The kernel refuses them: without CAP_BPF, or memory is short.
    pub fn create(slots: u32, ring_bytes: u32) -> Result<Maps, MapError> {
        let processors = num_possible_cpus().map_err(MapError::of("count the processors"))?;
        let processors = u32::try_from(processors).unwrap_or(u32::MAX);
        let chunks = slots.div_ceil(CHUNK_SLOTS);
        let a_bank = bank(1)?;
        let a_chunk = chunk(processors)?;
        // Of a ring its kind is all that counts.
        let a_ring = ring(u32::try_from(rustix::param::page_size()).unwrap_or(ring_bytes))?;
        let of_maps = |name, of: &MapHandle, len| create(MapType::ArrayOfMaps, name, 4, len, 0, Some(of.as_fd()));
        Ok(Maps {
            policy: of_maps("policy", &a_bank, 1)?,
            cells: of_maps("cells", &a_chunk, chunks)?,
            rings: of_maps("rings", &a_ring, processors)?,
            bells: create(MapType::Array, "bells", row::<Bell>(), processors, BPF_F_MMAPABLE, None)?,
            ring_bytes,
            processors,
            kept: Kept::default(),
        })
    }

    /// Rows that everything by processor has.
    pub fn processors(&self) -> u32 {
        self.processors
    }

    /// The map of this name in a program, if it is one of the shared ones.
    pub(super) fn named(&self, name: &str) -> Option<BorrowedFd<'_>> {
        let map = match name {
            "policy" => &self.policy,
            "cells" => &self.cells,
            "rings" => &self.rings,
            "bells" => &self.bells,
            _ => return None,
        };
        Some(map.as_fd())
    }

    /// Bytes of a clone ring.
    pub fn ring_bytes(&self) -> u32 {
        self.ring_bytes
    }

    /// Pins what tells a later run what became of clones meanwhile, in place of what an earlier one has pinned: the bells, and
    /// from now on each ring that is added; and the policy, for it to end. What cannot be pinned is told, and costs no more
    /// than that.
    pub fn pin(&self, folder: &Path) {
        self.kept.begin(folder);
        self.kept.keep(&self.policy, POLICY, 0);
        self.kept.keep(&self.bells, BELLS, 0);
    }

    /// Pins again what somebody has removed the pins of, and tells of that.
    pub fn look_after_pins(&self) {
        self.kept.look();
    }

    /// Puts a bank in force and waits until no packet sees the older one; `None` for none, which mirrors nothing.
    pub(super) fn put_bank(&self, bank: Option<&MapHandle>) -> Result<(), MapError> {
        let put = match bank {
            Some(bank) => self.policy.update(&0u32.to_ne_bytes(), &fd(bank), MapFlags::ANY),
            None => match self.policy.delete(&0u32.to_ne_bytes()) {
                Err(error) if error.kind() == libbpf_rs::ErrorKind::NotFound => Ok(()),
                done => done,
            },
        };
        put.map_err(MapError::of("put the policy in force"))
    }

    /// Adds the ledgers of these chunks, all zero: 64 bytes for each entry and each processor that may ever run, also those that do
    /// not. Rows for those that run alone would have to grow under the selector whenever one is plugged in.
    pub(super) fn add_chunks(&self, all: &[u32]) -> Result<Vec<Rows<Cell>>, MapError> {
        let chunks = all.iter().map(|_| chunk(self.processors)).collect::<Result<Vec<_>, _>>()?;
        let rows = chunks.iter().map(Rows::of).collect::<io::Result<Vec<_>>>().map_err(MapError::of("map ledgers"))?;
        let (at, fds): (Vec<_>, Vec<_>) =
            all.iter().zip(&chunks).map(|(at, chunk)| (at.to_ne_bytes(), fd(chunk))).unzip();
        let added =
            self.cells.update_batch(&at.concat(), &fds.concat(), all.len() as u32, MapFlags::ANY, MapFlags::ANY);
        added.map_err(MapError::of("add ledgers"))?;
        Ok(rows)
    }

    /// The bells.
    ///
    /// # Errors
    /// They cannot be mapped.
    pub fn bells(&self) -> io::Result<Rows<Bell>> {
        Rows::of(&self.bells)
    }

    /// Makes the clone ring of each of these processors.
    ///
    /// # Errors
    /// Memory is short.
    pub fn add_rings(&self, processors: impl IntoIterator<Item = u32>) -> Result<Vec<Ring>, MapError> {
        processors.into_iter().map(|processor| self.add_ring(processor)).collect()
    }

    /// Makes the clone ring of a processor.
    ///
    /// # Errors
    /// Memory is short.
    pub fn add_ring(&self, processor: u32) -> Result<Ring, MapError> {
        let bells = Arc::new(Rows::of(&self.bells).map_err(MapError::of("map bells"))?);
        let map = ring(self.ring_bytes)?;
        let owned: io::Result<OwnedFd> = map.as_fd().try_clone_to_owned();
        let ring = owned.and_then(|map| Ring::of(map, self.ring_bytes, bells, processor as usize));
        let ring = ring.map_err(MapError::of("map a clone ring"))?;
        // Now that somebody can read it.
        let done = self.rings.update(&processor.to_ne_bytes(), &fd(&map), MapFlags::ANY);
        done.map_err(MapError::of("add a clone ring"))?;
        self.kept.keep(&map, RING, processor);
        Ok(ring)
    }
}

/// A bank with room for `rows` rows.
pub(super) fn bank(rows: u32) -> Result<MapHandle, MapError> {
    create(MapType::Array, "bank", row::<BankHeader>(), rows, BPF_F_INNER_MAP, None)
}

fn chunk(processors: u32) -> Result<MapHandle, MapError> {
    create(MapType::Array, "chunk", row::<Cell>(), CHUNK_SLOTS * processors, BPF_F_MMAPABLE, None)
}

fn ring(bytes: u32) -> Result<MapHandle, MapError> {
    create(MapType::RingBuf, "ring", 0, bytes, 0, None)
}

fn row<T: Zeroable>() -> u32 {
    size_of::<T>() as u32
}

fn fd(map: &MapHandle) -> [u8; 4] {
    map.as_fd().as_raw_fd().to_ne_bytes()
}

fn create(
    kind: MapType,
    name: &'static str,
    value: u32,
    len: u32,
    flags: u32,
    of: Option<BorrowedFd<'_>>,
) -> Result<MapHandle, MapError> {
    let opts = bpf_map_create_opts {
        sz: size_of::<bpf_map_create_opts>() as _,
        map_flags: flags,
        inner_map_fd: of.map_or(0, |of| of.as_raw_fd().cast_unsigned()),
        ..Default::default()
    };
    let key = if kind == MapType::RingBuf { 0 } else { 4 };
    MapHandle::create(kind, Some(name), key, value, len, &opts).map_err(MapError::of("make a map of the kernel path"))
}
