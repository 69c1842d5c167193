//! From slices to figures.

use serde::Serialize;

use super::Plan;
use super::case::{COPIES, Does};
use super::subject::Slice;
use super::turns::{Bench, Run};
use crate::summary::Spread;

/// One case at one size with so many shards, over all runs. Counts are of all teams together.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub case: &'static str,
    pub bytes: u32,
    /// Shards that did it at the same time.
    pub shards: usize,
    /// Frames that count.
    pub frames: u64,
    /// Clones of them.
    pub clones: u64,
    /// Frames given to the shards of this case by the end, by any count of them, those included that do not count.
    given: u64,
    /// Of the runs' means over all frames, ns; the median is the figure to quote.
    pub ns_per_frame: Spread,
    /// What it adds to forwarding alone, ns. Like the ratios below, of each run the median of the differences in the
    /// same slice.
    pub adds_ns: Option<Spread>,
    /// Its time over that of forwarding alone.
    pub to_forward: Option<Spread>,
    /// Its rate through the rings over that of forwarding alone, the fake kernel's part in the time of both.
    pub rate_to_forward: Option<Spread>,
    /// What it adds, over a bare copy of the same size between pools of the same sizes; of clones from a ring, which are all
    /// that the shard does, what it costs.
    pub adds_to_copy: Option<Spread>,
    /// Frames a second of breathing, of so many shards.
    pub frames_per_second: Spread,
    /// That, over what one shard does alone.
    pub to_one_shard: Option<Spread>,
    /// All that had a turn: where there are processors for several teams of so many shards, each had one.
    pub cores: Vec<Core>,
}

/// How long a shard had its frames: from the beginning of the breath that received them to its end, when they were on
/// the tx rings. All frames of a batch have the same latency. ns, over all runs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Core {
    pub cpu: usize,
    pub p50_ns: u64,
    pub p90_ns: u64,
    pub p99_ns: u64,
    pub p999_ns: u64,
    pub max_ns: u64,
}

/// The rows of one size.
pub(super) fn rows(plan: &Plan, bytes: u32, benches: &[Bench], runs: &[Run]) -> Vec<Row> {
    let names = || plan.cases.iter().map(|case| case.name).chain(COPIES).enumerate();
    let rows =
        |count| names().filter_map(move |(subject, name)| row(plan, bytes, benches, runs, (count, subject), name));
    (0..plan.counts.len()).flat_map(rows).collect()
}

/// `None` where there was no run.
fn row(
    plan: &Plan,
    bytes: u32,
    benches: &[Bench],
    runs: &[Run],
    (count, subject): (usize, usize),
    case: &'static str,
) -> Option<Row> {
    let (shards, forward, copy) = (plan.counts[count], 0, plan.cases.len());
    let benches = &benches[..shards * plan.teams(count)];
    let all = || runs.iter().flat_map(|run| &run[count][subject]);
    let mean =
        |run: &Run| run[count][subject].iter().fold(Slice::default(), |sum, slice| sum.and(*slice)).ns_per_frame();
    let does = plan.cases.get(subject).map(|case| case.does);
    let mirrors = matches!(does, Some(Does::Forward(Some(_))));
    let clones = mirrors || does == Some(Does::Clone);
    let beside_one = count > 0 && plan.counts[0] == 1;
    Some(Row {
        case,
        bytes,
        shards,
        frames: all().map(|slice| slice.frames).sum(),
        clones: all().map(|slice| slice.clones).sum(),
        given: benches.iter().map(|bench| bench.given[subject]).sum(),
        ns_per_frame: over(runs, mean)?,
        adds_ns: paired(runs, mirrors, |at| at(count, subject) - at(count, forward)),
        to_forward: paired(runs, mirrors, |at| at(count, subject) / at(count, forward)),
        rate_to_forward: mirrors.then(|| whole(runs, count, (forward, subject))).flatten(),
        adds_to_copy: paired(runs, clones, |at| {
            let forwarding = if mirrors { at(count, forward) } else { 0.0 };
            (at(count, subject) - forwarding) / at(count, copy)
        }),
        frames_per_second: over(runs, |run| shards as f64 * 1e9 / mean(run))?,
        to_one_shard: paired(runs, beside_one, |at| shards as f64 * at(0, subject) / at(count, subject)),
        cores: benches.iter().map(|bench| core(bench, count, subject)).collect(),
    })
}

/// Of each run the median over the slices of the first subject's whole time over the second's.
fn whole(runs: &[Run], count: usize, (first, second): (usize, usize)) -> Option<Spread> {
    let median = |run: &Run| {
        let pairs = run[count][first].iter().zip(&run[count][second]);
        let ratios: Vec<f64> = pairs.map(|(first, second)| first.whole_ns as f64 / second.whole_ns as f64).collect();
        Spread::of(&ratios).map(|spread| spread.median)
    };
    Spread::of(&runs.iter().map(median).collect::<Option<Vec<_>>>()?)
}

/// A figure of each run.
fn over(runs: &[Run], figure: impl Fn(&Run) -> f64) -> Option<Spread> {
    Spread::of(&runs.iter().map(figure).collect::<Vec<_>>())
}

/// A figure of each slice, from the ns a frame by count of shards and subject; of each run the median. `None` where it
/// means nothing.
fn paired(runs: &[Run], means: bool, figure: impl Fn(&dyn Fn(usize, usize) -> f64) -> f64) -> Option<Spread> {
    let of_slice = |run: &Run, slice: usize| figure(&|count, subject| run[count][subject][slice].ns_per_frame());
    let median = |run: &Run| {
        let figures: Vec<f64> = (0..run[0][0].len()).map(|slice| of_slice(run, slice)).collect();
        Spread::of(&figures).map(|spread| spread.median)
    };
    let medians: Option<Vec<f64>> = runs.iter().map(median).collect();
    medians.filter(|_| means).and_then(|medians| Spread::of(&medians))
}

fn core(bench: &Bench, count: usize, subject: usize) -> Core {
    let histogram = &bench.histograms[count][subject];
    let at = |quantile| histogram.value_at_quantile(quantile);
    Core {
        cpu: bench.cpu,
        p50_ns: at(0.5),
        p90_ns: at(0.9),
        p99_ns: at(0.99),
        p999_ns: at(0.999),
        max_ns: histogram.max(),
    }
}
