//! The ways that a wire's frames cross: what is shown of a wire is shown on each.

use spanwire_lab::netns::Namespace;
use spanwire_lab::topology::{Lab, LabSpec};

use crate::node::{Node, lab};

/// A way, as `--path` has it. xdp is native, also on veth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    Xdp,
    Tc,
    Shard,
}

impl Path {
    pub fn as_str(self) -> &'static str {
        match self {
            Path::Xdp => "xdp",
            Path::Tc => "tc",
            Path::Shard => "shard",
        }
    }

    /// Whether the kernel carries the frames, and goes on with it when the process ends.
    pub fn is_carried(self) -> bool {
        self != Path::Shard
    }

    /// XDP programs on the ports of a wire.
    pub fn xdp_programs(self) -> usize {
        if self == Path::Tc { 0 } else { 2 }
    }

    /// A lab whose far ends take what comes this way.
    pub fn lab(self, spec: LabSpec) -> Lab {
        let lab = lab(spec);
        for port in lab.info().wires.iter().flat_map(|wire| [&wire.a, &wire.b]) {
            self.ready(lab.ns(port.host), &port.host_name);
        }
        lab
    }

    /// Has a far end take what a driver redirects to it: a veth does so where its peer's receive path is NAPI's.
    pub fn ready(self, host: &Namespace, device: &str) {
        if self == Path::Xdp {
            host.exec("ethtool", &["-K", device, "gro", "on"]).expect("ethtool");
        }
    }

    /// A directory without a dataplane; one that is started there takes this way.
    pub fn node(self) -> Node {
        let mut node = Node::idle();
        node.path = Some(self);
        node
    }

    /// A dataplane in the lab's middle namespace.
    pub fn start(self, lab: &Lab, args: &[&str]) -> Node {
        let mut node = self.node();
        node.launch(lab, args);
        node
    }
}

/// Whether the long campaigns are to be run.
pub fn is_long() -> bool {
    std::env::var_os("SPANWIRE_LONG").is_some()
}

/// Tests `NAME::xdp`, `NAME::tc` and `NAME::shard` of functions that show something on the path they are given; with
/// `long xdp:` the first only where the long campaigns run, as it shows what the other two do.
macro_rules! on_each_path {
    (long xdp: $($shown:ident),+ $(,)?) => {
        $($crate::paths::on_each_path!(@ $shown, $crate::paths::is_long());)+
    };
    (@ $shown:ident, $xdp:expr) => {
        mod $shown {
            use $crate::paths::Path;

            #[test]
            fn xdp() {
                if $xdp {
                    super::$shown(Path::Xdp);
                }
            }

            #[test]
            fn tc() {
                super::$shown(Path::Tc);
            }

            #[test]
            fn shard() {
                super::$shown(Path::Shard);
            }
        }
    };
    ($($shown:ident),+ $(,)?) => {
        $($crate::paths::on_each_path!(@ $shown, true);)+
    };
}
pub(crate) use on_each_path;
