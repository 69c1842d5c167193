//! The socket's file: made with its mode, never taken from a living server, removed at the end.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with};

use super::error::ServeError;
use crate::region::{RegionError, WriterLock};
use crate::stop::Stop;
use crate::told::Shared;

/// Who may connect: the owner and the group.
const MODE: u32 = 0o660;
/// Clients that may wait to be accepted.
const BACKLOG: i32 = 256;

/// How long no client is accepted where one could not be.
const SHORT: Duration = Duration::from_millis(50);

/// The name of the second socket, in the directory of the first.
pub const SESSIONS_SOCKET: &str = "userspace-dp-sessions.sock";

/// Where a client comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// The control socket.
    Control,
    /// The second one, which new producers want for what must not wait behind their snapshots.
    Sessions,
}

/// Both sockets.
#[derive(Debug)]
pub(super) struct Sockets([(Door, Socket); 2]);

impl Sockets {
    /// Listens at `path` and beside it.
    pub(super) fn bind(path: &Path) -> Result<Sockets, ServeError> {
        let sessions = path.with_file_name(SESSIONS_SOCKET);
        if sessions == path {
            return Err(ServeError::Reserved { path: sessions });
        }
        Ok(Sockets([(Door::Control, Socket::bind(path)?), (Door::Sessions, Socket::bind(&sessions)?)]))
    }

    /// Sleeps until there is a client, or `stop` is set. The next one of each, if it has one.
    pub(super) fn accept(&self, stop: &Stop) -> Result<Vec<(Door, UnixStream)>, ServeError> {
        let [control, sessions] = self.0.each_ref().map(|(_, socket)| socket.listener.as_fd());
        let mut fds = [control, sessions, stop.as_fd()].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        match poll(&mut fds, None) {
            Err(Errno::INTR) => return Ok(Vec::new()),
            Ok(_) => {}
            Err(error) => {
                let path = self.0[0].1.path.clone();
                return Err(ServeError::Io { action: "wait for clients", path, source: error.into() });
            }
        }
        let ready = self.0.iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty());
        Ok(ready.filter_map(|((door, socket), _)| Some((*door, socket.accept(stop)?))).collect())
    }

    /// Whether the process at the other end may ask for anything: it runs as the same user as this one or as root,
    /// or belongs to the group that the socket's file has now. The file's mode says the same; this holds also
    /// where somebody has opened that up. Gives its process id; none where it cannot be seen from this PID namespace.
    pub(super) fn check_peer(&self, door: Door, stream: &UnixStream) -> Result<Option<i32>, String> {
        let [(_, control), (_, sessions)] = &self.0;
        match door {
            Door::Control => control.check_peer(stream),
            Door::Sessions => sessions.check_peer(stream),
        }
    }
}

/// A listening socket and its file.
#[derive(Debug)]
struct Socket {
    path: PathBuf,
    listener: UnixListener,
    /// Device and inode of the file.
    file: (u64, u64),
    /// Of clients that cannot be accepted.
    told: Shared,
    /// Held for as long as the socket: of two servers that start at once, one gets it.
    _lock: WriterLock,
}

impl Socket {
    /// Listens at `path`.
    pub(super) fn bind(path: &Path) -> Result<Socket, ServeError> {
        let io = |action| move |source: io::Error| ServeError::Io { action, path: path.to_owned(), source };
        let address = SocketAddrUnix::new(path).map_err(|e| io("use it as a socket's name")(e.into()))?;
        let lock = lock(path)?;
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(io("look at it")(error)),
            Ok(meta) if !meta.file_type().is_socket() => return Err(ServeError::NoSocket { path: path.to_owned() }),
            Ok(_) if is_served(&address).map_err(|e| io("connect to it")(e.into()))? => {
                return Err(ServeError::InUse { path: path.to_owned() });
            }
            Ok(_) => fs::remove_file(path).map_err(io("remove it, which nobody listens on,"))?,
        }
        let listening = || -> io::Result<UnixListener> {
            let socket = unix_socket()?;
            // Before the bind, which takes the mode over: at no moment may others connect.
            fchmod(&socket, Mode::from_raw_mode(MODE))?;
            bind(&socket, &address)?;
            // The umask may have taken the group's part away.
            fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
            listen(&socket, BACKLOG)?;
            Ok(socket.into())
        };
        let listener = listening().map_err(io("listen there"))?;
        let meta = fs::symlink_metadata(path).map_err(io("look at it"))?;
        Ok(Socket {
            path: path.to_owned(),
            listener,
            file: (meta.dev(), meta.ino()),
            told: Shared::default(),
            _lock: lock,
        })
    }

    /// The next client, if one is there.
    fn accept(&self, stop: &Stop) -> Option<UnixStream> {
        match self.listener.accept() {
            Ok((stream, _)) => {
                self.told.ends();
                Some(stream)
            }
            Err(error) => {
                // Gone again before it was accepted, or descriptors are short: for a moment, so do not spin.
                if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionAborted) {
                    if let Some(news) = self.told.is(&error.to_string()) {
                        tracing::warn!("a client cannot be accepted: {news}");
                    }
                    stop.wait(SHORT);
                }
                None
            }
        }
    }

    /// See [`Sockets::check_peer`].
    fn check_peer(&self, stream: &UnixStream) -> Result<Option<i32>, String> {
        let peer =
            getsockopt(stream, PeerCredentials).map_err(|error| format!("its credentials cannot be read: {error}"))?;
        let (uid, gid) = (peer.uid(), peer.gid());
        let own = rustix::process::geteuid().as_raw();
        // The kernel says 0 of one outside this process's PID namespace.
        let pid = Some(peer.pid()).filter(|pid| *pid > 0);
        if uid == own || uid == 0 {
            return Ok(pid);
        }
        let group = fs::symlink_metadata(&self.path).map(|meta| meta.gid());
        match group {
            Ok(group) if group == gid || pid.is_some_and(|pid| supplementary_groups(pid).contains(&group)) => Ok(pid),
            _ => Err(format!(
                "{} runs as uid {uid}, gid {gid} (allowed: uid {own}, root, and the group of the socket)",
                pid.map_or_else(|| "a process of another PID namespace".to_owned(), |pid| format!("process {pid}"))
            )),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Somebody else's by now, where it was removed and made again.
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|meta| (meta.dev(), meta.ino()) == self.file);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!("{}: cannot remove it: {error}", self.path.display());
        }
    }
}

fn unix_socket() -> Result<OwnedFd, Errno> {
    // Non-blocking: neither a connect to a full backlog nor an accept of a client that has gone may wait.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

/// Whether somebody listens there.
fn is_served(address: &SocketAddrUnix) -> Result<bool, Errno> {
    match connect(&unix_socket()?, address) {
        // Again: its backlog is full.
        Ok(()) | Err(Errno::AGAIN) => Ok(true),
        Err(Errno::CONNREFUSED) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The lock of whoever serves `path`. Its file stays: a lock on a file that is removed keeps nobody out.
fn lock(path: &Path) -> Result<WriterLock, ServeError> {
    WriterLock::acquire(path, Duration::ZERO).map_err(|error| match error {
        RegionError::Locked { .. } => ServeError::InUse { path: path.to_owned() },
        RegionError::Missing { .. } => {
            ServeError::Io { action: "open its lock file", path: path.to_owned(), source: ErrorKind::NotFound.into() }
        }
        source => ServeError::Lock { path: path.to_owned(), source },
    })
}

/// The supplementary groups of a process, which its credentials on a socket do not tell; none where it is gone.
fn supplementary_groups(pid: i32) -> Vec<u32> {
    groups_of(&fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default())
}

/// The same from what the kernel says of the process.
fn groups_of(status: &str) -> Vec<u32> {
    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or_default();
    groups.split_whitespace().filter_map(|group| group.parse().ok()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_only_if_nobody_listens_on_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let bound = Socket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, MODE);
        assert!(matches!(Socket::bind(&path), Err(ServeError::InUse { .. })));
        drop(bound);
        assert!(!path.exists());

        // Left by a process that was killed.
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(Socket::bind(&path).unwrap());

        // Of a program that knows no lock.
        let foreign = UnixListener::bind(&path).unwrap();
        assert!(matches!(Socket::bind(&path), Err(ServeError::InUse { .. })));
        drop(foreign);

        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        assert!(matches!(Socket::bind(&path), Err(ServeError::NoSocket { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn what_took_its_place_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let bound = Socket::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another").unwrap();
        drop(bound);
        assert!(path.exists());
    }

    #[test]
    fn a_name_that_is_too_long_is_an_error() {
        let path = PathBuf::from(format!("/tmp/{}", "x".repeat(200)));
        assert!(matches!(Socket::bind(&path), Err(ServeError::Io { .. })));
    }

    #[test]
    fn groups_of_a_process() {
        assert_eq!(groups_of("Name:\tx\nGroups:\t4 27 1000 \nNStgid:\t1\n"), [4, 27, 1000]);
        assert!(groups_of("Groups:\t \n").is_empty());
        let mine: Vec<u32> = rustix::process::getgroups().unwrap().iter().map(|gid| gid.as_raw()).collect();
        let mut found = supplementary_groups(std::process::id() as i32);
        found.sort_unstable();
        let mut mine = mine;
        mine.sort_unstable();
        assert_eq!(found, mine);
        assert!(supplementary_groups(i32::MAX).is_empty());
    }
}
