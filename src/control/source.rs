//! A document of either format to a [`Draft`].

use super::builder::{build, live_interfaces};
use super::diagnostic::Reason;
use super::draft::Draft;
use super::json;
use super::junos;
use super::link::Links;
use super::naming::settle;
use super::text::beginning;
use super::wires::{add_wires, sides};

/// What a document is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A snapshot as JSON.
    Snapshot,
    /// A Junos configuration, with braces or as `set` commands.
    Junos,
}

impl Format {
    /// The format of a document, by how it begins: a JSON document with a brace, bracket, string or number, none
    /// of which begins a Junos configuration. An empty one is taken for JSON, whose reader says that it is empty.
    #[must_use]
    pub fn of(document: &[u8]) -> Format {
        match beginning(document) {
            text if junos::is_terminal(text) => Format::Junos,
            [] | [b'{' | b'[' | b'"' | b'-' | b'0'..=b'9', ..] => Format::Snapshot,
            _ => Format::Junos,
        }
    }
}

/// The interfaces to read a document with.
#[derive(Clone, Copy, Debug)]
pub enum Ports<'a> {
    /// Those the document names itself, if any.
    Own,
    /// The devices of the live system. A snapshot keeps the interfaces it names.
    Live(&'a Links),
    /// A list that stands for the live system, in place of the interfaces a snapshot names.
    Listed(&'a Links),
}

impl<'a> Ports<'a> {
    /// The devices there are, if that is known.
    #[must_use]
    pub fn links(self) -> Option<&'a Links> {
        match self {
            Ports::Own => None,
            Ports::Live(links) | Ports::Listed(links) => Some(links),
        }
    }
}

/// Reads a document, and completes it with the `--wire` arguments. What is wrong with those is in the draft, along
/// with all else.
///
/// # Errors
/// It cannot be read as its format: every reason there is.
pub fn read(document: &[u8], ports: Ports<'_>, wires: &[String]) -> Result<Draft, Vec<Reason>> {
    let mut draft = match Format::of(document) {
        Format::Snapshot => {
            let listed = if let Ports::Listed(links) = ports { Some(links.interfaces()) } else { None };
            json::parse_draft(document, listed)?
        }
        Format::Junos => {
            let config = junos::parse(document).map_err(|reason| vec![reason])?;
            match ports {
                Ports::Own => build(&config, Vec::new()),
                Ports::Live(links) | Ports::Listed(links) => {
                    build(&config, live_interfaces(&config, links, sides(wires)))
                }
            }
        }
    };
    complete(&mut draft, ports.links(), wires);
    if let Ports::Live(links) = ports {
        links.note(&mut draft.snapshot);
    }
    Ok(draft)
}

/// Completes what was read with the `--wire` arguments, what is to be said of them and with the names that the devices have in the kernel.
pub(super) fn complete(draft: &mut Draft, links: Option<&Links>, wires: &[String]) {
    if let Some(links) = links {
        settle(&mut draft.snapshot, links);
    }
    match add_wires(&mut draft.snapshot, wires, links) {
        Ok(said) => draft.diagnostics.extend(said),
        Err(reasons) => draft.faults.extend(reasons),
    }
}
