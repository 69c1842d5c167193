//! What lasts, or comes again and again: told when it begins, when it changes and when it ends, and not each time.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Changes told one after another; of what goes on changing, one is told each [`PACE`].
const AT_ONCE: u32 = 8;
const PACE: Duration = Duration::from_secs(10);

/// What is the matter with one thing, and how much of that was told.
///
/// It wants to be asked again and again while something lasts: a change that came too soon to be told is told later.
#[derive(Debug)]
pub struct Told {
    /// Empty for nothing.
    is: String,
    /// Changes since something was told.
    untold: u32,
    /// Lines that may be told at once, as of `filled`.
    room: u32,
    filled: Option<Instant>,
}

impl Default for Told {
    /// Nothing is the matter.
    fn default() -> Told {
        Told { is: String::new(), untold: 0, room: AT_ONCE, filled: None }
    }
}

impl Told {
    /// This is the matter now. What to tell of it, where that is news.
    pub fn is(&mut self, what: &str) -> Option<String> {
        self.at(what, Instant::now()).map(|often| format!("{what}{often}"))
    }

    /// Nothing is the matter any more. What to end the sentence with that tells so, where that is news.
    pub fn ends(&mut self) -> Option<String> {
        self.at("", Instant::now())
    }

    fn at(&mut self, what: &str, now: Instant) -> Option<String> {
        if what != self.is {
            what.clone_into(&mut self.is);
            self.untold = self.untold.saturating_add(1);
        }
        if self.untold == 0 || !self.has_room(now) {
            return None;
        }
        self.room -= 1;
        match std::mem::take(&mut self.untold) {
            1 => Some(String::new()),
            times => Some(format!(" (changed {times} times since this was told last)")),
        }
    }

    fn has_room(&mut self, now: Instant) -> bool {
        let filled = *self.filled.get_or_insert(now);
        let more = u32::try_from(now.duration_since(filled).as_secs() / PACE.as_secs()).unwrap_or(AT_ONCE);
        self.room = self.room.saturating_add(more).min(AT_ONCE);
        self.filled = Some(if self.room == AT_ONCE { now } else { filled + more * PACE });
        self.room > 0
    }
}

/// As [`Told`], of what several threads meet.
#[derive(Debug, Default)]
pub struct Shared(Mutex<Told>);

impl Shared {
    fn told(&self) -> MutexGuard<'_, Told> {
        // At worst a line too many or too few.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// See [`Told::is`].
    pub fn is(&self, what: &str) -> Option<String> {
        self.told().is(what)
    }

    /// See [`Told::ends`].
    pub fn ends(&self) -> Option<String> {
        self.told().ends()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of these, each a second after the one before.
    fn lines(states: &[&str]) -> Vec<Option<String>> {
        let (mut told, start) = (Told::default(), Instant::now());
        let at = |(second, state): (usize, &&str)| {
            let news = told.at(state, start + Duration::from_secs(second as u64));
            news.map(|often| format!("{state}{often}"))
        };
        states.iter().enumerate().map(at).collect()
    }

    #[test]
    fn it_is_told_when_it_begins_changes_and_ends() {
        let told = lines(&["", "a", "a", "a", "b", "b", "", "", "a"]);
        let told: Vec<_> = told.iter().map(|line| line.as_deref()).collect();
        assert_eq!(told, [None, Some("a"), None, None, Some("b"), None, Some(""), None, Some("a")]);
        let mut told = Told::default();
        assert_eq!((told.ends(), told.is("a"), told.is("a")), (None, Some("a".to_owned()), None));
        assert_eq!((told.ends(), told.ends()), (Some(String::new()), None));
    }

    #[test]
    fn what_goes_on_changing_is_told_now_and_then_and_how_it_ended_at_last() {
        let mut states = ["up", "down"].repeat(100);
        let changing = lines(&states);
        let said = changing.iter().flatten().count();
        assert!((8 + 15..=8 + 20).contains(&said), "{said} of 200 in 200 s");
        assert!(changing.iter().flatten().any(|line| line.contains("(changed 10 times")), "{changing:?}");
        states.extend(["up"; 30]);
        let last = lines(&states).into_iter().flatten().last().unwrap_or_default();
        assert!(last.starts_with("up"), "{last}");
    }

    #[test]
    fn after_a_rest_all_is_told_at_once_again() {
        let mut states = ["up", "down"].repeat(10);
        states.extend(["down"; 100]);
        states.extend(["up", "down"].repeat(4));
        let told = lines(&states);
        assert!(told[120..].iter().all(Option::is_some), "{told:?}");
    }
}
