//! `stats`.
//!
//! - [`rates`]: how fast counters grow between two readings
//! - [`tables`]: a reading as text

mod rates;
mod tables;

use std::path::Path;

use spanwire::control::state;

use crate::args::StatsArgs;
use crate::output::{Failure, Output};
use crate::show::{old, warn_if_old};
use rates::Rates;

/// From the top left corner of an empty screen, without wrapping what is too wide. A terminal that can shows all
/// of it at once at [`END`].
const BEGIN: &str = "\x1b[?2026h\x1b[?7l\x1b[H\x1b[J";
/// Puts wrapping back.
const END: &str = "\x1b[?7h\x1b[?2026l";

/// Shows every counter, once or until interrupted.
pub(crate) fn stats(dir: &Path, args: &StatsArgs, out: &Output) -> Result<(), Failure> {
    let Some(interval) = args.watch else {
        let report = state::stats(dir)?;
        warn_if_old(&report.dataplane);
        return if out.json { out.document(&report) } else { out.text(&tables::text(&report, args.all, None)) };
    };
    let on_screen = !out.json && out.is_terminal();
    let mut before = None;
    loop {
        let report = state::stats(dir)?;
        if !on_screen {
            warn_if_old(&report.dataplane);
        }
        if out.json {
            out.line(&report)?;
        } else {
            let rates = Rates::between(before.as_ref(), &report);
            let text = format!("{}\n", tables::text(&report, args.all, Some(&rates)));
            if on_screen { redraw(old(&report.dataplane), &text, out)? } else { out.text(&text)? }
        }
        out.flush()?;
        before = Some(report);
        std::thread::sleep(interval);
    }
}

/// Takes the place of what is on the screen.
fn redraw(note: Option<String>, text: &str, out: &Output) -> Result<(), Failure> {
    let text = note.map_or_else(|| text.to_owned(), |note| format!("{note}\n{text}"));
    let rows = terminal_size::terminal_size().map(|(_, height)| usize::from(height.0));
    out.raw(BEGIN)?;
    out.text(&fitted(text.trim_end(), rows.unwrap_or(usize::MAX)))?;
    out.raw(END)
}

/// As many lines as the screen has rows: one more would scroll the first away.
fn fitted(text: &str, rows: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() <= rows {
        return lines.join("\n");
    }
    let shown = rows.saturating_sub(1);
    format!("{}\n… {} more lines", lines[..shown].join("\n"), lines.len() - shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_never_overfull() {
        assert_eq!(fitted("a\nb\nc", 3), "a\nb\nc");
        assert_eq!(fitted("a\nb\nc", 2), "a\n… 2 more lines");
        for rows in 2..6 {
            assert!(fitted("a\nb\nc\nd", rows).lines().count() <= rows);
        }
    }
}
