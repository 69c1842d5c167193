//! The devices of this network namespace, for who may not look into it: read when the kernel tells of a change.
//!
//! Asking for them waits for whatever holds the kernel's lock on devices, which the statistics must not: a thread of
//! its own reads, and nobody waits for it.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shm_layout::image::ImageBuilder;

use super::link_news::LinkNews;
use super::threads::spawn;
use crate::clock;
use crate::devices::{self, listing::Listing};
use crate::told::Told;

/// However often something changes, reading takes one part in this many of a processor.
const SHARE: u32 = 20;
/// And this while somebody asks, who waits for it.
const ASKED_SHARE: u32 = 4;
/// Not all that changes is told of (an alternative name of a device that is down, a speed): who asks gets what was
/// read no longer ago than this, or than this many times what reading takes.
const AGE: Duration = Duration::from_secs(1);
const AGE_SHARE: u32 = 100;
/// What a reading that failed counts as having taken.
const FAILURE: Duration = Duration::from_millis(25);

/// The devices, as they were last read.
#[derive(Debug)]
pub struct Devices {
    news: LinkNews,
    shared: Arc<Shared>,
    listing: Arc<Listing>,
    /// These were the devices at this time, nanoseconds of `CLOCK_MONOTONIC`.
    as_of: u64,
}

/// What the reading thread and the one that publishes hand each other.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Whether they are to be read again.
    is_wanted: bool,
    /// Whether somebody waits for that.
    is_asked: bool,
    is_reading: bool,
    listing: Arc<Listing>,
    /// When they were read, and how long that took.
    read: Option<(Instant, Duration)>,
    is_over: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is one assignment after another, none of which can fail.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// How long they are still left alone after a reading that took its share of a processor.
    fn rest(&self, share: u32) -> Duration {
        self.read.map_or(Duration::ZERO, |(at, cost)| (share * cost).saturating_sub(at.elapsed()))
    }

    fn is_old(&self) -> bool {
        self.read.is_none_or(|(at, _)| at.elapsed() >= AGE) && self.rest(AGE_SHARE).is_zero()
    }
}

impl Devices {
    /// Reads them from now on; there are none before the first [`Devices::refresh`].
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn watch() -> io::Result<Devices> {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        // Nobody joins it: what it waits for may hang.
        spawn("devices", move || read(&own))?;
        Ok(Devices { news: LinkNews::watch_addresses(), shared, listing: Arc::default(), as_of: 0 })
    }

    /// Takes up what was read, and has them read again if one has changed, or if somebody asks and they are old.
    pub fn refresh(&mut self, is_asked: bool) {
        let now = clock::monotonic_ns();
        let has_news = self.news.take();
        let mut state = self.shared.state();
        if has_news || state.read.is_none() || (is_asked && state.is_old()) {
            state.is_wanted = true;
            self.shared.changed.notify_one();
        }
        if is_asked && state.is_wanted && !state.is_asked {
            state.is_asked = true;
            self.shared.changed.notify_one();
        }
        self.listing = Arc::clone(&state.listing);
        if !state.is_wanted && !state.is_reading {
            self.as_of = now;
        }
    }

    /// Adds them to an image.
    pub fn put(&self, image: &mut ImageBuilder) {
        self.listing.put(self.as_of, image);
    }
}

impl Drop for Devices {
    fn drop(&mut self) {
        self.shared.state().is_over = true;
        self.shared.changed.notify_one();
    }
}

/// Reads them each time that is wanted, at the pace it may have.
fn read(shared: &Shared) {
    let mut told = Told::default();
    let mut state = shared.state();
    while !state.is_over {
        let rest = state.rest(if state.is_asked { ASKED_SHARE } else { SHARE });
        if !state.is_wanted || !rest.is_zero() {
            state = match state.is_wanted {
                true => shared.changed.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0,
                false => shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
            continue;
        }
        (state.is_wanted, state.is_asked, state.is_reading) = (false, false, true);
        drop(state);
        let start = Instant::now();
        let devices = devices::all();
        let cost = start.elapsed();
        let listing = devices.map(|devices| Arc::new(Listing::of(&devices)));
        match &listing {
            Ok(_) => {
                if let Some(news) = told.ends() {
                    tracing::info!("network devices can be listed again{news}");
                }
            }
            Err(error) => {
                if let Some(news) = told.is(&error.to_string()) {
                    tracing::warn!("network devices cannot be listed: {news}");
                }
            }
        }
        state = shared.state();
        state.is_reading = false;
        state.is_wanted |= listing.is_err();
        state.read = Some((Instant::now(), if listing.is_ok() { cost } else { cost.max(FAILURE) }));
        if let Ok(listing) = listing {
            state.listing = listing;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use shm_layout::view::ImageView;

    use super::*;
    use crate::devices::listing::Listed;

    #[test]
    fn they_are_those_of_a_time_after_the_question_soon() {
        let mut devices = Devices::watch().unwrap();
        let asked = clock::monotonic_ns();
        let listed = loop {
            devices.refresh(true);
            let mut image = ImageBuilder::new();
            devices.put(&mut image);
            let image = image.finish();
            let view = ImageView::parse(image.words()).unwrap();
            let listed = Listed::read(&view, view.strings().unwrap()).unwrap().unwrap();
            if listed.as_of >= asked {
                break listed;
            }
            assert_eq!(listed.as_of, 0, "none before the first reading");
            std::thread::sleep(Duration::from_millis(1));
        };
        assert!(listed.devices.iter().any(|device| device.name == "lo"), "{listed:?}");
    }

    #[test]
    fn a_reading_that_took_long_has_a_longer_rest() {
        let read = |ago: u64, took: u64| {
            let at = Instant::now().checked_sub(Duration::from_millis(ago)).unwrap_or_else(Instant::now);
            State { read: Some((at, Duration::from_millis(took))), ..State::default() }
        };
        assert!(State::default().is_old());
        assert!(!read(0, 10).is_old() && read(0, 10).rest(SHARE) > Duration::from_millis(100));
        assert!(read(0, 0).rest(SHARE).is_zero());
    }
}
