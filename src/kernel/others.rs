//! Selectors of other dataplanes on a device. Each takes all frames that it meets: of two, at whichever hooks, the later one
//! gets none, and the wire that it was to carry is dark.

use std::io;
use std::path::Path;

use super::clsact::Filter;
use super::hold;
use super::program::Hook;
use super::tcx::{Known, Programs};
use crate::devices;

/// The one that is on a device of the calling thread's network namespace, in words for the operator. Those of `owner` are none:
/// they are pinned in one of `folders`, or are filters of that name. Links are at tc where there is `tcx`. What is not told who
/// may not look (CAP_SYS_ADMIN) is not taken for one.
///
/// # Errors
/// The kernel's answer is none.
pub fn other<'a>(
    device: u32,
    owner: &str,
    folders: impl IntoIterator<Item = &'a Path>,
    tcx: bool,
) -> io::Result<Option<String>> {
    let at_xdp = devices::xdp_program(device)?.map(|id| (Hook::Xdp, id));
    let at_tc = if tcx { Programs::at(device)?.ids } else { Vec::new() };
    let all = at_xdp.into_iter().chain(at_tc.into_iter().map(|id| (Hook::Tc, id)));
    let mut selectors = all.filter(|(hook, id)| Known::of(*id).name.as_deref() == Some(hook.program())).peekable();
    // Most ports have none.
    let own: Vec<u32> = match selectors.peek() {
        Some(_) => folders.into_iter().flat_map(hold::programs).collect(),
        None => Vec::new(),
    };
    if let Some((hook, id)) = selectors.find(|(_, id)| !own.contains(id)) {
        return Ok(Some(told(hook, &format!("program {id}"))));
    }
    let filter = Filter::any(device)?.filter(|filter| filter.owner() != owner);
    Ok(filter.map(|filter| told(Hook::Tc, filter.owner())))
}

fn told(hook: Hook, which: &str) -> String {
    format!(
        "the selector of another dataplane is there, at {hook} ({which}): give the wire to one of the two, or take the other's off \
         (spanctl --dir DIR detach)"
    )
}
