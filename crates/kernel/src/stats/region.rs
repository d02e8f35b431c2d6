//! The statistics region: memory, or a file in memory, that threads bump and other processes read.
//!
//! A region begins in memory of the process alone. [`Region::move_into`] gives it a file, behind the same addresses:
//! from then on another process can read it ([`super::Reading`]), also after this one has crashed. A forked child
//! is back in memory of its own, with every figure at zero, and may move into a file of its own.
//!
//! # Units
//! Sizes are bytes, all of the region's life.
//!
//! # Source
//! K10; DESIGN decision 11.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{FallocateFlags, fallocate, ftruncate};
use southbridge_words::WallTime;

use super::cells::{Cell, Counter, Gauge, Histogram};
use super::fork::{Home, Open, regions};
use super::layout::{HEADER_BYTES, MAGIC, PROGRAM_BYTES_MAX, VERSION, at};
use super::mapping::{Behind, Mapping};
use super::metric::{Kind, Metric, RegisterError};
use super::place::{Place, PlaceError};
use super::reading::Reading;
use super::registry::{Registry, Slot};
use crate::clock::Clock;

/// How a region is made.
#[derive(Clone, Debug)]
pub struct RegionOptions {
    /// The most bytes it may grow to; rounded up to whole pages, and at least 256 KiB, so that the kernel's own
    /// figures have room. Default 4 MiB: twenty thousand counters, or nine hundred histograms. What is not used is
    /// address space and no memory.
    pub bytes_max: u64,
    /// What the process calls itself.
    pub program: String,
}

impl Default for RegionOptions {
    fn default() -> Self {
        let program = std::env::args_os().next().map(PathBuf::from);
        let name =
            program.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        Self { bytes_max: 4 << 20, program: name.unwrap_or_default() }
    }
}

/// Counters, gauges and histograms in shared memory. Cheap to clone; all clones are one region, and any thread may
/// have one. When the last clone is gone its file is removed, so a file that stays tells of a crash; handles
/// ([`Counter`] and so on) go on working.
#[derive(Clone)]
pub struct Region {
    inner: Arc<Inner>,
}

struct Inner {
    id: u64,
    mapping: Arc<Mapping>,
}

impl Region {
    /// A region in memory.
    ///
    /// # Errors
    /// When the system gives no address space.
    pub fn new(options: &RegionOptions) -> io::Result<Self> {
        let bytes = usize::try_from(options.bytes_max.clamp(BYTES_MIN, BYTES_MAX)).unwrap_or(usize::MAX);
        let mapping = Arc::new(Mapping::new(bytes.next_multiple_of(rustix::param::page_size()))?);
        write_header(&mapping, &options.program);
        let mut regions = regions();
        let id = regions.id_next;
        regions.id_next += 1;
        let open = Open { id, mapping: Arc::clone(&mapping), registry: Registry::new(), home: None };
        regions.open.push(open);
        Ok(Self { inner: Arc::new(Inner { id, mapping }) })
    }

    /// The counter `metric`: a new one at zero, or the one that is registered already. Takes a lock; bumping does not.
    ///
    /// # Errors
    /// [`RegisterError`] when a name is bad, when it stands for another kind of figure, and when the region is full.
    pub fn counter(&self, metric: &Metric<'_>) -> Result<Counter, RegisterError> {
        let slot = self.register(metric, Kind::Counter)?;
        Ok(Counter::new(self.cell(slot), metric.unit))
    }

    /// The gauge `metric`, as [`Region::counter`].
    ///
    /// # Errors
    /// As for [`Region::counter`].
    pub fn gauge(&self, metric: &Metric<'_>) -> Result<Gauge, RegisterError> {
        let slot = self.register(metric, Kind::Gauge)?;
        Ok(Gauge::new(self.cell(slot), metric.unit))
    }

    /// The histogram `metric`, as [`Region::counter`].
    ///
    /// # Errors
    /// As for [`Region::counter`].
    pub fn histogram(&self, metric: &Metric<'_>) -> Result<Histogram, RegisterError> {
        let slot = self.register(metric, Kind::Histogram)?;
        let buckets = slot.buckets.expect("a histogram was registered, and it has buckets");
        Ok(Histogram::new(self.cell(slot), buckets, metric.unit))
    }

    /// Moves the region into a new file at `place`, where another process can read it. What it holds comes along;
    /// what other threads add in this very moment may be lost. A region that has a file stays there.
    ///
    /// # Errors
    /// [`PlaceError`] when there is no such place, or no room in it; the region then works on as it was.
    pub fn move_into(&self, place: &Place) -> Result<PathBuf, PlaceError> {
        place.prepare()?;
        let mut regions = regions();
        let open = regions.get(self.inner.id);
        if let Some(home) = &open.home {
            return Ok(home.path.clone());
        }
        let mapping = &self.inner.mapping;
        let started = mapping.word(at::STARTED).load(Ordering::Relaxed);
        let mut draft = place.draft(started, self.inner.id)?;
        let used = open.registry.used();
        let moved = grow(draft.file(), mapping.bytes(), used)
            .and_then(|()| draft.write(&mapping.copy(used)))
            .and_then(|()| mapping.replace(Behind::File(draft.file().as_fd())));
        moved.map_err(|source| place.refused(source))?;
        let (file, path) = draft.settle()?;
        open.home = Some(Home { file, path: path.clone() });
        Ok(path)
    }

    /// Where it lies; `None` while it is in memory only, which a forked child finds it to be.
    pub fn path(&self) -> Option<PathBuf> {
        regions().get(self.inner.id).home.as_ref().map(|home| home.path.clone())
    }

    /// The most bytes that it may grow to.
    pub fn bytes_max(&self) -> u64 {
        self.inner.mapping.bytes() as u64
    }

    /// Ends it in good order: its file goes away, so that nobody takes it for a crash. Handles go on working.
    pub fn close(&self) {
        let home = regions().get(self.inner.id).home.take();
        if let Some(home) = home {
            remove(home);
        }
    }

    /// Everything in it, as another process would read it.
    pub fn read(&self) -> Reading {
        Reading::parse(&self.inside()).unwrap_or_default()
    }

    /// What is in it.
    pub(super) fn inside(&self) -> Vec<u8> {
        let used = self.inner.mapping.word(at::USED).load(Ordering::Acquire);
        self.inner.mapping.copy(usize::try_from(used).unwrap_or(usize::MAX))
    }

    /// Says that its process is well, at `now`.
    pub(crate) fn beat(&self, now: WallTime) {
        self.inner.mapping.word(at::BEAT).store(now.unix_millis(), Ordering::Relaxed);
    }

    fn register(&self, metric: &Metric<'_>, kind: Kind) -> Result<Slot, RegisterError> {
        let mapping = &self.inner.mapping;
        let mut regions = regions();
        let Open { registry, home, .. } = regions.get(self.inner.id);
        let before = registry.used();
        registry.register(metric, kind, mapping, |end| {
            let Some(home) = home else { return true };
            // Writing to a file that has no room would end the process; asking first ends this registration only.
            let needed = before.next_multiple_of(STEP) < end;
            !needed || grow(&home.file, mapping.bytes(), end).is_ok()
        })
    }

    fn cell(&self, slot: Slot) -> Cell {
        Cell::new(Arc::clone(&self.inner.mapping), slot.value)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let mut regions = regions();
        let at = regions.open.iter().position(|open| open.id == self.id);
        let open = at.map(|at| regions.open.swap_remove(at));
        drop(regions);
        if let Some(home) = open.and_then(|open| open.home) {
            remove(home);
        }
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region").field("path", &self.path()).finish_non_exhaustive()
    }
}

fn remove(home: Home) {
    // Somebody may have been quicker; and what stays is cleaned up by whoever starts next.
    let _gone = std::fs::remove_file(&home.path);
    drop(home.file);
}

fn write_header(mapping: &Mapping, program: &str) {
    let set = |at: usize, value: u64| mapping.word(at).store(value, Ordering::Relaxed);
    let now = Clock::start().wall().unix_millis();
    let mut version = [0; 8];
    version[..4].copy_from_slice(&VERSION.to_ne_bytes());
    version[4..].copy_from_slice(&(HEADER_BYTES as u32).to_ne_bytes());
    mapping.write(at::VERSION, &version);
    set(at::CAPACITY, mapping.bytes() as u64);
    set(at::USED, HEADER_BYTES as u64);
    set(at::PID, u64::from(std::process::id()));
    set(at::STARTED, now);
    set(at::BEAT, now);
    let longest = PROGRAM_BYTES_MAX.min(program.len());
    let cut = (0..=longest).rev().find(|at| program.is_char_boundary(*at)).unwrap_or(0);
    set(at::PROGRAM, cut as u64);
    mapping.write(at::PROGRAM + 8, &program.as_bytes()[..cut]);
    mapping.write(at::MAGIC, &MAGIC);
}

/// Makes `file` as long as the mapping, with memory up to `used`; the rest is a hole.
fn grow(file: &File, bytes: usize, used: usize) -> io::Result<()> {
    ftruncate(file, bytes as u64)?;
    let wanted = used.next_multiple_of(STEP).min(bytes);
    fallocate(file, FallocateFlags::empty(), 0, wanted as u64)?;
    Ok(())
}

/// Room for the kernel's own figures, and some.
const BYTES_MIN: u64 = 256 << 10;
/// Nobody reads through more.
pub(super) const BYTES_MAX: u64 = 64 << 20;
/// The memory of a file grows by so much at a time.
const STEP: usize = 64 << 10;
