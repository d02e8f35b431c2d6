//! The file itself, before SQLite sees it: whose it is, and how it is set aside.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use southbridge_words::WallTime;

use crate::StoreError;
use crate::schema::{APPLICATION_ID, OUTBOX_LAYOUT};

/// What the first bytes of a file say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Nothing is written yet.
    Nobody,
    /// We are. Also said of a head of zeros, which is what a crash of the system leaves.
    Ourselves {
        /// Whether accepted items may lie in it. Not known of a head of zeros, and then denied.
        has_outbox: bool,
    },
    /// Some SQLite database, without an application id or with another one.
    SomeDatabase { application_id: u32 },
    /// No SQLite database.
    Something,
}

/// Makes the file if need be, readable by its owner only: it tells whom the homeserver talks to.
pub(crate) fn create(path: &Path) -> Result<(), StoreError> {
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match created {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            Err(StoreError::CannotOpen { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Looks who owns the file.
pub(crate) fn owner(path: &Path) -> Result<Owner, StoreError> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    let read = File::open(path).and_then(|file| file.take(HEAD_BYTES as u64).read_to_end(&mut head));
    read.map_err(|source| StoreError::CannotOpen { path: path.to_owned(), source })?;
    if head.is_empty() {
        return Ok(Owner::Nobody);
    }
    if head.iter().all(|byte| *byte == 0) {
        return Ok(Owner::Ourselves { has_outbox: false });
    }
    let number =
        |at: usize| head.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
    Ok(match (number(ID_AT), number(LAYOUT_AT)) {
        (Some(application_id), Some(layout)) if head.starts_with(MAGIC) => match application_id {
            APPLICATION_ID => Owner::Ourselves { has_outbox: layout >= OUTBOX_LAYOUT },
            _ => Owner::SomeDatabase { application_id },
        },
        _ => Owner::Something,
    })
}

/// Moves a damaged file out of the way, with its log, under a name that says since when.
pub(crate) fn set_aside(path: &Path, wall: WallTime) -> Result<PathBuf, StoreError> {
    let aside = with_suffix(path, &format!(".corrupt-{}", wall.unix_millis() / 1000));
    let moved = fs::rename(path, &aside);
    moved.map_err(|source| StoreError::CannotOpen { path: path.to_owned(), source })?;
    for log in ["-wal", "-journal"] {
        // Most often there is none; one left behind would be taken for the new file's own.
        let (from, to) = (with_suffix(path, log), with_suffix(&aside, log));
        match fs::rename(&from, to) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::CannotOpen { path: from, source });
            }
            _ => {}
        }
    }
    Ok(aside)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

// The head of an SQLite file (https://www.sqlite.org/fileformat2.html, "The Database Header").
const HEAD_BYTES: usize = 100;
const MAGIC: &[u8] = b"SQLite format 3\0";
const ID_AT: usize = 68;
const LAYOUT_AT: usize = 60;
