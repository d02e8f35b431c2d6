//! The file that a download is written into, until it is whole: beside the one that it becomes.
//!
//! One that is begun anew has a name of its own and goes with whatever ends the download. One that can be gone on
//! with is `NAME.part`, and `NAME.part.tag` says of which version it is; both stay when the peer breaks off, and go
//! when the disk does.
//!
//! # Architecture Invariant
//! Everything here blocks, and happens on the thread for files.
//!
//! # Source
//! Issue 4, item 2; RFC 9110 §13.1.5 (`If-Range` takes a strong validator only).

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::download::Beginning;

/// A file that is not whole yet.
#[derive(Debug)]
pub(super) struct Partial {
    file: File,
    path: PathBuf,
    /// Where it says of which version it is, if it can be gone on with.
    tag: Option<PathBuf>,
    /// How many bytes it has.
    pub(super) bytes: u64,
    /// Of which version they are: an `ETag`, or a date.
    pub(super) version: Option<String>,
    stays: bool,
}

impl Partial {
    /// The file that becomes `target`: a new one, or what an earlier attempt left.
    pub(super) fn open(target: &Path, beginning: Beginning) -> io::Result<Self> {
        if target.file_name().is_none() || target.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "it names no file"));
        }
        match beginning {
            Beginning::Anew => {
                let path = target.with_file_name(format!(".southbridge-{:016x}.part", rand::random::<u64>()));
                let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
                Ok(Self { file, path, tag: None, bytes: 0, version: None, stays: false })
            }
            Beginning::Resume => Self::resume(beside(target, ".part"), beside(target, ".part.tag")),
        }
    }

    fn resume(path: PathBuf, tag: PathBuf) -> io::Result<Self> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                io::Error::new(io::ErrorKind::ResourceBusy, "another download writes it")
            }
            TryLockError::Error(error) => error,
        })?;
        let version = read_tag(&tag);
        let bytes = if version.is_some() { file.seek(SeekFrom::End(0))? } else { 0 };
        Ok(Self { file, path, tag: Some(tag), bytes, version, stays: true })
    }

    /// Throws away what it has; from here on it is of `version`.
    pub(super) fn restart(&mut self, version: Option<&str>) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.bytes = 0;
        self.version = version.map(str::to_owned);
        match (&self.tag, version) {
            (Some(tag), Some(version)) => fs::write(tag, version)?,
            (Some(tag), None) => remove(tag)?,
            (None, _) => {}
        }
        Ok(())
    }

    /// Adds `pieces` at its end.
    pub(super) fn write(&mut self, pieces: &[Bytes]) -> io::Result<()> {
        for piece in pieces {
            self.file.write_all(piece)?;
            self.bytes += piece.len() as u64;
        }
        Ok(())
    }

    /// It is whole, and becomes `target`: safe on the disk, and at once.
    pub(super) fn finish(mut self, target: &Path) -> io::Result<()> {
        self.stays = false;
        self.file.sync_all()?;
        fs::rename(&self.path, target)?;
        // What is put away from here on is the tag. The old name may be another download's by now.
        self.path = PathBuf::new();
        let directory = target.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }

    /// The disk failed it: it goes, whatever was to become of it.
    pub(super) fn discard(mut self) {
        self.stays = false;
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let is_of_use = self.stays && self.bytes > 0 && self.version.is_some();
        if !is_of_use {
            // Whoever removed it before us wanted the same.
            let _gone = fs::remove_file(&self.path);
            let _gone = self.tag.as_ref().map(fs::remove_file);
        }
    }
}

fn beside(target: &Path, more: &str) -> PathBuf {
    let mut name: OsString = target.file_name().unwrap_or_default().to_owned();
    name.push(more);
    target.with_file_name(name)
}

fn read_tag(tag: &Path) -> Option<String> {
    let mut version = String::new();
    File::open(tag).ok()?.take(TAG_BYTES_MAX).read_to_string(&mut version).ok()?;
    (!version.is_empty()).then_some(version)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// No validator that a server can send is longer: heads have 64 KiB at most.
const TAG_BYTES_MAX: u64 = 64 * 1024;
