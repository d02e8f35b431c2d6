//! Where debug sockets lie, and which are there.
//!
//! A socket is called `PID-START.debug`. Its directory belongs to its user alone, so nobody else can put anything in
//! there, and it is looked at before every use. One that nobody listens at, and whose process is gone, was left by a crash.
//!
//! # Source
//! K13.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use southbridge_words::WallTime;

use crate::net::ListenError;
use crate::stats::{Place, PlaceError};

/// Why a process has no debug socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DebugError {
    /// The directory.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The socket.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// The debug socket of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebugSocket {
    /// Where.
    pub path: PathBuf,
    /// Whose, as its name says.
    pub pid: u32,
    /// When its kernel started.
    pub started_at: WallTime,
}

/// Where a process of this user puts its socket: `southbridge` in `XDG_RUNTIME_DIR`; else `southbridge-UID` in `/dev/shm`
/// or, where there is none, in the temporary directory.
pub fn directory() -> PathBuf {
    let uid = rustix::process::geteuid().as_raw();
    let given = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let runtime = given.filter(|dir| dir.is_absolute() && dir.is_dir());
    runtime.map_or_else(|| shared(uid), |dir| dir.join("southbridge"))
}

/// Where processes of `uid` may have put theirs.
pub fn directories(uid: u32) -> Vec<PathBuf> {
    let mut all = vec![PathBuf::from(format!("/run/user/{uid}/southbridge")), shared(uid)];
    if uid == rustix::process::geteuid().as_raw() {
        all.insert(0, directory());
    }
    let mut seen = Vec::new();
    all.retain(|dir| {
        !seen.contains(dir) && {
            seen.push(dir.clone());
            true
        }
    });
    all
}

fn shared(uid: u32) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let shared = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    shared.join(format!("southbridge-{uid}"))
}

/// The sockets in `dir`, the oldest first; none where it is not `uid`'s alone, for then anybody may have put them there.
pub fn sockets(dir: &Path, uid: u32) -> Vec<DebugSocket> {
    let Ok(found) = fs::symlink_metadata(dir) else { return Vec::new() };
    if !found.is_dir() || found.uid() != uid || found.mode() & 0o077 != 0 {
        return Vec::new();
    }
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut found: Vec<DebugSocket> =
        entries.take(ENTRIES_MAX).flatten().filter_map(|entry| look(entry.path())).collect();
    found.sort_by_key(|socket| (socket.started_at, socket.pid));
    found
}

/// Where this process puts its socket in `dir`, which is made if need be. What crashed processes left there is removed.
pub(super) fn path_of_this(dir: &Path, now: WallTime) -> Result<PathBuf, DebugError> {
    Place::new(dir).prepare()?;
    for socket in sockets(dir, rustix::process::geteuid().as_raw()) {
        if socket.is_left_behind() {
            // Whoever starts at the same time may have been quicker.
            let _gone = fs::remove_file(&socket.path);
        }
    }
    Ok(dir.join(format!("{}-{}.debug", std::process::id(), now.unix_millis())))
}

impl DebugSocket {
    /// Whether its process is gone. One whose process number is in use again, or is one of another container, is asked.
    pub fn is_left_behind(&self) -> bool {
        !Path::new(&format!("/proc/{}", self.pid)).exists()
            && UnixStream::connect(&self.path)
                .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    }
}

fn look(path: PathBuf) -> Option<DebugSocket> {
    let (pid, started) = path.file_name()?.to_str()?.strip_suffix(".debug")?.split_once('-')?;
    let (pid, started) = (pid.parse().ok()?, started.parse().ok()?);
    let is_socket = fs::symlink_metadata(&path).ok()?.file_type().is_socket();
    is_socket.then_some(DebugSocket { path, pid, started_at: WallTime::from_unix_millis(started) })
}

/// Nobody has more processes; what lies there besides is not ours.
const ENTRIES_MAX: usize = 4096;
