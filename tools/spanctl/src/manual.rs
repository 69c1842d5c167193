//! `completions` and `man`: what the command lines themselves say, in other forms.

use clap::{Command, CommandFactory};
use clap_complete::generate;
use spanwire::daemon::config::Config;
use spanwire::helper;

use crate::args::{Args, CompletionsArgs, ManArgs, Program};
use crate::output::{Failure, Output};

/// Writes the completions of a command.
pub(crate) fn completions(args: &CompletionsArgs, out: &Output) -> Result<(), Failure> {
    let mut command = match args.of {
        Program::Spanctl => Args::command(),
        Program::Spanwired => Config::command(),
        Program::SpanwireHelper => helper::args::Args::command(),
    };
    let name = command.get_name().to_owned();
    // To memory first: the generator takes a closed standard output for a bug.
    let mut script = Vec::new();
    generate(args.shell, &mut command, name, &mut script);
    out.raw(&String::from_utf8_lossy(&script))
}

/// Writes the manual pages: one a command and one a subcommand.
pub(crate) fn man(args: &ManArgs, out: &Output) -> Result<(), Failure> {
    let dir = &args.out;
    let failed = |error| Failure::Error(format!("cannot write manual pages to {}: {error}", dir.display()));
    std::fs::create_dir_all(dir).map_err(failed)?;
    for command in [Args::command(), Config::command(), helper::args::Args::command()] {
        // The generator makes a page of `help` too, which says nothing that the others do not.
        let command: Command = command.disable_help_subcommand(true);
        clap_mangen::generate_to(command, dir).map_err(failed)?;
    }
    out.text(&format!("wrote the manual pages to {}\n", dir.display()))
}
