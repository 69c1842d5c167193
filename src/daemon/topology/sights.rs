//! What is seen in what a port receives and only its far end can mend.

use std::time::{Duration, Instant};

use shm_layout::counters::{Binding, Kernel, Sight};

use crate::daemon::report::BindingStatus;
use crate::told::Told;
use crate::xsk::netdev::Netdev;

/// How long after it was last seen something counts as going on: frames are few, or few of them are looked at.
const HOLD: Duration = Duration::from_secs(30);
/// Drivers whose other end is another network stack, and no cable.
const PAIRED: [&str; 3] = ["veth", "virtio_net", "tun"];

/// What is seen of one port.
#[derive(Debug, Default)]
pub(super) struct Sights {
    /// Frames with unfinished checksums, of those looked at.
    unfinished: Grown,
    /// Frames too large to cross.
    large: Grown,
    /// What is to be known of it by now; empty for nothing.
    note: String,
    told: Told,
}

impl Sights {
    /// Takes note of what the sockets of the port have counted by now.
    pub(super) fn take(&mut self, device: &Netdev, sockets: &[BindingStatus]) {
        let now = Instant::now();
        let unfinished = sockets.iter().map(|socket| socket.block.sights()[Sight::UnfinishedChecksums as usize]);
        self.unfinished.take(unfinished.sum(), now);
        self.large.take(sockets.iter().map(large).sum(), now);
        self.note = note(device.name(), device.driver(), self.unfinished.goes_on(now), self.large.goes_on(now));
        if !self.note.is_empty() {
            if let Some(news) = self.told.is(&self.note) {
                tracing::warn!("port {}: {news}", device.name());
            }
        } else if let Some(news) = self.told.ends() {
            tracing::info!("port {}: its far end sends proper frames again{news}", device.name());
        }
    }

    /// What is to be known; empty for nothing.
    pub(super) fn note(&self) -> &str {
        &self.note
    }
}

/// Frames that a socket received, or was to, and that are too large: for a UMEM frame, or for the wire's other port.
fn large(socket: &BindingStatus) -> u64 {
    let kernel = |value: Kernel| socket.kernel[value as usize];
    // Where the kernel finds no frame to receive into, it counts both.
    let too_large = kernel(Kernel::RxDropped).saturating_sub(kernel(Kernel::RxFillEmpty));
    socket.block.read()[Binding::RxOversize as usize] + too_large
}

fn note(name: &str, driver: &str, unfinished: bool, large: bool) -> String {
    let mut notes = Vec::new();
    if unfinished {
        notes.push(
            "frames arrive with unfinished checksums, and no host beyond takes those: their sender leaves them to \
             hardware (at the far end: ethtool -K PEER tx off tso off gso off)"
                .to_owned(),
        );
    }
    if large {
        let remedy = match PAIRED.contains(&driver) {
            true => "their sender leaves cutting them to hardware (at the far end: ethtool -K PEER tso off gso off)"
                .to_owned(),
            false => format!("merged on receipt, or the far end's MTU is larger (ethtool -K {name} gro off lro off)"),
        };
        notes.push(format!("frames arrive that are too large to cross, and are dropped: {remedy}"));
    }
    notes.join("; ")
}

/// A counter, and when it last grew.
#[derive(Debug, Default)]
struct Grown {
    count: u64,
    at: Option<Instant>,
}

impl Grown {
    fn take(&mut self, count: u64, now: Instant) {
        if count > self.count {
            self.at = Some(now);
        }
        self.count = count;
    }

    fn goes_on(&self, now: Instant) -> bool {
        self.at.is_some_and(|at| now.saturating_duration_since(at) < HOLD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_while_it_grows_and_a_while_after() {
        let (mut grown, start) = (Grown::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        grown.take(0, start);
        assert!(!grown.goes_on(start));
        grown.take(3, after(10));
        grown.take(3, after(39));
        assert!(grown.goes_on(after(39)) && !grown.goes_on(after(40)));
        grown.take(4, after(50));
        assert!(grown.goes_on(after(79)));
    }

    #[test]
    fn each_note_says_what_to_do_where() {
        assert_eq!(note("p", "veth", false, false), "");
        let both = note("p", "veth", true, true);
        assert!(
            both.contains("ethtool -K PEER tx off") && both.contains("; frames arrive that are too large"),
            "{both}"
        );
        let own = note("eth7", "igb", false, true);
        assert!(own.contains("ethtool -K eth7 gro off lro off") && !own.contains("PEER"), "{own}");
    }
}
