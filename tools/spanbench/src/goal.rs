//! What spanwire is to reach, and whether it did.

use std::fmt;

use comfy_table::{Table, presets};
use serde::Serialize;

use crate::summary::Spread;
use crate::table::align;

/// What a figure is to be. Medians of at least five runs on a quiet machine are meant.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    /// No less than this.
    AtLeast(f64),
    /// No more than this.
    AtMost(f64),
}

impl Bound {
    fn holds(self, figure: f64) -> bool {
        match self {
            Bound::AtLeast(least) => figure >= least,
            Bound::AtMost(most) => figure <= most,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::AtLeast(least) => write!(f, ">= {least}"),
            Bound::AtMost(most) => write!(f, "<= {most}"),
        }
    }
}

/// A goal, and the figure it is about.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Goal {
    /// The figure, in words.
    pub what: String,
    /// What it is to be.
    pub wanted: Bound,
    /// What it was; `None` where there is none.
    pub figure: Option<Spread>,
    /// Whether the median is as wanted.
    pub met: Option<bool>,
}

impl Goal {
    /// Compares.
    pub(crate) fn new(what: String, wanted: Bound, figure: Option<Spread>) -> Goal {
        Goal { what, wanted, figure, met: figure.map(|figure| wanted.holds(figure.median)) }
    }
}

/// The goals, without a style.
pub(crate) fn table(goals: &[Goal]) -> Table {
    let mut table = Table::new();
    table.set_header(["goal", "wanted", "median (lowest-highest)", "runs", ""]);
    for goal in goals {
        table.add_row([
            goal.what.clone(),
            goal.wanted.to_string(),
            Spread::text_or_dash(&goal.figure, 1.0, 3),
            goal.figure.map_or(0, |figure| figure.runs).to_string(),
            match goal.met {
                Some(true) => "met",
                Some(false) => "MISSED",
                None => "not measured",
            }
            .to_owned(),
        ]);
    }
    align(&mut table);
    table
}

/// A report: what its figures mean, the figures, and the goals, if there are any.
pub(crate) fn write_report(f: &mut fmt::Formatter<'_>, about: &str, mut table: Table, goals: &[Goal]) -> fmt::Result {
    table.load_style(presets::NOTHING);
    write!(f, "{about}\n{table}")?;
    with_goals(f, goals)
}

/// A text, and below it the goals, if there are any.
pub(crate) fn with_goals(f: &mut fmt::Formatter<'_>, goals: &[Goal]) -> fmt::Result {
    if goals.is_empty() {
        return Ok(());
    }
    let mut table = table(goals);
    table.load_style(presets::NOTHING);
    write!(f, "\n\n{ABOUT}\n{table}")
}

/// What the table means.
pub(crate) const ABOUT: &str = "Goals, for medians of at least 5 runs on a machine that has nothing else to do.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_what_counts_and_the_bound_itself_is_enough() {
        let figure = |median| Some(Spread { runs: 5, median, min: 0.1, max: 9.0 });
        let met = |wanted, median| Goal::new(String::new(), wanted, figure(median)).met;
        assert_eq!(met(Bound::AtLeast(0.97), 0.97), Some(true));
        assert_eq!(met(Bound::AtLeast(0.97), 0.969), Some(false));
        assert_eq!(met(Bound::AtMost(1.2), 1.2), Some(true));
        assert_eq!(met(Bound::AtMost(1.2), 1.21), Some(false));
        assert_eq!(Goal::new(String::new(), Bound::AtMost(1.2), None).met, None);
    }

    #[test]
    fn what_was_not_measured_is_not_called_met() {
        let goals = [Goal::new("a / b".to_owned(), Bound::AtLeast(1.0), None)];
        let text = table(&goals).to_string();
        assert!(text.contains("not measured") && !text.contains("met "), "{text}");
    }
}
