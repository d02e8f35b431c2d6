//! `[storage]`: what survives a restart.

use std::path::{Path, PathBuf};
use std::time::Duration;

use southbridge_store_sqlite::RankStoreOptions;

use crate::config::key::{HOUR, Key, Kind, MIB, MINUTE, Section, count, duration, key, optional, size};
use crate::config::reader::Reader;

/// The settings of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// The database.
    pub path: PathBuf,
    /// Whether the file names it.
    pub given: bool,
    /// How often changed ranks are written.
    pub write_interval: Duration,
    /// How the file is used.
    pub options: RankStoreOptions,
}

impl Storage {
    pub(in crate::config) fn read(reader: &Reader<'_>, state_dir: &Path) -> Self {
        let path = reader.path("path").unwrap_or_else(|| state_dir.join("southbridge.db"));
        if reader.has("path")
            && let Err(reason) = check_place(&path)
        {
            reader.refuse("path", &reason);
        }
        let options = RankStoreOptions {
            lock_wait: reader.duration("lock_wait"),
            bytes_max: reader.size("bytes_max"),
            records_max: reader.count32("records_max"),
        };
        Self { path, given: reader.has("path"), write_interval: reader.duration("write_interval"), options }
    }
}

/// Whether a database can be made at `path`, as far as that can be seen without making it.
fn check_place(path: &Path) -> Result<(), String> {
    use rustix::fs::{Access, access};
    let shown = path.display();
    if path.is_dir() {
        return Err(format!("{shown} is a directory; name a file in it, such as \"{shown}/southbridge.db\""));
    }
    if path.exists() {
        let open = access(path, Access::READ_OK | Access::WRITE_OK);
        return open.map_err(|error| format!("{shown} cannot be written: {error}"));
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !dir.is_dir() {
        return Err(format!("directory {0} does not exist; make it with `mkdir -p {0}`", dir.display()));
    }
    access(dir, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| format!("directory {} cannot be written: {error}", dir.display()))
}

/// The keys of `[storage]`.
pub const SECTION: Section = Section {
    name: "storage",
    about: "What survives a restart: how hosts were doing and when they may be tried again.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    optional(
        "path",
        Kind::Path,
        "`southbridge.db` in the state directory",
        "The database (SQLite). Losing it costs a slower start, and nothing else.",
    ),
    key(
        "write_interval",
        duration(100, HOUR),
        "\"5s\"",
        "How often what changed is written. A crash forgets at most this much of what was learnt about hosts.",
    ),
    key(
        "lock_wait",
        duration(0, 10 * MINUTE),
        "\"10s\"",
        "How long to wait for another process to let go of the file, such as the predecessor in a hand-over.",
    ),
    key(
        "bytes_max",
        size(MIB, 1024 * 1024 * MIB),
        "\"256MiB\"",
        "The largest size of the file: room for a million hosts.",
    ),
    key(
        "records_max",
        count(16, 10_000_000),
        "100000",
        "Hosts kept, the latest seen: twice what is remembered in memory.",
    ),
];
