//! What can go wrong inside, and what it means for who uses the outbox.

use std::path::Path;

use rusqlite::{ErrorCode, ffi};
use southbridge_words::OutboxError;

/// What went wrong.
#[derive(Debug)]
pub(super) enum Trouble {
    /// SQLite says so.
    Sql(rusqlite::Error),
    /// What was read is not what was written.
    Damaged { place: String, reason: &'static str },
    /// A limit of ours is met.
    Full { reason: String },
}

pub(super) type Done<T> = Result<T, Trouble>;

impl Trouble {
    /// What was read at `place` is not what was written.
    pub(super) fn damaged(place: impl Into<String>, reason: &'static str) -> Self {
        Self::Damaged { place: place.into(), reason }
    }

    /// What it means, for the file at `path`.
    pub(super) fn explain(self, path: &Path) -> OutboxError {
        match self {
            Self::Sql(error) => explain(path, &error),
            Self::Damaged { place, reason } => {
                OutboxError::Damaged { place: format!("{place} in {path:?}"), reason: reason.to_owned() }
            }
            Self::Full { reason } => OutboxError::Full { reason },
        }
    }
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

fn explain(path: &Path, error: &rusqlite::Error) -> OutboxError {
    let place = format!("{path:?}");
    let said = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => OutboxError::Full {
            reason: format!("no room on the disk to write {place}: make some, and it goes on by itself"),
        },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            OutboxError::Damaged { place, reason: said }
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => OutboxError::Unavailable {
            reason: format!("{place} is read-only: let this user write it and its directory"),
        },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::OutOfMemory) => {
            OutboxError::Unavailable { reason: format!("{place}: {said}") }
        }
        Some(ErrorCode::SystemIoFailure) if is_about_reading(error) => {
            OutboxError::Damaged { place, reason: format!("the disk cannot read it: {said}") }
        }
        _ => match error {
            // A column holds what no version of this program writes there.
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::Utf8Error(..) => OutboxError::Damaged { place, reason: said },
            _ => OutboxError::Failed { reason: format!("{place}: {said}") },
        },
    }
}

fn is_about_reading(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map_or(0, |error| error.extended_code);
    [ffi::SQLITE_IOERR_READ, ffi::SQLITE_IOERR_SHORT_READ, ffi::SQLITE_IOERR_CORRUPTFS].contains(&code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(code: i32) -> OutboxError {
        let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        Trouble::Sql(error).explain(Path::new("/var/lib/southbridge.db"))
    }

    /// Faults row 20: each trouble of a disk has its own outcome.
    #[test]
    fn each_trouble_of_a_disk_has_its_own_outcome() {
        assert!(matches!(explained(ffi::SQLITE_FULL), OutboxError::Full { .. }));
        assert!(matches!(explained(ffi::SQLITE_READONLY_DBMOVED), OutboxError::Unavailable { .. }));
        assert!(matches!(explained(ffi::SQLITE_CORRUPT_INDEX), OutboxError::Damaged { .. }));
        assert!(matches!(explained(ffi::SQLITE_IOERR_READ), OutboxError::Damaged { .. }));
        assert!(matches!(explained(ffi::SQLITE_IOERR_WRITE), OutboxError::Failed { .. }));
        assert!(matches!(explained(ffi::SQLITE_IOERR_FSYNC), OutboxError::Failed { .. }));
        assert!(matches!(explained(ffi::SQLITE_IOERR_DIR_FSYNC), OutboxError::Failed { .. }));
    }
}
