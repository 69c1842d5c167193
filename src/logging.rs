//! Where the programs that run for long say what they do.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Writes what is told through `tracing` to standard error, from the level in `SPANWIRE_LOG` on (`info` where it is
/// not set). Coloured only on a terminal, and not where `NO_COLOR` is set. What cannot be written, to a
/// closed terminal or a pipe that nobody reads any more, is lost, and that is all.
pub fn init() {
    let filter = EnvFilter::try_from_env("SPANWIRE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && colour)
        .with_target(false)
        // The complaint would go the same way, and panic.
        .log_internal_errors(false)
        .init();
}
