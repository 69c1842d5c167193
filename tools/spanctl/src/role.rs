//! `role`.

use std::path::Path;

use serde::Serialize;
use shm_layout::record::Role;
use spanwire::control::Reason;
use spanwire::control::role::{self, Outcome, Reach};
use spanwire::control::state::role_name;
use spanwire::control::writer::Standing;

use crate::args::{RoleArgs, RoleChoice};
use crate::import::warn_unkept;
use crate::output::{Failure, Output, complain};

/// The document of `role`.
#[derive(Debug, Serialize)]
struct Document {
    role: &'static str,
    armed: bool,
    generation: u64,
    changed: bool,
    /// Null where no dataplane runs.
    adopted: Option<bool>,
    clones_left: u64,
    reasons: Vec<Reason>,
}

/// Shows the role, or sets it and sees it through to the shards.
pub(crate) fn role(dir: &Path, args: &RoleArgs, out: &Output) -> Result<(), Failure> {
    let Some(choice) = args.role else { return show(&role::now(dir)?, out) };
    let role = match choice {
        RoleChoice::Active => Role::Active,
        RoleChoice::Standby => Role::Standby,
    };
    let done = role::change(dir, args.timeout, |standing| Standing { role, ..standing })?;
    warn_unkept(done.generation, done.unkept.as_ref());
    let name = role_name(role);
    let behind = match &done.reach {
        Reach::Behind(adoption) => {
            let why = adoption.behind(args.timeout);
            vec![Reason::new(format!("role {name} is published, but {why} (spanctl wait waits on)"))]
        }
        Reach::NoDataplane | Reach::InUse { .. } => Vec::new(),
    };
    if out.json {
        let written = out.document(&document(&done, behind.clone()));
        // A refusal is one whether or not anybody reads the document.
        if behind.is_empty() {
            written?;
        }
    } else if behind.is_empty() {
        out.text(&format!("role {name} since generation {}{}\n", done.generation, reached(&done.reach)))?;
    }
    if let Reach::InUse { clones_left: left @ 1.. } = done.reach {
        complain(format!("warning: {left} clones from before are still on the monitor ports' way out"));
    }
    warn_if_disarmed(&done);
    if behind.is_empty() { Ok(()) } else { Err(Failure::Refused(behind)) }
}

fn show(now: &Outcome, out: &Output) -> Result<(), Failure> {
    if out.json {
        return out.document(&document(now, Vec::new()));
    }
    out.text(&format!("{}\n", role_name(now.standing.role)))?;
    warn_if_disarmed(now);
    Ok(())
}

fn document(outcome: &Outcome, reasons: Vec<Reason>) -> Document {
    let (adopted, clones_left) = match outcome.reach {
        Reach::NoDataplane => (None, 0),
        Reach::InUse { clones_left } => (Some(true), clones_left),
        Reach::Behind(_) => (Some(false), 0),
    };
    Document {
        role: role_name(outcome.standing.role),
        armed: outcome.standing.armed(),
        generation: outcome.generation,
        changed: outcome.changed,
        adopted,
        clones_left,
        reasons,
    }
}

fn reached(reach: &Reach) -> &'static str {
    match reach {
        Reach::NoDataplane => "; no dataplane is running, the next one begins with it",
        Reach::InUse { .. } => ", in use on every shard",
        Reach::Behind(_) => "",
    }
}

fn warn_if_disarmed(outcome: &Outcome) {
    if !outcome.standing.armed() {
        complain(
            "note: mirroring is disarmed, so nothing is mirrored in either role (the producer arms it: \
             set_forwarding_state)",
        );
    }
}
