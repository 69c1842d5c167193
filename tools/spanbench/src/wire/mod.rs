//! Real frames over real AF_XDP sockets, beside other forwarders in the same lab.
//!
//! Each run starts one system between the two ports of a wire, measures it and stops it; the systems take turns, so
//! that what disturbs the machine meets them all.
//!
//! - [`args`]: the options
//! - [`probe`]: the frame that is sent
//! - [`tester`]: sends at a rate, counts and looks at what arrives
//! - [`sink`], [`bpf`]: where frames arrive
//! - [`sequence`]: losses, duplicates and reordering
//! - [`search`]: the highest rate that passes
//! - [`system`]: what is measured
//! - [`placement`]: where it ran
//! - [`measure`]: one run of one system; [`figures`]: what came of it
//! - [`report`]: what came out; [`goals`]: what is to come out
//! - [`states`]: a monitor in trouble
//! - [`neighbour`]: beside busy processes; [`busy`] has them
//! - [`publishing`]: publishes under load
//! - [`tcp`]: a stream between two hosts
//! - [`far_ends`]: the lab, made so that all systems can forward in it

pub(crate) mod args;
mod bpf;
mod busy;
pub(crate) mod error;
mod far_ends;
mod figures;
mod goals;
mod measure;
pub(crate) mod neighbour;
mod placement;
mod probe;
pub(crate) mod publishing;
pub(crate) mod report;
mod search;
mod sequence;
mod sink;
pub(crate) mod states;
pub(crate) mod system;
pub(crate) mod tcp;
mod tester;
#[cfg(test)]
mod tests;

use spanwire::kernel::path::Path;
use spanwire_lab::topology::Lab;

use crate::interrupt;
use crate::machine::Machine;
use args::WireArgs;
use error::{Result, WireError};
use placement::Placement;
use report::{Case, WireReport};
use system::spanwire::Spanwire;
use system::{Mode, Setup};
use tester::Tester;

/// Measures every case.
///
/// # Errors
/// [`WireError`].
pub(crate) fn run(args: &WireArgs) -> Result<WireReport> {
    interrupt::install().map_err(WireError::io("noting signals"))?;
    let setup = args.setup()?;
    let (mut cases, mut left_out) = (Vec::new(), Vec::new());
    for &mode in &args.mode {
        let systems = args.systems(mode, &mut left_out)?;
        cases.extend(args.sizes.iter().map(|&bytes| Case::new(mode, bytes as usize, &systems)));
    }
    let lab = far_ends::lay()?;
    for run in 0..args.runs as usize {
        for case in &mut cases {
            measure_case(args, &lab, &setup, run, case)?;
        }
    }
    cases.iter_mut().for_each(Case::sum_up);
    let goals = goals::of(&cases);
    Ok(WireReport { machine: Machine::here(), settings: args.settings(), left_out, cases, goals })
}

/// Calls `body` with the directory of a dataplane that forwards, between idle ports.
///
/// # Errors
/// [`WireError`].
pub(crate) fn with_dataplane<T>(args: &WireArgs, body: impl FnOnce(&std::path::Path) -> T) -> Result<T> {
    interrupt::install().map_err(WireError::io("noting signals"))?;
    let lab = far_ends::lay()?;
    // Where it is the shards that look at every frame.
    let dataplane = Spanwire::start(&lab, Path::Shard, Mode::Mirror, &args.setup()?)?;
    Ok(body(dataplane.dir()))
}

/// Measures each system once, in an order that changes from run to run.
fn measure_case(args: &WireArgs, lab: &Lab, setup: &Setup, run: usize, case: &mut Case) -> Result<()> {
    let mut tester = Tester::new(lab, case.bytes, setup.xdp_mode, setup.tester_cpu)?;
    case.tester_alone_pps.push(measure::alone(args, lab, setup, &mut tester)?);
    let title = case.title();
    let count = case.systems.len();
    for turn in 0..count {
        let system = &mut case.systems[(run + turn) % count];
        let mut running = system.system.start(lab, case.mode, setup)?;
        eprint!("run {}/{}, {title}, {}:", run + 1, args.runs, system.system.as_str());
        let measured = measure::wait_ready(&mut tester, system.system, running.as_mut(), case.mode)
            .and_then(|()| measure::measure(args, &mut tester));
        eprintln!();
        let (result, sink_frames_by_cpu) = measured?;
        system.note = running.note();
        system.placement = Some(Placement {
            tester_cpu: setup.tester_cpu,
            threads: running.process().map(|process| placement::threads(process.pid())).unwrap_or_default(),
            napi: placement::napi(lab),
            sink_frames_by_cpu,
        });
        system.runs.push(result);
    }
    Ok(())
}
