//! Where everything ran: the threads, and the receive paths of the devices.

use std::fmt;
use std::fs;
use std::path::Path;

use serde::Serialize;
use spanwire_lab::topology::{Lab, Port, Role};

/// A thread of a system under test.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Thread {
    /// Its name.
    pub name: String,
    /// Where it may run, as the kernel lists processors.
    pub allowed: String,
    /// Where it ran last.
    pub cpu: u32,
    /// Processor time it has used, in clock ticks.
    pub ticks: u64,
    /// Times it lost its processor to another thread although it could have gone on.
    pub preempted: u64,
}

/// The receive path of a device.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Napi {
    /// The device, after its host's role in the lab.
    pub device: String,
    /// Whether its NAPI has a thread of its own. If not, it runs in soft interrupts where the frames are sent.
    pub threaded: Option<bool>,
}

/// Where a system and the sink ran.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Placement {
    /// The tester's thread, which sends, is pinned here.
    pub tester_cpu: usize,
    /// The system's threads; none for what runs in the kernel alone.
    pub threads: Vec<Thread>,
    /// The devices, in the order frames cross them.
    pub napi: Vec<Napi>,
    /// Frames that the sink's program saw, by processor.
    pub sink_frames_by_cpu: Vec<u64>,
}

/// The threads of a process, by how much they have run.
pub(crate) fn threads(pid: u32) -> Vec<Thread> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut threads: Vec<Thread> = tasks.filter_map(|task| thread(&task.path())).collect();
    threads.sort_by_key(|thread| std::cmp::Reverse(thread.ticks));
    threads
}

/// `None` for a thread that has just ended.
fn thread(task: &Path) -> Option<Thread> {
    let status = fs::read_to_string(task.join("status")).ok()?;
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map_or_else(String::new, |value| value.trim().to_owned())
    };
    let stat = fs::read_to_string(task.join("stat")).ok()?;
    // After the name, which is in brackets and may contain anything, the fields from the third on.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index - 3).and_then(|text| text.parse::<u64>().ok());
    Some(Thread {
        name: field("Name:"),
        allowed: field("Cpus_allowed_list:"),
        cpu: number(39)? as u32,
        ticks: number(14)? + number(15)?,
        preempted: field("nonvoluntary_ctxt_switches:").parse().unwrap_or(0),
    })
}

/// The devices of the lab.
pub(crate) fn napi(lab: &Lab) -> Vec<Napi> {
    let Ok(wire) = lab.wire(0) else { return Vec::new() };
    let ends = |port: &Port| (port.host, port.host_name.clone());
    let own = |port: &Port| (Role::Dut, port.name.clone());
    let mut devices = vec![ends(&wire.a), own(&wire.a), own(&wire.b), ends(&wire.b)];
    if let Ok(monitor) = lab.monitor(0) {
        devices.extend([own(monitor), ends(monitor)]);
    }
    devices
        .into_iter()
        .map(|(role, name)| {
            let file = format!("/sys/class/net/{name}/threaded");
            let threaded = lab.ns(role).exec("cat", &[&file]).ok().map(|output| output.stdout.starts_with(b"1"));
            Napi { device: name, threaded }
        })
        .collect()
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tester on CPU {}", self.tester_cpu)?;
        if self.threads.is_empty() {
            write!(f, "; forwards in the kernel, where the tester sends")?;
        }
        for thread in &self.threads {
            let Thread { name, allowed, cpu, preempted, .. } = thread;
            write!(f, "; {name} on CPU {cpu} (of {allowed}), preempted {preempted} times")?;
        }
        let total: u64 = self.sink_frames_by_cpu.iter().sum();
        for (cpu, frames) in self.sink_frames_by_cpu.iter().enumerate().filter(|(_, frames)| **frames > 0) {
            write!(f, "; sink on CPU {cpu} ({:.0} %)", 100.0 * *frames as f64 / total as f64)?;
        }
        let list = |wanted: Option<bool>| {
            let names: Vec<&str> =
                self.napi.iter().filter(|napi| napi.threaded == wanted).map(|napi| napi.device.as_str()).collect();
            names.join(" ")
        };
        for (wanted, text) in
            [(Some(false), "in the sender's soft interrupt"), (Some(true), "in a thread of its own"), (None, "unknown")]
        {
            let names = list(wanted);
            if !names.is_empty() {
                write!(f, "; NAPI {text}: {names}")?;
            }
        }
        Ok(())
    }
}
