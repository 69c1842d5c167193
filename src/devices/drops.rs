//! What devices were given to send and dropped, by the kernel's count: their own, and their queueing disciplines'.

use std::collections::BTreeMap;
use std::io;

use super::attribute::{attribute, text};
use super::netlink::{self, LINKS, broken, number};
use crate::xsk::netdev::Netdev;

// linux/if_link.h
const IFLA_QDISC: u16 = 6;
const IFLA_STATS64: u16 = 23;
/// Where `tx_packets` and `tx_dropped` are in `struct rtnl_link_stats64`.
const TX_PACKETS: usize = 8;
const TX_DROPPED: usize = 7 * 8;

// linux/rtnetlink.h, linux/gen_stats.h, linux/pkt_sched.h
const TCA_KIND: u16 = 1;
const TCA_STATS2: u16 = 7;
const TCA_STATS_QUEUE: u16 = 3;
/// Where `drops` is in `struct gnet_stats_queue`.
const QUEUE_DROPS: usize = 2 * 4;
/// The discipline that a device's frames come to first. What it has below it, it counts too.
const TC_H_ROOT: u32 = u32::MAX;

/// Disciplines that keep no frame.
const WITHOUT_QUEUE: [&str; 3] = ["", "noqueue", "noop"];

/// The driver whose devices have dropped what they were given by a redirect of XDP and did not take, for whatever reason.
const WITH_REDIRECTED: &str = "veth";

/// What a device has dropped so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// What it has not: `tx_packets` of its statistics.
    sent: u64,
    /// `tx_dropped` of its statistics.
    device: u64,
    queue: Option<Queue>,
}

/// What a queueing discipline has dropped since it was put there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Queue {
    handle: u32,
    kind: String,
    /// Wraps.
    drops: u32,
}

impl Drops {
    /// By a device without a queue.
    #[cfg(test)]
    pub(crate) fn of_device(sent: u64, device: u64) -> Drops {
        Drops { sent, device, queue: None }
    }

    /// Frames that were sent since an earlier look at the same device.
    #[must_use]
    pub fn sent_since(&self, earlier: &Drops) -> u64 {
        self.sent.saturating_sub(earlier.sent)
    }

    /// What was dropped since an earlier look at the same device: by it, and by its discipline. Nothing where it began to count
    /// anew.
    #[must_use]
    pub fn since(&self, earlier: &Drops) -> [u64; 2] {
        let queue = match (&self.queue, &earlier.queue) {
            (None, _) => 0,
            (Some(now), Some(then)) if (now.handle, &now.kind) == (then.handle, &then.kind) => {
                let more = now.drops.wrapping_sub(then.drops);
                // Another one of the same name, rather than half of what can be counted between two looks.
                if more > u32::MAX / 2 { now.drops } else { more }
            }
            (Some(now), _) => now.drops,
        };
        [self.device.saturating_sub(earlier.device), u64::from(queue)]
    }
}

/// Whether a device counts what it was given by a redirect of XDP and did not take among what it has dropped.
#[must_use]
pub fn has_redirected(ifindex: u32) -> bool {
    // One that cannot be read just now need not.
    Netdev::open(ifindex).is_ok_and(|device| device.driver() == WITH_REDIRECTED)
}

/// What these devices of the calling thread's network namespace have dropped; those that are not there are left out.
///
/// # Errors
/// The kernel did not answer, or not as it should.
pub fn of(devices: impl IntoIterator<Item = u32>) -> io::Result<BTreeMap<u32, Drops>> {
    let (mut all, mut queued) = (BTreeMap::new(), false);
    for ifindex in devices {
        match netlink::one(netlink::STATISTICS, ifindex) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
            answer => {
                let (drops, has_queue) = of_link(&answer?)?;
                queued |= has_queue;
                all.insert(ifindex, drops);
            }
        }
    }
    if queued {
        for message in netlink::dump(netlink::DISCIPLINES)? {
            if let Some((ifindex, queue)) = of_discipline(&message)
                && let Some(drops) = all.get_mut(&ifindex)
            {
                drops.queue = Some(queue);
            }
        }
    }
    Ok(all)
}

/// What a message of RTM_NEWLINK says, and whether frames wait for the device anywhere.
fn of_link(payload: &[u8]) -> io::Result<(Drops, bool)> {
    let rest = payload.get(LINKS.fixed()..).ok_or_else(|| broken("a device cut short"))?;
    let stats = attribute(rest, IFLA_STATS64).unwrap_or_default();
    let count = |at| number(stats, at).map(u64::from_ne_bytes).ok_or_else(|| broken("no statistics of a device"));
    let discipline = attribute(rest, IFLA_QDISC).and_then(text).unwrap_or_default();
    let drops = Drops { sent: count(TX_PACKETS)?, device: count(TX_DROPPED)?, queue: None };
    Ok((drops, !WITHOUT_QUEUE.contains(&discipline.as_str())))
}

/// What a message of RTM_NEWQDISC says, where it is of a device's first discipline.
fn of_discipline(payload: &[u8]) -> Option<(u32, Queue)> {
    let word = |at| number(payload, at).map(u32::from_ne_bytes);
    // struct tcmsg: family and padding, ifindex, handle, parent, info
    let (ifindex, handle, parent) = (word(4)?, word(8)?, word(12)?);
    let rest = payload.get(netlink::DISCIPLINES.fixed()..)?;
    let stats = attribute(rest, TCA_STATS2).and_then(|stats| attribute(stats, TCA_STATS_QUEUE))?;
    let drops = number(stats, QUEUE_DROPS).map(u32::from_ne_bytes)?;
    let kind = attribute(rest, TCA_KIND).and_then(text).unwrap_or_default();
    (parent == TC_H_ROOT).then_some((ifindex, Queue { handle, kind, drops }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::attribute::{put, put_text};
    use super::*;

    fn link(discipline: &str, dropped: u64) -> Vec<u8> {
        let mut bytes = vec![0; LINKS.fixed()];
        put_text(&mut bytes, IFLA_QDISC, discipline);
        let mut stats = [1u64; 24];
        (stats[1], stats[7]) = (5, dropped);
        put(&mut bytes, IFLA_STATS64, &stats.map(u64::to_ne_bytes).concat());
        bytes
    }

    fn discipline(parent: u32, kind: &str, drops: u32) -> Vec<u8> {
        let mut bytes = [0, 3, 0x10000, parent, 0].map(u32::to_ne_bytes).concat();
        put_text(&mut bytes, TCA_KIND, kind);
        let mut stats = Vec::new();
        put(&mut stats, 1, &[7; 16]);
        put(&mut stats, TCA_STATS_QUEUE, &[1, 2, drops, 4, 5].map(u32::to_ne_bytes).concat());
        put(&mut bytes, TCA_STATS2, &stats);
        bytes
    }

    #[test]
    fn what_a_message_says() {
        assert_eq!(of_link(&link("noqueue", 9)).unwrap(), (Drops::of_device(5, 9), false));
        assert_eq!(of_link(&link("mq", u64::MAX)).unwrap(), (Drops::of_device(5, u64::MAX), true));
        assert!(of_link(&[0; 16]).is_err());
        let queue = |drops| Queue { handle: 0x10000, kind: "pfifo".to_owned(), drops };
        assert_eq!(of_discipline(&discipline(TC_H_ROOT, "pfifo", 5)), Some((3, queue(5))));
        assert_eq!(of_discipline(&discipline(0x10000, "pfifo", 5)), None, "below another");
        for whole in [link("mq", 1), discipline(TC_H_ROOT, "pfifo", 1)] {
            (0..whole.len()).for_each(|len| drop((of_link(&whole[..len]), of_discipline(&whole[..len]))));
        }
    }

    #[test]
    fn what_was_dropped_between_two_looks() {
        let queue = |handle, drops| Some(Queue { handle, kind: "pfifo".to_owned(), drops });
        let drops = |device, queue| Drops { sent: 0, device, queue };
        for (then, now, want) in [
            (drops(5, None), drops(7, None), [2, 0]),
            (drops(5, queue(1, 3)), drops(5, queue(1, 10)), [0, 7]),
            // Over the end of what is counted with.
            (drops(0, queue(1, u32::MAX)), drops(0, queue(1, 4)), [0, 5]),
            // Another discipline, by another name or the same; none any more.
            (drops(0, queue(1, 100)), drops(0, queue(2, 4)), [0, 4]),
            (drops(0, queue(1, 100)), drops(0, queue(1, 4)), [0, 4]),
            (drops(0, None), drops(0, queue(1, 4)), [0, 4]),
            (drops(0, queue(1, 4)), drops(0, None), [0, 0]),
            // Another device.
            (drops(50, None), drops(7, None), [0, 0]),
        ] {
            assert_eq!(now.since(&then), want, "{then:?} {now:?}");
        }
    }

    #[test]
    fn every_device_has_a_count() {
        let all = of([1, i32::MAX.cast_unsigned()]).unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), [&1], "that of the loopback, and of no device that is not there");
    }
}
