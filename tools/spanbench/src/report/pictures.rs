//! The pictures of `wire`.

use crate::chart::{Bar, Panel, picture};
use crate::wire::report::{COLUMNS, Case, WireReport};

/// The figures that get a picture.
const DRAWN: [&str; 4] = ["max_sink_pps", "max_monitor_pps", "zero_loss_pps", "latency_50_p99_ns"];

/// A picture.
#[derive(Debug)]
pub(super) struct Chart {
    /// Title of the case it belongs to.
    pub case: String,
    /// What it shows.
    pub title: String,
    /// Its file.
    pub file: String,
    /// Its text.
    pub svg: String,
}

/// The pictures of every case.
pub(super) fn all(report: &WireReport) -> Vec<Chart> {
    let drawn = COLUMNS.iter().filter(|(name, ..)| DRAWN.contains(name));
    let of_case = |case: &Case| -> Vec<Chart> {
        drawn.clone().filter_map(|(name, heading, divisor)| chart(case, name, heading, *divisor)).collect()
    };
    report.cases.iter().flat_map(of_case).collect()
}

/// One figure of every system; `None` where no system has it.
fn chart(case: &Case, figure: &str, heading: &str, divisor: f64) -> Option<Chart> {
    let bars: Vec<Bar> = case
        .systems
        .iter()
        .filter_map(|system| {
            let spread = system.figures.get(figure)?.per(divisor);
            let label = system.system.as_str().to_owned();
            Some(Bar { label, strong: system.system.is_ours(), spread })
        })
        .collect();
    if bars.is_empty() {
        return None;
    }
    let title = format!("{}: {heading}", case.title());
    let svg = picture(&[vec![Panel { title: title.clone(), bars }]]);
    let file = format!("{}-{}-{figure}.svg", case.mode.as_str(), case.bytes);
    Some(Chart { case: case.title(), title, file, svg })
}

#[cfg(test)]
mod tests {
    use spanwire::kernel::path::Path;

    use super::*;
    use crate::summary::Spread;
    use crate::wire::system::{Mode, System};

    #[test]
    fn a_chart_has_a_bar_for_each_system_that_has_the_figure() {
        let mut case = Case::new(Mode::Forward, 64, &[System::Spanwire(Path::Xdp), System::Testpmd, System::Tc]);
        let spread = |median: f64| Spread { runs: 5, median, min: median * 0.9, max: median * 1.1 };
        for (system, pps) in case.systems.iter_mut().zip([1_500_000.0, 1_000_000.0]) {
            system.figures.insert("max_sink_pps".to_owned(), spread(pps));
        }
        let drawn = chart(&case, "max_sink_pps", "max at sink, kpps", 1e3).map(|chart| chart.svg).unwrap_or_default();
        assert!(drawn.contains("spanwire") && drawn.contains("testpmd") && !drawn.contains(">tc<"), "{drawn}");
        assert!(drawn.contains("1500") && drawn.contains("1000"), "the medians in thousands: {drawn}");
        assert!(chart(&case, "zero_loss_pps", "no loss, kpps", 1e3).is_none());
    }
}
