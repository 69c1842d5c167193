//! The thread that runs a shard: pinned, spinning while there is work, asleep on its sockets when there is none.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, fence};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::config::Config;
use super::threads::Threads;
use crate::counters::ShardBlock;
use crate::shard::lanes::Wake;
use crate::shard::mailbox::{Command, Event, Mailbox};
use crate::shard::{self, Shard};
use crate::snapshot::table::Current;
use crate::xsk::area::Area;
use crate::xsk::socket::Socket;

/// Niceness of a shard: beside a thread of the ordinary one it gets nine tenths of a processor.
const NICENESS: i32 = -10;
/// How long a shard finds nothing to do before it sleeps.
const SPIN: Duration = Duration::from_micros(100);
/// Breaths between looks at the clock while idle.
const IDLE_BREATHS: u32 = 64;
/// Completions raise no event: with frames out, look again after this long.
const NAP_TRANSMITTING: Duration = Duration::from_millis(1);
/// How long a shard that is to end goes on with what is there already.
const LAST: Duration = Duration::from_secs(1);
/// Everything else wakes the thread; this bounds a lost wake.
const NAP: Duration = Duration::from_millis(100);

/// Wakes a sleeping shard, and costs no system call while it is awake.
///
/// # Orderings
/// The shard stores `asleep`, then looks for news; the waker stores its news, then looks at `asleep`. A SeqCst fence
/// between the two on both sides lets at least one of them see the other.
#[derive(Debug)]
pub struct Waker {
    event: OwnedFd,
    asleep: AtomicBool,
}

impl Waker {
    fn new() -> io::Result<Waker> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Waker { event, asleep: AtomicBool::new(false) })
    }

    /// From here on until [`Waker::rise`] the shard is to be woken; its look for news comes after.
    fn lie_down(&self) {
        self.asleep.store(true, Relaxed);
        fence(SeqCst);
    }

    fn rise(&self) {
        self.asleep.store(false, Relaxed);
    }

    fn clear(&self) {
        let _ = rustix::io::read(&self.event, &mut [0u8; 8]);
    }
}

impl Wake for Waker {
    /// A shard that is awake finds the news by itself.
    fn wake(&self) {
        fence(SeqCst);
        if self.asleep.load(Relaxed) {
            // A full counter (EAGAIN) wakes just as well.
            let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        }
    }
}

/// A running shard, as the other threads see it.
#[derive(Debug)]
pub struct Worker {
    /// What it counts.
    pub block: Arc<ShardBlock>,
    /// Wakes it.
    pub waker: Arc<Waker>,
    /// Its thread.
    pub thread: JoinHandle<()>,
    mailbox: Arc<Mailbox<Socket>>,
    mirror_area: Arc<Area>,
    ended: Arc<AtomicBool>,
}

/// What topology needs of a shard.
#[derive(Clone, Debug)]
pub struct Hand {
    /// Index of the shard.
    pub id: u32,
    /// Its frames for clones.
    pub mirror_area: Arc<Area>,
    mailbox: Arc<Mailbox<Socket>>,
    waker: Arc<Waker>,
    ended: Arc<AtomicBool>,
}

impl Hand {
    /// Asks the shard for something.
    pub fn send(&self, command: Command<Socket>) {
        let mut command = command;
        // The shard empties its mailbox every breath, so a full one is a matter of microseconds.
        while let Err(back) = self.mailbox.commands.push(command) {
            if self.ended.load(Acquire) {
                return;
            }
            command = back;
            self.waker.wake();
            std::thread::sleep(Duration::from_micros(50));
        }
        self.waker.wake();
    }

    /// The shard's next answer, in the order it was asked; `None` once its thread has ended.
    ///
    /// Waits for as long as the thread lives: giving up would leave an answer for the next question to find.
    pub fn answer(&self) -> Option<Event<Socket>> {
        loop {
            let ended = self.ended.load(Acquire);
            if let Some(event) = self.mailbox.events.pop() {
                return Some(event);
            }
            if ended {
                return None;
            }
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}

impl Worker {
    /// Makes a shard for each processor, lays the lanes between them, and starts their threads.
    ///
    /// # Errors
    /// Memory or threads are short.
    pub fn start_all(
        config: &Config,
        table: &Arc<Current>,
        stop: &Arc<AtomicBool>,
        threads: &Threads,
    ) -> io::Result<Vec<Worker>> {
        let (mut shards, mut parts, mut bells) = (Vec::new(), Vec::new(), Vec::new());
        for (id, &cpu) in config.cpus.iter().enumerate() {
            let block = Arc::new(ShardBlock::new(id as u32, cpu));
            let mailbox = Arc::new(Mailbox::default());
            let waker = Arc::new(Waker::new()?);
            shards.push(Shard::new(
                config.mirror_frames,
                config.frame_size,
                Arc::clone(table),
                Arc::clone(&mailbox),
                Arc::clone(&block),
            )?);
            bells.push(Arc::clone(&waker) as Arc<dyn Wake>);
            parts.push((block, mailbox, waker));
        }
        shard::connect(&mut shards, &bells);
        let busy = config.busy;
        let start = |(shard, (block, mailbox, waker))| Worker::start(shard, block, mailbox, waker, stop, busy, threads);
        shards.into_iter().zip(parts).map(start).collect()
    }

    fn start(
        shard: Shard<Socket>,
        block: Arc<ShardBlock>,
        mailbox: Arc<Mailbox<Socket>>,
        waker: Arc<Waker>,
        stop: &Arc<AtomicBool>,
        busy: bool,
        threads: &Threads,
    ) -> io::Result<Worker> {
        let mirror_area = Arc::clone(shard.mirror_area());
        let ended = Arc::new(AtomicBool::new(false));
        let thread = {
            let (block, waker, stop) = (Arc::clone(&block), Arc::clone(&waker), Arc::clone(stop));
            let end = End(Arc::clone(&ended));
            threads.spawn(&format!("shard-{}", block.id), move || {
                // Moved in, so that it drops, and tells, however the thread ends.
                let _end = end;
                run(shard, &block, &waker, &stop, busy);
            })?
        };
        Ok(Worker { block, waker, thread, mailbox, mirror_area, ended })
    }

    /// What topology needs of the shard.
    pub fn hand(&self) -> Hand {
        Hand {
            id: self.block.id,
            mirror_area: Arc::clone(&self.mirror_area),
            mailbox: Arc::clone(&self.mailbox),
            waker: Arc::clone(&self.waker),
            ended: Arc::clone(&self.ended),
        }
    }
}

/// Tells that the thread has ended.
struct End(Arc<AtomicBool>);

impl Drop for End {
    fn drop(&mut self) {
        // Release: pairs with the Acquire in `Hand::answer`; its last answers are in the mailbox by then.
        self.0.store(true, Release);
    }
}

fn run(mut shard: Shard<Socket>, block: &ShardBlock, waker: &Waker, stop: &AtomicBool, busy: bool) {
    let pinned = core_affinity::set_for_current(core_affinity::CoreId { id: block.cpu as usize });
    block.pinned.store(u32::from(pinned), Relaxed);
    if !pinned {
        tracing::warn!("shard {} cannot be pinned to processor {}", block.id, block.cpu);
    }
    let mut priority = Priority::default();
    let mut idle = 0u32;
    let mut idle_since = Instant::now();
    while !stop.load(Relaxed) {
        priority.follow(shard.carries_wires());
        if shard.breathe() > 0 {
            idle = 0;
            continue;
        }
        idle += 1;
        if idle == 1 {
            idle_since = Instant::now();
        }
        std::hint::spin_loop();
        if !busy && idle.is_multiple_of(IDLE_BREATHS) && idle_since.elapsed() >= SPIN {
            waker.lie_down();
            shard.lie_down();
            // A stop that was asked for before the shard lay down wakes nobody.
            if !shard.has_news() && !stop.load(Relaxed) {
                nap(&mut shard, waker);
            }
            shard.rise();
            waker.rise();
            idle = 0;
        }
    }
    // What other shards have told of clones meanwhile goes into the last statistics, and what lies in the clone rings.
    let start = Instant::now();
    while shard.breathe() > 0 && start.elapsed() < LAST {}
}

/// The priority of a shard's thread. Frames that pass through it go before what else runs there. The kernel carries the others,
/// in a thread of its own where it is under load (ksoftirqd), and that must not wait for who only makes clones.
#[derive(Debug, Default)]
struct Priority {
    /// What the thread had before, while it has another one.
    before: Option<i32>,
}

impl Priority {
    /// With wires ahead of others, and else as it was.
    #[inline]
    fn follow(&mut self, carries_wires: bool) {
        if carries_wires != self.before.is_some() {
            self.change(carries_wires);
        }
    }

    #[cold]
    fn change(&mut self, carries_wires: bool) {
        // On Linux the priority of "this process" is this thread's.
        let niceness = match (carries_wires, self.before.take()) {
            (true, _) => {
                let before = rustix::process::getpriority_process(None).unwrap_or_default();
                self.before = Some(before);
                before.min(NICENESS)
            }
            (false, before) => before.unwrap_or_default(),
        };
        if let Err(error) = rustix::process::setpriority_process(None, niceness) {
            tracing::debug!("a shard keeps the priority of others: {error}");
        }
    }
}

/// Sleeps until a frame or a record arrives, somebody wakes the shard, or it is time to look.
fn nap(shard: &mut Shard<Socket>, waker: &Waker) {
    shard.note_nap();
    let limit = if shard.is_transmitting() { NAP_TRANSMITTING } else { NAP };
    let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(limit.subsec_nanos()) };
    let mut fds = vec![PollFd::new(&waker.event, PollFlags::IN)];
    fds.extend(shard.quiet_doorbells().map(|socket| PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)));
    fds.extend(shard.wakers().map(|ring| PollFd::from_borrowed_fd(ring, PollFlags::IN)));
    // An error (EINTR) ends the sleep as well.
    let _ = poll(&mut fds, Some(&timeout));
    if fds.first().is_some_and(|fd| !fd.revents().is_empty()) {
        waker.clear();
    }
}
