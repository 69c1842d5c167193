//! What the kernel, or this process for want of rights, may be without, and what is so then.

use shm_layout::MULTI_BUFFER;

use super::carrier::Carrier;
use crate::kernel::features::{self, KernelFacts};
use crate::kernel::loss::Losses;

/// Something that may be missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Its name, for people and programs.
    pub name: &'static str,
    /// Why it is not there; `None` where it is.
    pub lacks: Option<String>,
    /// What is so without it.
    pub without: &'static str,
}

/// Asks for all of it: for what selectors take by `facts`, for the rest here. Takes some milliseconds.
pub(super) fn ask(facts: &KernelFacts, carrier: Option<&Carrier>) -> Vec<Feature> {
    let feature = |name, lacks, without| Feature { name, lacks, without };
    let unless = |there: bool, why: &str| (!there).then(|| why.to_owned());
    let mut all = vec![
        feature(
            "kernel-path",
            facts.lacks.clone(),
            "frames cross through shards, and none while spanwired does not run",
        ),
        feature(
            "tcx",
            unless(facts.tcx, "the kernel has none (Linux 6.6)"),
            "filters of clsact hold the selectors at tc",
        ),
        feature(
            "xdp-features",
            match features::tells_xdp_features() {
                Ok(tells) => unless(tells, "the kernel does not say what drivers can with XDP (Linux 6.3)"),
                Err(error) => Some(format!("the kernel cannot be asked what drivers can with XDP: {error}")),
            },
            "--path auto leaves wires to tc",
        ),
        feature(
            MULTI_BUFFER,
            unless(facts.multi_buffer, "AF_XDP of the kernel sends no packet from several frames (Linux 6.6)"),
            "a clone that is longer than a mirror frame is dropped (mirror_drops_oversize)",
        ),
        feature(
            "xdp-losses",
            Losses::try_load().err().map(|error| error.to_string()),
            "what the kernel loses of frames that cross by xdp is not known",
        ),
    ];
    // Asked for where it is needed, as the folder is made then.
    all.extend(carrier.map(|carrier| {
        let lacks = carrier.pins_lack().map(str::to_owned);
        feature("pins", lacks, "no wire outlives this process but those at tc that filters of clsact carry")
    }));
    all
}
