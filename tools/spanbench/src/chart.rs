//! Bars with whiskers, as SVG.

use svg::Document;
use svg::node::element::{Group, Line, Rectangle, Text};

use crate::summary::Spread;

/// A bar to the median, a whisker from the lowest to the highest.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    /// What it stands for.
    pub label: String,
    /// Whether it is what the others are compared with.
    pub strong: bool,
    /// In the unit of the panel.
    pub spread: Spread,
}

/// Bars on one scale.
#[derive(Clone, Debug)]
pub(crate) struct Panel {
    /// What it shows, with the unit.
    pub title: String,
    /// From the top.
    pub bars: Vec<Bar>,
}

/// Places, in units of the picture.
const WIDTH: f64 = 640.0;
const RIGHT: f64 = 70.0;
const TOP: f64 = 34.0;
const STEP: f64 = 30.0;
const THICK: f64 = 18.0;
/// Of a letter, a little more than most.
const LETTER: f64 = 7.0;

/// Rows of panels, from the top.
pub(crate) fn picture(rows: &[Vec<Panel>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let mut picture = Group::new();
    let mut top = 0.0;
    for row in rows {
        for (column, panel) in row.iter().enumerate() {
            let place = format!("translate({} {top})", WIDTH * column as f64);
            picture = picture.add(draw(panel).set("transform", place));
        }
        top += row.iter().map(|panel| TOP + STEP * panel.bars.len() as f64 + 8.0).fold(0.0, f64::max);
    }
    let width = WIDTH * columns as f64;
    let background = Rectangle::new().set("width", "100%").set("height", "100%").set("fill", "#ffffff");
    let document = Document::new()
        .set("viewBox", (0, 0, width, top))
        .set("width", width)
        .set("height", top)
        .set("font-family", "sans-serif")
        .set("font-size", 13);
    document.add(background).add(picture).to_string()
}

fn draw(panel: &Panel) -> Group {
    let longest = panel.bars.iter().map(|bar| bar.label.chars().count()).max().unwrap_or(0);
    let left = 24.0 + LETTER * longest as f64;
    let highest = panel.bars.iter().map(|bar| bar.spread.max).fold(f64::MIN_POSITIVE, f64::max);
    let x = |value: f64| left + (WIDTH - left - RIGHT) * value / highest;
    let mut drawn =
        Group::new().add(Text::new(panel.title.as_str()).set("x", 8).set("y", 20).set("font-weight", "bold"));
    for (place, bar) in panel.bars.iter().enumerate() {
        let top = TOP + STEP * place as f64;
        let middle = top + THICK / 2.0;
        let Spread { median, min, max, .. } = bar.spread;
        let line = |x1: f64, y1: f64, x2: f64, y2: f64| {
            Line::new().set("x1", x1).set("y1", y1).set("x2", x2).set("y2", y2).set("stroke", "#222222")
        };
        let body = Rectangle::new()
            .set("x", left)
            .set("y", top)
            .set("width", x(median) - left)
            .set("height", THICK)
            .set("fill", if bar.strong { "#2b6cb0" } else { "#b8c4d0" });
        let label = Text::new(bar.label.as_str()).set("x", left - 8.0).set("y", middle + 4.5).set("text-anchor", "end");
        let digits = if median < 10.0 {
            2
        } else if median < 100.0 {
            1
        } else {
            0
        };
        let value = Text::new(format!("{median:.digits$}")).set("x", x(max) + 8.0).set("y", middle + 4.5);
        drawn = drawn
            .add(body)
            .add(line(x(min), middle, x(max), middle))
            .add(line(x(min), middle - 4.0, x(min), middle + 4.0))
            .add(line(x(max), middle - 4.0, x(max), middle + 4.0))
            .add(label)
            .add(value);
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_stand_side_by_side_and_below_each_other() {
        let panel = |title: &str, bars: usize| Panel {
            title: title.to_owned(),
            bars: vec![
                Bar {
                    label: "a < b".to_owned(),
                    strong: true,
                    spread: Spread { runs: 5, median: 20.0, min: 10.0, max: 40.0 }
                };
                bars
            ],
        };
        let drawn = picture(&[vec![panel("first", 1), panel("second", 2)], vec![panel("third", 1)]]);
        assert!(drawn.contains("translate(0 0)") && drawn.contains("translate(640 0)"), "{drawn}");
        assert!(drawn.contains("translate(0 102)") && drawn.contains("viewBox=\"0 0 1280 174\""), "{drawn}");
        assert!(drawn.contains("a &lt; b") && drawn.contains("20.0"), "{drawn}");
    }
}
