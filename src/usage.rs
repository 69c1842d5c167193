//! How a command reads its command line and environment, and what its errors repeat of them: an argument may have as
//! many as 128 KiB.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ContextValue;

use crate::text::excerpt;

/// The most characters of an argument that are repeated.
const MAX_ARGUMENT: usize = 200;
/// The most characters of a line.
const MAX_LINE: usize = 4000;

/// Reads a command line, the program's name first. A variable that is set and empty counts as absent: files of systemd
/// units have lines to be filled in.
///
/// # Errors
/// What `clap` finds wrong, or help that is asked for.
pub fn read<P: Parser>(words: impl IntoIterator<Item = OsString>) -> Result<P, clap::Error> {
    let mut command = P::command().mut_args(|arg| {
        let is_empty = arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
        if is_empty { arg.env(None::<&'static str>) } else { arg }
    });
    let mut matches = command.try_get_matches_from_mut(words)?;
    P::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

/// The same error, with long arguments cut.
fn bounded(mut error: clap::Error) -> clap::Error {
    let cut: Vec<_> = error.context().filter_map(|(kind, value)| Some((kind, shorter(value)?))).collect();
    for (kind, value) in cut {
        error.insert(kind, value);
    }
    error
}

/// What is told in the place of a value that is too long.
fn shorter(value: &ContextValue) -> Option<ContextValue> {
    let long = |text: &String| text.len() > MAX_ARGUMENT;
    let cut = |text: &String| excerpt(text, MAX_ARGUMENT);
    match value {
        ContextValue::String(text) if long(text) => Some(ContextValue::String(cut(text))),
        ContextValue::Strings(all) if all.iter().any(long) => {
            Some(ContextValue::Strings(all.iter().map(cut).collect()))
        }
        // Advice on what was meant.
        ContextValue::StyledStr(text) if long(&text.to_string()) => Some(ContextValue::None),
        ContextValue::StyledStrs(all) if all.iter().any(|text| long(&text.to_string())) => Some(ContextValue::None),
        _ => None,
    }
}

/// Prints help or what is wrong with a command line, and gives the exit code that belongs to it.
#[must_use]
pub fn shown(error: clap::Error) -> ExitCode {
    let error = bounded(error);
    // There is nobody left to tell when it cannot be printed.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// What a command says, on one line that ends.
#[must_use]
pub fn line(text: &str) -> String {
    excerpt(text, MAX_LINE)
}

#[cfg(test)]
#[allow(clippy::expect_used)]
mod tests {
    use super::*;
    use crate::daemon::config::Config;

    #[test]
    fn long_arguments_are_cut_wherever_they_stand() {
        let long = "x".repeat(100_000);
        let said = |args: &[&str]| {
            let error = Config::try_parse_from([&["spanwired"], args].concat()).expect_err("a bad one");
            bounded(error).to_string()
        };
        let option = format!("--{long}");
        for args in [&["--frames", &long][..], &["--bind", &long], &["--cpus", &long], &[&long], &[&option]] {
            let text = said(args);
            assert!(text.contains("xxx…") && text.len() < 1500, "{} bytes: {}", text.len(), excerpt(&text, 400));
        }
        assert!(said(&["--frames", "x1"]).contains("'x1'"), "a short one stays");
        assert_eq!(line("a\nb\u{1b}"), "a\\nb\\u{1b}");
    }
}
