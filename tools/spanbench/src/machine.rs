//! The machine the figures are from.

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
    /// Hypervisor, where the processor says there is one.
    pub virtualised: bool,
    /// Release of spanwire.
    pub spanwire: String,
    /// `release` or `debug`.
    pub build: &'static str,
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
        }
    }
}
