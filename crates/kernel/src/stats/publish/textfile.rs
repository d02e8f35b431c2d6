//! A file in the text format of Prometheus, for node_exporter's textfile collector.
//!
//! A disk may be slow or hang, so the file is written by a thread of its own, which is handed one page at a time. A
//! page is written beside the file and then takes its name: a reader finds the old one or the new one, whole.
//!
//! # Source
//! K10.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// A file that is written at an interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileConfig {
    /// Where; node_exporter wants a name that ends in `.prom`.
    pub path: PathBuf,
    /// How often. Default 15 s, a usual interval between scrapes.
    pub interval: Duration,
}

impl FileConfig {
    /// The file at `path`, with the defaults.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), interval: Duration::from_secs(15) }
    }
}

/// Hands pages to the thread that writes. The thread ends when this is dropped.
pub(super) struct Writer {
    pages: SyncSender<String>,
}

impl Writer {
    pub(super) fn start(path: &Path) -> io::Result<Self> {
        // One that is being written, and one that waits.
        let (pages, received) = sync_channel(1);
        let path = path.to_owned();
        let thread = std::thread::Builder::new().name("southbridge-file".to_owned());
        // It is not waited for at the end: the disk may hang.
        let _unwatched = thread.spawn(move || write_all(&path, &received))?;
        Ok(Self { pages })
    }

    /// Has `page` written; 1 when the last ones are not yet, and this one is left out.
    pub(super) fn write(&self, page: String) -> u64 {
        u64::from(self.pages.try_send(page).is_err())
    }
}

fn write_all(path: &Path, pages: &Receiver<String>) {
    let mut failing = false;
    while let Ok(page) = pages.recv() {
        let written = write(path, &page);
        match &written {
            Ok(()) if failing => {
                tracing::info!(path = %path.display(), "the statistics file is written again");
            }
            Err(error) if !failing => {
                tracing::warn!(path = %path.display(), %error, "the statistics file cannot be written at the moment");
            }
            _ => {}
        }
        failing = written.is_err();
    }
}

fn write(path: &Path, page: &str) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(name);
    let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&beside);
    let renamed =
        written.and_then(|mut file| file.write_all(page.as_bytes())).and_then(|()| fs::rename(&beside, path));
    if renamed.is_err() {
        let _perhaps_never_made = fs::remove_file(&beside);
    }
    renamed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_takes_the_place_of_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("southbridge.prom");
        write(&path, "a 1\n").unwrap();
        write(&path, "a 2\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "a 2\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    /// Somebody has made a directory where the file should be.
    #[test]
    fn a_file_that_cannot_be_written_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("southbridge.prom");
        fs::create_dir(&path).unwrap();
        assert!(write(&path, "a 1\n").is_err());
        assert!(write(&dir.path().join("not/there.prom"), "a 1\n").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
