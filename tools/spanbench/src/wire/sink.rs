//! The far end of a port: an XDP program that counts, and an AF_XDP socket for the frames to be looked at.

use std::os::fd::{AsFd, AsRawFd};

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use spanwire::kernel::xdp::{XdpLink, XdpMode};
use spanwire::xsk::endpoint::Receiver;
use spanwire_lab::netns::Namespace;

use super::bpf::{Loaded, SINK};
use super::error::{Result, WireError};

const KEY: [u8; 4] = 0u32.to_ne_bytes();

/// What has arrived since the sink was attached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// The tester's frames of the trial they were counted in.
    pub frames: u64,
    /// Those that came when their trial was over.
    pub late: u64,
    /// Others.
    pub foreign: u64,
    /// The tester's frames by the processor their receive path ran on.
    pub by_cpu: Vec<u64>,
}

/// A sink on one port.
#[derive(Debug)]
pub(crate) struct Sink {
    receiver: Receiver,
    tallies: MapHandle,
    wanted: MapHandle,
    _link: XdpLink,
}

impl Sink {
    /// Attaches a sink to queue 0 of a device of `ns`.
    ///
    /// # Errors
    /// [`WireError`].
    pub(crate) fn attach(ns: &Namespace, ifindex: u32, mode: XdpMode) -> Result<Sink> {
        let loaded = Loaded::load(SINK, |_| Ok(()))?;
        let program = loaded.program("sink")?;
        let (link, receiver) = ns.enter(|| -> Result<_> {
            Ok((XdpLink::attach(program.as_fd(), ifindex, mode)?, Receiver::open(ifindex, 0)?))
        })??;
        let socket = receiver.as_fd().as_raw_fd().to_ne_bytes();
        let sockets = loaded.map("xsks")?;
        sockets.update(&KEY, &socket, MapFlags::ANY).map_err(WireError::bpf("giving the sink its socket"))?;
        Ok(Sink { receiver, tallies: loaded.map("tallies")?, wanted: loaded.map("wanted")?, _link: link })
    }

    /// Counts the frames of `trial` from now on, and hands 1 in `every` of them to the socket; 0: none.
    ///
    /// # Errors
    /// [`WireError::Bpf`].
    pub(crate) fn want(&self, trial: u32, every: u32) -> Result<()> {
        let set = self.wanted.update(&KEY, &[trial, every].map(u32::to_ne_bytes).concat(), MapFlags::ANY);
        set.map_err(WireError::bpf("telling the sink what to count"))
    }

    /// What has arrived.
    ///
    /// # Errors
    /// [`WireError::Bpf`].
    pub(crate) fn tally(&self) -> Result<Tally> {
        let rows =
            self.tallies.lookup_percpu(&KEY, MapFlags::ANY).map_err(WireError::bpf("reading the sink's counts"))?;
        let mut tally = Tally::default();
        for row in rows.unwrap_or_default() {
            let word = |at: usize| row.get(at..).and_then(<[u8]>::first_chunk).copied().map_or(0, u64::from_ne_bytes);
            tally.by_cpu.push(word(0));
            tally.frames += word(0);
            tally.late += word(8);
            tally.foreign += word(16);
        }
        Ok(tally)
    }

    /// Calls `look` with frames that were delivered.
    pub(crate) fn receive(&mut self, look: impl FnMut(&[u8])) -> u32 {
        self.receiver.receive(64, look)
    }

    /// Frames that were to be delivered and found no room: they count in the tally and were never seen.
    ///
    /// # Errors
    /// [`WireError::Io`].
    pub(crate) fn undelivered(&self) -> Result<u64> {
        // An empty fill ring is counted as dropped too.
        let [dropped, _, _, ring_full, _, _] =
            self.receiver.kernel_stats().map_err(WireError::io("reading the sink's socket"))?;
        Ok(dropped + ring_full)
    }
}
