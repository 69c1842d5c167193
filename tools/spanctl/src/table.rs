//! Tables and text for people.

use std::fmt::Write;

use comfy_table::{CellAlignment, Table, presets};

/// A table under construction: headings, then rows of as many cells.
pub(crate) struct Rows {
    table: Table,
}

impl Rows {
    /// With these headings. A leading '>' aligns a column to the right, as numbers are read.
    pub(crate) fn new<S: AsRef<str>>(headings: impl IntoIterator<Item = S>) -> Rows {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let headings: Vec<S> = headings.into_iter().collect();
        table.set_header(headings.iter().map(|h| h.as_ref().trim_start_matches('>')));
        for (i, heading) in headings.iter().enumerate() {
            if let Some(column) = table.column_mut(i) {
                column.set_padding((if i == 0 { 0 } else { 1 }, 1));
                if heading.as_ref().starts_with('>') {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        Rows { table }
    }

    /// Adds a row.
    pub(crate) fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.table.add_row(cells.into_iter().map(Into::into));
    }

    /// Adds the table to `text`, under a title; nothing where it has no rows.
    pub(crate) fn under(&self, title: &str, text: &mut String) {
        if self.table.is_empty() {
            return;
        }
        // Writing to a string cannot fail.
        let _ = writeln!(text, "\n{title}");
        for line in self.table.lines() {
            let _ = writeln!(text, "  {}", line.trim_end());
        }
    }
}

/// Text from elsewhere, fit for a terminal: control characters escaped, which it would act on.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\'' | '\\' => shown.push(c),
            _ => shown.extend(c.escape_debug()),
        }
    }
    shown
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
        assert_eq!(text, "\nthings\n  name  count\n  a         5\n  long  12345\n");
    }
}
