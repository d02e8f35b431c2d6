//! Where regions lie: a directory of this user alone, in memory where there is one such.
//!
//! Files are called `PID-START-N.stats`. Each is locked for as long as its process lives, so a file that nobody has
//! locked is what a crash left behind. Some of those are kept to be read; the others go when the next process starts.
//!
//! # Source
//! K10. Pages of a file on a disk are written back while they are bumped, which can hold a thread up; hence memory.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;
use southbridge_words::WallTime;

use super::layout::{HEADER_BYTES, at};

/// A directory for regions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    dir: PathBuf,
    /// Made as well when it is missing.
    parent: Option<PathBuf>,
}

/// How many files of crashed processes are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepLimits {
    /// The most of them, the latest. Default 8.
    pub files_max: usize,
    /// Since when they were last alive, at most. Default a week: whoever wants to know has looked by then.
    pub age_max: Duration,
}

impl Default for KeepLimits {
    fn default() -> Self {
        Self { files_max: 8, age_max: Duration::from_secs(7 * 24 * 3600) }
    }
}

/// Why a region has no file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// Somebody else can get in there.
    #[error("{} is not for this user alone ({problem}); remove it, or name another directory", .dir.display())]
    Open {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// It cannot be made, or nothing can be made in it.
    #[error("no statistics file can be made in {}", .dir.display())]
    Refused {
        /// The directory.
        dir: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// A file of a region that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where.
    pub path: PathBuf,
    /// Whose, as its name says.
    pub pid: u32,
    /// Whether its process lives.
    pub alive: bool,
    /// When it was last alive.
    pub seen_at: WallTime,
}

impl Place {
    /// The directory `dir`, which is made when it is missing.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), parent: None }
    }

    /// Where the customs of the system want it: `statistics` in systemd's `RUNTIME_DIRECTORY`; else `southbridge` in
    /// `XDG_RUNTIME_DIR`; else `southbridge-UID` in `/dev/shm` or, where there is none, the temporary directory.
    pub fn of_process() -> Self {
        let uid = rustix::process::geteuid().as_raw();
        Self::of(|name| std::env::var(name).ok(), Path::new("/dev/shm"), uid)
    }

    fn of(variable: impl Fn(&str) -> Option<String>, memory: &Path, uid: u32) -> Self {
        let given = |name: &str| variable(name).filter(|value| value.starts_with('/'));
        // systemd separates several directories by colons; the first is ours.
        let of_unit = given("RUNTIME_DIRECTORY");
        if let Some(dir) = of_unit.as_deref().and_then(|dirs| dirs.split(':').next()) {
            return Self { dir: Path::new(dir).join("statistics"), parent: Some(dir.into()) };
        }
        if let Some(dir) = given("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_dir()) {
            return Self::new(dir.join("southbridge"));
        }
        let shared = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        Self::new(shared.join(format!("southbridge-{uid}")))
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The files there, the latest first. None when there is no such directory.
    pub fn files(&self) -> Vec<Found> {
        let mut found = self.everything();
        found.retain(|found| found.path.extension().is_some_and(|kind| kind == "stats"));
        found
    }

    /// Drafts as well.
    fn everything(&self) -> Vec<Found> {
        let Ok(entries) = fs::read_dir(&self.dir) else { return Vec::new() };
        let paths = entries.take(ENTRIES_MAX).flatten().map(|entry| entry.path());
        let mut found: Vec<Found> = paths.filter_map(|path| look(&path)).collect();
        found.sort_by(|one, other| other.seen_at.cmp(&one.seen_at).then_with(|| one.path.cmp(&other.path)));
        found
    }

    /// Removes what crashed processes left, but for the latest `keep`.
    pub fn clean(&self, keep: &KeepLimits, now: WallTime) {
        let dead = self.everything().into_iter().filter(|found| !found.alive);
        let of_use = |found: &Found| now.saturating_since(found.seen_at) <= keep.age_max;
        for (place, found) in dead.enumerate() {
            if place >= keep.files_max || !of_use(&found) {
                // Whoever starts at the same time may have been quicker.
                let _gone = fs::remove_file(&found.path);
            }
        }
    }

    /// Makes the directory, and looks that it is ours alone.
    pub(crate) fn prepare(&self) -> Result<(), PlaceError> {
        let mut builder = fs::DirBuilder::new();
        for dir in self.parent.iter().chain([&self.dir]) {
            match builder.mode(0o700).create(dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(self.refused(error)),
                _ => {}
            }
        }
        let found = fs::symlink_metadata(&self.dir).map_err(|error| self.refused(error))?;
        let problem = if !found.is_dir() {
            "it is no directory".to_owned()
        } else if found.uid() != rustix::process::geteuid().as_raw() {
            format!("it belongs to user {}", found.uid())
        } else if found.mode() & 0o077 != 0 {
            format!("its mode is {:04o}, not 0700", found.mode() & 0o7777)
        } else {
            return Ok(());
        };
        Err(PlaceError::Open { dir: self.dir.clone(), problem })
    }

    pub(super) fn refused(&self, source: io::Error) -> PlaceError {
        PlaceError::Refused { dir: self.dir.clone(), source }
    }

    /// A new file, locked, under a name that nobody looks for yet.
    pub(super) fn draft(&self, started: u64, number: u64) -> Result<Draft<'_>, PlaceError> {
        let name = format!("{}-{started}-{number}", std::process::id());
        let path = self.dir.join(format!("{name}.new"));
        // Left by a process of the same number that died in this very place.
        let _mostly_not_there = fs::remove_file(&path);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = options.open(&path).map_err(|error| self.refused(error))?;
        file.lock().map_err(|error| self.refused(error))?;
        Ok(Draft { place: self, file: Some(file), path, name: format!("{name}.stats") })
    }
}

/// A file in the making; removed unless it is settled.
pub(super) struct Draft<'a> {
    place: &'a Place,
    file: Option<File>,
    path: PathBuf,
    name: String,
}

impl Draft<'_> {
    pub(super) fn file(&self) -> &File {
        self.file.as_ref().expect("a draft has its file until it is settled")
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file().write_all(bytes)
    }

    /// Gives it its name, under which it is looked for.
    pub(super) fn settle(mut self) -> Result<(File, PathBuf), PlaceError> {
        let path = self.place.dir.join(&self.name);
        fs::rename(&self.path, &path).map_err(|error| self.place.refused(error))?;
        let file = self.file.take().expect("a draft has its file until it is settled");
        Ok((file, path))
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _gone = fs::remove_file(&self.path);
        }
    }
}

/// Opens a file of a region to read it.
pub(super) fn open(path: &Path) -> io::Result<File> {
    // A pipe of the same name must not hold us up.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path)
}

/// Whether the process that made `file` lives: it has locked it. Several may ask at the same time.
pub(super) fn is_alive(file: &File) -> bool {
    match file.try_lock_shared() {
        Ok(()) => {
            let _at_the_latest_when_closed = file.unlock();
            false
        }
        Err(TryLockError::WouldBlock) => true,
        Err(TryLockError::Error(_)) => false,
    }
}

fn look(path: &Path) -> Option<Found> {
    let name = path.file_name()?.to_str()?;
    let name = name.strip_suffix(".stats").or_else(|| name.strip_suffix(".new"))?;
    let mut parts = name.split('-').map(str::parse::<u64>);
    let (Some(Ok(pid)), Some(Ok(started))) = (parts.next(), parts.next()) else { return None };
    let mut file = open(path).ok()?;
    let mut header = [0; HEADER_BYTES];
    let beat = match file.read(&mut header) {
        Ok(HEADER_BYTES) => header[at::BEAT..].first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes)),
        _ => 0,
    };
    let seen_at = WallTime::from_unix_millis(beat.max(started));
    Some(Found { path: path.to_owned(), pid: u32::try_from(pid).ok()?, alive: is_alive(&file), seen_at })
}

/// Nobody has more processes; what lies there besides is not ours.
const ENTRIES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn of(variables: &[(&str, &str)], memory: &Path) -> PathBuf {
        let find = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Place::of(find, memory, 1000).dir
    }

    #[test]
    fn the_place_follows_the_customs_of_the_system() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().to_str().unwrap();
        assert_eq!(of(&[("RUNTIME_DIRECTORY", "/run/a:/run/b")], dir.path()), Path::new("/run/a/statistics"));
        assert_eq!(of(&[("XDG_RUNTIME_DIR", run)], dir.path()), dir.path().join("southbridge"));
        assert_eq!(of(&[("XDG_RUNTIME_DIR", "/not/there")], dir.path()), dir.path().join("southbridge-1000"));
        assert_eq!(of(&[], dir.path()), dir.path().join("southbridge-1000"));
        assert!(of(&[], Path::new("/not/there")).ends_with("southbridge-1000"));
    }

    /// In a directory for everybody, anybody can have made ours first.
    #[test]
    fn a_directory_that_others_can_enter_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let ours = dir.path().join("ours");
        let place = Place::new(&ours);
        place.prepare().unwrap();
        assert_eq!(fs::metadata(&ours).unwrap().mode() & 0o777, 0o700);
        place.prepare().unwrap();
        fs::set_permissions(&ours, fs::Permissions::from_mode(0o755)).unwrap();
        let error = place.prepare().unwrap_err().to_string();
        assert!(error.contains("its mode is 0755"), "{error}");
        std::os::unix::fs::symlink(dir.path(), dir.path().join("link")).unwrap();
        let error = Place::new(dir.path().join("link")).prepare().unwrap_err().to_string();
        assert!(error.contains("no directory"), "{error}");
        assert!(matches!(Place::new(dir.path().join("a/b/c")).prepare(), Err(PlaceError::Refused { .. })));
    }

    /// Eleven processes have crashed, one long ago, and one lives.
    #[test]
    fn the_latest_crashes_are_kept_and_the_living() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new(dir.path().join("p"));
        place.prepare().unwrap();
        let write = |name: &str| fs::write(place.dir().join(name), "").unwrap();
        for crash in 1..=10 {
            write(&format!("{crash}-{}-0.stats", 1_000_000 + crash));
        }
        write("11-5-0.stats");
        write("12-1000-0.new");
        write("notes.txt");
        let living = place.draft(7, 0).unwrap().settle().unwrap();
        let keep = KeepLimits { files_max: 3, age_max: Duration::from_secs(900) };
        place.clean(&keep, WallTime::from_unix_millis(1_000_010));
        let left: Vec<(u32, bool)> = place.files().iter().map(|found| (found.pid, found.alive)).collect();
        assert_eq!(left, [(10, false), (9, false), (8, false), (std::process::id(), true)]);
        assert!(place.dir().join("notes.txt").exists(), "what is not ours stays");
        place.clean(&keep, WallTime::from_unix_millis(2_000_000));
        assert_eq!(place.files().len(), 1, "the dead have grown old");
        drop(living);
        assert!(!place.files()[0].alive);
    }
}
