//! An instance of the selector: the program of one port of a wire, loaded and not attached yet.

use std::fmt;
use std::io;
use std::time::Duration;

use bytemuck::bytes_of;
use libbpf_rs::{MapCore, MapFlags, MapHandle, Object, ObjectBuilder, ProgramHandle, ProgramInput, ProgramMut};

use super::abi::Constants;
use super::maps::Maps;
use super::steer::{Aligned, with_libbpf_log};

/// Where in the receive path a selector runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// In the driver, before an skb exists.
    Xdp,
    /// In the stack, on skbs as the kernel has them.
    Tc,
}

impl Hook {
    /// `xdp` or `tc`.
    pub fn as_str(self) -> &'static str {
        match self {
            Hook::Xdp => "xdp",
            Hook::Tc => "tc",
        }
    }

    /// The name of its selectors in the kernel.
    pub(super) fn program(self) -> &'static str {
        self.object().1
    }

    /// The object, and the program's name in it.
    pub(super) fn object(self) -> (&'static [u8], &'static str) {
        static XDP: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/wire.bpf.o")));
        static TC: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/tc.bpf.o")));
        match self {
            Hook::Xdp => (&XDP.0, "span_wire"),
            Hook::Tc => (&TC.0, "span_tc"),
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an instance is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Where it is to run.
    pub hook: Hook,
    /// The port's number in the policy.
    pub port: u32,
    /// Its device, ifindex in this network namespace: tc sends nothing on elsewhere. 0 where that is not to be looked at.
    pub device: u32,
    /// Device of the wire's other port, ifindex in this network namespace; 0 for none.
    pub peer: u32,
}

/// The map that a selector has the devices of its wire in: the other port's, and its own.
const DEVICES: &str = "devices";
const OTHER: u32 = 0;
const OWN: u32 = 1;

/// The device that a selector's frames go to. The kernel takes one that goes out of it.
#[derive(Debug)]
pub struct Peer(MapHandle);

impl Peer {
    /// Has them go to this device, ifindex in this network namespace, 0 for none; also where it is another one by now that has
    /// the ifindex.
    ///
    /// # Errors
    /// There is no such device.
    pub fn set(&self, device: u32) -> libbpf_rs::Result<()> {
        self.put(OTHER, device)
    }

    fn put(&self, at: u32, device: u32) -> libbpf_rs::Result<()> {
        let at = at.to_ne_bytes();
        if self.0.lookup(&at, MapFlags::ANY)?.is_some_and(|there| there == device.to_ne_bytes()) {
            return Ok(());
        }
        if device != 0 {
            return self.0.update(&at, &device.to_ne_bytes(), MapFlags::ANY);
        }
        match self.0.delete(&at) {
            Err(error) if error.kind() != libbpf_rs::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Why the kernel did not take a selector. The verifier's log is included.
#[derive(Debug, thiserror::Error)]
#[error("cannot load the selector for {hook}: {source:#}{log}")]
pub struct ProgramError {
    hook: Hook,
    source: libbpf_rs::Error,
    /// From a new line on; may be empty.
    log: String,
}

impl ProgramError {
    /// What it says without the log.
    pub fn why(&self) -> String {
        format!("{:#}", self.source)
    }
}

/// A loaded selector.
#[derive(Debug)]
pub struct Selector {
    object: Object,
    of: Instance,
}

impl Selector {
    /// Loads an instance over the shared maps.
    ///
    /// # Errors
    /// [`ProgramError`]: the kernel lacks something, or rights are missing, or one of the two is no device.
    pub fn load(of: Instance, maps: &Maps) -> Result<Selector, ProgramError> {
        let (loaded, log) = with_libbpf_log(|| load(of, maps));
        let object = loaded.map_err(|source| ProgramError { hook: of.hook, source, log })?;
        Ok(Selector { object, of })
    }

    /// What it is for.
    pub fn instance(&self) -> Instance {
        self.of
    }

    /// The program, to be attached.
    ///
    /// # Errors
    /// Descriptors are short.
    pub fn program(&self) -> Result<ProgramHandle, ProgramError> {
        self.find().and_then(|program| ProgramHandle::try_from(&program)).map_err(|source| self.error(source))
    }

    /// The map of what crossed, rows by processor.
    ///
    /// # Errors
    /// Descriptors are short.
    pub fn crossings(&self) -> Result<MapHandle, ProgramError> {
        map_of(&self.object, "crossings").map_err(|source| self.error(source))
    }

    /// Where its frames go.
    ///
    /// # Errors
    /// Descriptors are short.
    pub fn peer(&self) -> Result<Peer, ProgramError> {
        map_of(&self.object, DEVICES).map(Peer).map_err(|source| self.error(source))
    }

    /// Runs it on a frame, without a device, and returns its verdict: as the kernel tries programs (`BPF_PROG_TEST_RUN`).
    ///
    /// # Errors
    /// The kernel does not take the frame or the context.
    pub fn run(&self, frame: &[u8], context: Option<&mut [u8]>) -> libbpf_rs::Result<u32> {
        let input = ProgramInput { data_in: Some(frame), context_in: context, ..Default::default() };
        self.find()?.test_run(input).map(|output| output.return_value)
    }

    /// How long it takes for this frame: the mean of `repeat` runs, one after the other, on this processor.
    ///
    /// # Errors
    /// The kernel does not take the frame.
    pub fn time(&self, frame: &[u8], repeat: u32) -> libbpf_rs::Result<Duration> {
        let input = ProgramInput { data_in: Some(frame), repeat, ..Default::default() };
        self.find()?.test_run(input).map(|output| output.duration)
    }

    fn find(&self) -> libbpf_rs::Result<ProgramMut<'_>> {
        let (_, name) = self.of.hook.object();
        self.object.progs_mut().find(|program| program.name() == name).ok_or_else(|| missing("program", name))
    }

    fn error(&self, source: libbpf_rs::Error) -> ProgramError {
        ProgramError { hook: self.of.hook, source, log: String::new() }
    }
}

fn load(of: Instance, maps: &Maps) -> libbpf_rs::Result<Object> {
    let (bytes, _) = of.hook.object();
    let mut open = ObjectBuilder::default().open_memory(bytes)?;
    let constants = Constants { port: of.port, processors: maps.processors(), device: of.device, reserved: 0 };
    for mut map in open.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        if let Some(shared) = maps.named(&name) {
            map.reuse_fd(shared)?;
        } else if name == "crossings" {
            map.set_max_entries(maps.processors())?;
        } else if name.ends_with(".rodata") {
            map.set_initial_value(bytes_of(&constants))?;
        }
    }
    let object = open.load()?;
    let devices = Peer(map_of(&object, DEVICES)?);
    devices.put(OWN, of.device)?;
    devices.set(of.peer)?;
    Ok(object)
}

fn map_of(object: &Object, name: &str) -> libbpf_rs::Result<MapHandle> {
    let map = object.maps().find(|map| map.name() == name).ok_or_else(|| missing("map", name))?;
    MapHandle::try_from(&map)
}

fn missing(kind: &str, name: &str) -> libbpf_rs::Error {
    let text = format!("the embedded object has no {kind} {name}");
    libbpf_rs::Error::from(io::Error::new(io::ErrorKind::InvalidData, text))
}
