//! Room that is kept for emptying.
//!
//! On a full disk nothing can be written, not even that something was delivered; and so nothing could be
//! delivered, nothing deleted, and the disk would stay full. So a file of a few megabytes lies beside the
//! database. When the disk is full it is deleted, and while it is away nothing new is accepted: its room is for
//! progress alone.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use tracing::{info, warn};

/// The file, or its absence.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    held: bool,
}

impl Reserve {
    /// Makes the file beside the database at `path`, if there is room.
    pub(super) fn beside(path: &Path) -> Self {
        let mut name = OsString::from(path);
        name.push("-reserve");
        let mut reserve = Self { path: name.into(), held: false };
        reserve.held = reserve.make();
        reserve
    }

    /// Whether it is there.
    pub(super) const fn is_held(&self) -> bool {
        self.held
    }

    /// Gives its room to the database; says whether there was any to give.
    pub(super) fn spend(&mut self) -> bool {
        if self.held {
            warn!(path = ?self.path, "the disk is full: the room kept for emptying the outbox is used");
            self.held = fs::remove_file(&self.path).is_err();
            return !self.held;
        }
        false
    }

    /// Takes the room back, if there is enough by now.
    pub(super) fn restore(&mut self) {
        if !self.held {
            self.held = self.make();
            if self.held {
                info!(path = ?self.path, "the disk has room again");
            }
        }
    }

    fn make(&self) -> bool {
        match self.try_make() {
            Ok(()) => true,
            Err(error) => {
                // A part of it would only make the disk fuller.
                let _ = fs::remove_file(&self.path);
                !matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
        }
    }

    fn try_make(&self) -> io::Result<()> {
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&self.path)?;
        match fallocate(&file, FallocateFlags::empty(), 0, RESERVE_BYTES) {
            // Some file systems cannot promise room; there it is filled.
            Err(Errno::OPNOTSUPP) => write_zeros(&file),
            other => Ok(other?),
        }
    }
}

fn write_zeros(mut file: &File) -> io::Result<()> {
    let missing = RESERVE_BYTES.saturating_sub(file.metadata()?.len());
    io::copy(&mut io::Read::take(io::repeat(0), missing), &mut file)?;
    file.sync_data()
}

/// How much is kept: the marks of ten thousand destinations a few times over.
pub(super) const RESERVE_BYTES: u64 = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// It is there, is given away once, and comes back.
    #[test]
    fn room_is_kept_spent_and_kept_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("southbridge.db");
        let mut reserve = Reserve::beside(&path);
        let file = directory.path().join("southbridge.db-reserve");
        assert_eq!(fs::metadata(&file).unwrap().len(), RESERVE_BYTES);
        assert!(reserve.spend());
        assert!(!reserve.spend() && !file.exists() && !reserve.is_held());
        reserve.restore();
        assert!(file.exists() && reserve.is_held());
        drop(Reserve::beside(&path));
        assert_eq!(fs::metadata(&file).unwrap().len(), RESERVE_BYTES, "it is found again");
    }
}
