//! How the frames of a wire's port cross, and what becomes of them in the kernel.

use serde::Serialize;
use shm_layout::counters::{Crossed, Lost};
use shm_layout::error::LayoutError;
use shm_layout::record::PathRecord;
use shm_layout::view::{ImageView, Strings};

use super::newer::Newer;
use super::values::Values;

/// A port of a wire.
#[derive(Clone, Debug, Serialize)]
pub struct PathRow {
    /// The port, by its ifindex in the snapshot.
    pub ifindex: u32,
    /// The wire's other port.
    pub peer_ifindex: u32,
    /// `xdp`, `tc` or `shard`; `None` while its frames do not cross.
    pub path: Option<String>,
    /// Why this way, or why none.
    pub reason: String,
    /// Values of [`Crossed`].
    #[serde(flatten)]
    pub crossed: Values,
    /// Frames of those that were lost on the way; `None` where that is not known.
    pub lost: Option<u64>,
    /// Those of them that are known to be, also where there may be more. This never goes back.
    #[serde(skip)]
    pub known_lost: u64,
    /// Why it is not; empty where it is.
    pub lost_unknown: String,
    /// Values of [`Lost`], which come to `lost`.
    #[serde(flatten)]
    pub lost_by: Option<Values>,
}

impl PathRow {
    /// Whether the kernel carries its frames.
    #[must_use]
    pub fn is_in_kernel(&self) -> bool {
        matches!(self.path.as_deref(), Some("xdp" | "tc"))
    }
}

/// The rows of an image of statistics.
pub(super) fn paths(image: &ImageView<'_>, text: Strings<'_>, newer: &Newer) -> Result<Vec<PathRow>, LayoutError> {
    let own = |at| text.text(at).to_owned();
    let row = |(i, row): (usize, PathRecord)| {
        let lost_unknown = own(row.unknown);
        let is_known = lost_unknown.is_empty();
        let known_lost = row.lost.iter().fold(0, |sum: u64, lost| sum.saturating_add(*lost));
        PathRow {
            ifindex: row.ifindex,
            peer_ifindex: row.peer_ifindex,
            path: Some(own(row.path)).filter(|path| !path.is_empty()),
            reason: own(row.reason),
            crossed: Values::new(Crossed::DESCRIPTIONS, &row.crossed).with(newer.tail::<PathRecord>(i)),
            lost: is_known.then_some(known_lost),
            known_lost,
            lost_unknown,
            lost_by: is_known.then(|| Values::new(Lost::DESCRIPTIONS, &row.lost)),
        }
    };
    Ok(image.records::<PathRecord>()?.iter().enumerate().map(row).collect())
}
