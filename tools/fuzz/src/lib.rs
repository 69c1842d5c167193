//! What the fuzz targets do with an input. Anything may be refused; nothing may panic; and what is accepted must
//! survive its way through the other half of the program.
//!
//! ```text
//! cargo +nightly fuzz run --fuzz-dir tools/fuzz -s none image    tools/fuzz/corpus/image    tools/fuzz/seeds/image    -- -max_total_time=600
//! cargo +nightly fuzz run --fuzz-dir tools/fuzz -s none importer tools/fuzz/corpus/importer tools/fuzz/seeds/importer -- -max_total_time=600
//! cargo +nightly fuzz run --fuzz-dir tools/fuzz -s none junos    tools/fuzz/corpus/junos    tools/fuzz/seeds/junos    -- -max_total_time=600
//! cargo +nightly fuzz run --fuzz-dir tools/fuzz -s none segments tools/fuzz/corpus/segments tools/fuzz/seeds/segments -- -max_total_time=600
//! cargo +nightly fuzz run --fuzz-dir tools/fuzz -s none record   tools/fuzz/corpus/record   tools/fuzz/seeds/record   -- -max_total_time=600
//! cargo +nightly fuzz run --fuzz-dir tools/fuzz -s none rings    tools/fuzz/corpus/rings    tools/fuzz/seeds/rings    -- -max_total_time=600
//! ```
//! A stable compiler does as well, with RUSTC_BOOTSTRAP=1 and without `+nightly`.
//!
//! Without a sanitizer: the code under test has no unsafe block, but for the rings, which lie in pages of their own that
//! a sanitizer does not know either.
#![forbid(unsafe_code)]

#[path = "../../../tests/segments/holds.rs"]
mod holds;
#[path = "../../../tests/rings/nonsense.rs"]
mod nonsense;

pub use nonsense::{record, rings};

use std::collections::HashMap;

use shm_layout::image::Image;
use shm_layout::record::{SlotHeader, StatsMetaRecord, SwapRecord, UmemRecord};
use shm_layout::snapshot::SnapshotView;
use shm_layout::view::ImageView;
use spanwire::control::builder::{build, live_interfaces};
use spanwire::control::compile::{Provenance, compile, decompile, diagnostics};
use spanwire::control::json::{export, parse, parse_draft, parse_interfaces, parse_links};
use spanwire::control::{Draft, Links, OnAmbiguous, Snapshot, admit, junos as configuration};
use spanwire::snapshot::table::Table;

/// Valid images, to mutate: one of layout minor 0, and one with every section.
const VALID: [&[u8]; 2] =
    [include_bytes!("../../../tests/golden/full.img"), include_bytes!("../../../tests/golden/placed.img")];

/// The first byte says what the rest is:
/// - even: an image, byte for byte
/// - odd: changes of one of [`VALID`] and of its length, under a checksum made right: `{byte offset: u16, byte: u8}`,
///   then bytes to append
pub fn image(input: &[u8]) {
    let Some((&mode, rest)) = input.split_first() else { return };
    if mode % 2 == 0 {
        look_at(&words(rest));
        return;
    }
    let mut bytes = VALID[usize::from(mode / 64 % 2)].to_vec();
    let (patches, appended) = rest.split_at(rest.len().min(3 * usize::from(mode / 2)));
    bytes.extend_from_slice(appended);
    for patch in patches.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([patch[0], patch[1]])) % bytes.len();
        bytes[at] = patch[2];
    }
    let mut words = words(&bytes);
    let header = SlotHeader::from_words(&words);
    if mode >= 128 {
        // With the length it announces made right as well, what was appended is looked at.
        words[std::mem::offset_of!(SlotHeader, len) / 8] = words.len() as u64 * 8;
    }
    let mut image = Image::from_words(words);
    image.seal(header.generation, header.published_at);
    look_at(image.words());
}

fn words(bytes: &[u8]) -> Vec<u64> {
    bytemuck::pod_collect_to_vec(&bytes[..bytes.len() / 8 * 8])
}

/// Uses an image as the dataplane and the tools do.
fn look_at(words: &[u64]) {
    if let Ok(image) = ImageView::parse(words) {
        assert_eq!(image.header().len, words.len() as u64 * 8);
        let _ = image.strings();
        let _ = image.records::<StatsMetaRecord>().map(|records| records.iter().count());
        let _ = image.records::<UmemRecord>().map(|records| records.iter().count());
        let _ = image.records::<SwapRecord>().map(|records| records.iter().count());
    }
    let Ok(view) = SnapshotView::try_from(words) else { return };
    assert_eq!(view.mirrors.iter().count(), view.mirrors.len());
    assert_eq!(view.places().len(), view.mirrors.len());
    let table = Table::build(&view, 1, 1, |_| 0);
    assert_eq!(table.entries.len(), view.mirrors.len());
    table.wires.iter().for_each(|&(a, b)| assert_eq!((table.peer(a), table.peer(b)), (Some(b), Some(a))));
    let mut names = HashMap::new();
    for port in view.ports.iter().filter(|port| port.ifindex != 0) {
        names.entry(port.ifindex).or_insert(view.strings.text(port.name));
    }
    names.iter().for_each(|(&ifindex, &name)| assert_eq!(table.name(ifindex), name, "the first names it"));
    table.monitors().iter().for_each(|&monitor| assert_eq!(table.peer(monitor), None, "a monitor port on a wire"));
    let _ = diagnostics(&view);
    same_through_an_image(&decompile(&view));
}

/// A snapshot comes back from the image it is compiled to, if a reader takes that image at all.
fn same_through_an_image(snapshot: &Snapshot) {
    let admission = admit(snapshot);
    let image = compile(snapshot, &admission, &Provenance::of(b""));
    match SnapshotView::try_from(image.words()) {
        Ok(view) => assert_eq!(&decompile(&view), snapshot),
        Err(error) => assert!(!admission.accepted(), "admitted, and refused by the reader: {error}"),
    }
}

/// A snapshot document, or a list of interfaces.
pub fn importer(input: &[u8]) {
    let _ = parse_interfaces(input);
    if let Ok(mut draft) = parse_draft(input, None) {
        let table_alone = Draft { unfit: Vec::new(), ..draft.clone() }.admit_or_omit(None).accepted();
        assert_eq!(draft.admit_or_skip(None).accepted(), table_alone, "the entries at fault alone are left out");
    }
    let Ok(snapshot) = parse(input) else { return };
    let draft = parse_draft(input, None).expect("the same document");
    assert_eq!(draft.snapshot, snapshot);
    let _ = draft.admit(Some(&Links::default()));
    let document = export(&snapshot);
    let again = parse(document.as_bytes()).expect("an export is a document");
    assert_eq!(again, snapshot, "{document}");
    assert_eq!(export(&again), document);
    same_through_an_image(&snapshot);
}

/// What a Junos configuration is built on.
const INTERFACES: &[u8] = include_bytes!("../../../tests/fixtures/two-instances.interfaces.json");

/// A Junos configuration in either syntax.
pub fn junos(input: &[u8]) {
    let Ok(tree) = configuration::parse(input) else { return };
    for text in [tree.to_braces(), tree.to_set()] {
        let again = configuration::parse(text.as_bytes()).expect("what is printed is a configuration");
        assert_eq!(again, tree, "{text}");
    }
    let links = Links { all: parse_links(INTERFACES).expect("a list"), place: String::new() };
    for interfaces in [links.interfaces(), live_interfaces(&tree, &links, [])] {
        let built = build(&tree, interfaces);
        assert_eq!(built.origins.len(), built.snapshot.mirrors.len());
        for on_ambiguous in [OnAmbiguous::Omit, OnAmbiguous::Skip] {
            let mut draft = built.clone();
            let admission = draft.admit_or(on_ambiguous, Some(&links), |_| Ok(()));
            assert_eq!(admission.states.len(), draft.snapshot.mirrors.len());
            if admission.accepted() {
                same_through_an_image(&draft.snapshot);
            }
        }
    }
}

/// A GSO size, two bytes, and a frame.
pub fn segments(input: &[u8]) {
    let Some((size, frame)) = input.split_first_chunk() else { return };
    holds::holds(frame, u16::from_le_bytes(*size));
}
