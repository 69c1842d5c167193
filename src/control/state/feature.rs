//! What the kernel of a dataplane, or its rights, may lack.

use serde::Serialize;
use shm_layout::error::LayoutError;
use shm_layout::record::FeatureRecord;
use shm_layout::view::{ImageView, Strings};

/// Something that may be missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FeatureRow {
    /// Its name.
    pub name: String,
    /// Whether it is there.
    pub available: bool,
    /// Why it is not; empty where it is.
    pub reason: String,
    /// What is so without it; empty where it is there.
    pub consequence: String,
}

/// The rows of an image of statistics; none where the dataplane is of an older release.
pub(super) fn features(image: &ImageView<'_>, text: Strings<'_>) -> Result<Vec<FeatureRow>, LayoutError> {
    let own = |at| text.text(at).to_owned();
    let row = |row: FeatureRecord| FeatureRow {
        name: own(row.name),
        available: row.available != 0,
        reason: own(row.reason),
        consequence: own(row.consequence),
    };
    Ok(image.records::<FeatureRecord>()?.iter().map(row).collect())
}
