//! Looks now and then whether what was put on ports, and what was changed there, is still so, and puts it back where somebody
//! has undone it. Nothing tells of most of that. Of offloads the kernel does (`IFLA_EVENT_FEATURES`): each look at the links is
//! one at them.

use std::time::{Duration, Instant};

use super::Topology;
use super::attached::Attached;
use super::contests::Contests;
use super::news::News;
use super::sighting::Sighting;
use crate::daemon::carrier::Carrier;
use crate::devices::promiscuity;
use crate::kernel::hold::Lost;
use crate::kernel::program::Instance;
use crate::xsk::offload::TurnedOn;

/// How often.
const LOOK: Duration = Duration::from_millis(500);

/// What has been looked after.
#[derive(Debug)]
pub(super) struct Upkeep {
    /// When all of it was, last.
    looked: Instant,
    /// The look at the links after which offloads were.
    looks: u64,
    pub(super) contests: Contests,
}

impl Upkeep {
    pub(super) fn new() -> Upkeep {
        Upkeep { looked: Instant::now(), looks: 0, contests: Contests::default() }
    }
}

impl Topology {
    /// Looks after the ports in use, now and then. Whether the ways of wires are to be chosen anew: the selector of a port is not
    /// where it was put, what meets its frames before has changed, one that sends nothing was let go of, or somebody will have tags
    /// taken off.
    pub(super) fn look_after(&mut self) -> bool {
        let looks = self.roster.looks();
        let is_news = std::mem::replace(&mut self.upkeep.looks, looks) != looks;
        if self.upkeep.looked.elapsed() < LOOK {
            return is_news && self.look_after_devices();
        }
        self.upkeep.looked = Instant::now();
        let lookout = &self.lookout;
        self.upkeep.contests.retain(|ifindex| lookout.device(ifindex).is_some());
        let has_changed = self.look_after_devices() | self.look_after_selectors();
        self.carrier.iter().for_each(|carrier| carrier.look_after_pins());
        has_changed | self.look_after_sending()
    }

    fn look_after_selectors(&mut self) -> bool {
        let mut has_changed = false;
        for (&ifindex, port) in self.attached.iter_mut().filter(|(_, port)| !port.is_lost) {
            let lost = match look(port, ifindex, &mut self.news, &mut self.remarks) {
                Ok(is_otherwise) => {
                    has_changed |= is_otherwise;
                    continue;
                }
                Err(lost) => lost,
            };
            let what = match lost {
                Lost::Detached => "detached its selector",
                Lost::Replaced => "put another program in the place of its selector",
            };
            // Else it went with its device.
            let is_there = port.is_there().is_ok();
            if is_there {
                self.news.warn(ifindex, port.device.name(), format!("somebody has {what}: it is put back"));
            }
            let is_replaced = is_there && lost == Lost::Replaced;
            let is_back = is_replaced && self.carrier.as_ref().is_some_and(|of| put_back(port, ifindex, of));
            port.is_lost = !is_back;
            has_changed |= port.is_lost;
        }
        has_changed
    }

    /// Looks after what was changed on devices. Whether one has to leave its driver.
    fn look_after_devices(&mut self) -> bool {
        let mut has_changed = false;
        let ports: Vec<u32> = self.attached.keys().copied().collect();
        for ifindex in ports {
            let Some(mut port) = self.attached.remove(&ifindex) else { continue };
            has_changed |= self.look_after_device(ifindex, &mut port);
            self.attached.insert(ifindex, port);
        }
        has_changed
    }

    fn look_after_device(&mut self, ifindex: u32, port: &mut Attached) -> bool {
        let Some(Undone { what, tags }) = undone(port) else { return false };
        // Also where that is fought no more: until its frames go another way, or none.
        let back = self.change_again(port);
        let back = back.map_or_else(|error| format!("cannot be put back: {error}"), |()| "is put back".to_owned());
        let is_lost =
            !tags.is_empty() && self.upkeep.contests.note(&Sighting::of(&port.device), tags.join(", "), Instant::now());
        let often = if is_lost { ", again and again: frames leave its driver" } else { "" };
        self.news.warn(ifindex, port.device.name(), format!("somebody has turned {what}: that {back}{often}"));
        let was = port.is_contested;
        port.is_contested |= is_lost;
        is_lost && !was
    }

    fn change_again(&mut self, port: &mut Attached) -> Result<(), String> {
        // What was off before is on by now, too.
        if let Some(reader) = port.offload.as_ref().map(|offload| offload.reader()) {
            self.look_at_offloads(port, reader)?;
        }
        self.change(port)
    }
}

/// What of the changes on a port's device is not so any more.
struct Undone {
    /// In words.
    what: String,
    /// The offloads by which frames lose their tags.
    tags: Vec<&'static str>,
}

/// Nothing where that cannot be told just now.
fn undone(port: &Attached) -> Option<Undone> {
    if port.is_lost || port.keeps.is_none() {
        return None;
    }
    let is_promiscuous = port.hold.is_none() || promiscuity::is_on(port.device.ifindex()).unwrap_or(true);
    let on = port.offload.as_ref().map_or(Vec::new(), |offload| offload.on_again().unwrap_or_default());
    let tags = on.iter().filter(|on| on.loses_tags).map(|on| on.name).collect();
    let off = (!is_promiscuous).then(|| "promiscuity off".to_owned());
    let on: Vec<_> = on.iter().map(|TurnedOn { name, .. }| *name).collect();
    let on = (!on.is_empty()).then(|| format!("{} on", on.join(", ")));
    let what = off.into_iter().chain(on).collect::<Vec<_>>().join(" and ");
    // Or it was looked at another device, which has the ifindex of one that has gone.
    (!what.is_empty() && port.is_there().is_ok()).then_some(Undone { what, tags })
}

/// Exchanges what somebody has put in the place of a port's selector. Whether that could be done.
fn put_back(port: &mut Attached, ifindex: u32, carrier: &Carrier) -> bool {
    let Some(hold) = &mut port.hold else { return false };
    let Instance { hook, device, peer, .. } = hold.instance();
    carrier.selector(ifindex, hook, device, peer).is_ok_and(|selector| hold.swap(&selector).is_ok())
}

/// Looks at the selector of a port, if it has one. Whether there is something else to remark by now.
fn look(port: &mut Attached, ifindex: u32, news: &mut News, remarks: &mut News) -> Result<bool, Lost> {
    let Some(hold) = &mut port.hold else { return Ok(false) };
    let seen = hold.look()?;
    if seen.is_pinned_again {
        let what = "somebody has removed its pins: it is pinned again".to_owned();
        news.warn(ifindex, port.device.name(), what);
    }
    if seen.remark.is_empty() {
        remarks.ends(ifindex);
    } else {
        remarks.warn(ifindex, port.device.name(), seen.remark.clone());
    }
    let has_changed = port.remark != seen.remark;
    port.remark = seen.remark;
    Ok(has_changed)
}
