//! `export`.

use std::path::Path;

use spanwire::control::compile::decompile;
use spanwire::control::json;
use spanwire::control::state::published;

use crate::output::{Failure, Output};

/// Writes the published snapshot as the document it came from.
pub(crate) fn export(dir: &Path, out: &Output) -> Result<(), Failure> {
    let Some(published) = published(dir)? else {
        return Err(Failure::Error(format!("{}: nothing has been published yet (spanctl import)", dir.display())));
    };
    let snapshot = decompile(&published.view()?);
    out.raw(&json::export(&snapshot))
}
