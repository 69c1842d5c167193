//! What an error of the system means whatever was tried: the process has run out of something.

use std::io;

/// What this process has no more of, and what gives it more; empty for any other error.
pub fn shortage(error: &io::Error) -> &'static str {
    of(error.raw_os_error())
}

/// As [`shortage`], of an error that is at hand only as the text the standard library makes of one.
pub fn shortage_in(text: &str) -> &'static str {
    let named = |errno: &&i32| text.contains(&format!("(os error {errno})"));
    of([libc::EMFILE, libc::ENFILE, libc::ENOMEM].iter().find(named).copied())
}

/// Whether it is one of those that another way of doing the same would meet as well.
pub fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM))
}

fn of(errno: Option<i32>) -> &'static str {
    match errno {
        Some(libc::EMFILE) => {
            "; this process may have no more open files: raise its hard limit (ulimit -Hn, LimitNOFILE= of a unit)"
        }
        Some(libc::ENFILE) => "; the system has no more open files to give (sysctl fs.file-max)",
        Some(libc::ENOMEM) => {
            "; there is no memory for it: of the machine, or of the control group of this process (memory.max, MemoryMax= of a \
             unit)"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_known_as_a_number_and_as_text() {
        let no_files = io::Error::from_raw_os_error(libc::EMFILE);
        assert!(is_shortage(&no_files) && shortage(&no_files).contains("LimitNOFILE"));
        assert_eq!(shortage_in(&format!("loading: {no_files}")), shortage(&no_files));
        let no_memory = io::Error::from_raw_os_error(libc::ENOMEM);
        assert!(is_shortage(&no_memory) && shortage_in(&no_memory.to_string()).contains("MemoryMax="));
        let refused = io::Error::from_raw_os_error(libc::EINVAL);
        assert!(!is_shortage(&refused) && shortage(&refused).is_empty() && shortage_in("os error 240").is_empty());
    }
}
