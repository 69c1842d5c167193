//! Tables and text for people.

use std::fmt::Write;

use anstyle::Style;
use comfy_table::{Cell, CellAlignment, Color, Table, presets};
pub(crate) use spanwire::text::printable;

/// A table under construction: headings, then rows of as many cells. It is coloured; see [`Output::text`].
///
/// [`Output::text`]: crate::output::Output::text
pub(crate) struct Rows {
    table: Table,
    /// For each column, whether its cells are states.
    states: Vec<bool>,
}

/// Titles and headings.
const BOLD: Style = Style::new().bold();

/// The headings of columns whose cells are states.
const STATES: [&str; 2] = ["state", "severity"];

/// What a state looks like.
fn colour(state: &str) -> Option<Color> {
    match state {
        "active" => Some(Color::Green),
        "inactive" => Some(Color::Red),
        "unknown" | "warning" => Some(Color::Yellow),
        _ => None,
    }
}

impl Rows {
    /// With these headings. A leading '>' aligns a column to the right, as numbers are read.
    pub(crate) fn new<S: AsRef<str>>(headings: impl IntoIterator<Item = S>) -> Rows {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.enforce_styling();
        let headings: Vec<S> = headings.into_iter().collect();
        table.set_header(headings.iter().map(|h| h.as_ref().trim_start_matches('>')));
        let states = headings.iter().map(|h| STATES.contains(&h.as_ref())).collect();
        for (i, heading) in headings.iter().enumerate() {
            if let Some(column) = table.column_mut(i) {
                column.set_padding((if i == 0 { 0 } else { 1 }, 1));
                if heading.as_ref().starts_with('>') {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        Rows { table, states }
    }

    /// Adds a row.
    pub(crate) fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        let states = self.states.iter().copied().chain(std::iter::repeat(false));
        self.table.add_row(cells.into_iter().zip(states).map(|(cell, is_state)| {
            let text: String = cell.into();
            let colour = is_state.then(|| colour(&text)).flatten();
            let cell = Cell::new(text);
            colour.map_or(cell.clone(), |colour| cell.fg(colour))
        }));
    }

    /// Adds the table to `text`, under a title; nothing where it has no rows.
    pub(crate) fn under(&self, title: &str, text: &mut String) {
        if self.table.is_empty() {
            return;
        }
        // Writing to a string cannot fail.
        let _ = writeln!(text, "\n{BOLD}{title}{BOLD:#}");
        for (i, line) in self.table.lines().enumerate() {
            let style = if i == 0 { BOLD } else { Style::new() };
            let _ = writeln!(text, "  {style}{}{style:#}", line.trim_end());
        }
    }
}

/// An ifindex with its name, where it has one.
pub(crate) fn port(ifindex: u32, name: Option<&str>) -> String {
    match name {
        Some(name) if !name.is_empty() => format!("{ifindex} {}", printable(name)),
        _ => ifindex.to_string(),
    }
}

/// A rate in words.
pub(crate) fn rate(rate: u32) -> String {
    match rate {
        0 | 1 => "every frame".to_owned(),
        n => format!("1 in {n}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_raw() {
        assert_eq!(printable("w\u{1b}[31m\n\"ä\""), "w\\u{1b}[31m\\n\"ä\"");
        assert_eq!(port(11, Some("ge-0/0/0")), "11 ge-0/0/0");
        assert_eq!(port(11, Some("")), "11");
    }

    #[test]
    fn a_table_is_plain_and_aligned() {
        let mut rows = Rows::new(["name", ">count"]);
        let mut text = String::new();
        rows.under("things", &mut text);
        assert_eq!(text, "", "no rows, no title");
        rows.row(["a", "5"]);
        rows.row(["long", "12345"]);
        rows.under("things", &mut text);
        let plain = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(plain, "\nthings\n  name  count\n  a         5\n  long  12345\n");
    }

    #[test]
    fn states_have_their_colours() {
        let mut rows = Rows::new(["name", "state"]);
        rows.row(["inactive", "active"]);
        let mut text = String::new();
        rows.under("things", &mut text);
        let line = text.lines().last().unwrap_or_default();
        assert_eq!(line.matches("\u{1b}[38;5;10m").count(), 1, "only the state: {line:?}");
    }
}
