//! The highest rate that still passes: the binary search of RFC 2544, section 26.1.

/// What one trial came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Trial {
    /// The rate that was really offered, which may be below the one asked for.
    pub offered: f64,
    /// Whether the loss was small enough.
    pub passed: bool,
}

/// The highest rate up to `max` that passed, to `resolution` (a part of `max`); 0 where none did. `trial` tries a
/// rate.
///
/// # Errors
/// The first one of `trial`.
pub(crate) fn search<E>(max: f64, resolution: f64, mut trial: impl FnMut(f64) -> Result<Trial, E>) -> Result<f64, E> {
    let first = trial(max)?;
    if first.passed {
        return Ok(first.offered);
    }
    let (mut low, mut high, mut best) = (0.0, max, 0.0);
    while high - low > resolution * max {
        let rate = (low + high) / 2.0;
        let tried = trial(rate)?;
        if tried.passed {
            (low, best) = (rate, tried.offered);
        } else {
            high = rate;
        }
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// Searches on a device that loses whatever is above `capacity`.
    fn found(capacity: f64, max: f64, allowed: f64) -> (f64, u32) {
        let mut trials = 0;
        let rate = search(max, 0.01, |rate| {
            trials += 1;
            let loss = (rate - capacity).max(0.0) / rate;
            Ok::<_, Infallible>(Trial { offered: rate, passed: loss <= allowed })
        });
        (rate.unwrap_or_else(|never| match never {}), trials)
    }

    #[test]
    fn it_finds_the_capacity_from_below() {
        for capacity in [30.0, 333.0, 700.0, 995.0] {
            let (rate, trials) = found(capacity, 1000.0, 0.0);
            assert!(rate <= capacity && rate >= capacity - 10.0, "{rate} for {capacity}");
            assert!(trials <= 8, "{trials}");
        }
    }

    #[test]
    fn an_allowed_loss_lies_higher() {
        let (rate, _) = found(500.0, 1000.0, 0.2);
        assert!((615.0..=625.0).contains(&rate), "{rate}");
    }

    #[test]
    fn what_holds_at_the_maximum_takes_one_trial() {
        assert_eq!(found(2000.0, 1000.0, 0.0), (1000.0, 1));
    }

    #[test]
    fn what_never_passes_is_zero() {
        assert_eq!(found(0.0, 1000.0, 0.0).0, 0.0);
    }

    #[test]
    fn the_rate_really_offered_counts() {
        let rate =
            search(1000.0, 0.01, |rate| Ok::<_, Infallible>(Trial { offered: rate * 0.9, passed: rate <= 500.0 }));
        assert_eq!(rate, Ok(450.0));
    }

    #[test]
    fn an_error_ends_it() {
        assert_eq!(search(1.0, 0.5, |_| Err("broken")), Err("broken"));
    }
}
