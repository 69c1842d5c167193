//! DPDK testpmd, which forwards between two AF_XDP ports in its `io` mode.

use std::fs;

use spanwire_lab::topology::Lab;

use super::process::Process;
use super::{Running, Setup, System};
use crate::wire::error::{Result, WireError};

const PROGRAM: &str = "dpdk-testpmd";
/// Pages of 2 MiB.
const PAGES: u64 = 512;
const PAGES_FILE: &str = "/proc/sys/vm/nr_hugepages";

/// Whether it can be found.
pub(super) fn is_installed() -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(PROGRAM).is_file()))
}

/// Huge pages, as many as testpmd wants. Dropping this puts the number back.
#[derive(Debug)]
struct HugePages {
    before: u64,
}

impl HugePages {
    fn reserve() -> Result<HugePages> {
        let read = || -> Result<u64> {
            let text = fs::read_to_string(PAGES_FILE).map_err(WireError::io(PAGES_FILE))?;
            Ok(text.trim().parse().unwrap_or(0))
        };
        let pages = HugePages { before: read()? };
        if pages.before < PAGES {
            fs::write(PAGES_FILE, PAGES.to_string()).map_err(WireError::io(PAGES_FILE))?;
            let got = read()?;
            if got < PAGES {
                let reason = format!("needs {PAGES} huge pages of 2 MiB, and there are {got}");
                return Err(WireError::System { system: System::Testpmd.as_str(), reason });
            }
        }
        Ok(pages)
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        if self.before < PAGES {
            // Nothing can be done about a failure; the memory stays reserved.
            let _ = fs::write(PAGES_FILE, self.before.to_string());
        }
    }
}

struct Testpmd {
    // Dropped in this order.
    process: Process,
    _ports: ClearPorts,
    _pages: HugePages,
}

/// Takes XDP programs off ports when dropped: libxdp attaches them for longer than the process lives.
struct ClearPorts {
    namespace: String,
    ports: [String; 2],
}

impl Drop for ClearPorts {
    fn drop(&mut self) {
        if let Ok(ns) = spanwire_lab::netns::Namespace::attach(&self.namespace) {
            for port in &self.ports {
                // Without a program there is nothing to take off.
                let _ = ns.ip(&["link", "set", "dev", port, "xdp", "off"]);
            }
        }
    }
}

/// Starts it. It takes some seconds to forward.
pub(super) fn start(lab: &Lab, setup: &Setup) -> Result<Box<dyn Running>> {
    let wire = lab.wire(0)?;
    let pages = HugePages::reserve()?;
    let ports =
        ClearPorts { namespace: lab.dut().name().to_owned(), ports: [wire.a.name.clone(), wire.b.name.clone()] };
    let (main, lcore) = (setup.tester_cpu, setup.dut_cpu);
    let line = format!(
        "-v -l {main},{lcore} --main-lcore {main} --in-memory --no-pci --no-telemetry --iova-mode=va \
         --vdev net_af_xdp0,iface={},start_queue=0,queue_count=1 \
         --vdev net_af_xdp1,iface={},start_queue=0,queue_count=1 \
         -- --forward-mode=io --nb-cores=1 --nb-ports=2 --auto-start",
        wire.a.name, wire.b.name
    );
    let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let process = Process::start(lab.dut(), PROGRAM, &args)?;
    Ok(Box::new(Testpmd { process, _ports: ports, _pages: pages }))
}

/// From the line `EAL: RTE Version: 'DPDK 22.11.11'`.
fn version(log: &str) -> String {
    let quoted = log.split_once("RTE Version: '").and_then(|(_, rest)| rest.split_once('\''));
    quoted.map_or_else(|| "DPDK, version unknown".to_owned(), |(version, _)| version.to_owned())
}

impl Running for Testpmd {
    fn note(&self) -> String {
        format!("{}, net_af_xdp, io", version(&self.process.log()))
    }

    fn pid(&self) -> Option<u32> {
        Some(self.process.pid())
    }

    fn ended(&mut self) -> bool {
        self.process.has_ended()
    }

    fn log(&mut self) -> String {
        self.process.last_words()
    }
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn the_version_is_found_in_the_log() {
        assert_eq!(version("EAL: x\nEAL: RTE Version: 'DPDK 22.11.11'\nEAL: y"), "DPDK 22.11.11");
        assert!(version("").contains("unknown"));
    }
}
