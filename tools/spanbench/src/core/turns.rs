//! Who measures when: every case in short slices, in turns, by one shard and by several at the same time.
//!
//! A run goes through its slices. In each, every count of shards has its turn, and in that every case: what slows the
//! machine for a while meets them all, and figures of the same slice can be compared. The shards are cut into teams of
//! that count, one team after the other, because processors differ too. Shards that have no turn sleep, so that they
//! take nothing from those that are measured.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use hdrhistogram::Histogram;

use super::case::COPIES;
use super::subject::{SLICE, Slice, Subject};
use super::{CoreError, Plan};

/// What one shard has to do, and the times it took.
pub(super) struct Bench {
    /// Where it runs.
    pub cpu: usize,
    /// The cases, then the bare copies; made anew for each run.
    subjects: Vec<Subject>,
    /// Frames given to each subject in all runs.
    pub given: Vec<u64>,
    /// Times of batches, ns, by count of shards and subject.
    pub histograms: Vec<Vec<Histogram<u64>>>,
}

/// What came of a run: by count of shards, subject and slice.
pub(super) type Run = Vec<Vec<Vec<Slice>>>;

/// Shards that begin a slice at the same moment.
struct Meeting {
    shards: usize,
    arrived: AtomicUsize,
}

impl Meeting {
    fn new(&shards: &usize) -> Meeting {
        Meeting { shards, arrived: AtomicUsize::new(0) }
    }

    /// Waits for all, awake: who sleeps would begin late.
    fn wait(&self) {
        // Nobody arrives for the next time before all have this time, so the count says which time it is. Relaxed:
        // nothing is handed over.
        let all = (self.arrived.fetch_add(1, Ordering::Relaxed) / self.shards + 1) * self.shards;
        while self.arrived.load(Ordering::Relaxed) < all {
            std::thread::yield_now();
        }
    }
}

/// The shards of a plan.
///
/// # Errors
/// The histogram refused its bounds.
pub(super) fn benches(plan: &Plan) -> Result<Vec<Bench>, CoreError> {
    // Up to a second a batch.
    let empty = Histogram::<u64>::new_with_bounds(1, 1_000_000_000, 3)?;
    let (counts, subjects) = (plan.counts.len(), plan.cases.len() + COPIES.len());
    let bench = |&cpu: &usize| Bench {
        cpu,
        subjects: Vec::new(),
        given: vec![0; subjects],
        histograms: vec![vec![empty.clone(); subjects]; counts],
    };
    Ok(plan.cpus.iter().map(bench).collect())
}

/// Run `number` of everything.
///
/// # Errors
/// A processor may not be used; [`RigError`](crate::rig::RigError); frames were lost.
pub(super) fn run(plan: &Plan, bytes: u32, number: usize, benches: &mut [Bench]) -> Result<Run, CoreError> {
    on_each(benches, |_, bench| bench.renew(plan, bytes, number))?;
    let all = Barrier::new(benches.len());
    let meetings: Vec<Meeting> = plan.counts.iter().map(Meeting::new).collect();
    let runs = on_each(benches, |shard, bench| bench.run(plan, shard, &all, &meetings))?;
    for bench in &mut *benches {
        for (subject, sum) in bench.subjects.iter().zip(&mut bench.given) {
            if subject.crossed != subject.given {
                return Err(CoreError::Lost { lost: subject.given - subject.crossed, sent: subject.given });
            }
            *sum += subject.given;
        }
    }
    Ok(runs.into_iter().reduce(together).unwrap_or_default())
}

/// Adds up what shards did in the same slices. Those of no team did nothing.
fn together(mut all: Run, one: Run) -> Run {
    for (all, one) in all.iter_mut().flatten().zip(one.into_iter().flatten()) {
        if all.is_empty() {
            *all = one;
        } else {
            all.iter_mut().zip(one).for_each(|(all, one)| *all = all.and(one));
        }
    }
    all
}

impl Bench {
    /// Makes the subjects, where they will run and in another order each time: where in memory a rig comes to lie is
    /// worth some tenths of a nanosecond a frame for as long as it lives.
    fn renew(&mut self, plan: &Plan, bytes: u32, number: usize) -> Result<(), CoreError> {
        pin(self.cpu)?;
        self.subjects.clear();
        let mut made = Vec::new();
        for at in in_turn(plan.cases.len() + COPIES.len(), number) {
            let subject = match plan.cases.get(at) {
                Some(case) => Subject::case(*case, bytes, plan)?,
                None => Subject::copy(at - plan.cases.len(), bytes, plan)?,
            };
            made.push((at, subject));
        }
        made.sort_by_key(|(at, _)| *at);
        self.subjects.extend(made.into_iter().map(|(_, subject)| subject));
        Ok(())
    }

    fn run(&mut self, plan: &Plan, shard: usize, all: &Barrier, meetings: &[Meeting]) -> Result<Run, CoreError> {
        let pinned = pin(self.cpu);
        let (counts, subjects) = (plan.counts.len(), self.subjects.len());
        let mut run = vec![vec![Vec::new(); subjects]; counts];
        for slice in 0..plan.slices() {
            for count in in_turn(counts, slice) {
                for team in 0..plan.teams(count) {
                    // Asleep until the others are done.
                    all.wait();
                    if shard / plan.counts[count] != team {
                        continue;
                    }
                    for subject in in_turn(subjects, slice) {
                        meetings[count].wait();
                        let histogram = &mut self.histograms[count][subject];
                        run[count][subject].push(self.subjects[subject].slice(histogram));
                    }
                }
            }
        }
        pinned.map(|()| run)
    }
}

/// `0..count`, beginning with another one each time.
fn in_turn(count: usize, time: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |turn| (turn + time) % count)
}

fn pin(cpu: usize) -> Result<(), CoreError> {
    if core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) { Ok(()) } else { Err(CoreError::Pin(cpu)) }
}

/// Does something for each in a thread of its own, all at the same time.
fn on_each<T: Send, R: Send>(
    items: &mut [T],
    body: impl Fn(usize, &mut T) -> Result<R, CoreError> + Sync,
) -> Result<Vec<R>, CoreError> {
    let body = &body;
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            items.iter_mut().enumerate().map(|(index, item)| scope.spawn(move || body(index, item))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(Err(CoreError::Thread))).collect()
    })
}

impl Plan {
    /// Teams of a count of shards.
    pub(super) fn teams(&self, count: usize) -> usize {
        self.cpus.len() / self.counts[count]
    }

    /// Slices of a run.
    fn slices(&self) -> usize {
        usize::try_from(self.frames.div_ceil(SLICE)).unwrap_or(usize::MAX)
    }
}
