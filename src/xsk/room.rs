//! How large an MTU a port may have: what a driver receives must fit what it can fill of a frame.
//!
//! In copy mode the kernel copies packets into all of a frame behind its headroom. In zero-copy the device writes them there
//! itself, into as much of it as its registers can say; where a packet is longer, some drivers pass its pieces on, each as a
//! packet of its own, and nothing counts that. No call tells what it is that they fill, so it is known here by driver, from
//! their sources (Linux 6.1 to 7.3, `drivers/net`).

use super::abi::{ETH_HLEN, VLAN_HLEN, max_rx_len};
use super::socket::BindMode;

/// Bytes of a frame beside the payload that an MTU counts: two tags.
const BESIDE: u32 = ETH_HLEN + 2 * VLAN_HLEN;
/// The larger size of frames that there is.
const LARGE: u32 = 4096;

/// How a driver receives in zero-copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    /// Bytes that it counts its buffers in: what is left of a frame stays empty.
    unit: u32,
    /// The longest packets, in bytes, that it receives however small the MTU is.
    comes: u32,
    /// The largest MTU for which they are the longest: above it there is no bound.
    bound: u32,
}

/// Every byte, and the device drops what is longer than that or than the MTU.
const WHOLE: Rule = Rule { unit: 1, comes: 0, bound: u32::MAX };
/// Of a driver that is not known: the coarsest there is, and a full packet with two tags whatever the MTU. Too little only
/// asks for larger frames or for copy mode, too much damages packets without a word.
const UNKNOWN: Rule = Rule { unit: 1024, comes: 1500 + BESIDE, bound: u32::MAX };
/// `igb_setup_srrctl`, `igc_configure_rx_ring`: SRRCTL.BSIZEPKT counts in KiB, and `igb_clean_rx_irq_zc` takes each buffer for
/// a packet. `igb_set_rx_mode`, `igc_set_rx_mode`: RLPML is IGB_MAX_FRAME_BUILD_SKB, 1536, for as long as the MTU with its 26
/// bytes beside it is not above that; then it is that of jumbo frames, 9728.
const KIB: Rule = Rule { unit: 1024, comes: 1536, bound: 1510 };

const RULES: [(&str, Rule); 7] = [
    // `i40e_configure_rx_ring`, `ice_setup_rx_ctx`: units of 128 bytes, which the room in frames is a multiple of; rxmax is what
    // one buffer holds.
    ("i40e", WHOLE),
    ("ice", WHOLE),
    // `mlx5e_validate_xsk_param` refuses to bind where a packet of the MTU does not fit.
    ("mlx5_core", WHOLE),
    // `virtnet_add_recvbuf_xsk`: buffers are of any length; a packet that takes several is dropped.
    ("virtio_net", WHOLE),
    ("igb", KIB),
    ("igc", KIB),
    // `ixgbe_configure_srrctl`: in KiB on the 82599, exact with RXDCTL.RLPML on all later ones; the name is the same.
    ("ixgbe", UNKNOWN),
];

fn rule(driver: &str, mode: BindMode) -> Rule {
    match mode {
        BindMode::Copy => WHOLE,
        BindMode::ZeroCopy => RULES.iter().find(|(name, _)| *name == driver).map_or(UNKNOWN, |&(_, rule)| rule),
    }
}

/// Whether it is known how this driver receives in zero-copy, and with that, that it has that.
pub fn is_known(driver: &str) -> bool {
    RULES.iter().any(|(name, _)| *name == driver)
}

/// Bytes of a frame that a packet can fill.
fn room(rule: Rule, frame_size: u32) -> u32 {
    max_rx_len(frame_size) / rule.unit * rule.unit
}

/// The largest MTU whose packets fit; `None` where those of no MTU do.
fn largest(rule: Rule, frame_size: u32) -> Option<u32> {
    let room = room(rule, frame_size);
    (room >= rule.comes.max(BESIDE)).then(|| (room - BESIDE).min(rule.bound))
}

/// Why a port with this MTU cannot receive into frames of `frame_size` bytes, bound like this: its largest packet carries two
/// tags.
pub fn problem(mtu: u32, frame_size: u32, driver: &str, mode: BindMode) -> Option<String> {
    let (rule, copy) = (rule(driver, mode), WHOLE);
    let fits = |rule, frame_size| largest(rule, frame_size).is_some_and(|most| mtu <= most);
    if fits(rule, frame_size) {
        return None;
    }
    if mode == BindMode::Copy {
        let most = |frame_size| largest(copy, frame_size).unwrap_or(0);
        let advice = match frame_size < LARGE {
            true if fits(copy, LARGE) => format!("; --frame-size {LARGE} takes it"),
            true => format!("; --frame-size {LARGE} takes at most {}", most(LARGE)),
            false => String::new(),
        };
        let most = most(frame_size);
        return Some(format!("MTU {mtu} does not fit frames of {frame_size} bytes (at most {most}){advice}"));
    }
    let fills = match is_known(driver) {
        true => format!("{driver} fills {} of them", room(rule, frame_size)),
        false => format!("{driver}, a driver not known here, is taken to fill {} of them", room(rule, frame_size)),
    };
    let takes = match largest(rule, frame_size) {
        None => format!("and receives packets of {} at any MTU", rule.comes),
        Some(most) if most == rule.bound => format!("and above an MTU of {most} receives packets of any length"),
        Some(most) => format!("at most an MTU of {most}"),
    };
    let is_small = frame_size < LARGE;
    let advice = match (is_small && fits(rule, LARGE), fits(copy, frame_size)) {
        (true, true) => "; --frame-size 4096 or --bind copy takes it",
        (true, false) => "; --frame-size 4096 takes it",
        (false, true) => "; --bind copy takes it",
        (false, false) if is_small && fits(copy, LARGE) => "; --bind copy with --frame-size 4096 takes it",
        (false, false) => "",
    };
    Some(format!("MTU {mtu} does not fit frames of {frame_size} bytes in zero-copy: {fills}, {takes}{advice}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ZERO_COPY: BindMode = BindMode::ZeroCopy;

    #[test]
    fn in_copy_mode_an_mtu_fits_with_two_tags_and_headroom() {
        for driver in ["igb", "veth", ""] {
            let problem = |mtu, frame_size| problem(mtu, frame_size, driver, BindMode::Copy);
            assert_eq!(problem(1500, 2048), None);
            assert_eq!(problem(1770, 2048), None);
            let text = problem(1771, 2048).unwrap();
            assert!(text.contains("1771") && text.contains("1770") && text.contains("4096 takes it"), "{text}");
            assert_eq!(problem(3818, 4096), None);
            // No advice to do what is done, or what does not help.
            let text = problem(9000, 4096).unwrap();
            assert!(text.contains("3818") && !text.contains("--frame-size"), "{text}");
            assert!(problem(9000, 2048).unwrap().contains("--frame-size 4096 takes at most 3818"));
        }
    }

    /// In zero-copy the largest MTU is what README says, and 0 where there is none.
    #[test]
    fn in_zero_copy_an_mtu_fits_what_the_driver_fills() {
        for (driver, of_2048, of_4096) in [
            ("i40e", 1770, 3818),
            ("ice", 1770, 3818),
            ("mlx5_core", 1770, 3818),
            ("virtio_net", 1770, 3818),
            ("igb", 0, 1510),
            ("igc", 0, 1510),
            ("ixgbe", 0, 3050),
            ("a driver to come", 0, 3050),
            ("", 0, 3050),
        ] {
            for (frame_size, most) in [(2048, of_2048), (4096, of_4096)] {
                let fits = |mtu: &u32| problem(*mtu, frame_size, driver, ZERO_COPY).is_none();
                assert_eq!((68..=9000).filter(fits).max().unwrap_or(0), most, "{driver}, {frame_size}");
                assert!((68..=most).all(|mtu| fits(&mtu)), "{driver}, {frame_size}");
            }
        }
    }

    /// Whatever comes at an MTU that is taken fits the whole units that the driver fills.
    #[test]
    fn no_packet_of_an_mtu_that_fits_is_longer_than_the_room() {
        for (driver, rule) in RULES.into_iter().chain([("another", UNKNOWN)]) {
            for frame_size in [2048, 4096] {
                let (room, most) = (room(rule, frame_size), largest(rule, frame_size));
                assert!(room <= max_rx_len(frame_size) && room.is_multiple_of(rule.unit), "{driver}");
                assert!(most.is_none_or(|most| (most + BESIDE).max(rule.comes) <= room), "{driver}");
            }
        }
    }

    #[test]
    fn what_is_said_names_the_mtu_the_room_and_what_would_fit() {
        let text = |mtu, frame_size, driver| problem(mtu, frame_size, driver, ZERO_COPY).unwrap();
        assert_eq!(
            text(1500, 2048, "igb"),
            "MTU 1500 does not fit frames of 2048 bytes in zero-copy: igb fills 1024 of them, and receives packets of 1536 at \
             any MTU; --frame-size 4096 or --bind copy takes it"
        );
        assert_eq!(
            text(3000, 4096, "igc"),
            "MTU 3000 does not fit frames of 4096 bytes in zero-copy: igc fills 3072 of them, and above an MTU of 1510 \
             receives packets of any length; --bind copy takes it"
        );
        assert_eq!(
            text(3000, 2048, "ice"),
            "MTU 3000 does not fit frames of 2048 bytes in zero-copy: ice fills 1792 of them, at most an MTU of 1770; \
             --frame-size 4096 takes it"
        );
        assert!(text(3500, 2048, "igb").ends_with("; --bind copy with --frame-size 4096 takes it"));
        assert!(text(1500, 2048, "gve").contains(": gve, a driver not known here, is taken to fill 1024 of them, "));
        // Nothing takes it: no advice.
        assert!(text(9000, 4096, "ice").ends_with("at most an MTU of 3818"));
    }
}
