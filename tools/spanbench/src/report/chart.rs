//! Bars with whiskers, as SVG.

use svg::Document;
use svg::node::element::{Line, Rectangle, Text};

use crate::summary::Spread;
use crate::wire::report::{COLUMNS, Case, WireReport};
use crate::wire::system::System;

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
            let Spread { runs, median, min, max } = *system.figures.get(figure)?;
            let spread = Spread { runs, median: median / divisor, min: min / divisor, max: max / divisor };
            Some(Bar { label: system.system.as_str(), ours: system.system == System::Spanwire, spread })
        })
        .collect();
    if bars.is_empty() {
        return None;
    }
    let title = format!("{}: {heading}", case.title());
    let svg = draw(&title, &bars).to_string();
    let file = format!("{}-{}-{figure}.svg", case.mode.as_str(), case.bytes);
    Some(Chart { case: case.title(), title, file, svg })
}

struct Bar {
    label: &'static str,
    ours: bool,
    spread: Spread,
}

/// Places, in units of the picture.
const WIDTH: f64 = 640.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 70.0;
const TOP: f64 = 34.0;
const STEP: f64 = 30.0;
const THICK: f64 = 18.0;

fn draw(title: &str, bars: &[Bar]) -> Document {
    let height = TOP + STEP * bars.len() as f64 + 8.0;
    let highest = bars.iter().map(|bar| bar.spread.max).fold(f64::MIN_POSITIVE, f64::max);
    let x = |value: f64| LEFT + (WIDTH - LEFT - RIGHT) * value / highest;
    let background = Rectangle::new().set("width", "100%").set("height", "100%").set("fill", "#ffffff");
    let mut picture = Document::new()
        .set("viewBox", (0, 0, WIDTH, height))
        .set("width", WIDTH)
        .set("height", height)
        .set("font-family", "sans-serif")
        .set("font-size", 13)
        .add(background)
        .add(Text::new(title).set("x", 8).set("y", 20).set("font-weight", "bold"));
    for (place, bar) in bars.iter().enumerate() {
        let top = TOP + STEP * place as f64;
        let middle = top + THICK / 2.0;
        let Spread { median, min, max, .. } = bar.spread;
        let line = |x1: f64, y1: f64, x2: f64, y2: f64| {
            Line::new().set("x1", x1).set("y1", y1).set("x2", x2).set("y2", y2).set("stroke", "#222222")
        };
        let body = Rectangle::new()
            .set("x", LEFT)
            .set("y", top)
            .set("width", x(median) - LEFT)
            .set("height", THICK)
            .set("fill", if bar.ours { "#2b6cb0" } else { "#b8c4d0" });
        let label = Text::new(bar.label).set("x", LEFT - 8.0).set("y", middle + 4.5).set("text-anchor", "end");
        let digits = if median < 10.0 { 2 } else { 0 };
        let value = Text::new(format!("{median:.digits$}")).set("x", x(max) + 8.0).set("y", middle + 4.5);
        picture = picture
            .add(body)
            .add(line(x(min), middle, x(max), middle))
            .add(line(x(min), middle - 4.0, x(min), middle + 4.0))
            .add(line(x(max), middle - 4.0, x(max), middle + 4.0))
            .add(label)
            .add(value);
    }
    picture
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::system::Mode;

    #[test]
    fn a_chart_has_a_bar_for_each_system_that_has_the_figure() {
        let mut case = Case::new(Mode::Forward, 64, &[System::Spanwire, System::Testpmd, System::Tc]);
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
