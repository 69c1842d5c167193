//! What one run of one system came to.

use std::collections::BTreeMap;

use serde::Serialize;

use super::sequence::Verdict;
use super::system::Mode;

/// One run of one system.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Run {
    /// With as many frames as the tester can send.
    pub max: Option<Max>,
    /// The highest rate without loss, frames a second.
    pub zero_loss_pps: Option<f64>,
    /// The highest rate with a loss of at most 0.5 %.
    pub half_percent_pps: Option<f64>,
    /// At parts of the rate without loss.
    pub latency: Vec<Latency>,
    /// Part of the time in which some thread of the machine waited for a processor; `None` where the kernel does not
    /// say.
    pub contention: Option<f64>,
}

/// The outcome of the highest load.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Max {
    /// Frames a second sent.
    pub offered_pps: f64,
    /// Frames a second at the sink.
    pub sink_pps: f64,
    /// Frames a second at the monitor.
    pub monitor_pps: f64,
    /// Frames sent.
    pub offered: u64,
    /// Of them, those that the first port refused at once.
    pub refused: u64,
    /// Of them, those that arrived at the sink.
    pub received: u64,
    /// Copies at the monitor.
    pub monitored: u64,
    /// Frames of anybody else, at either.
    pub foreign: u64,
}

/// Latency and order at one rate.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Latency {
    /// Part of the rate without loss, %.
    pub load_percent: u32,
    /// Frames a second that were offered.
    pub offered_pps: f64,
    /// Frames sent.
    pub offered: u64,
    /// Frames at the sink.
    pub received: u64,
    /// Copies at the monitor.
    pub monitored: u64,
    /// Of the frames looked at.
    pub order: Verdict,
    /// Frames looked for that the sink's own socket dropped: a loss of the bench.
    pub undelivered: u64,
    /// One-way latency, ns.
    pub p50_ns: u64,
    /// 90 % are below.
    pub p90_ns: u64,
    /// 99 % are below.
    pub p99_ns: u64,
    /// 99.9 % are below.
    pub p999_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

impl Run {
    /// The figures that are compared, by name.
    pub(super) fn figures(&self, mode: Mode) -> BTreeMap<String, f64> {
        let mut figures = BTreeMap::new();
        let mut add = |name: String, value: Option<f64>| value.map(|value| figures.insert(name, value));
        add("max_sink_pps".to_owned(), self.max.as_ref().map(|max| max.sink_pps));
        if mode == Mode::Mirror {
            add("max_monitor_pps".to_owned(), self.max.as_ref().map(|max| max.monitor_pps));
        }
        add("zero_loss_pps".to_owned(), self.zero_loss_pps);
        add("half_percent_pps".to_owned(), self.half_percent_pps);
        for latency in &self.latency {
            let load = latency.load_percent;
            add(format!("latency_{load}_p50_ns"), Some(latency.p50_ns as f64));
            add(format!("latency_{load}_p99_ns"), Some(latency.p99_ns as f64));
            add(format!("latency_{load}_p999_ns"), Some(latency.p999_ns as f64));
        }
        figures
    }
}
