//! spanctl: checks, publishes and shows what spanwire mirrors.
//!
//! - [`args`]: the command line
//! - [`document`]: FILE and the options beside it to a snapshot that may be published, or the reasons why not
//! - [`import`]: `check`, `import` and `commit`
//! - [`export`]: the published snapshot as a document
//! - [`history`]: `history` and `rollback`
//! - [`image`]: `compile` and `inspect`, images in files
//! - [`show`], [`stats`], [`wait`]: what is published and how it fares
//! - [`role`]: whether this node mirrors
//! - [`serve`]: the control socket of a producer
//! - [`manual`]: `completions` and `man`
//! - [`output`]: standard output, exit codes; [`table`]: tables for people
#![forbid(unsafe_code)]

mod args;
mod detach;
mod document;
mod export;
mod history;
mod image;
mod import;
mod manual;
mod output;
mod role;
mod serve;
mod show;
mod stats;
mod table;
mod wait;

use std::process::ExitCode;

use args::{Args, Command};
use output::{Failure, Output};
use spanwire::usage;

fn main() -> ExitCode {
    let args = match usage::read::<Args>(std::env::args_os()) {
        Ok(args) => args,
        Err(error) => return usage::shown(error),
    };
    let out = Output::new(args.json);
    let done = run(args, &out).and_then(|()| out.flush());
    done.map_or_else(Failure::report, |()| ExitCode::SUCCESS)
}

fn run(args: Args, out: &Output) -> Result<(), Failure> {
    let dir = &args.dir;
    match args.command {
        Command::Check(check) => import::check(dir, &check, out),
        Command::Import(import) => import::import(dir, &import, out),
        Command::Commit(commit) => import::commit(dir, &commit, out),
        Command::Export => export::export(dir, out),
        Command::Show => show::show(dir, out),
        Command::Stats(stats) => stats::stats(dir, &stats, out),
        Command::Wait(wait) => wait::wait(dir, &wait, out),
        Command::History => history::history(dir, out),
        Command::Rollback(rollback) => history::rollback(dir, &rollback, out),
        Command::Role(role) => role::role(dir, &role, out),
        Command::Serve(serve) => serve::serve(dir, serve),
        Command::Detach(args) => detach::detach(dir, &args, out),
        Command::Compile(compile) => image::compile_file(dir, &compile, out),
        Command::Inspect(inspect) => image::inspect(&inspect, out),
        Command::Completions(completions) => manual::completions(&completions, out),
        Command::Man(man) => manual::man(&man, out),
    }
}
