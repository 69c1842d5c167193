//! Steering: the XDP program of one port, and the map from its receive queues to AF_XDP sockets.
//!
//! Each port gets its own instance of the program and its own map, so one port cannot disturb
//! another, and taking a port away is dropping one value. A frame whose queue has no socket goes
//! on to the kernel.

use std::cell::RefCell;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::str::FromStr;
use std::sync::Once;

use libbpf_rs::{ErrorKind, MapCore, MapFlags, MapHandle, Object, ObjectBuilder, PrintLevel, set_print};

use crate::kernel::xdp::{LinkError, XdpLink, XdpMode};
use crate::xsk::netdev;
use crate::xsk::shortage::shortage_in;

/// Which XDP mode to use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum XdpModeChoice {
    /// The faster one for the driver: generic on veth (measured), elsewhere native, and generic
    /// where native cannot be had.
    #[default]
    Auto,
    /// Native or an error.
    Native,
    /// Generic.
    Generic,
}

impl XdpModeChoice {
    /// `auto`, `native` or `generic`.
    pub fn as_str(self) -> &'static str {
        match self {
            XdpModeChoice::Auto => "auto",
            XdpModeChoice::Native => "native",
            XdpModeChoice::Generic => "generic",
        }
    }

    /// Whether native is what is tried first on a device of this driver.
    pub fn prefers_native(self, driver: &str) -> bool {
        match self {
            XdpModeChoice::Native => true,
            XdpModeChoice::Generic => false,
            // Native veth allocates and copies per frame in its own NAPI, and forwards fewer frames.
            XdpModeChoice::Auto => driver != "veth",
        }
    }
}

impl fmt::Display for XdpModeChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is none of the modes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown XDP mode {0:?}: use auto, native or generic")]
pub struct UnknownXdpMode(String);

impl FromStr for XdpModeChoice {
    type Err = UnknownXdpMode;

    fn from_str(text: &str) -> Result<XdpModeChoice, UnknownXdpMode> {
        match text {
            "auto" => Ok(XdpModeChoice::Auto),
            "native" => Ok(XdpModeChoice::Native),
            "generic" => Ok(XdpModeChoice::Generic),
            _ => Err(UnknownXdpMode(text.to_owned())),
        }
    }
}

/// Why a port could not be steered. `port` is the device's name and ifindex.
#[derive(Debug, thiserror::Error)]
pub enum SteerError {
    /// The kernel did not take the program or its map. The verifier's log is included.
    #[error("cannot load the XDP program for {port}: {source:#}{hint}{log}", hint = load_hint(source))]
    Load {
        /// Device.
        port: String,
        /// What libbpf said.
        source: libbpf_rs::Error,
        /// What it printed, from a new line on; may be empty.
        log: String,
    },
    /// The device did not take the program.
    #[error(transparent)]
    Attach(#[from] LinkError),
    /// The port has no such queue.
    #[error("{port} has no queue {queue}: its queues are 0 to {last}")]
    NoQueue {
        /// Device.
        port: String,
        /// Queue asked for.
        queue: u32,
        /// The highest one.
        last: u32,
    },
    /// A queue's socket could not be entered or taken out.
    #[error("cannot change the socket of queue {queue} of {port}: {source:#}{}", shortage_in(&format!("{source:#}")))]
    Map {
        /// Device.
        port: String,
        /// Queue.
        queue: u32,
        /// What libbpf said.
        source: libbpf_rs::Error,
    },
}

fn load_hint(source: &libbpf_rs::Error) -> &'static str {
    match source.kind() {
        ErrorKind::PermissionDenied => "; needs CAP_BPF and CAP_NET_ADMIN",
        _ => shortage_in(&format!("{source:#}")),
    }
}

/// Embedded bytes of an object, aligned: Rust aligns them to 1, and ELF headers are read in place.
#[repr(C, align(8))]
#[derive(Debug)]
pub struct Aligned<T: ?Sized>(pub T);

static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/span.bpf.o")));

/// Names given in bpf/span.bpf.c.
const PROGRAM: &str = "span_rx";
const MAP: &str = "xsks";

/// The program attached to one port, with its sockets. Dropping it detaches the program; frames
/// then take the kernel's path.
#[derive(Debug)]
pub struct PortProgram {
    // The link holds the program, the program holds the map.
    link: XdpLink,
    sockets: MapHandle,
    queues: u32,
    note: Option<String>,
}

impl PortProgram {
    /// Loads an instance of the program with room for `queues` sockets (0 counts as 1) and
    /// attaches it to a device of the calling thread's network namespace. `driver` is the
    /// device's, as [`netdev::Netdev::driver`] has it; only `Auto` looks at it.
    ///
    /// # Errors
    /// [`SteerError::Load`], and [`SteerError::Attach`] when the device does not take the
    /// program, e.g. because it has one already. Nothing stays behind.
    pub fn attach(ifindex: u32, mode: XdpModeChoice, queues: u32, driver: &str) -> Result<PortProgram, SteerError> {
        let queues = queues.max(1);
        let (loaded, log) = with_libbpf_log(|| load(queues));
        let loaded = loaded.and_then(|object| {
            let sockets = handle_of_map(&object)?;
            Ok((object, sockets))
        });
        let (object, sockets) =
            loaded.map_err(|source| SteerError::Load { port: netdev::label(ifindex), source, log })?;
        let program = object.progs().find(|program| program.name() == PROGRAM);
        let program = program.ok_or_else(|| SteerError::Load {
            port: netdev::label(ifindex),
            source: missing("program", PROGRAM),
            log: String::new(),
        })?;
        let (link, note) = attach_as_chosen(program.as_fd(), ifindex, mode, driver)?;
        Ok(PortProgram { link, sockets, queues, note })
    }

    /// Sends the frames of a receive queue to `socket`, in place of the socket it had, if any.
    ///
    /// Bind the socket to this very port and queue first: the kernel drops what it would
    /// redirect to a socket that is bound to another, or to none.
    ///
    /// # Errors
    /// [`SteerError::NoQueue`]; [`SteerError::Map`] when it is no AF_XDP socket.
    pub fn set(&self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), SteerError> {
        self.check(queue)?;
        let fd = socket.as_raw_fd().to_ne_bytes();
        self.sockets.update(&queue.to_ne_bytes(), &fd, MapFlags::ANY).map_err(|source| self.map_error(queue, source))
    }

    /// Leaves the frames of a receive queue to the kernel. A queue without a socket is fine: a
    /// socket that is closed leaves the map by itself.
    ///
    /// # Errors
    /// [`SteerError::NoQueue`], [`SteerError::Map`].
    pub fn clear(&self, queue: u32) -> Result<(), SteerError> {
        self.check(queue)?;
        match self.sockets.delete(&queue.to_ne_bytes()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(self.map_error(queue, error)),
            _ => Ok(()),
        }
    }

    /// The mode in use.
    pub fn mode(&self) -> XdpMode {
        self.link.mode()
    }

    /// Queues the map has room for.
    pub fn queues(&self) -> u32 {
        self.queues
    }

    /// Why `Auto` is not using native XDP though it tried to, for the operator.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    fn check(&self, queue: u32) -> Result<(), SteerError> {
        if queue < self.queues {
            return Ok(());
        }
        Err(SteerError::NoQueue { port: netdev::label(self.link.ifindex()), queue, last: self.queues - 1 })
    }

    fn map_error(&self, queue: u32, source: libbpf_rs::Error) -> SteerError {
        SteerError::Map { port: netdev::label(self.link.ifindex()), queue, source }
    }
}

/// Loads program and map. libbpf raises RLIMIT_MEMLOCK on kernels that account BPF memory to it
/// (before 5.11) and goes on when it may not; nothing here needs it raised.
fn load(queues: u32) -> libbpf_rs::Result<Object> {
    let mut open = ObjectBuilder::default().open_memory(&OBJECT.0)?;
    for mut map in open.maps_mut() {
        if map.name() == MAP {
            map.set_max_entries(queues)?;
        }
    }
    open.load()
}

fn handle_of_map(object: &Object) -> libbpf_rs::Result<MapHandle> {
    match object.maps().find(|map| map.name() == MAP) {
        Some(map) => MapHandle::try_from(&map),
        None => Err(missing("map", MAP)),
    }
}

fn missing(kind: &str, name: &str) -> libbpf_rs::Error {
    let text = format!("the embedded object has no {kind} {name}");
    libbpf_rs::Error::from(std::io::Error::new(std::io::ErrorKind::InvalidData, text))
}

fn attach_as_chosen(
    program: BorrowedFd<'_>,
    ifindex: u32,
    choice: XdpModeChoice,
    driver: &str,
) -> Result<(XdpLink, Option<String>), LinkError> {
    let only = |mode| Ok((XdpLink::attach(program, ifindex, mode)?, None));
    match choice {
        XdpModeChoice::Native => only(XdpMode::Native),
        XdpModeChoice::Generic => only(XdpMode::Generic),
        XdpModeChoice::Auto if !choice.prefers_native(driver) => only(XdpMode::Generic),
        XdpModeChoice::Auto => match XdpLink::attach(program, ifindex, XdpMode::Native) {
            Ok(link) => Ok((link, None)),
            Err(native @ (LinkError::Unsupported { .. } | LinkError::Refused { .. })) => {
                let link = XdpLink::attach(program, ifindex, XdpMode::Generic)?;
                Ok((link, Some(native.why())))
            }
            // Generic would fail just the same.
            Err(other) => Err(other),
        },
    }
}

thread_local! {
    /// What libbpf printed on this thread since [`with_libbpf_log`] began.
    static LIBBPF_LOG: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Most of a verifier log that is kept: its end says what was wrong.
const LOG_LIMIT: usize = 16 << 10;

/// Runs `work` and returns with its result what libbpf warned of meanwhile, the verifier's log of
/// a refused program among it, from a new line on.
pub fn with_libbpf_log<T>(work: impl FnOnce() -> T) -> (T, String) {
    static PRINT: Once = Once::new();
    PRINT.call_once(|| {
        set_print(Some((PrintLevel::Info, on_libbpf_print)));
    });
    LIBBPF_LOG.set(Some(String::new()));
    let result = work();
    let log = LIBBPF_LOG.take().unwrap_or_default();
    let log = log.trim_end();
    let start = log.len().saturating_sub(LOG_LIMIT);
    let start = (start..=log.len()).find(|&at| log.is_char_boundary(at)).unwrap_or(start);
    let log = match &log[start..] {
        "" => String::new(),
        kept => format!("\n{kept}"),
    };
    (result, log)
}

fn on_libbpf_print(level: PrintLevel, message: String) {
    tracing::debug!(target: "libbpf", "{}", message.trim_end());
    if level == PrintLevel::Warn {
        LIBBPF_LOG.with_borrow_mut(|log| {
            if let Some(log) = log {
                log.push_str(&message);
            }
        });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{PrintLevel, XdpModeChoice, on_libbpf_print, with_libbpf_log};

    #[test]
    fn modes_read_as_they_print() {
        for mode in [XdpModeChoice::Auto, XdpModeChoice::Native, XdpModeChoice::Generic] {
            assert_eq!(mode.as_str().parse(), Ok(mode));
        }
        let error = "skb".parse::<XdpModeChoice>().unwrap_err();
        assert!(error.to_string().contains("auto, native or generic"));
    }

    #[test]
    fn warnings_are_kept_for_the_error_and_only_while_asked_for() {
        on_libbpf_print(PrintLevel::Warn, "before\n".to_owned());
        let ((), log) = with_libbpf_log(|| {
            on_libbpf_print(PrintLevel::Info, "chatter\n".to_owned());
            on_libbpf_print(PrintLevel::Warn, "R1 !read_ok\n".to_owned());
        });
        assert_eq!(log, "\nR1 !read_ok");
    }

    #[test]
    fn a_long_log_keeps_its_end() {
        let ((), log) = with_libbpf_log(|| {
            on_libbpf_print(PrintLevel::Warn, "é".repeat(20_000));
            on_libbpf_print(PrintLevel::Warn, "x the end".to_owned());
        });
        assert!(log.len() <= super::LOG_LIMIT + 1);
        assert!(log.ends_with("the end"));
    }
}
