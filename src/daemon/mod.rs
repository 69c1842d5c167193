//! The dataplane process: its threads and what they hand each other.
//!
//! ```text
//!   config.shm ──> adopter ──Current──> shard 0..n          pinned, see `crate::shard`
//!                     └────> topology ──mailboxes──┘               opens and closes sockets
//!   stats.shm <── stats <── counters of the shards, state of the ports
//! ```
//!
//! - [`berths`]: where the control threads run
//! - [`carrier`]: the kernel path: what all selectors share
//! - [`config`]: the command line
//! - [`crossing`]: what crosses in the kernel, and what is lost on the way
//! - [`limits`]: open files
//! - [`worker`]: the thread that runs a shard
//! - [`topology`]: follows the ports: attaches, binds, detaches, and follows their links
//! - [`link_news`]: tells it when a device has changed
//! - [`detach`]: takes off what one that is gone has left
//! - [`devices`]: the devices there are, for the control plane
//! - [`report`]: what topology tells stats; [`outdated`]: until it has followed a new table
//! - [`features`]: what the kernel may lack
//! - [`readers`]: which shard reads whose clone ring
//! - [`stats`]: gathers and publishes, as [`records`]
//! - [`threads`]: starts all of these, none of which may end before the others
//!
//! Each blocks until there is something for it, and turns rarely otherwise: where a thread wakes, the kernel carries no frame
//! meanwhile on that processor.

pub mod berths;
pub mod carrier;
pub mod config;
pub mod crossing;
pub mod detach;
pub mod devices;
pub mod features;
pub mod limits;
pub mod link_news;
pub mod outdated;
pub mod readers;
pub mod records;
pub mod report;
pub mod stats;
pub mod threads;
pub mod topology;
pub mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use shm_layout::header::RegionKind;
use thiserror::Error;

use crate::alarm::Alarm;
use crate::kernel::rings::Ring;
use crate::region::{CONFIG_FILE, Publisher, RegionError, STATS_FILE, Subscriber, check_dir, rouse};
use crate::shard::lanes::Wake;
use crate::shard::mailbox::Command;
use crate::signals::Signals;
use crate::snapshot::adopter::{Adopter, Adoption};
use crate::snapshot::table::Current;
use crate::snapshot::upstream::Upstream;
use crate::stop::Stop;
use crate::told::Told;
use crate::xsk::socket;
use berths::{Berths, takes_turns};
use carrier::Carrier;
use config::Config;
use report::Report;
use stats::Teller;
use threads::{Threads, join};
use topology::Topology;
use worker::Worker;

/// How often processors are looked for that have come to run.
const LOOK: Duration = Duration::from_secs(1);

/// How long the adopter sleeps where no publish wakes it: a region that was replaced behind its back is found that late.
const ADOPTER_NAP: Duration = Duration::from_millis(250);

/// Between attempts to wake a thread that is to end: the one before may have come a moment too early.
const ROUSE: Duration = Duration::from_millis(1);

/// Niceness of the adopter: the highest priority of its scheduling class.
const ADOPTER_NICENESS: i32 = -20;

/// Why the dataplane could not start or go on.
#[derive(Debug, Error)]
pub enum DaemonError {
    /// The region directory or the stats region cannot be used.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// Another dataplane writes the stats region.
    #[error("another spanwired uses this directory ({0}); give each its own --dir")]
    AlreadyRunning(RegionError),
    /// The kernel or the privileges lack AF_XDP.
    #[error("{0}")]
    NoAfXdp(socket::SocketError),
    /// The kernel path was asked for, and there is none.
    #[error("{0}")]
    NoKernelPath(String),
    /// The system refused something at start.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
    /// A thread of the dataplane ended on its own.
    #[error("the {0} thread ended unexpectedly")]
    ThreadDied(String),
}

/// Runs the dataplane until a signal asks for the end, and takes everything down again.
///
/// # Errors
/// [`DaemonError`]; nothing is left attached.
pub fn run(config: &Config, signals: &mut Signals) -> Result<(), DaemonError> {
    let over = stop()?;
    Dataplane::open(config)?.run(signals, &Arc::new(over))
}

/// A dataplane that may begin: the directory is its own, until this is dropped.
#[derive(Debug)]
pub struct Dataplane {
    config: Config,
    publisher: Publisher,
    berths: Option<Berths>,
}

impl Dataplane {
    /// Takes the directory, and keeps this thread and those that it starts off the processors of the shards.
    ///
    /// # Errors
    /// [`DaemonError`]: another dataplane has the directory, or there can be none here.
    pub fn open(config: &Config) -> Result<Dataplane, DaemonError> {
        socket::probe().map_err(DaemonError::NoAfXdp)?;
        check_dir(&config.dir, true)?;
        let patience = Duration::from_millis(200);
        let publisher = Publisher::open(&config.dir, STATS_FILE, RegionKind::Stats, patience);
        let publisher = publisher.map_err(|error| match error {
            RegionError::Locked { .. } => DaemonError::AlreadyRunning(error),
            other => other.into(),
        })?;
        limits::raise_open_files();
        let berths = Berths::new(&config.cpus);
        Ok(Dataplane { config: config.clone(), publisher, berths })
    }

    /// Where its control threads run, for others of the process.
    pub fn berths(&self) -> Option<Berths> {
        self.berths.clone()
    }

    /// As [`run`], also until somebody sets `over`; it is set as soon as this one is to end.
    ///
    /// # Errors
    /// [`DaemonError`]; nothing is left attached.
    pub fn run(self, signals: &mut Signals, over: &Arc<Stop>) -> Result<(), DaemonError> {
        let Dataplane { config, publisher, berths } = self;
        let config = &config;
        let system = |action| move |source| DaemonError::System { action, source };
        let table = Arc::new(Current::default());
        let (carrier, facts) = Carrier::of(config).map_err(DaemonError::NoKernelPath)?;
        let may_share = carrier.is_some() && !config.busy && takes_turns();
        berths.iter().for_each(|berths| berths.all_go(may_share));
        let stop = Arc::new(Stops { topology: stop()?, shards: Arc::default(), others: stop()? });
        let threads = Threads::new(Arc::clone(over), berths.clone());
        let news = Arc::new(Alarm::new().map_err(system("make an event"))?);
        // Before there are threads: one for which a control group has too little memory takes all of that for a moment.
        let rings = carrier.as_ref().map(|carrier| carrier.rings()).unwrap_or_default();
        let workers = Worker::start_all(config, &table, &stop.shards, &threads).map_err(system("start a shard"))?;
        give(rings, &workers);
        let blocks: Vec<_> = workers.iter().map(|w| Arc::clone(&w.block)).collect();
        let report = Arc::new(Report::default());

        let adopter = {
            let subscriber = Subscriber::new(&config.dir, CONFIG_FILE, RegionKind::Config);
            let adopter = Adopter::new(subscriber, Arc::clone(&table), blocks.clone());
            let adopter = match &carrier {
                Some(carrier) => adopter.with_upstream(Arc::clone(carrier) as Arc<dyn Upstream>),
                None => adopter,
            };
            let (stop, report) = (Arc::clone(&stop), Arc::clone(&report));
            let wakers: Vec<_> = workers.iter().map(|w| Arc::clone(&w.waker)).collect();
            let (carrier, news) = (carrier.clone(), Arc::clone(&news));
            let hears = Hears { wakers, topology: news };
            let adopter = move || adopt(adopter, carrier.as_deref(), &hears, &report, &stop.others);
            threads.spawn_control("adopter", adopter).map_err(system("start a thread"))?
        };
        let (topology, follower) = {
            let hands = workers.iter().map(Worker::hand).collect();
            let (carrier, report) = (carrier.clone(), Arc::clone(&report));
            let facts = facts.clone();
            let topology = Topology::new(config.clone(), Arc::clone(&table), hands, report, carrier, facts, news);
            let follower = topology.follower();
            let (binding, following) = (Arc::clone(&stop), Arc::clone(&stop));
            let topology = threads.spawn_control("topology", move || topology.run(&binding.topology));
            let follower = threads.spawn_control("follower", move || follower.run(&following.topology));
            (topology.map_err(system("start a thread"))?, follower.map_err(system("start a thread"))?)
        };
        let stats = {
            let stats = Teller::new(config, publisher, Arc::clone(&table), blocks.clone(), Arc::clone(&report));
            let stats = stats.map_err(system("start a thread"))?;
            let stats = match &carrier {
                Some(carrier) => stats.with_upstream(Arc::clone(carrier) as Arc<dyn Upstream>),
                None => stats,
            };
            let (stop, carrier) = (Arc::clone(&stop), carrier.clone());
            let stats = move || stats.with_features(features::ask(&facts, carrier.as_deref())).run(&stop.others);
            threads.spawn_control("stats", stats).map_err(system("start a thread"))?
        };
        tracing::info!(
            "spanwired {} on {}: {} shard(s) on cpu {:?}, frames for wires: {}, for clones: {} each, of {} bytes",
            env!("CARGO_PKG_VERSION"),
            config.dir.display(),
            config.cpus.len(),
            config.cpus,
            config.frames.map_or_else(|| "as many as they need".to_owned(), |frames| format!("at most {frames} each")),
            config.mirror_frames,
            config.frame_size
        );
        if let Some(warning) = config.warning() {
            tracing::warn!("{warning}");
        }

        // This thread has nothing to do but to wait: for the end, or for a thread that must not end.
        while !signals.ended() && !over.is_set() {
            signals.wait(over, LOOK);
            let to_shards = may_share && !report.has_wires_of_shards();
            berths.iter().for_each(|berths| berths.all_go(to_shards));
            carrier.iter().for_each(|carrier| give(carrier.rings(), &workers));
        }
        let died = threads.ended();
        over.set();
        tracing::info!("stopping");
        // What is selected from here on nobody would send.
        carrier.iter().for_each(|carrier| carrier.rest(&table.load(), &blocks));
        // Sockets first, while the shards still answer; the shards; then what only watches.
        stop.topology.set();
        join(topology);
        join(follower);
        stop.shards.store(true, Relaxed);
        for worker in workers {
            worker.waker.wake();
            join(worker.thread);
        }
        stop.others.set();
        join_roused(adopter, || rouse(&config.dir, CONFIG_FILE, RegionKind::Config));
        join_roused(stats, || rouse(&config.dir, STATS_FILE, RegionKind::Stats));
        died.map_or(Ok(()), |name| Err(DaemonError::ThreadDied(name)))
    }
}

/// Has the shards read these clone rings.
fn give(rings: Vec<(usize, Ring)>, workers: &[Worker]) {
    for (shard, ring) in rings {
        workers[shard].hand().send(Command::Read(Box::new(ring)));
    }
}

/// When each group of threads is to end.
#[derive(Debug)]
struct Stops {
    topology: Stop,
    shards: Arc<AtomicBool>,
    others: Stop,
}

fn stop() -> Result<Stop, DaemonError> {
    Stop::new().map_err(|source| DaemonError::System { action: "make an event", source })
}

/// Waits for the end of a thread that sleeps on a region.
fn join_roused(thread: JoinHandle<()>, rouse: impl Fn()) {
    while !thread.is_finished() {
        rouse();
        thread::sleep(ROUSE);
    }
    join(thread);
}

/// Who hears of a new table.
struct Hears {
    wakers: Vec<Arc<worker::Waker>>,
    topology: Arc<Alarm>,
}

fn adopt(
    mut adopter: Adopter,
    carrier: Option<&Carrier>,
    Hears { wakers, topology }: &Hears,
    report: &Report,
    stop: &Stop,
) {
    // Rarely runs, but what it does is waited for where frames pass through shards: ahead of the other control threads, where
    // that is allowed. Clones need not wait for it. On Linux the priority of "this process" is that of this thread.
    if carrier.is_none()
        && let Err(error) = rustix::process::setpriority_process(None, ADOPTER_NICENESS)
    {
        tracing::debug!("the adopter keeps the priority of the others: {error}");
    }
    let mut told = Told::default();
    while !stop.is_set() {
        if let Some(carrier) = carrier {
            carrier.catch_up();
        }
        match adopter.poll() {
            Adoption::None => {}
            Adoption::Adopted { generation } => {
                wakers.iter().for_each(|waker| waker.wake());
                // Shards first: a record is never of a newer table than there is for them.
                if let Some(carrier) = carrier {
                    carrier.follow(&adopter.current());
                }
                topology.ring();
                report.accepted();
                told.ends();
                tracing::info!("adopted generation {generation}");
                continue;
            }
            Adoption::Recovered => {
                report.accepted();
                if let Some(news) = told.ends() {
                    tracing::info!("the snapshot can be read again, unchanged{news}");
                }
            }
            Adoption::Refused { reason } => {
                if let Some(news) = told.is(&reason) {
                    tracing::warn!("snapshot refused, the last good one stays: {news}");
                }
                report.refused(reason);
            }
        }
        // While a shard still uses an older table, look soon whether that can be freed.
        if adopter.wait(if adopter.is_settled() { ADOPTER_NAP } else { Duration::from_millis(1) }) {
            // A sleeping shard takes longer to wake than a table to build: let it begin now.
            wakers.iter().for_each(|waker| waker.wake());
        }
    }
}
