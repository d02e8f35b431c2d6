//! What can go wrong with the file, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::ErrorCode;

/// Why the store could not be opened, or is not keeping what it was given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file or its directory cannot be opened.
    #[error("cannot open {path:?}: see that its directory exists and may be written by this user")]
    CannotOpen {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process holds the file, and did not let go in time.
    #[error(
        "{path:?} is held by another process, still after {waited:?}: stop it, or give each its own file"
    )]
    Locked {
        /// The file.
        path: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The file is no SQLite database at all. It is left as it is.
    #[error("{path:?} is not a database: remove it, or name another file as storage path")]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// The file is a database of some other program. It is left as it is.
    #[error(
        "{path:?} is the database of another program (application id {application_id:#x}): name another file as storage path"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it says of itself; ours is another.
        application_id: u32,
    },
    /// The file was written by a newer Southbridge. It is left as it is.
    #[error(
        "{path:?} has layout {layout}, this program knows up to {layout_max}: run the newer one, or name another file"
    )]
    TooNew {
        /// The file.
        path: PathBuf,
        /// The layout of the file.
        layout: u32,
        /// The newest layout known here.
        layout_max: u32,
    },
    /// The database is damaged.
    #[error("{path:?} is damaged: it is set aside at the next start, and begun anew")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: Box<rusqlite::Error>,
    },
    /// The database is damaged, and what was accepted for delivery lies in it. It is left as it is.
    #[error(
        "{path:?} is damaged, and holds messages that were accepted and not delivered: restore it and its -wal from a backup; or move both away to begin anew, and those messages are never delivered"
    )]
    DamagedOutbox {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: Box<rusqlite::Error>,
    },
    /// There is no room on the disk, or the file has reached its largest size.
    #[error("no room to write {path:?}: what is to be saved is kept in memory until there is")]
    DiskFull {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: Box<rusqlite::Error>,
    },
    /// The file may be read and not written.
    #[error("{path:?} is read-only: let this user write it and its directory")]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: Box<rusqlite::Error>,
    },
    /// Something else, the disk itself perhaps.
    #[error("cannot read or write {path:?}")]
    Failed {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: Box<rusqlite::Error>,
    },
    /// The thread has more to write than it may hold; these records were not taken.
    #[error("{path:?} is written more slowly than it is filled: {records} records were not taken")]
    Busy {
        /// The file.
        path: PathBuf,
        /// How many.
        records: usize,
    },
    /// The thread did not end in time; it may still be writing.
    #[error("{path:?} was not written to its end within {waited:?}")]
    NotFlushed {
        /// The file.
        path: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The thread of the store is gone.
    #[error("the thread that writes {path:?} is gone")]
    Stopped {
        /// The file.
        path: PathBuf,
    },
}

impl StoreError {
    /// What `source` means for the file at `path`.
    pub(crate) fn of(path: &Path, source: rusqlite::Error) -> Self {
        let (path, code) = (path.to_owned(), source.sqlite_error_code());
        let source = Box::new(source);
        match code {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt { path, source },
            Some(ErrorCode::DiskFull) => Self::DiskFull { path, source },
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Self::ReadOnly { path, source },
            Some(ErrorCode::CannotOpen) => Self::CannotOpen { path, source: io::Error::other(source) },
            _ => Self::Failed { path, source },
        }
    }

    /// A short name of the kind of error, for metrics and logs.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::CannotOpen { .. } => "cannot_open",
            Self::Locked { .. } => "locked",
            Self::NotADatabase { .. } => "not_a_database",
            Self::Foreign { .. } => "foreign",
            Self::TooNew { .. } => "too_new",
            Self::Corrupt { .. } => "corrupt",
            Self::DamagedOutbox { .. } => "damaged_outbox",
            Self::DiskFull { .. } => "disk_full",
            Self::ReadOnly { .. } => "read_only",
            Self::Failed { .. } => "failed",
            Self::Busy { .. } => "busy",
            Self::NotFlushed { .. } => "not_flushed",
            Self::Stopped { .. } => "stopped",
        }
    }
}
