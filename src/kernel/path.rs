//! The ways a wire's frames can cross, and which of them it takes.
//!
//! ```text
//! xdp    driver ── selector ══> the other driver      never an skb
//! tc     driver ── stack ── selector ══> stack ── the other driver      as the kernel has them: super-frames, tags, checksums
//! shard  driver ── AF_XDP ── shard ── AF_XDP ── the other driver      through this process
//! ```

use std::fmt;
use std::str::FromStr;

use super::features::{KernelFacts, PortFacts, XdpFeatures};

/// A way that a wire's frames cross.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    /// In the kernel, in the drivers.
    Xdp,
    /// In the kernel, in the stack.
    Tc,
    /// Through a shard.
    Shard,
}

impl Path {
    /// `xdp`, `tc` or `shard`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Path::Xdp => "xdp",
            Path::Tc => "tc",
            Path::Shard => "shard",
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which way is asked for: `--path`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PathChoice {
    /// The best there is: [`choose`].
    #[default]
    Auto,
    /// This one, or an error.
    Only(Path),
}

impl PathChoice {
    /// `auto`, `xdp`, `tc` or `shard`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            PathChoice::Auto => "auto",
            PathChoice::Only(path) => path.as_str(),
        }
    }
}

impl fmt::Display for PathChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is none of the paths.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown path {0:?}: use auto, xdp, tc or shard")]
pub struct UnknownPath(String);

impl FromStr for PathChoice {
    type Err = UnknownPath;

    fn from_str(text: &str) -> Result<PathChoice, UnknownPath> {
        let only = [Path::Xdp, Path::Tc, Path::Shard].map(PathChoice::Only);
        only.into_iter()
            .chain([PathChoice::Auto])
            .find(|choice| choice.as_str() == text)
            .ok_or_else(|| UnknownPath(text.to_owned()))
    }
}

/// Drivers whose frames come from a stack, with several segments in one and checksums yet to be filled in. In the driver
/// such frames are broken up or lost, and tc keeps them.
const OF_A_STACK: [&str; 2] = [VETH, "tun"];
const VETH: &str = "veth";

/// Whether a device's frames come from a stack: with super-frames, unfinished checksums and tags beside them.
pub fn is_of_a_stack(driver: &str) -> bool {
    OF_A_STACK.contains(&driver)
}

/// Drivers that are a target of redirects once a program is attached to them, and say so only then.
const WITH_A_PROGRAM: [&str; 9] = ["ena", "fec", "i40e", "ice", "igb", "igc", "ixgbe", "virtio_net", "vmxnet3"];

/// Largest payload that a frame of one buffer has with every driver.
const ONE_BUFFER: u32 = 1500;

const NO_FEATURES: &str = "the kernel does not say what drivers can with XDP (Linux 6.3 does)";

/// The path of a wire between two ports, and why, in a sentence for the operator. With programs attached in both drivers
/// it is worth asking again: some tell only then what they can.
///
/// [`PathChoice::Auto`] takes xdp where both drivers can and are no stack's, and nobody else has XDP there; else tc, and
/// [`Path::Shard`] only where the kernel takes no selector: the reason is a warning then.
///
/// # Errors
/// What was asked for cannot be had, and what is missing.
pub fn choose(
    choice: PathChoice,
    a: &PortFacts,
    b: &PortFacts,
    kernel: &KernelFacts,
) -> Result<(Path, String), String> {
    let PathChoice::Only(path) = choice else { return Ok(best(a, b, kernel)) };
    let refused = |why: &str| Err(format!("the path {path} cannot be had: {why}"));
    match (path, &kernel.lacks) {
        (Path::Xdp | Path::Tc, Some(why)) => refused(why),
        (Path::Shard | Path::Tc, _) => Ok((path, "as asked for".to_owned())),
        (Path::Xdp, None) => match obstacle(a, b) {
            Some(Obstacle { is_certain: true, why }) => refused(&format!("{why}; auto and tc take another way")),
            _ => Ok((path, asked_for_xdp(a, b))),
        },
    }
}

fn best(a: &PortFacts, b: &PortFacts, kernel: &KernelFacts) -> (Path, String) {
    if let Some(why) = &kernel.lacks {
        return (Path::Shard, format!("frames pass through this process, and stop with it: {why}"));
    }
    if let Some(port) = [a, b].into_iter().find(|port| is_of_a_stack(&port.driver)) {
        return (
            Path::Tc,
            format!("{} is a {} device, whose frames only tc carries as they are", port.name, port.driver),
        );
    }
    if let Some(port) = [a, b].into_iter().find(|port| port.is_taken) {
        let name = &port.name;
        return (Path::Tc, format!("{name} has the XDP program of another, and what that lets pass is carried at tc"));
    }
    match obstacle(a, b) {
        Some(obstacle) => (Path::Tc, obstacle.why),
        None => (Path::Xdp, "the drivers of both ports redirect frames".to_owned()),
    }
}

/// Why frames would not cross in the drivers.
struct Obstacle {
    /// Whether a program that is attached would change nothing.
    is_certain: bool,
    why: String,
}

/// What stops frames one way or the other, the certain first.
fn obstacle(a: &PortFacts, b: &PortFacts) -> Option<Obstacle> {
    [between(b, a), between(a, b)].into_iter().flatten().max_by_key(|obstacle| obstacle.is_certain)
}

/// What stops frames that `near` receives from being sent by `far`.
fn between(near: &PortFacts, far: &PortFacts) -> Option<Obstacle> {
    let obstacle = |is_certain, why| Some(Obstacle { is_certain, why });
    let (Some(from), Some(to)) = (near.xdp, far.xdp) else { return obstacle(false, NO_FEATURES.to_owned()) };
    if !from.has(XdpFeatures::BASIC) {
        return obstacle(true, format!("{} has no XDP", driver_of(near)));
    }
    if !from.has(XdpFeatures::REDIRECT) {
        return obstacle(true, format!("{} cannot redirect in XDP", driver_of(near)));
    }
    // A program can ask some drivers for a tag that was taken off (bpf_xdp_metadata_rx_vlan_tag). All that answer, ice, mlx5 and veth,
    // keep their tags in frames when they are told to, as is done. Those that do not are the ones that do not answer.
    if let Some(why) = &near.no_tags {
        return obstacle(true, format!("{why}, and frames would cross in the driver without their VLAN tags"));
    }
    if !to.has(XdpFeatures::NDO_XMIT) {
        if !far.has_program && WITH_A_PROGRAM.contains(&far.driver.as_str()) {
            return None;
        }
        // On veth it depends on the far end, which may change at any time.
        let is_certain = far.has_program && far.driver != VETH;
        return obstacle(is_certain, format!("{} takes no redirected frames", driver_of(far)));
    }
    if near.mtu > ONE_BUFFER && from.has(XdpFeatures::RX_SG) && !to.has(XdpFeatures::NDO_XMIT_SG) {
        let (mtu, name, driver) = (near.mtu, &near.name, driver_of(far));
        let frames = format!("with an MTU of {mtu} a frame may have several buffers on {name}");
        return obstacle(true, format!("{frames}, and {driver} takes no such frames"));
    }
    None
}

/// The reason of a choice that is the operator's, with what it takes on veth.
fn asked_for_xdp(a: &PortFacts, b: &PortFacts) -> String {
    let veths: Vec<&PortFacts> = [a, b].into_iter().filter(|port| port.driver == VETH).collect();
    let lost = veths.iter().find(|port| port.xdp.is_some_and(|xdp| !xdp.has(XdpFeatures::NDO_XMIT)));
    match (lost, veths.first()) {
        (Some(port), _) => format!(
            "as asked for; what goes out of {} is lost until its far end has GRO on (ethtool -K) or an XDP program",
            port.name
        ),
        (None, Some(port)) => {
            format!("as asked for; the far end of {} has to keep GRO on or an XDP program attached", port.name)
        }
        (None, None) => "as asked for".to_owned(),
    }
}

/// `the driver of eth0 (igb)`
fn driver_of(port: &PortFacts) -> String {
    match port.driver.as_str() {
        "" => format!("the driver of {}", port.name),
        driver => format!("the driver of {} ({driver})", port.name),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const REDIRECTS: XdpFeatures = XdpFeatures::BASIC.and(XdpFeatures::REDIRECT);
    const ALL: XdpFeatures = REDIRECTS.and(XdpFeatures::NDO_XMIT);
    const AUTO: PathChoice = PathChoice::Auto;
    const XDP: PathChoice = PathChoice::Only(Path::Xdp);
    const TC: PathChoice = PathChoice::Only(Path::Tc);
    const SHARD: PathChoice = PathChoice::Only(Path::Shard);

    fn port(driver: &str, xdp: XdpFeatures) -> PortFacts {
        let (name, driver) = ("eth0".to_owned(), driver.to_owned());
        PortFacts { name, driver, mtu: 1500, xdp: Some(xdp), has_program: false, is_taken: false, no_tags: None }
    }

    fn mlx() -> PortFacts {
        PortFacts { name: "eth1".to_owned(), ..port("mlx5_core", ALL) }
    }

    /// Against a port that can everything, both ways round: the path and a part of the reason, or of the error.
    fn with(choice: PathChoice, port: &PortFacts, lacks: Option<&str>) -> (Option<Path>, String) {
        let kernel = KernelFacts { lacks: lacks.map(str::to_owned), tcx: true, ..KernelFacts::default() };
        let chosen = choose(choice, port, &mlx(), &kernel);
        assert_eq!(chosen.is_ok(), choose(choice, &mlx(), port, &kernel).is_ok());
        assert_eq!(chosen.as_ref().ok(), choose(choice, &mlx(), port, &kernel).as_ref().ok());
        chosen.map_or_else(|why| (None, why), |(path, why)| (Some(path), why))
    }

    #[test]
    fn paths_read_as_they_print() {
        for choice in [AUTO, XDP, TC, SHARD] {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        for bad in ["", "XDP", "generic", "auto "] {
            let error = bad.parse::<PathChoice>().unwrap_err().to_string();
            assert!(error.contains(&format!("{bad:?}")) && error.contains("auto, xdp, tc or shard"), "{error}");
        }
    }

    #[test]
    fn the_path_follows_from_what_drivers_can() {
        let sg = ALL.and(XdpFeatures::RX_SG);
        let attached = |port: PortFacts| PortFacts { has_program: true, ..port };
        let jumbo = |port: PortFacts| PortFacts { mtu: 9000, ..port };
        let unknown = PortFacts { xdp: None, ..port("igb", ALL) };
        let taken = |port: PortFacts| PortFacts { is_taken: true, ..attached(port) };
        let tagless = |port: PortFacts| PortFacts { no_tags: Some("rxvlan cannot be turned off".to_owned()), ..port };
        let cases: [(PortFacts, PathChoice, Option<Path>, &str); 32] = [
            (port("mlx5_core", ALL), AUTO, Some(Path::Xdp), "the drivers of both ports redirect"),
            (port("mlx5_core", ALL), TC, Some(Path::Tc), "as asked for"),
            (port("mlx5_core", ALL), SHARD, Some(Path::Shard), "as asked for"),
            (port("e1000e", XdpFeatures::default()), AUTO, Some(Path::Tc), "driver of eth0 (e1000e) has no XDP"),
            (port("e1000e", XdpFeatures::default()), XDP, None, "path xdp cannot be had: the driver of eth0 (e1000e)"),
            (port("", XdpFeatures::default()), AUTO, Some(Path::Tc), "the driver of eth0 has no XDP"),
            (port("nicvf", XdpFeatures::BASIC), AUTO, Some(Path::Tc), "cannot redirect in XDP"),
            (port("nicvf", XdpFeatures::BASIC), XDP, None, "cannot redirect in XDP; auto and tc take another way"),
            (
                tagless(port("hv_netvsc", ALL)),
                AUTO,
                Some(Path::Tc),
                "rxvlan cannot be turned off, and frames would cross",
            ),
            (tagless(port("hv_netvsc", ALL)), XDP, None, "without their VLAN tags; auto and tc take another way"),
            (tagless(port("igb", REDIRECTS)), AUTO, Some(Path::Tc), "without their VLAN tags"),
            (tagless(port("hv_netvsc", ALL)), TC, Some(Path::Tc), "as asked for"),
            // It says more once a program is attached, and is believed then.
            (port("igb", REDIRECTS), AUTO, Some(Path::Xdp), "redirect frames"),
            (port("igb", REDIRECTS), XDP, Some(Path::Xdp), "as asked for"),
            (attached(port("igb", ALL)), AUTO, Some(Path::Xdp), "redirect frames"),
            (attached(port("igb", REDIRECTS)), AUTO, Some(Path::Tc), "(igb) takes no redirected frames"),
            (attached(port("igb", REDIRECTS)), XDP, None, "eth0 (igb) takes no redirected frames"),
            // One that nobody knows may say more then, too.
            (port("mlx4_en", REDIRECTS), AUTO, Some(Path::Tc), "(mlx4_en) takes no redirected frames"),
            (port("mlx4_en", REDIRECTS), XDP, Some(Path::Xdp), "as asked for"),
            (attached(port("mlx4_en", REDIRECTS)), XDP, None, "takes no redirected frames"),
            // A program of others says for the driver what that can, and has the place.
            (taken(port("mlx5_core", ALL)), AUTO, Some(Path::Tc), "eth0 has the XDP program of another"),
            (taken(port("mlx4_en", REDIRECTS)), AUTO, Some(Path::Tc), "eth0 has the XDP program of another"),
            (taken(port("veth", ALL)), AUTO, Some(Path::Tc), "eth0 is a veth device"),
            (taken(port("mlx5_core", ALL)), XDP, Some(Path::Xdp), "as asked for"),
            (unknown.clone(), AUTO, Some(Path::Tc), "Linux 6.3"),
            (unknown, XDP, Some(Path::Xdp), "as asked for"),
            (port("veth", sg), AUTO, Some(Path::Tc), "eth0 is a veth device"),
            (port("tun", ALL), AUTO, Some(Path::Tc), "eth0 is a tun device"),
            (
                attached(port("veth", REDIRECTS)),
                XDP,
                Some(Path::Xdp),
                "out of eth0 is lost until its far end has GRO on",
            ),
            (port("veth", ALL), XDP, Some(Path::Xdp), "the far end of eth0 has to keep GRO on"),
            (jumbo(port("i40e", sg)), AUTO, Some(Path::Tc), "MTU of 9000 a frame may have several buffers on eth0"),
            (jumbo(port("i40e", sg)), XDP, None, "eth1 (mlx5_core) takes no such frames"),
        ];
        for (port, choice, path, why) in cases {
            let chosen = with(choice, &port, None);
            assert!(chosen.0 == path && chosen.1.contains(why), "{choice} on {port:?}: {chosen:?}, not {why}");
        }
        // One buffer a frame, or a far end that takes several.
        assert_eq!(with(AUTO, &port("i40e", sg), None).0, Some(Path::Xdp));
        assert_eq!(with(AUTO, &jumbo(port("i40e", ALL)), None).0, Some(Path::Xdp));
        let takes = PortFacts { xdp: Some(ALL.and(XdpFeatures::NDO_XMIT_SG)), ..mlx() };
        let kernel = KernelFacts::default();
        assert_eq!(choose(AUTO, &jumbo(port("i40e", sg)), &takes, &kernel).unwrap().0, Path::Xdp);
    }

    #[test]
    fn without_selectors_only_the_shard_is_left() {
        let why = "BPF programs at tc are not permitted: needs CAP_BPF";
        for driver in ["mlx5_core", "veth"] {
            let (path, reason) = with(AUTO, &port(driver, ALL), Some(why));
            assert!(path == Some(Path::Shard) && reason.ends_with(why) && reason.contains("stop with it"), "{reason}");
            assert_eq!(with(SHARD, &port(driver, ALL), Some(why)), (Some(Path::Shard), "as asked for".to_owned()));
            for choice in [XDP, TC] {
                let (path, error) = with(choice, &port(driver, ALL), Some(why));
                assert_eq!((path, error), (None, format!("the path {choice} cannot be had: {why}")));
            }
        }
    }
}
