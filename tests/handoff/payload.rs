//! Images in which every word of payload, and their number, follow from the first one, the stamp.

use std::collections::HashMap;

use shm_layout::WORD;
use shm_layout::image::{Image, ImageBuilder, Need};
use shm_layout::record::{SectionEntry, SlotHeader};
use shm_layout::view::ImageView;

/// A section that no release knows.
const KIND: u32 = 4242;
/// Words before the payload: the header, and the entries of the payload's section and of STRINGS.
const BEFORE: usize = SlotHeader::WORDS + 2 * size_of::<SectionEntry>() / WORD;
/// Stamps from here on stand for images larger than the slots of a new region.
pub const LARGE: u64 = 1 << 48;

/// Words of payload under this stamp: many lengths, so that an old length beside a new payload shows.
fn words(stamp: u64) -> usize {
    let few = 1 + (stamp.wrapping_mul(7919) % 120) as usize;
    // Each LARGE doubles it; a new region has slots of 64 KiB.
    few + (stamp / LARGE) as usize * 8192
}

fn word(stamp: u64, index: usize) -> u64 {
    if index == 0 { stamp } else { (stamp ^ index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23) }
}

/// Makes images, each shape built once.
#[derive(Default)]
pub struct Stamper(HashMap<usize, Image>);

impl Stamper {
    /// The image under `stamp`.
    pub fn image(&mut self, stamp: u64) -> &mut Image {
        let len = words(stamp);
        let image = self.0.entry(len).or_insert_with(|| {
            let mut builder = ImageBuilder::new();
            builder.raw_section(KIND, Need::Optional, WORD, 0, vec![0; len * WORD]);
            builder.finish()
        });
        let mut all = image.words().to_vec();
        for (index, to) in all[BEFORE..BEFORE + len].iter_mut().enumerate() {
            *to = word(stamp, index);
        }
        *image = Image::from_words(all);
        image
    }
}

/// The stamp of an image, if it is whole.
pub fn stamp(words_read: &[u64], generation: u64) -> Result<u64, String> {
    let header = SlotHeader::from_words(words_read);
    let payload = words_read.get(BEFORE..).unwrap_or_default();
    let Some(&stamp) = payload.first() else { return Err(format!("{} words", words_read.len())) };
    let torn = payload.iter().enumerate().position(|(index, &found)| found != word(stamp, index));
    if header.generation != generation || torn.is_some() || payload.len() != words(stamp) {
        return Err(format!(
            "generation {generation}, header of {}, stamp {stamp:#x}, {} words of {}, word {torn:?} of another",
            header.generation,
            payload.len(),
            words(stamp)
        ));
    }
    // The checksum last: what it would have caught is to be found without it.
    ImageView::parse(words_read).map_err(|e| e.to_string())?;
    Ok(stamp)
}
