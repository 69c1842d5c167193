//! The words of a command line, sorted into those that are known and the others.
//!
//! A producer may be newer than this program and say more than is known here. That must not keep a wire dark, so it
//! is told of and left out. There are no words but options and their values, which makes this safe: a word that does
//! not begin with `--` belongs to the option before it, and goes the way of that. A flag may be given a value, `=true` or
//! `=false`; where the flag here takes none, or not that one, it is left out too.

use std::ffi::{OsStr, OsString};

use clap::builder::{BoolishValueParser, TypedValueParser};
use clap::{Arg, Command};

use crate::text::excerpt;

/// The most characters of a word and its value that are told.
const MAX_SHOWN: usize = 200;

/// A command line after sorting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// The program's name, the options that `command` has, and their values.
    pub known: Vec<OsString>,
    /// Each of the others, with what seems to be its value.
    pub ignored: Vec<String>,
}

impl Words {
    /// Sorts `words`, the program's name first, by the options of `command`.
    pub fn sort(words: impl IntoIterator<Item = OsString>, mut command: Command) -> Words {
        // Adds --help and --version.
        command.build();
        let mut words = words.into_iter().peekable();
        let mut sorted = Words { known: words.next().into_iter().collect(), ignored: Vec::new() };
        while let Some(word) = words.next() {
            let text = word.to_string_lossy().into_owned();
            let Some(option) = option(&text, &command).filter(|option| is_taken(&text, option, &command)) else {
                let value = words.next_if(|next| is_option(&text) && !is_option(&next.to_string_lossy()));
                let text = match value {
                    Some(value) => format!("{text} {}", value.to_string_lossy()),
                    None => text,
                };
                sorted.ignored.push(excerpt(&text, MAX_SHOWN));
                continue;
            };
            sorted.known.push(word);
            if !is_flag(option) && !text.contains('=') {
                sorted.known.extend(words.next_if(|next| !is_option(&next.to_string_lossy())));
            }
        }
        sorted
    }
}

/// The option that a word names, alone or with its value.
fn option<'a>(word: &str, command: &'a Command) -> Option<&'a Arg> {
    command.get_arguments().find(|option| {
        let long = word.strip_prefix("--").map(|word| word.split_once('=').map_or(word, |(name, _)| name));
        let short = word.strip_prefix('-').and_then(|word| word.parse::<char>().ok());
        (long.is_some() && option.get_long() == long) || (short.is_some() && option.get_short() == short)
    })
}

/// Whether an option is one without a value, or none that has to be there.
fn is_flag(option: &Arg) -> bool {
    !option.get_action().takes_values() || option.is_require_equals_set()
}

/// Whether an option takes what a word gives it: that of one with a value is for the parser to judge.
fn is_taken(word: &str, option: &Arg, command: &Command) -> bool {
    let Some((_, value)) = word.split_once('=').filter(|_| is_flag(option)) else { return true };
    let truth = BoolishValueParser::new().parse_ref(command, Some(option), OsStr::new(value));
    option.is_require_equals_set() && truth.is_ok()
}

/// Whether a word begins as an option does. A negative number may be a value, of whatever option.
fn is_option(word: &str) -> bool {
    word.starts_with('-') && word != "-" && word.parse::<f64>().is_err()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::super::args::Args;
    use super::*;

    fn sorted(line: &str) -> (String, Vec<String>) {
        let words = line.split_whitespace().map(OsString::from);
        let sorted = Words::sort(words, Args::command());
        let known: Vec<_> = sorted.known.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        (known.join(" "), sorted.ignored)
    }

    #[test]
    fn what_is_unknown_goes_with_its_value() {
        let producers =
            "helper --control-socket /s --state-file /f --workers 2 --ring-entries 1024 --poll-mode interrupt";
        for (line, known, ignored) in [
            (producers.to_owned(), producers, &[][..]),
            (format!("{producers} --numa 0"), producers, &["--numa 0"]),
            (format!("{producers} --numa=0"), producers, &["--numa=0"]),
            (format!("{producers} --numa -1"), producers, &["--numa -1"]),
            (format!("{producers} --quiet -x --numa - left"), producers, &["--quiet", "-x", "--numa -", "left"]),
            ("h --new --busy --wire a:b".to_owned(), "h --busy --wire a:b", &["--new"]),
            ("h --new x --busy y --wire=a:b z".to_owned(), "h --busy --wire=a:b", &["--new x", "y", "z"]),
            ("h -- --busy -V".to_owned(), "h --busy -V", &["--"]),
            // That a value is missing is for the parser to say.
            ("h --workers --new 1 --control-socket".to_owned(), "h --workers --control-socket", &["--new 1"]),
            ("h --work 1 ---busy = ü".to_owned(), "h", &["--work 1", "---busy =", "ü"]),
            ("h --busy=true --busy=0 --workers 1".to_owned(), "h --busy=true --busy=0 --workers 1", &[]),
            ("h --busy=perhaps --busy= --help=x".to_owned(), "h", &["--busy=perhaps", "--busy=", "--help=x"]),
            ("h --help".to_owned(), "h --help", &[]),
        ] {
            let (kept, left) = sorted(&line);
            assert_eq!(
                (kept.as_str(), left.as_slice()),
                (known, ignored.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>().as_slice()),
                "{line}"
            );
        }
        assert_eq!(Words::sort([], Args::command()), Words::default());
    }
}
