//! Medians and spreads of repeated runs, and of ratios of paired ones.

use serde::Serialize;

/// The middle and the ends of some figures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// Figures.
    pub runs: usize,
    /// Half of them are below.
    pub median: f64,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
}

impl Spread {
    /// Of these figures; `None` for none, or where one is no number.
    pub(crate) fn of(figures: &[f64]) -> Option<Spread> {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        if sorted.iter().any(|figure| figure.is_nan()) {
            return None;
        }
        let (below, above) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Some(Spread { runs: sorted.len(), median: (below + above) / 2.0, min, max })
    }

    /// In another unit.
    pub(crate) fn per(self, unit: f64) -> Spread {
        Spread { median: self.median / unit, min: self.min / unit, max: self.max / unit, ..self }
    }

    /// `1234 (1200-1300)` of this unit, with so many decimals.
    pub(crate) fn text(&self, unit: f64, places: usize) -> String {
        let Spread { median, min, max, .. } = self.per(unit);
        format!("{median:.places$} ({min:.places$}-{max:.places$})")
    }

    /// [`Spread::text`], or a dash for none.
    pub(crate) fn text_or_dash(spread: &Option<Spread>, unit: f64, places: usize) -> String {
        spread.map_or_else(|| "-".to_owned(), |spread| spread.text(unit, places))
    }

    /// Of the ratios of the figures of the same run; a run that either side lacks, or whose divisor is 0, is left
    /// out.
    pub(crate) fn of_ratios(ours: &[Option<f64>], theirs: &[Option<f64>]) -> Option<Spread> {
        let ratios: Vec<f64> = ours
            .iter()
            .zip(theirs)
            .filter_map(|(ours, theirs)| Some((*ours)? / (*theirs).filter(|divisor| *divisor != 0.0)?))
            .collect();
        Spread::of(&ratios)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_odd_and_even_counts() {
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Some(Spread { runs: 3, median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of(&[4.0, 1.0]), Some(Spread { runs: 2, median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(Spread::of(&[7.0]), Some(Spread { runs: 1, median: 7.0, min: 7.0, max: 7.0 }));
    }

    #[test]
    fn nothing_has_no_median() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[1.0, f64::NAN]), None);
    }

    #[test]
    fn ratios_pair_runs_and_not_medians() {
        let ours = [Some(2.0), Some(9.0), None, Some(1.0)];
        let theirs = [Some(1.0), Some(3.0), Some(1.0), Some(0.0)];
        assert_eq!(Spread::of_ratios(&ours, &theirs), Some(Spread { runs: 2, median: 2.5, min: 2.0, max: 3.0 }));
    }
}
