//! Follows the ports: attaches those the snapshot uses when they are there, lets go of them when they are not.
//!
//! ```text
//! kernel ── news of links ──> follower ──> roster ──> shards: up, down, MTU
//!        <── ports down, up ──────┘          │
//!                              binder <──────┘ devices
//!                                └── sockets opened and closed, one port after the other ──> shards
//! ```
//!
//! Both tell the report what they know: of links the follower, of everything else the binder. So what a shard and `show`
//! say of a link waits for no socket.
//!
//! - `follower`: a thread that follows links and never waits for sockets
//! - `link_loss`: takes a port down while the link of its wire's other one is lost; `taken`: on record
//! - `roster`: where it meets the other one, the binder, which is [`Topology`]
//! - `attached`: a port in use
//! - `carry`: wires on the kernel path
//! - `upkeep`: looks whether what was put on ports and changed there is still so; `contests`: over offloads
//! - `attach`: takes a port into use; `serve`: its sockets; `failed`: one that could not be
//! - `close`: lets go of ports, or of their sockets alone
//! - `mute`: lets go of those that send nothing
//! - `frames`: how many frames a wire gets, and where
//! - `lanes`: how a port's queues are used
//! - `identity`: which device is which; `sighting`: one as it was when last seen
//! - `record`: what is kept for a later run: the devices, and what was `changed` on them
//! - `lasting`: the files that outlive this process
//! - `lookout`: finds the ports among the devices there are
//! - `restore`: undoes what was changed on devices
//! - `totals`: what was counted on their queues
//! - `tell`: what the ports are like, for the shards and for the stats thread
//!
//! A port that fails is tried again and again, less and less often, and at once when its device has changed. It costs no
//! other port anything.

mod attach;
mod attached;
mod carry;
mod changed;
mod close;
mod contests;
mod failed;
mod follower;
mod frames;
mod identity;
mod lanes;
mod lasting;
mod link_loss;
mod lookout;
mod mute;
mod news;
mod record;
mod restore;
mod roster;
mod serve;
mod sighting;
mod sights;
mod taken;
mod tell;
mod totals;
mod upkeep;

use std::collections::{BTreeMap, HashMap};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shm_layout::record::PortRole;

use super::carrier::Carrier;
use super::config::Config;
use super::crossing::Crossings;
use super::report::Report;
use super::worker::Hand;
use crate::alarm::{Alarm, sleep};
use crate::kernel::features::KernelFacts;
use crate::kernel::pins;
use crate::shard::complete::AUDIT;
use crate::snapshot::table::{Current, Table};
use crate::stop::Stop;
use crate::xsk::offload::Offload;
use attached::Attached;
use carry::{Trials, Ways};
use failed::Failed;
pub use follower::Follower;
use frames::Frames;
use identity::Place;
use lanes::Lanes;
use link_loss::LinkLoss;
use lookout::Lookout;
use mute::Rests;
use news::News;
use record::Record;
use roster::{Roster, Sight};
use serve::IdPool;
use sights::Sights;
use totals::Totals;
use upkeep::Upkeep;

/// Time between looks at what nobody tells of: at what sockets have counted, at completions that are overdue, at frames that a
/// port that is down has not sent. What comes of them is published no more often.
const TURN: Duration = AUDIT;

/// What a port is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    Wire { peer: u32 },
    Monitor,
}

impl Want {
    fn role(self) -> PortRole {
        match self {
            Want::Wire { .. } => PortRole::Wire,
            Want::Monitor => PortRole::Monitor,
        }
    }
}

/// Where the wanted ports are.
type Places = BTreeMap<u32, Place>;

/// What is wanted of which port.
#[derive(Debug)]
struct Plan {
    table: Arc<Table>,
    wanted: BTreeMap<u32, Want>,
    /// Where each of them is.
    places: Places,
    /// How the wires cross.
    ways: Ways,
    /// Looks at the devices so far.
    looks: u64,
}

/// The binder: owns every socket and every attached program.
#[derive(Debug)]
pub struct Topology {
    config: Config,
    table: Arc<Current>,
    /// The kernel path, where there is one.
    carrier: Option<Arc<Carrier>>,
    facts: KernelFacts,
    trials: Trials,
    /// Where selectors may be pinned, also without a kernel path.
    pins: Vec<PathBuf>,
    upkeep: Upkeep,
    hands: Vec<Hand>,
    roster: Arc<Roster>,
    /// Rung when the devices were looked at, and when there is another table.
    alarm: Arc<Alarm>,
    report: Arc<Report>,
    attached: BTreeMap<u32, Attached>,
    failed: HashMap<u32, Failed>,
    rests: Rests,
    record: Record,
    lookout: Lookout,
    news: News,
    /// What lasts of the selectors on ports.
    remarks: News,
    totals: Totals,
    crossings: Crossings,
    sights: BTreeMap<u32, Sights>,
    ids: Vec<IdPool>,
    /// By shard.
    frames: Vec<Frames>,
}

impl Topology {
    /// A topology with nothing attached; `alarm` is to be rung when there is another table.
    pub fn new(
        config: Config,
        table: Arc<Current>,
        hands: Vec<Hand>,
        report: Arc<Report>,
        carrier: Option<Arc<Carrier>>,
        facts: KernelFacts,
        alarm: Arc<Alarm>,
    ) -> Topology {
        let ids = hands.iter().map(|_| IdPool::default()).collect();
        let frames = hands.iter().map(|_| Frames::new(config.frames)).collect();
        Topology {
            record: Record::open(&config.dir),
            lookout: Lookout::default(),
            pins: pins::known(&config.dir, config.pins.as_deref()),
            upkeep: Upkeep::new(),
            carrier,
            facts,
            trials: Trials::default(),
            config,
            table,
            roster: Arc::new(Roster::new(hands.clone(), Arc::clone(&report), Arc::clone(&alarm))),
            alarm,
            hands,
            report,
            attached: BTreeMap::new(),
            failed: HashMap::new(),
            rests: Rests::default(),
            news: News::default(),
            remarks: News::default(),
            totals: Totals::default(),
            crossings: Crossings::default(),
            sights: BTreeMap::new(),
            ids,
            frames,
        }
    }

    /// Who is to follow the links meanwhile.
    pub fn follower(&self) -> Follower {
        Follower { roster: Arc::clone(&self.roster), link_loss: LinkLoss::open(&self.config.dir) }
    }

    /// Follows the ports until `stop`, then detaches them all but those that are to go on crossing.
    pub fn run(mut self, stop: &Stop) {
        while self.roster.looks() == 0 && !stop.is_set() {
            self.rest(stop, TURN);
        }
        let mut plan = self.plan();
        self.reconcile(&plan, stop);
        let mut audited = Instant::now();
        while !stop.is_set() {
            self.rest(stop, TURN.saturating_sub(audited.elapsed()).min(self.rest_left()));
            let has_changed = self.look_after();
            if self.is_due(&plan) || has_changed {
                plan = self.plan();
                self.reconcile(&plan, stop);
            }
            self.note_links();
            // Overdue completions are counted in audits.
            if audited.elapsed() >= TURN {
                audited = Instant::now();
                self.audit();
                self.take_back();
            }
            self.tell_report(&plan);
            self.note_crossings();
            self.news.catch_up();
        }
        self.roster.look(Vec::new());
        plan = self.plan();
        self.note_links();
        self.tell_report(&plan);
        let ends = |(&ifindex, port): (&u32, &Attached)| (!self.stays(port)).then_some(ifindex);
        let all: Vec<u32> = self.attached.iter().filter_map(ends).collect();
        self.detach(&all);
        self.crossings.finish();
        self.undo_all();
        // What crosses on needs what was changed.
        self.attached.values_mut().filter_map(|port| port.offload.take()).for_each(Offload::leave);
        // The last counts stay to be read; nothing is served any more.
        let mut last = self.report.read();
        for port in last.ports.iter_mut().filter(|port| port.up) {
            port.up = false;
            port.reason = "spanwired has stopped".to_owned();
        }
        self.report.set_ports(last.ports, last.bindings);
    }

    /// Sleeps until there is news or `stop` is set, at most `timeout`.
    fn rest(&self, stop: &Stop, timeout: Duration) {
        sleep(&[self.alarm.as_fd(), stop.as_fd()], Some(timeout));
        self.alarm.hush();
    }

    /// What is wanted from now on, and where that is.
    fn plan(&mut self) -> Plan {
        let table = self.table.load();
        let wanted = self.wanted(&table);
        let Sight { devices, gone, looks } = self.roster.sight();
        self.lookout.take(devices, gone);
        let places = self.locate(&table, &wanted);
        // Before the first snapshot nobody knows which wires there will be.
        if table.generation != 0 {
            self.roster.set_pairs(self.pairs(&table, &places));
        }
        Plan { ways: self.ways(&table, &places), places, wanted, table, looks }
    }

    /// Whether to look at everything again.
    fn is_due(&self, plan: &Plan) -> bool {
        let is_old = self.roster.looks() != plan.looks || self.table.serial() != plan.table.serial;
        is_old || self.rest_left().is_zero()
    }

    /// How long until a port that failed is to be tried again.
    fn rest_left(&self) -> Duration {
        self.failed.values().map(Failed::rest_left).min().unwrap_or(Duration::MAX)
    }

    /// Takes note of the links that shards have been told of.
    fn note_links(&mut self) {
        let links = self.roster.links();
        for (&ifindex, port) in &mut self.attached {
            let Some(&link) = links.get(&ifindex).filter(|link| **link != port.link) else { continue };
            self.news.info(ifindex, port.device.name(), format!("{}, MTU {}", up_down(link.up), link.mtu));
            port.link = link;
        }
    }

    /// Brings what is attached in line with what is wanted and what is there.
    fn reconcile(&mut self, plan: &Plan, stop: &Stop) {
        self.note_links();
        self.go_over(plan);
        let wanted = &plan.wanted;
        let held: Vec<u32> = self.attached.keys().copied().collect();
        let gone: Vec<u32> = held.into_iter().filter(|&ifindex| self.must_go(ifindex, plan)).collect();
        self.detach(&gone);
        // Before another port is put where such a one was.
        if plan.table.generation != 0 {
            self.sweep(plan);
        }
        self.repoint(plan);
        self.failed.retain(|ifindex, _| wanted.contains_key(ifindex));
        self.rests.retain(|ifindex| wanted.contains_key(&ifindex));
        self.news.retain(|ifindex| wanted.contains_key(&ifindex));
        self.remarks.retain(|ifindex| wanted.contains_key(&ifindex));
        self.totals.retain(|ifindex| wanted.contains_key(&ifindex));
        self.crossings.retain(|ifindex| wanted.contains_key(&ifindex));
        self.sights.retain(|ifindex, _| wanted.contains_key(ifindex));
        // A port may have another one let go of, which is then taken into use anew.
        while self.attach_all(plan, stop) {}
        self.clean_up(plan);
        self.record.keep();
    }

    /// Attaches what is not and may be. Whether that cost another port its place.
    fn attach_all(&mut self, plan: &Plan, stop: &Stop) -> bool {
        let Plan { wanted, places, ways, .. } = plan;
        let idle = wanted.iter().filter(|(ifindex, _)| !self.attached.contains_key(ifindex));
        let idle: Vec<_> =
            idle.map(|(&ifindex, &want)| (ifindex, want, Lanes::of(ifindex, want, places, ways))).collect();
        let known = |(ifindex, want, lanes): &(u32, Want, Result<Option<Lanes>, _>)| {
            Some((*ifindex, (*want, lanes.as_ref().ok()?.as_ref().copied()?)))
        };
        // Those that have failed too: others would have to give back what they need, with each try.
        self.want_frames(idle.iter().filter_map(known).collect());
        let device = |ifindex: &u32| self.lookout.device(places.get(ifindex)?.device()?);
        let rests = |ifindex: &u32| {
            let is_alike = |failed: &Failed| failed.whatever || failed.is_on(&device(ifindex));
            let rests = |failed: &Failed| !failed.rest_left().is_zero() && is_alike(failed);
            self.failed.get(ifindex).is_some_and(rests)
        };
        let mut due = idle;
        due.retain(|(ifindex, ..)| !rests(ifindex));
        // Wires that are dark first. One that an earlier run has left crossing can wait until there is somebody to send its
        // clones to: it is not mirrored before it is in use.
        let crossing = if due.is_empty() { Vec::new() } else { self.crossing() };
        due.sort_by_key(|(ifindex, want, _)| match want {
            Want::Wire { .. } if !crossing.contains(ifindex) => 0,
            Want::Monitor => 1,
            Want::Wire { .. } => 2,
        });
        let mut moved = false;
        for (ifindex, want, lanes) in due {
            if stop.is_set() {
                return false;
            }
            match lanes {
                Ok(Some(lanes)) => moved |= self.attach(ifindex, want, lanes, plan),
                Err(error) => self.fail(ifindex, error.to_string()),
                // Not there: why it failed when it was is no news any more.
                Ok(None) => {
                    self.failed.remove(&ifindex);
                    self.rests.end(ifindex);
                }
            }
        }
        moved
    }

    /// Says of each shard how many sockets of wires are wanted of it: those there are and those to come.
    fn want_frames(&mut self, mut ports: BTreeMap<u32, (Want, Lanes)>) {
        ports.extend(self.attached.iter().map(|(&ifindex, port)| (ifindex, (port.want, port.lanes))));
        let shards = self.hands.len();
        for (shard, frames) in self.frames.iter_mut().enumerate() {
            let sockets = |(want, lanes): &(Want, Lanes)| match want {
                Want::Monitor => 0,
                Want::Wire { peer } if ports.contains_key(peer) => lanes.own(shard, shards),
                // A far end that has gone comes back to the frames there are for it.
                Want::Wire { .. } => lanes.both(shard, shards),
            };
            frames.want(ports.values().map(sockets).sum());
        }
    }

    fn wanted(&self, table: &Table) -> BTreeMap<u32, Want> {
        let mut wanted = BTreeMap::new();
        // Without mirror frames no clone can ever be made: leave the monitor ports alone.
        if self.config.mirror_frames > 0 {
            wanted.extend(table.monitors().into_iter().map(|ifindex| (ifindex, Want::Monitor)));
        }
        for &(a, b) in &table.wires {
            wanted.insert(a, Want::Wire { peer: b });
            wanted.insert(b, Want::Wire { peer: a });
        }
        wanted
    }
}

fn up_down(up: bool) -> &'static str {
    if up { "up" } else { "down" }
}
