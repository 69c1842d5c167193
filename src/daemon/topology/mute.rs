//! Ports that look well and send nothing: every call that asks their device to transmit fails, and goes on failing.
//!
//! A driver in zero-copy that has lost its XDP program is such a one. Its port is let go of, with the reason, and tried again
//! ever more slowly: each time costs the device a bounce of its link.

use std::collections::HashMap;
use std::time::Duration;

use shm_layout::counters::{BINDING_VALUES, Binding};

use super::Topology;
use crate::counters::BindingBlock;

/// Looks in a row at which nothing but failures was seen: at two a second what a reset of a device takes is not enough.
const LOOKS: u32 = 6;
/// How long such a port is left alone, the first time.
const FIRST_REST: Duration = Duration::from_secs(4);
/// And at most, in the end.
const LONGEST_REST: Duration = Duration::from_secs(128);

/// What was seen of a socket's transmission.
#[derive(Debug, Default)]
pub(super) struct Mute {
    /// Kicks, those that failed, and frames sent, at the last look.
    seen: [u64; 3],
    /// Looks since it was seen to do anything but fail.
    looks: u32,
}

/// What one look comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// It sends.
    Sends,
    /// Nothing can be told, of a socket that had nothing to send for one.
    Unknown,
    /// It has failed for long and failed only.
    Mute,
}

impl Mute {
    /// Looks at one whose counts are by now these.
    fn look(&mut self, counts: &[u64; BINDING_VALUES]) -> Look {
        let now = [Binding::Kicks, Binding::KicksFailed, Binding::TxPackets].map(|value| counts[value as usize]);
        let [kicks, failed, sent] = [0, 1, 2].map(|at| now[at].wrapping_sub(self.seen[at]));
        self.seen = now;
        if sent > 0 || kicks > failed {
            self.looks = 0;
            return Look::Sends;
        }
        self.looks += u32::from(failed > 0);
        if self.looks >= LOOKS { Look::Mute } else { Look::Unknown }
    }

    /// One that is about to count on from these counts.
    pub(super) fn from(block: &BindingBlock) -> Mute {
        let mut mute = Mute::default();
        mute.look(&block.read());
        mute.looks = 0;
        mute
    }
}

/// How long ports were left alone that were mute, until they send. Whatever else becomes of one meanwhile, that it cannot be
/// taken into use, say, or is taken into use anew: it has not sent by that.
#[derive(Debug, Default)]
pub(super) struct Rests(HashMap<u32, Duration>);

impl Rests {
    /// A port was mute, perhaps again. How long it is to be left alone.
    fn mute(&mut self, ifindex: u32) -> Duration {
        let rest = self.0.entry(ifindex).or_default();
        *rest = (2 * *rest).clamp(FIRST_REST, LONGEST_REST);
        *rest
    }

    /// A port sends, or its device has gone.
    pub(super) fn end(&mut self, ifindex: u32) {
        self.0.remove(&ifindex);
    }

    /// Forgets the ports that are not wanted any more.
    pub(super) fn retain(&mut self, is_wanted: impl Fn(u32) -> bool) {
        self.0.retain(|&ifindex, _| is_wanted(ifindex));
    }
}

impl Topology {
    /// Lets go of the ports that send nothing. Whether there were any.
    pub(super) fn look_after_sending(&mut self) -> bool {
        let mut silent = Vec::new();
        for (&ifindex, port) in self.attached.iter_mut().filter(|(_, port)| !port.is_lost) {
            for bound in &mut port.bound {
                // Without a link nothing is to be sent, and drivers take a while to come up.
                if !port.link.up {
                    bound.mute = Mute::from(&bound.block);
                    continue;
                }
                match bound.mute.look(&bound.block.read()) {
                    Look::Sends => self.rests.end(ifindex),
                    Look::Unknown => {}
                    Look::Mute => {
                        let why = bound.socket.last_failure().map(|error| format!(": {error}")).unwrap_or_default();
                        silent.push((ifindex, format!("its device does not send on queue {}{why}", bound.queue)));
                        break;
                    }
                }
            }
        }
        for (ifindex, reason) in &silent {
            let rest = self.rests.mute(*ifindex);
            self.detach(&[*ifindex]);
            self.fail(*ifindex, reason.clone());
            if let Some(failed) = self.failed.get_mut(ifindex) {
                // Its link bounces when it is let go of: that is no reason to try it at once.
                (failed.rest, failed.whatever) = (rest, true);
            }
        }
        !silent.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The looks at a socket that has counted these kicks, failures and frames before each.
    fn looks(counted: impl IntoIterator<Item = [u64; 3]>) -> Vec<Look> {
        let mut mute = Mute::default();
        let mut counts = [0; BINDING_VALUES];
        let look = |more: [u64; 3]| {
            for (value, more) in [Binding::Kicks, Binding::KicksFailed, Binding::TxPackets].into_iter().zip(more) {
                counts[value as usize] += more;
            }
            mute.look(&counts)
        };
        counted.into_iter().map(look).collect()
    }

    #[test]
    fn a_socket_whose_kicks_all_fail_for_long_is_mute() {
        let seen = looks([[9, 9, 0]; LOOKS as usize]);
        assert_eq!(seen.last(), Some(&Look::Mute));
        assert!(seen[..seen.len() - 1].iter().all(|look| *look == Look::Unknown), "{seen:?}");
    }

    /// One that had nothing to send in between is no better for it.
    #[test]
    fn looks_without_a_kick_tell_nothing() {
        let often = [[1, 1, 0], [0, 0, 0], [0, 0, 0]].into_iter().cycle().take(3 * LOOKS as usize);
        assert_eq!(looks(often).iter().position(|look| *look == Look::Mute), Some(3 * (LOOKS as usize - 1)));
        assert!(looks([[0; 3]; 100]).iter().all(|look| *look == Look::Unknown));
    }

    /// Neither one that fails now and then, nor one whose frames are taken without a kick.
    #[test]
    fn a_socket_that_sends_anything_is_not_mute() {
        for now_and_then in [[9, 8, 0], [9, 9, 1], [0, 0, 5], [1, 0, 0]] {
            let often = (0..100).map(|at| if at % (LOOKS - 1) == 0 { now_and_then } else { [9, 9, 0] });
            assert!(looks(often).iter().all(|look| *look != Look::Mute), "{now_and_then:?}");
        }
    }

    #[test]
    fn it_is_tried_again_ever_more_slowly() {
        let mut rests = Rests::default();
        let seconds: Vec<u64> = (0..8).map(|_| rests.mute(11).as_secs()).collect();
        assert_eq!(seconds, [4, 8, 16, 32, 64, 128, 128, 128]);
        assert_eq!(rests.mute(12), FIRST_REST);
        rests.retain(|ifindex| ifindex == 11);
        assert_eq!([11, 12].map(|ifindex| rests.mute(ifindex)), [LONGEST_REST, FIRST_REST]);
        rests.end(11);
        assert_eq!(rests.mute(11), FIRST_REST, "it has sent meanwhile");
    }
}
