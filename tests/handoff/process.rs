//! Publishers and readers as processes: this executable again, running the test [`child`] in the role that the
//! environment names. They report on a line of stdout for each line on stdin, and end with it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use shm_layout::header::RegionKind;
use spanwire::region::{Access, CONFIG_FILE, Polled, Publisher, RegionFile, STATS_FILE, Subscriber};

use crate::payload::{Stamper, stamp};
use crate::{death, refusal, size};

const ROLE: &str = "SPANWIRE_HANDOFF_ROLE";
const DIR: &str = "SPANWIRE_HANDOFF_DIR";
const NAME: &str = "SPANWIRE_HANDOFF_NAME";
/// Free for the role.
pub const ARGUMENT: &str = "SPANWIRE_HANDOFF_ARGUMENT";

/// Where a test's region is.
pub struct Place {
    pub dir: tempfile::TempDir,
    pub name: &'static str,
    pub kind: RegionKind,
}

impl Place {
    /// An empty directory on the file system that regions are meant for.
    pub fn new(name: &'static str) -> Place {
        let dir = tempfile::Builder::new().prefix("spanwire-handoff-").tempdir_in("/dev/shm").expect("a tmpfs");
        Place { dir, name, kind: kind_of(name) }
    }

    pub fn path(&self) -> std::path::PathBuf {
        self.dir.path().join(self.name)
    }

    pub fn subscriber(&self) -> Subscriber {
        Subscriber::new(self.dir.path(), self.name, self.kind)
    }

    pub fn publisher(&self) -> Publisher {
        Publisher::open(self.dir.path(), self.name, self.kind, Duration::from_secs(60)).expect("the only writer")
    }

    /// The generation a next writer's first publish has, where the last one's instance goes on.
    pub fn next(&self) -> u64 {
        next_generation(&self.path(), self.kind)
    }
}

fn kind_of(name: &str) -> RegionKind {
    match name {
        CONFIG_FILE => RegionKind::Config,
        STATS_FILE => RegionKind::Stats,
        other => panic!("no region is named {other}"),
    }
}

/// As [`Place::next`].
pub fn next_generation(path: &Path, kind: RegionKind) -> u64 {
    RegionFile::open(path, kind, Access::Read).map_or(0, |file| file.active().expect("not truncated")) + 1
}

/// A process in one of the roles.
pub struct Process {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

/// What a process says of itself; a publisher's `newest` is what it published last, a reader's what it read.
#[derive(Debug, Default)]
pub struct Status {
    pub count: u64,
    /// Different images among them.
    pub distinct: u64,
    pub newest: u64,
    pub errors: u64,
    pub overtaken: u64,
}

impl Process {
    pub fn start(role: &str, place: &Place, argument: &str) -> Process {
        let mut command = Command::new(std::env::current_exe().expect("known"));
        Process::run(command.args(ARGUMENTS), role, place, argument)
    }

    /// Starts a command that ends up as this executable with [`ARGUMENTS`].
    pub fn run(command: &mut Command, role: &str, place: &Place, argument: &str) -> Process {
        let mut child = command
            .env(ROLE, role)
            .env(DIR, place.dir.path())
            .env(NAME, place.name)
            .env(ARGUMENT, argument)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("can be started");
        let stdin = child.stdin.take().expect("piped");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        Process { child, stdin, stdout }
    }

    /// Asks how it is going. Fails if the process is dead.
    pub fn status(&mut self) -> Status {
        writeln!(self.stdin, "?").unwrap_or_else(|e| panic!("the process is dead: {e}, {:?}", self.child.wait()));
        let mut said = String::new();
        loop {
            let mut line = String::new();
            if self.stdout.read_line(&mut line).expect("text") == 0 {
                panic!("the process died: {:?}\n{said}", self.child.wait());
            }
            if let Some(values) = line.strip_prefix("= ") {
                let values: Vec<u64> = values.split_whitespace().map(|v| v.parse().expect("a number")).collect();
                let [count, distinct, newest, errors, overtaken] = values[..] else { panic!("{line}") };
                return Status { count, distinct, newest, errors, overtaken };
            }
            said.push_str(&line);
        }
    }

    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a child");
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("a child")
    }

    /// Kills it as nothing else does.
    pub fn kill(mut self) {
        self.signal(Signal::KILL);
        assert_eq!(self.wait().signal(), Some(Signal::KILL.as_raw()), "it was alive until then");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a role on a tmpfs of its own, in a mount namespace of its own.
pub fn on_a_tmpfs(role: &str, options: &str) {
    let place = Place::new(CONFIG_FILE);
    let script =
        format!("mount -t tmpfs -o mode=750,{options} spanwire \"$SPANWIRE_HANDOFF_DIR\" && exec \"$0\" \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script]).arg(std::env::current_exe().expect("known")).args(ARGUMENTS);
    let status = Process::run(&mut command, role, &place, "").wait();
    assert!(status.success(), "{role}: {status} (this test needs root, unshare and mount)");
}

/// Makes this executable a process in a role.
pub const ARGUMENTS: [&str; 4] = ["process::child", "--exact", "--ignored", "--nocapture"];

#[test]
#[ignore = "a process of the other tests"]
fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let text = |name| std::env::var(name).expect("set by Process::run");
    let (dir, name, argument) = (text(DIR), text(NAME), text(ARGUMENT));
    let (dir, kind) = (Path::new(&dir), kind_of(&name));
    if argument.contains("apart") {
        // Left to the scheduler, two busy processes may take turns on one processor, and then nothing overlaps.
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        let own = if role == "publish" { cores.first() } else { cores.last() };
        own.map(|core| core_affinity::set_for_current(*core));
    }
    match role.as_str() {
        "publish" => publish(dir, &name, kind, &argument),
        "read" => read(dir, &name, kind, &argument),
        "die" => death::die(dir, &name, kind, &argument),
        "full" => refusal::on_a_full_file_system(dir),
        "shrink-full" => size::on_a_full_file_system(dir),
        "read-only" => refusal::on_a_read_only_file_system(dir),
        other => panic!("no role {other}"),
    }
}

/// Answers the parent, and ends the process when it is gone.
struct Console {
    asked: Arc<AtomicU64>,
    answered: u64,
}

impl Console {
    fn new() -> Console {
        let asked = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            for _ in std::io::stdin().lines() {
                count.fetch_add(1, SeqCst);
            }
            std::process::exit(0);
        });
        Console { asked, answered: 0 }
    }

    fn answer(&mut self, status: &Status) {
        if self.asked.load(SeqCst) > self.answered {
            self.answered += 1;
            let Status { count, distinct, newest, errors, overtaken } = status;
            let mut out = std::io::stdout().lock();
            writeln!(out, "\n= {count} {distinct} {newest} {errors} {overtaken}").expect("the parent reads it");
            out.flush().expect("the parent reads it");
        }
    }
}

/// Publishes at full speed. `strict`: the stamp is the generation. `strict grow`: the first one needs a larger
/// region. Otherwise the region may be damaged at any time, and stamps just count.
fn publish(dir: &Path, name: &str, kind: RegionKind, argument: &str) {
    let mut console = Console::new();
    let (strict, grow) = (argument.starts_with("strict"), argument.ends_with("grow"));
    let mut publisher = Publisher::open(dir, name, kind, Duration::from_secs(60)).expect("the only writer");
    let path = dir.join(name);
    let mut stamper = Stamper::default();
    let mut status = Status::default();
    let mut next = if strict { next_generation(&path, kind) } else { 1 };
    if grow {
        // Larger than the slots there are by what they already grew.
        let len = std::fs::metadata(&path).map_or(0, |meta| meta.len());
        let size = crate::payload::LARGE * (len / (4 * 65_536)).max(1);
        assert_eq!(publisher.publish(stamper.image(next | size)).expect("published"), next);
        next += 1;
    }
    loop {
        match publisher.publish(stamper.image(next)) {
            Ok(generation) => {
                assert!(!strict || generation == next, "{generation} where {next} is the next");
                (status.count, status.distinct, status.newest) = (status.count + 1, status.distinct + 1, next);
                next += 1;
            }
            Err(error) if strict => panic!("{error}"),
            Err(error) => {
                assert!(error.to_string().contains(name), "{error}");
                status.errors += 1;
            }
        }
        console.answer(&status);
    }
}

/// Reads at full speed. `strict`: nothing may fail, and generations only grow. `again`: also what it has read
/// already. `wait`: sleeps where there is nothing new.
fn read(dir: &Path, name: &str, kind: RegionKind, argument: &str) {
    let mut console = Console::new();
    let [strict, again, wait] = ["strict", "again", "wait"].map(|word| argument.contains(word));
    let mut subscriber = Subscriber::new(dir, name, kind);
    let mut status = Status::default();
    let mut last = 0;
    loop {
        let mut idle = true;
        if again {
            subscriber.forget();
        }
        match subscriber.poll() {
            Ok(Polled::Unchanged) => (),
            Ok(Polled::New { generation, words, .. }) => {
                idle = false;
                match stamp(words, generation) {
                    Ok(stamp) => {
                        if strict {
                            assert!(generation > last || (again && generation == last), "{generation} after {last}");
                            assert_eq!(
                                stamp % crate::payload::LARGE,
                                generation,
                                "one generation with another's words"
                            );
                        }
                        status.distinct += u64::from(generation != last);
                        (status.count, status.newest) = (status.count + 1, stamp);
                        last = generation;
                    }
                    // Somebody else wrote into the file: then it is the checksum's turn.
                    Err(torn) => {
                        assert!(!strict, "torn: {torn}");
                        let refused = shm_layout::view::ImageView::parse(words).is_err();
                        assert!(refused, "torn, and accepted: {torn}");
                        status.errors += 1;
                    }
                }
            }
            Err(error) => {
                let text = error.to_string();
                let overtaken = text.contains("overtook");
                assert!(!strict || overtaken || text.ends_with("not there"), "{error}");
                assert!(text.contains(name), "{error}");
                status.overtaken += u64::from(overtaken);
                status.errors += u64::from(!overtaken);
            }
        }
        if idle && wait {
            subscriber.wait(Duration::from_millis(5));
        }
        console.answer(&status);
    }
}
