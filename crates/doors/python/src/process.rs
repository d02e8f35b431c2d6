//! One kernel a process: started on first use, left alone after a fork, stopped and joined at the exit.
//!
//! What belongs to a process is never dropped in another one: its locks may have been held by threads that the
//! fork did not copy, and its descriptors are still shared with the parent.
//!
//! # Source
//! K2, K18; DESIGN decision 13.

use std::path::PathBuf;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use pyo3::intern;
use pyo3::prelude::*;
use southbridge_words::Ticket;

use crate::debug::Debugging;
use crate::seam::{Answer, Failure, KernelThread, Landing, Port, Region, Service};
use crate::{errors, ffi, here, marks, seam, services, statistics};

/// A thing of the process that made it. In a child that was forked off, nobody can get at it, and it is leaked.
pub struct Own<T> {
    thing: Option<T>,
    process: u32,
}

impl<T> Own<T> {
    /// `thing`, of this process.
    pub fn new(thing: T) -> Self {
        Self { thing: Some(thing), process: ffi::process() }
    }

    /// Whether it was made in this process.
    pub fn is_ours(&self) -> bool {
        self.process == ffi::process()
    }

    /// The thing, in the process that made it.
    pub fn get(&self) -> Option<&T> {
        if self.is_ours() { self.thing.as_ref() } else { None }
    }
}

impl<T> Drop for Own<T> {
    fn drop(&mut self) {
        if !self.is_ours() {
            std::mem::forget(self.thing.take());
        }
    }
}

/// The kernel of one process.
struct House {
    process: u32,
    kernel: Mutex<Stage>,
    stopped: AtomicBool,
    /// A kernel of a test, which stands in the place of the process's own.
    stage: Mutex<Option<Landing>>,
    /// Which stage this is: even while the process's own kernel is in its place.
    stage_number: AtomicU64,
    has_kernel: AtomicBool,
    /// How many threads are in calls that may release the interpreter's lock.
    visitors: AtomicUsize,
    /// Held by whoever waits until there are none, and by the last of them.
    door: Mutex<()>,
    nobody_visits: Condvar,
    debug: Debugging,
}

enum Stage {
    NotStarted,
    Running(KernelThread),
    Stopped,
}

static HOUSE: AtomicPtr<House> = AtomicPtr::new(ptr::null_mut());

/// Attaches a port to the kernel of this process, which is started if need be.
///
/// # Errors
/// `KernelStoppedError` once the interpreter is on its way out, `SouthbridgeError` when there is no thread or
/// descriptor to be had.
pub fn attach(py: Python<'_>, frontend: &'static str) -> PyResult<Port> {
    let house = house();
    let _visit = visit(py)?;
    let region = statistics::region(py)?;
    house.debug.know(py);
    let declared = services::declared();
    let attached = py.detach(|| house.attach(frontend, region, declared));
    house.debug.show_stacks(py);
    let port = attached.map_err(|refused| match refused {
        Refused::Stopped => errors::stopped(py),
        Refused::System(message) => errors::plain(py, &message),
    })?;
    // What a test moves has nobody to publish to, and no time to do it in.
    if !is_staged() {
        statistics::kernel_runs(py)?;
    }
    Ok(port)
}

/// Has something done that waits for nobody outside, and waits until it is: `submit` hands it in at the port it is given.
///
/// # Errors
/// What it came to.
pub fn perform(
    py: Python<'_>,
    submit: impl FnOnce(&Port) -> Result<Ticket, Failure> + Send,
) -> PyResult<Answer> {
    let _visit = visit(py)?;
    let port = attach(py, "threads")?;
    if !is_staged() {
        let done = py.detach(|| submit(&port).and_then(|_ticket| seam::done(&port)));
        return done.map_err(|failure| errors::of_failure(py, &failure));
    }
    submit(&port).map_err(|failure| errors::of_failure(py, &failure))?;
    for _ in 0..STEPS_MAX {
        if let Some(done) = seam::taken(&port) {
            return done.map_err(|failure| errors::of_failure(py, &failure));
        }
        here::frontend(py, "rehearsed")?.call_method0(intern!(py, "step"))?;
    }
    Err(errors::plain(py, "the kernel of this test does not move: somebody else moves it, or it has ended"))
}

/// Whether this process has a kernel that runs.
pub fn has_kernel() -> bool {
    house().has_kernel.load(Ordering::Acquire)
}

/// Has a kernel of a test stand in the place of the process's own, or no longer. Whether that is a change.
pub fn set_stage(landing: Option<Landing>) -> bool {
    let house = house();
    let mut stage = house.stage.lock().unwrap_or_else(PoisonError::into_inner);
    let changes = stage.is_some() != landing.is_some();
    if changes {
        *stage = landing;
        house.stage_number.fetch_add(1, Ordering::Release);
    }
    changes
}

/// Which kernel is in its place: a port that was attached at another stage leads elsewhere.
pub fn stage() -> u64 {
    house().stage_number.load(Ordering::Acquire)
}

/// Whether a kernel of a test stands in the place of the process's own.
pub fn is_staged() -> bool {
    stage() % 2 == 1
}

/// Held while a call may release the interpreter's lock, and until it returns to Python: the exit waits for it. A thread
/// that came for the lock later would be unwound by the interpreter (up to CPython 3.13), and there is Rust under it.
///
/// The lock is released where a call blocks, and besides wherever Python code runs: a framework that is asked whether it
/// is here, the arguments of a call that are read, a name that is interned when it is used first.
///
/// # Errors
/// `KernelStoppedError` once the exit has begun: threads that ask on do not get far.
pub fn visit(py: Python<'_>) -> PyResult<Visit> {
    let house = house();
    // The exit says that it has begun, and then counts; we are counted, and then look. One of the two sees the other.
    house.visitors.fetch_add(1, Ordering::SeqCst);
    let visit = Visit { house };
    if house.stopped.load(Ordering::SeqCst) { Err(errors::stopped(py)) } else { Ok(visit) }
}

/// See [`visit`].
pub struct Visit {
    house: &'static House,
}

impl Drop for Visit {
    fn drop(&mut self) {
        let left = self.house.visitors.fetch_sub(1, Ordering::SeqCst) - 1;
        if left == 0 && self.house.stopped.load(Ordering::SeqCst) {
            let _waiting_or_not_yet = self.house.door.lock().unwrap_or_else(PoisonError::into_inner);
            self.house.nobody_visits.notify_all();
        }
    }
}

fn house() -> &'static House {
    ffi::current(&HOUSE, House::new, |house| house.process == ffi::process())
}

/// Stops the I/O thread and joins it; what is in flight fails with `KernelStoppedError`. Called at the exit.
#[pyfunction]
pub fn shutdown(py: Python<'_>) {
    errors::prepare(py);
    py.detach(|| house().stop());
}

/// What a child does first: whatever the parent had is not its own.
#[pyfunction]
pub fn after_fork_in_child() {
    // The counter of forks has been raised by the C library's own handler, and every entry looks at it; this
    // frees nothing, and makes the new, empty house before two threads can ask for it.
    house();
    marks::keep_after_fork();
}

/// Where the debug socket of this process lies. None when there is no kernel yet, or `SOUTHBRIDGE_DEBUG` is `off`.
///
/// Raises `SouthbridgeError` when it could not be opened; the message says why.
#[pyfunction]
pub fn debug_socket(py: Python<'_>) -> PyResult<Option<PathBuf>> {
    house().debug.socket().map_err(|reason| errors::plain(py, &reason))
}

enum Refused {
    Stopped,
    System(String),
}

impl House {
    fn new() -> Self {
        Self {
            process: ffi::process(),
            kernel: Mutex::new(Stage::NotStarted),
            stopped: AtomicBool::new(false),
            stage: Mutex::new(None),
            stage_number: AtomicU64::new(0),
            has_kernel: AtomicBool::new(false),
            visitors: AtomicUsize::new(0),
            door: Mutex::new(()),
            nobody_visits: Condvar::new(),
            debug: Debugging::default(),
        }
    }

    fn attach(
        &self,
        frontend: &'static str,
        region: &Region,
        declared: Vec<Service>,
    ) -> Result<Port, Refused> {
        let no_port = |error| Refused::System(format!("no port can be attached to the kernel: {error}"));
        let held_max = if frontend == "threads" { THREAD_HELD_MAX } else { HELD_MAX };
        if let Some(landing) = &*self.stage.lock().unwrap_or_else(PoisonError::into_inner) {
            return landing.attach_for(frontend, held_max).map_err(no_port);
        }
        let mut stage = self.kernel.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*stage, Stage::NotStarted) {
            let started = ffi::without_signals(|| self.debug.start(region.clone(), declared))
                .map_err(|error| Refused::System(error.to_string()))?;
            self.has_kernel.store(true, Ordering::Release);
            *stage = Stage::Running(started);
        }
        match &*stage {
            Stage::Running(thread) => thread.attach_for(frontend, held_max).map_err(no_port),
            Stage::NotStarted | Stage::Stopped => Err(Refused::Stopped),
        }
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        let stage = std::mem::replace(
            &mut *self.kernel.lock().unwrap_or_else(PoisonError::into_inner),
            Stage::Stopped,
        );
        // Joins the I/O thread, which first tells everybody who waits.
        drop(stage);
        self.has_kernel.store(false, Ordering::Release);
        statistics::close();
        let door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        let visited = |_: &mut ()| self.visitors.load(Ordering::SeqCst) > 0;
        let _in_time = self.nobody_visits.wait_timeout_while(door, FAREWELL_MAX, visited);
    }
}

/// How many requests one event loop may have in flight; whoever needs more is told so at once.
const HELD_MAX: usize = 16_384;
/// A thread waits for what it asks: only streams make it more than one.
const THREAD_HELD_MAX: usize = 1024;

/// In how many steps without time the kernel of a test has done what is handed in: it takes one, or two.
const STEPS_MAX: u32 = 100;

/// How long the exit waits for threads to come back from native code.
const FAREWELL_MAX: Duration = Duration::from_secs(1);
