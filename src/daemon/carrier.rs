//! The kernel path of a dataplane: what all its selectors share, and the table they select by.

use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::config::{Config, online};
use super::readers::Readers;
use crate::counters::{self, Counted, ENTRY_SLOTS, ShardBlock};
use crate::kernel::abi::Bell;
use crate::kernel::features::KernelFacts;
use crate::kernel::hold::Place;
use crate::kernel::ledger::Ledger;
use crate::kernel::maps::Maps;
use crate::kernel::past::Past;
use crate::kernel::path::{Path as KernelPath, PathChoice};
use crate::kernel::pins;
use crate::kernel::policy::Policy;
use crate::kernel::program::{Hook, Instance, ProgramError, Selector};
use crate::kernel::rings::Ring;
use crate::kernel::rows::Rows;
use crate::snapshot::table::Table;
use crate::snapshot::upstream::Upstream;
use crate::told::Told;

/// How long what was selected may take to be sent when mirroring ends.
const LAST: Duration = Duration::from_millis(500);
/// Between looks whether it is.
const NAP: Duration = Duration::from_millis(1);

/// See the module's text.
#[derive(Debug)]
pub struct Carrier {
    maps: Arc<Maps>,
    ledger: Ledger,
    policy: Policy,
    force: Mutex<Force>,
    /// For pins, or why there is none.
    folder: Result<PathBuf, String>,
    /// Whose the selectors are: the folder's name.
    owner: String,
    tcx: bool,
    bells: Rows<Bell>,
    readers: Readers,
}

/// What the selectors go by.
#[derive(Debug, Default)]
struct Force {
    /// The ports, ifindexes in snapshots, by their numbers. A number is its port's for good: a program has it as a constant.
    ports: Vec<u32>,
    /// Of the table in force.
    serial: u64,
    /// One that could not be put in force yet.
    due: Option<Arc<Table>>,
    /// Whether none is to be in force any more.
    rests: bool,
    told: Told,
}

impl Force {
    fn number(&mut self, port: u32) -> u32 {
        let at = self.ports.iter().position(|&known| known == port).unwrap_or_else(|| {
            self.ports.push(port);
            self.ports.len() - 1
        });
        at as u32
    }
}

impl Carrier {
    /// The kernel path that the command line asks for, and what the kernel can. None where it asks for none, or where it leaves
    /// the choice to us and there is none to be had.
    ///
    /// # Errors
    /// It asks for one, and there is none.
    pub fn of(config: &Config) -> Result<(Option<Arc<Carrier>>, KernelFacts), String> {
        let facts = KernelFacts::probe();
        if config.path == PathChoice::Only(KernelPath::Shard) {
            return Ok((None, facts));
        }
        let opened = facts.lacks.clone().map_or_else(|| Carrier::open(config, facts.tcx), Err);
        match opened {
            Ok(carrier) => Ok((Some(Arc::new(carrier)), facts)),
            Err(lacks) if config.path == PathChoice::Auto => {
                tracing::warn!("frames cross through shards: {lacks}");
                Ok((None, KernelFacts { lacks: Some(lacks), ..facts }))
            }
            Err(lacks) => Err(format!("--path {}: {lacks}", config.path)),
        }
    }

    /// Makes the maps, and finds the place for pins; links hold selectors at tc where there is `tcx`. Where there is no such
    /// place, that is told, and nothing but a filter outlives the process.
    ///
    /// # Errors
    /// Why there is no kernel path here.
    pub fn open(config: &Config, tcx: bool) -> Result<Carrier, String> {
        let maps = Arc::new(Maps::create(ENTRY_SLOTS as u32, config.clone_ring).map_err(|error| error.to_string())?);
        let folder = match pins::folder(&config.dir, config.pins.as_deref()) {
            Ok(folder) => Ok(folder),
            Err(error) if config.pins.is_some() && config.path != PathChoice::Auto => return Err(error.to_string()),
            Err(error) => {
                tracing::warn!("wires will not outlive this process: {error}");
                Err(error.to_string())
            }
        };
        if let Ok(folder) = &folder {
            if let Some(Past { unread, lost }) = Past::end(folder).filter(|past| *past != Past::default()) {
                tracing::warn!(
                    "while no spanwired ran {unread} clone(s) were not taken from the rings, and {lost} found them full"
                );
            }
            maps.pin(folder);
        }
        let bells = maps.bells().map_err(|error| format!("cannot map bells: {error}"))?;
        let (ledger, policy) = (Ledger::new(Arc::clone(&maps), ENTRY_SLOTS as u32), Policy::new(Arc::clone(&maps)));
        let (owner, readers) = (pins::name(&config.dir), Readers::new(maps.processors(), &config.cpus));
        Ok(Carrier { maps, ledger, policy, force: Mutex::default(), folder, owner, tcx, bells, readers })
    }

    /// Pins again what somebody has removed the pins of, and tells of that.
    pub fn look_after_pins(&self) {
        self.maps.look_after_pins();
    }

    /// The clone rings that are new since this was asked last, and the shards that are to read them: one for each processor that
    /// runs, as any may receive.
    pub fn rings(&self) -> Vec<(usize, Ring)> {
        let running = online().unwrap_or_else(|| (0..self.maps.processors()).collect());
        self.readers.rings(&self.maps, &running)
    }

    /// Why nothing can be pinned; `None` where it can.
    pub fn pins_lack(&self) -> Option<&str> {
        self.folder.as_ref().err().map(String::as_str)
    }

    /// Where selectors are held.
    pub fn place(&self) -> Place<'_> {
        Place { folder: self.folder.as_deref().ok(), owner: &self.owner, tcx: self.tcx }
    }

    fn force(&self) -> MutexGuard<'_, Force> {
        // Numbers are only added, and the serial is one assignment.
        self.force.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads the selector of a port, of `device`, whose frames go to device `peer`.
    ///
    /// # Errors
    /// The kernel does not take it.
    pub fn selector(&self, port: u32, hook: Hook, device: u32, peer: u32) -> Result<Selector, ProgramError> {
        let port = self.force().number(port);
        Selector::load(Instance { hook, port, device, peer }, &self.maps)
    }

    /// Has the selectors go by a table: when this returns no frame meets an older one. Where memory is short that is told, and
    /// to be tried again.
    pub fn follow(&self, table: &Arc<Table>) {
        let mut force = self.force();
        if force.rests {
            return;
        }
        for &(a, b) in &table.wires {
            force.number(a);
            force.number(b);
        }
        match self.policy.put(table, &force.ports) {
            Ok(()) => {
                (force.serial, force.due) = (table.serial, None);
                if let Some(news) = force.told.ends() {
                    tracing::info!("the kernel mirrors by the newest snapshot again{news}");
                }
            }
            Err(error) => {
                force.due = Some(Arc::clone(table));
                if let Some(news) = force.told.is(&error.to_string()) {
                    tracing::warn!("the kernel mirrors by an older snapshot: {news}");
                }
            }
        }
    }

    /// Tries again what could not be put in force.
    pub fn catch_up(&self) {
        let due = self.force().due.clone();
        if let Some(table) = due {
            self.follow(&table);
        }
    }

    /// Takes note of the clones lost so far: what a later run finds beyond these was lost when nobody ran.
    pub fn note(&self) {
        if let Some(row) = self.bells.get(0) {
            row.seen.store(Bell::all_lost(self.bells.iter()), Relaxed);
        }
    }

    /// Ends mirroring: has the selectors select nothing, whatever table comes, then gives the shards a while to send what lies
    /// in the rings. What they do not get to is theirs to count.
    pub fn rest(&self, table: &Table, shards: &[Arc<ShardBlock>]) {
        let cleared = {
            let mut force = self.force();
            (force.rests, force.due) = (true, None);
            self.policy.clear()
        };
        match cleared {
            Ok(()) => {
                let start = Instant::now();
                while !self.is_drained(table, shards) && start.elapsed() < LAST {
                    thread::sleep(NAP);
                }
            }
            Err(error) => tracing::warn!("what is mirrored is still being selected: {error}"),
        }
        self.note();
    }

    /// Whether no clone of a table's entries is on its way, in a ring or with a shard.
    fn is_drained(&self, table: &Table, shards: &[Arc<ShardBlock>]) -> bool {
        table.entries.iter().all(|entry| {
            let counted = || {
                let mut sum = Counted::default();
                shards.iter().for_each(|shard| sum += self.counted(entry.slot, shard.id));
                sum
            };
            counters::is_drained(shards.iter().map(|shard| shard.entry(entry.slot)), counted)
        })
    }
}

impl Upstream for Carrier {
    fn reset(&self, slots: &[u32]) -> Result<(), String> {
        self.ledger.reset(slots).map_err(|error| error.to_string())
    }

    fn counted(&self, slot: u32, shard: u32) -> Counted {
        let mut counted = Counted::default();
        self.readers.of(shard).iter().for_each(|&processor| counted += self.ledger.read(slot, processor));
        counted
    }

    fn serial(&self) -> u64 {
        self.force().serial
    }
}
