//! The machine the figures are from.

use std::time::{Duration, Instant};

use serde::Serialize;

/// What a reader needs to know of it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    /// Processor model.
    pub cpu: String,
    /// Processors this process may use.
    pub cpus: usize,
    /// Kernel release and architecture.
    pub kernel: String,
    /// Whether the processor says that there is a hypervisor.
    pub virtualised: bool,
    /// Release of spanwire.
    pub spanwire: String,
    /// `release` or `debug`.
    pub build: &'static str,
    /// Version of the compiler.
    pub rustc: &'static str,
}

impl Machine {
    /// This one.
    pub(crate) fn here() -> Machine {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let line = info.lines().find(|line| line.starts_with(name))?;
            line.split_once(':').map(|(_, value)| value.trim().to_owned())
        };
        let system = rustix::system::uname();
        Machine {
            cpu: field("model name").unwrap_or_else(|| "unknown".to_owned()),
            cpus: core_affinity::get_core_ids().map_or(0, |ids| ids.len()),
            kernel: format!("{} {}", system.release().to_string_lossy(), system.machine().to_string_lossy()),
            virtualised: field("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
            spanwire: env!("CARGO_PKG_VERSION").to_owned(),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            rustc: env!("SPANBENCH_RUSTC"),
        }
    }
}

/// Measures for what part of the time some thread waited for a processor that another one had.
#[derive(Debug)]
pub(crate) struct Contention {
    start: Instant,
    before: Option<u64>,
}

impl Contention {
    /// From now on.
    pub(crate) fn watch() -> Contention {
        Contention { start: Instant::now(), before: waited_us() }
    }

    /// Until now; `None` where the kernel does not say.
    pub(crate) fn part(&self) -> Option<f64> {
        let waited = Duration::from_micros(waited_us()?.saturating_sub(self.before?));
        Some(waited.as_secs_f64() / self.start.elapsed().as_secs_f64().max(1e-6))
    }
}

/// Since the start of the machine, from the line `some avg10=… total=N`.
fn waited_us() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/pressure/cpu").ok()?;
    text.lines().find(|line| line.starts_with("some "))?.split_once("total=")?.1.trim().parse().ok()
}
