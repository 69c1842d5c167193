//! Why there is no server.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::region::RegionError;

/// Why there is no server.
#[derive(Debug, Error)]
pub enum ServeError {
    /// Another server has the socket.
    #[error("{}: somebody listens there already (end that one first, or use a --socket in another directory)", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// The second socket would have this name.
    #[error("{}: is the name of the second socket beside this one (give --socket another name)", path.display())]
    Reserved {
        /// The socket.
        path: PathBuf,
    },
    /// Something else has its name.
    #[error("{}: is there and is no socket; it is left alone (remove it, or use another --socket)", path.display())]
    NoSocket {
        /// The file.
        path: PathBuf,
    },
    /// Its lock file is not to be trusted, or cannot be locked.
    #[error("{}: cannot be served: {source}", path.display())]
    Lock {
        /// The socket.
        path: PathBuf,
        /// What is wrong with the lock file.
        source: RegionError,
    },
    /// The system refuses.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The socket.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}
