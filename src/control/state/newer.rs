//! Values that a newer dataplane appends to its rows, by the names it gives them.
//!
//! ```text
//! DESCRIPTORS   section, offset ──┐ name, unit
//! row           [ what this release knows | extra | extra ]
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use shm_layout::WORD;
use shm_layout::counters::{Binding, Crossed, Description, Entry, Kernel, Lost, Partition, Shard};
use shm_layout::error::LayoutError;
use shm_layout::record::{BindingRecord, DescriptorRecord, EntryRecord, PathRecord, Record, ShardRecord, UmemRecord};
use shm_layout::view::{ImageView, Strings};

/// The name and unit of a value that this release does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Extra {
    pub(super) name: String,
    pub(super) unit: String,
}

/// The extra values of one row, with what they mean.
pub(super) type Tail<'a> = Option<(&'a Arc<[Extra]>, Vec<u64>)>;

/// The extra values of all rows, by kind of section.
#[derive(Clone, Debug, Default)]
pub(super) struct Newer(HashMap<u32, Section>);

#[derive(Clone, Debug)]
struct Section {
    extras: Arc<[Extra]>,
    /// For each extra, its value in each row.
    columns: Vec<Vec<u64>>,
}

impl Newer {
    /// Reads what the sections with counters have beyond this release.
    pub(super) fn read(image: &ImageView<'_>, text: Strings<'_>) -> Result<Newer, LayoutError> {
        let mut newer = Newer::default();
        newer.section::<ShardRecord>(image, text, &[Shard::DESCRIPTIONS])?;
        newer.section::<BindingRecord>(image, text, &[Binding::DESCRIPTIONS, Kernel::DESCRIPTIONS])?;
        newer.section::<PathRecord>(image, text, &[Crossed::DESCRIPTIONS, Lost::DESCRIPTIONS])?;
        newer.section::<EntryRecord>(image, text, &[Entry::DESCRIPTIONS])?;
        newer.section::<UmemRecord>(image, text, &[Partition::DESCRIPTIONS])?;
        Ok(newer)
    }

    fn section<R: Record>(
        &mut self,
        image: &ImageView<'_>,
        text: Strings<'_>,
        known: &[&[Description]],
    ) -> Result<(), LayoutError> {
        let rows = image.records::<R>()?;
        if rows.stride() == size_of::<R>() {
            return Ok(());
        }
        let (mut extras, mut columns) = (Vec::<Extra>::new(), Vec::new());
        for value in image.records::<DescriptorRecord>()?.iter().filter(|value| value.section == R::KIND) {
            let (offset, name) = (value.offset as usize, text.text(value.name));
            // A name for two values would be a key for two members of one object.
            let taken = || {
                known.iter().copied().flatten().any(|d| d.name == name) || extras.iter().any(|extra| extra.name == name)
            };
            let beyond = offset >= size_of::<R>() && offset + WORD <= rows.stride();
            if beyond && !name.is_empty() && !taken() {
                extras.push(Extra { name: name.to_owned(), unit: text.text(value.unit).to_owned() });
                columns.push(rows.words_at(offset).collect());
            }
        }
        self.0.insert(R::KIND, Section { extras: extras.into(), columns });
        Ok(())
    }

    /// What row `index` of the section of `R` has.
    pub(super) fn tail<R: Record>(&self, index: usize) -> Tail<'_> {
        let Section { extras, columns } = self.0.get(&R::KIND)?;
        let values: Option<Vec<u64>> = columns.iter().map(|column| column.get(index).copied()).collect();
        Some((extras, values?))
    }
}

#[cfg(test)]
#[allow(clippy::expect_used)]
mod tests {
    use bytemuck::{Zeroable, bytes_of, bytes_of_mut};
    use shm_layout::LAYOUT_MINOR;
    use shm_layout::image::{ImageBuilder, Need};
    use shm_layout::record::{SlotHeader, StatsMetaRecord, StrRef};

    use super::*;
    use crate::control::state::ledger::StatsReport;
    use crate::control::state::stats::Stats;

    /// Statistics whose entries have two words more, with values 100 and up, and descriptions of what is at these
    /// offsets from their end.
    fn image(described: &[(usize, &str)]) -> Vec<u64> {
        let mut image = ImageBuilder::new();
        let [release, unit] = ["9.9", "frames"].map(|text| image.string(text));
        let meta = StatsMetaRecord {
            pid: 1,
            shard_count: 2,
            started_at: 0,
            gathered_at: 0,
            config_instance: 0,
            table_generation: 0,
            adopted_generation: 0,
            rejects: 0,
            last_reject: StrRef::default(),
            capabilities: 0,
            frame_size: 2048,
            mirror_frames: 0,
            release,
        };
        let mut rows = Vec::new();
        for shard in 0..2 {
            let row = EntryRecord {
                ingress_ifindex: 11,
                output_ifindex: 22,
                rate: 1,
                shard,
                values: [0; shm_layout::counters::ENTRY_VALUES],
            };
            rows.extend_from_slice(bytes_of(&row));
            rows.extend_from_slice(bytes_of(&[100 + u64::from(shard), 200 + u64::from(shard)]));
        }
        let described: Vec<DescriptorRecord> = described
            .iter()
            .map(|&(beyond, name)| DescriptorRecord {
                section: EntryRecord::KIND,
                index: 0,
                kind: 0,
                offset: (size_of::<EntryRecord>() + beyond) as u32,
                name: image.string(name),
                unit,
                help: unit,
            })
            .collect();
        image.section(Need::Required, &[meta]).section(Need::Optional, &described).raw_section(
            EntryRecord::KIND,
            Need::Required,
            size_of::<EntryRecord>() + 2 * WORD,
            0,
            rows,
        );
        let mut words = image.finish().words().to_vec();
        let mut header = SlotHeader::zeroed();
        let len = SlotHeader::WORDS;
        bytes_of_mut(&mut header).copy_from_slice(bytemuck::cast_slice(&words[..len]));
        header.layout_minor = LAYOUT_MINOR + 1;
        words[..len].copy_from_slice(bytemuck::cast_slice(bytes_of(&header)));
        let mut image = shm_layout::image::Image::from_words(words);
        image.seal(1, 1);
        image.words().to_vec()
    }

    fn entry(described: &[(usize, &str)]) -> serde_json::Value {
        let stats = Stats::parse(&image(described)).expect("statistics");
        let report = serde_json::to_value(StatsReport::of(&stats)).expect("a document");
        report["mirrors"][0].clone()
    }

    #[test]
    fn what_a_newer_dataplane_counts_is_listed_by_its_own_names() {
        let entry = entry(&[(WORD, "mirror_drops_moonlight"), (0, "eclipses")]);
        assert_eq!((&entry["mirror_drops_moonlight"], &entry["eclipses"]), (&401.into(), &201.into()), "{entry}");
        assert_eq!(entry["shards"][1]["mirror_drops_moonlight"], 201);
        assert_eq!(entry["observed"], 0);
    }

    #[test]
    fn what_is_not_described_well_is_left_out() {
        let plain = entry(&[]);
        for bad in [(0, ""), (0, "observed"), (2 * WORD, "beyond"), (usize::MAX / 2, "far beyond")] {
            assert_eq!(entry(&[bad]), plain, "{bad:?}");
        }
        assert_eq!(entry(&[(0, "twice"), (WORD, "twice")])["twice"], 201);
    }
}
