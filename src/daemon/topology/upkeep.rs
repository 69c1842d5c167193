//! Looks now and then whether what was put on ports, and what was changed there, is still so, and puts it back where somebody
//! has undone it. Nothing tells of most of that.

use std::time::{Duration, Instant};

use super::Topology;
use super::attached::Attached;
use super::news::News;
use crate::daemon::carrier::Carrier;
use crate::devices::promiscuity;
use crate::kernel::hold::Lost;
use crate::kernel::program::Instance;

/// How often.
const LOOK: Duration = Duration::from_millis(500);

impl Topology {
    /// Looks after the ports in use, now and then. Whether the ways of wires are to be chosen anew: the selector of a port is not
    /// where it was put, what meets its frames before has changed, or one that sends nothing was let go of.
    pub(super) fn look_after(&mut self) -> bool {
        if self.looked.elapsed() < LOOK {
            return false;
        }
        self.looked = Instant::now();
        let has_changed = self.look_after_selectors();
        self.look_after_devices();
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
            if port.is_there().is_ok() {
                self.news.warn(ifindex, port.device.name(), format!("somebody has {what}: it is put back"));
            }
            let is_back = lost == Lost::Replaced && self.carrier.as_ref().is_some_and(|of| put_back(port, ifindex, of));
            port.is_lost = !is_back;
            has_changed |= port.is_lost;
        }
        has_changed
    }

    /// Looks after what was changed on devices.
    fn look_after_devices(&mut self) {
        let ports: Vec<u32> = self.attached.keys().copied().collect();
        for ifindex in ports {
            let Some(mut port) = self.attached.remove(&ifindex) else { continue };
            if let Some(what) = undone(&port) {
                let back = self.change_again(&mut port);
                let back =
                    back.map_or_else(|error| format!("cannot be put back: {error}"), |()| "is put back".to_owned());
                self.news.warn(ifindex, port.device.name(), format!("somebody has turned {what}: that {back}"));
            }
            self.attached.insert(ifindex, port);
        }
    }

    fn change_again(&mut self, port: &mut Attached) -> Result<(), String> {
        // What was off before is on by now, too.
        if let Some(reader) = port.offload.as_ref().map(|offload| offload.reader()) {
            self.look_at_offloads(port, reader)?;
        }
        self.change(port)
    }
}

/// What of the changes on a port's device is not so any more, in words; nothing where that cannot be told just now.
fn undone(port: &Attached) -> Option<String> {
    if port.is_lost || port.keeps.is_none() {
        return None;
    }
    let is_promiscuous = port.hold.is_none() || promiscuity::is_on(port.device.ifindex()).unwrap_or(true);
    let on = port.offload.as_ref().map_or(Vec::new(), |offload| offload.on_again().unwrap_or_default());
    let off = (!is_promiscuous).then(|| "promiscuity off".to_owned());
    let on = (!on.is_empty()).then(|| format!("{} on", on.join(", ")));
    Some(off.into_iter().chain(on).collect::<Vec<_>>().join(" and ")).filter(|what| !what.is_empty())
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
