//! A port in use: its device, what holds it there, and its sockets.

use std::sync::Arc;

use shm_layout::counters::Binding;

use super::Want;
use super::carry::Way;
use super::changed::What;
use super::lanes::Lanes;
use super::mute::Mute;
use super::sighting::Sighting;
use crate::counters::BindingBlock;
use crate::kernel::hold::Hold;
use crate::kernel::program::Hook;
use crate::kernel::steer::PortProgram;
use crate::xsk::custody::SocketId;
use crate::xsk::netdev::{LinkState, Netdev};
use crate::xsk::offload::Offload;
use crate::xsk::promiscuous::Promiscuous;
use crate::xsk::socket::{BindMode, Socket};

/// Drivers to which the kernel gives the pages of the frames themselves in copy mode too (`IFF_TX_SKB_NO_LINEAR`): what is
/// with the device when a socket closes is still read from them.
const BY_PAGE: [&str; 1] = ["virtio_net"];

/// A socket that a shard serves.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) hand: usize,
    /// The place of a wire port's frames there.
    pub(super) place: Option<usize>,
    pub(super) id: SocketId,
    /// Its port, by the ifindex in the snapshot.
    pub(super) ifindex: u32,
    pub(super) queue: u32,
    pub(super) socket: Socket,
    pub(super) block: Arc<BindingBlock>,
    pub(super) mute: Mute,
}

/// A port in use.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) want: Want,
    /// Its device, whose ifindex may be another than the port's.
    pub(super) device: Netdev,
    /// Whether the device is gone: what has its ifindex by now is another one.
    pub(super) is_lost: bool,
    pub(super) link: LinkState,
    pub(super) lanes: Lanes,
    pub(super) zero_copy: bool,
    pub(super) bound: Vec<Bound>,
    /// How its frames cross; `None` for a monitor.
    pub(super) way: Option<Way>,
    /// Carries them in the kernel.
    pub(super) hold: Option<Hold>,
    /// What the operator has to know of that; empty for nothing.
    pub(super) remark: String,
    /// Whether somebody wants its tags taken off, who is fought no more: nothing may cross in its driver any longer.
    pub(super) is_contested: bool,
    /// Leads them to sockets.
    pub(super) program: Option<PortProgram>,
    /// Held for what they undo when dropped.
    pub(super) promiscuous: Option<Promiscuous>,
    pub(super) offload: Option<Offload>,
    /// What on record of its device stays when it is let go of: until it is in use what was found changed, which frames that
    /// cross may need. `None` where nothing is changed yet.
    pub(super) keeps: Option<What>,
}

impl Attached {
    /// Where its frames on shard `hand` are.
    pub(super) fn place(&self, hand: usize) -> Option<usize> {
        self.bound.iter().find(|bound| bound.hand == hand)?.place
    }

    /// Frames it was given to send and has not sent.
    pub(super) fn outstanding(&self) -> u64 {
        self.bound.iter().map(|bound| bound.block.read()[Binding::Outstanding as usize]).sum()
    }

    /// How its sockets are bound.
    pub(super) fn bind_mode(&self) -> BindMode {
        if self.zero_copy { BindMode::ZeroCopy } else { BindMode::Copy }
    }

    /// Whether its frames are taken up in its driver.
    pub(super) fn is_read_in_driver(&self) -> bool {
        let hook = self.hold.as_ref().map(|hold| hold.instance().hook);
        self.program.is_some() || hook == Some(Hook::Xdp)
    }

    /// Whether its driver may read frames after their socket is closed.
    pub(super) fn lends_frames(&self) -> bool {
        lends_frames(self.zero_copy, self.device.driver())
    }

    /// Whether the two have frames at different places, so that one cannot send what the other receives.
    pub(super) fn is_apart_from(&self, other: &Attached) -> bool {
        self.bound.iter().any(|bound| bound.place != other.place(bound.hand))
    }

    /// Looks again whether what was attached and bound by its ifindex is the device that was meant: that can have been
    /// deleted meanwhile, and its ifindex given to another.
    pub(super) fn is_there(&self) -> Result<(), String> {
        let now = Netdev::open(self.device.ifindex()).map_err(|error| error.to_string())?;
        is_still(&Sighting::of(&self.device), &now)
    }
}

/// Whether a device has neither gone nor changed since it was seen.
pub(super) fn is_still(known: &Sighting, now: &Netdev) -> Result<(), String> {
    let now = Sighting::of(now);
    // An address of another kind is none to go by.
    let alike = known.mac.is_none() || known.mac == now.mac;
    if alike && (&known.name, &known.driver) == (&now.name, &now.driver) {
        return Ok(());
    }
    Err(format!("{known} is {now} by now"))
}

/// Whether frames go to the driver of a socket themselves, and not copies of them.
fn lends_frames(zero_copy: bool, driver: &str) -> bool {
    zero_copy || BY_PAGE.contains(&driver)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_sends_from_the_frames_is_given_time_for_them() {
        for (zero_copy, driver, lent) in
            [(true, "igb", true), (false, "igb", false), (false, "veth", false), (false, "virtio_net", true)]
        {
            assert_eq!(lends_frames(zero_copy, driver), lent, "{driver}");
        }
    }
}
