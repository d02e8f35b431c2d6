//! Where a program's figures are kept, and how they get out.
//!
//! There is one region for each process, which the program and its kernel count in. It has a file as soon as the
//! program has a figure of its own or asks for statistics; what is published is published by the I/O thread, which
//! needs no interpreter for it.
//!
//! A forked child counts for itself (decision 0012). Its first sign of life here gives it a file of its own, and has
//! it publish by itself what does not belong to its parent alone.
//!
//! # Architecture Invariant
//! The settings are locked only while the thread is attached to the interpreter, and never when it lets go: so nobody
//! holds the lock at `os.fork`.
//!
//! # Units
//! Intervals are seconds, as `float`.
//!
//! # Source
//! K10; decision 0012.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::seam::{
    Clock, FileConfig, KeepLimits, ListenAddress, Place, PublishConfig, Region, RegionOptions, StatsdConfig,
    Tags,
};
use crate::{errors, ffi, process, seam};

/// What a program, or its environment, says of its statistics.
#[derive(Clone, Default)]
struct Settings {
    dir: Dir,
    bytes_max: Option<u64>,
    publish: PublishConfig,
    /// Whether anything of all that was said.
    wanted: bool,
    /// The process that said it.
    process: u32,
}

/// Where the file of the region lies.
#[derive(Clone, Default)]
enum Dir {
    /// Where the customs of the system want it.
    #[default]
    Usual,
    At(PathBuf),
    /// There is to be none.
    Off,
}

static REGION: OnceLock<Region> = OnceLock::new();
static SETTINGS: Mutex<Option<Settings>> = Mutex::new(None);
/// The process, counted from one, that has done what the settings say.
static SETTLED: AtomicU64 = AtomicU64::new(0);
/// The same, that has had its kernel publish.
static PUBLISHED: AtomicU64 = AtomicU64::new(0);

/// Where figures are, in this process.
#[pyclass(frozen, get_all, module = "southbridge._kernel")]
pub struct Statistics {
    /// The file that `southbridge stats` reads; none while figures are in memory only.
    path: Option<PathBuf>,
    /// Where Prometheus can ask: `127.0.0.1:9102`, `unix:PATH`.
    prometheus: Option<String>,
}

/// Says where figures are kept and who is told of them. What is left out stays as the environment says.
#[pyfunction]
#[pyo3(
    signature = (**settings),
    text_signature = "(*, directory=None, bytes_max=None, prometheus=None, statsd=None, statsd_interval=None, statsd_prefix=None, statsd_tags=None, file=None, file_interval=None)"
)]
pub fn statistics(py: Python<'_>, settings: Option<&Bound<'_, PyDict>>) -> PyResult<Statistics> {
    let _visit = process::visit(py)?;
    let mut said = current(py)?;
    said.wanted = true;
    said.process = ffi::process();
    let mut statsd = Statsd::default();
    for (name, value) in settings.into_iter().flatten() {
        let name = name.cast_into::<PyString>()?;
        if !value.is_none() {
            said.read(&mut statsd, &name.to_cow()?, &value)?;
        }
    }
    statsd.complete(py, &mut said.publish)?;
    if let (Some(bytes), Some(region)) = (said.bytes_max, REGION.get())
        && region.bytes_max() < bytes
    {
        return Err(invalid(py, "bytes_max is said too late: there are figures, or a kernel, already"));
    }
    let explicit = !matches!(said.dir, Dir::Usual);
    *lock() = Some(said.clone());
    let settled = settle(py, &said)?;
    match settled.refused {
        Some(reason) if explicit => Err(invalid(py, &reason)),
        _ => Ok(Statistics { path: region(py)?.path(), prometheus: settled.prometheus }),
    }
}

/// The region of this process, made on first use.
///
/// # Errors
/// `InvalidSettingError` for what the environment says, `SouthbridgeError` when there is no memory.
pub fn region(py: Python<'_>) -> PyResult<&'static Region> {
    if let Some(region) = REGION.get() {
        return Ok(region);
    }
    let bytes_max = current(py)?.bytes_max;
    let options = RegionOptions::default();
    let options = RegionOptions { bytes_max: bytes_max.unwrap_or(options.bytes_max), ..options };
    let made = Region::new(&options)
        .map_err(|error| errors::plain(py, &format!("no memory for statistics can be mapped: {error}")))?;
    Ok(REGION.get_or_init(|| made))
}

/// The region, for one who has a figure in it: it has a file, if there is one to be had.
///
/// # Errors
/// As [`region`], and what the kernel says that is to publish.
pub fn region_of_figures(py: Python<'_>) -> PyResult<&'static Region> {
    let region = region(py)?;
    if !is_settled() {
        let said = current(py)?;
        settle(py, &said)?;
    }
    Ok(region)
}

/// Whether this process has done what is to be done once in each. Asked by every bump: one load and a comparison.
pub fn is_settled() -> bool {
    SETTLED.load(Ordering::Relaxed) == this_process()
}

/// The first bump in a child that was forked off. It counts, whatever comes of the rest.
#[cold]
pub fn settle_in_child(py: Python<'_>) {
    if let Ok(said) = current(py) {
        let _counted_in_memory_only = settle(py, &said);
    }
}

/// The kernel of this process runs. It publishes, if there is a file or somebody to be told.
///
/// # Errors
/// `InvalidSettingError` for what the environment says.
pub fn kernel_runs(py: Python<'_>) -> PyResult<()> {
    if PUBLISHED.swap(this_process(), Ordering::Relaxed) == this_process() {
        return Ok(());
    }
    let said = current(py)?;
    // A child of somebody who had figures has them, too.
    if said.wanted || SETTLED.load(Ordering::Relaxed) != 0 {
        settle(py, &said)?;
    }
    Ok(())
}

/// Ends in good order: the file goes, since one that stays tells of a crash.
pub fn close() {
    if let Some(region) = REGION.get() {
        region.close();
    }
}

fn this_process() -> u64 {
    u64::from(ffi::process()) + 1
}

/// What came of it.
struct Settled {
    prometheus: Option<String>,
    /// Why there is no file.
    refused: Option<String>,
}

fn settle(py: Python<'_>, said: &Settings) -> PyResult<Settled> {
    let region = region(py)?;
    SETTLED.store(this_process(), Ordering::Relaxed);
    let place = match &said.dir {
        Dir::Off => None,
        Dir::Usual => Some(Place::of_process()),
        Dir::At(dir) => Some(Place::new(dir)),
    };
    let moved = place.map(|place| {
        if region.path().is_none() {
            place.clean(&KeepLimits::default(), Clock::start().wall());
        }
        region.move_into(&place)
    });
    let refused = moved.and_then(Result::err).map(|error| seam::explain(&error));
    let publish = said.publish_here();
    let prometheus =
        if is_told_to_somebody(&publish) || process::has_kernel() { published(py, publish)? } else { None };
    Ok(Settled { prometheus, refused })
}

fn published(py: Python<'_>, config: PublishConfig) -> PyResult<Option<String>> {
    PUBLISHED.store(this_process(), Ordering::Relaxed);
    let listening = Arc::new(OnceLock::new());
    let port = process::attach(py, "statistics")?;
    let _visit = process::visit(py)?;
    let told = Arc::clone(&listening);
    py.detach(|| seam::publish(&port, config, told)).map_err(|failure| errors::of_failure(py, &failure))?;
    Ok(listening.get().map(ListenAddress::to_string))
}

fn is_told_to_somebody(config: &PublishConfig) -> bool {
    config.prometheus.is_some() || config.statsd.is_some() || config.file.is_some() || config.otlp.is_some()
}

fn lock() -> MutexGuard<'static, Option<Settings>> {
    SETTINGS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What has been said, and otherwise what the environment says.
fn current(py: Python<'_>) -> PyResult<Settings> {
    if let Some(said) = &*lock() {
        return Ok(said.clone());
    }
    let said = Settings::from_environment(py)?;
    Ok(lock().get_or_insert(said).clone())
}

impl Settings {
    fn from_environment(py: Python<'_>) -> PyResult<Self> {
        let mut said = Self { process: ffi::process(), ..Self::default() };
        let said_by = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        if let Some(place) = said_by("SOUTHBRIDGE_STATISTICS") {
            said.wanted = place != "off";
            said.dir = if place == "off" { Dir::Off } else { Dir::At(place.into()) };
        }
        let named = |name, error: PyErr| invalid(py, &format!("{name}: {}", error.value(py)));
        if let Some(address) = said_by("SOUTHBRIDGE_STATISTICS_PROMETHEUS") {
            let address = listen_address(py, &address);
            said.publish.prometheus =
                Some(address.map_err(|error| named("SOUTHBRIDGE_STATISTICS_PROMETHEUS", error))?);
        }
        if let Some(server) = said_by("SOUTHBRIDGE_STATISTICS_STATSD") {
            let statsd = Statsd { server: Some(server), ..Statsd::default() };
            let read = statsd.complete(py, &mut said.publish);
            read.map_err(|error| named("SOUTHBRIDGE_STATISTICS_STATSD", error))?;
        }
        said.publish.file = said_by("SOUTHBRIDGE_STATISTICS_FILE").map(FileConfig::new);
        said.wanted |= is_told_to_somebody(&said.publish);
        Ok(said)
    }

    fn read(&mut self, statsd: &mut Statsd, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        match name {
            "directory" => self.dir = Dir::At(value.extract()?),
            "bytes_max" => self.bytes_max = Some(value.extract()?),
            "prometheus" => {
                self.publish.prometheus =
                    Some(listen_address(value.py(), &value.cast::<PyString>()?.to_cow()?)?);
            }
            "statsd" => statsd.server = Some(value.extract()?),
            "statsd_interval" => statsd.interval = Some(interval(value)?),
            "statsd_prefix" => statsd.prefix = Some(value.extract()?),
            "statsd_tags" => statsd.tags = Some(value.extract()?),
            "file" => {
                let interval = self.publish.file.take().map(|file| file.interval);
                let file = FileConfig::new(value.extract::<PathBuf>()?);
                self.publish.file = Some(FileConfig { interval: interval.unwrap_or(file.interval), ..file });
            }
            "file_interval" => {
                let interval = interval(value)?;
                let file = self.publish.file.take().unwrap_or_else(|| FileConfig::new(""));
                self.publish.file = Some(FileConfig { interval, ..file });
            }
            other => return Err(PyTypeError::new_err(format!("{other:?} is no setting of the statistics"))),
        }
        Ok(())
    }

    /// What this process publishes. A port, and a file whose name has no `{pid}` in it, are those of the process that
    /// asked for them: a child that was forked off would take them away from it.
    fn publish_here(&self) -> PublishConfig {
        let mut publish = self.publish.clone();
        let is_ours = self.process == ffi::process();
        publish.prometheus = publish.prometheus.and_then(|address| match address {
            ListenAddress::Tcp(_) => is_ours.then_some(address),
            ListenAddress::Unix(path) => own_path(&path, is_ours).map(ListenAddress::Unix),
        });
        publish.file = publish.file.filter(|file| !file.path.as_os_str().is_empty()).and_then(|file| {
            let path = own_path(&file.path, is_ours)?;
            Some(FileConfig { path, ..file })
        });
        publish
    }
}

fn own_path(path: &Path, is_ours: bool) -> Option<PathBuf> {
    match path.to_str() {
        Some(text) if text.contains("{pid}") => {
            Some(text.replace("{pid}", &std::process::id().to_string()).into())
        }
        _ => is_ours.then(|| path.to_owned()),
    }
}

/// What is said of a StatsD server, one thing at a time.
#[derive(Default)]
struct Statsd {
    server: Option<String>,
    interval: Option<Duration>,
    prefix: Option<String>,
    tags: Option<String>,
}

impl Statsd {
    fn complete(self, py: Python<'_>, publish: &mut PublishConfig) -> PyResult<()> {
        if let Some(server) = &self.server {
            let address = server.parse().map_err(|_| {
                invalid(
                    py,
                    &format!("statsd: {server:?} is no address with a port; write \"127.0.0.1:8125\""),
                )
            })?;
            publish.statsd = Some(StatsdConfig::new(address));
        }
        let said = self.interval.is_some() || self.prefix.is_some() || self.tags.is_some();
        let Some(statsd) = &mut publish.statsd else {
            return if said {
                Err(invalid(py, "statsd: its settings are said, and not where it is"))
            } else {
                Ok(())
            };
        };
        statsd.interval = self.interval.unwrap_or(statsd.interval);
        if let Some(prefix) = self.prefix {
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            if !prefix.chars().all(plain) || prefix.len() > PREFIX_BYTES_MAX {
                let rule = format!("at most {PREFIX_BYTES_MAX} letters, digits, `.`, `_` and `-`");
                return Err(invalid(py, &format!("statsd_prefix: {prefix:?} is not a prefix; write {rule}")));
            }
            statsd.prefix = prefix;
        }
        match self.tags.as_deref() {
            None => {}
            Some("none") => statsd.tags = Tags::InName,
            Some("datadog") => statsd.tags = Tags::Datadog,
            Some(other) => {
                return Err(invalid(py, &format!("statsd_tags: {other:?}; write \"none\" or \"datadog\"")));
            }
        }
        Ok(())
    }
}

fn listen_address(py: Python<'_>, text: &str) -> PyResult<ListenAddress> {
    let base = env::current_dir().unwrap_or_default();
    ListenAddress::parse(text, &base).map_err(|error| invalid(py, &format!("prometheus: {error}")))
}

fn interval(value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let seconds: f64 = value.extract()?;
    let bounded = Some(seconds).filter(|seconds| (0.1..=3600.0).contains(seconds));
    bounded.map(Duration::from_secs_f64).ok_or_else(|| {
        invalid(value.py(), &format!("an interval of {seconds} s: it is from 0.1 to 3600 seconds"))
    })
}

fn invalid(py: Python<'_>, message: &str) -> PyErr {
    errors::named(py, "InvalidSetting", message)
}

/// Longer ones leave no room for the name.
const PREFIX_BYTES_MAX: usize = 100;
