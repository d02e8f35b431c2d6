//! The regions of this process, and what becomes of them when it forks.
//!
//! A forked child has its parent's memory, and a shared mapping is shared with the parent: without care the child
//! would count into its parent's figures. So around every `fork` the regions are held still, and in the child the
//! memory behind them is exchanged for memory of its own, before `fork` returns: the same figures at the same
//! addresses, all zero. The child's handles go on working and cost nothing more than before.
//!
//! Registering a figure and moving a region are the rare things that take this lock; bumping never does.
//!
//! # Source
//! K10, K18; DESIGN decisions 11 and 13.
#![allow(unsafe_code, reason = "the system is told by a C function what to do when the process forks")]

use std::cell::RefCell;
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

use super::layout::at;
use super::mapping::{Behind, Mapping};
use super::registry::Registry;

/// One region.
pub(super) struct Open {
    pub(super) id: u64,
    pub(super) mapping: Arc<Mapping>,
    pub(super) registry: Registry,
    /// Where it lies, unless in memory only.
    pub(super) home: Option<Home>,
}

/// The file of a region.
pub(super) struct Home {
    /// Held, and locked, for as long as the process lives: that is how others know.
    pub(super) file: File,
    pub(super) path: PathBuf,
}

/// The regions of this process.
#[derive(Default)]
pub(super) struct Regions {
    pub(super) id_next: u64,
    pub(super) open: Vec<Open>,
}

impl Regions {
    pub(super) fn get(&mut self, id: u64) -> &mut Open {
        self.open.iter_mut().find(|open| open.id == id).expect("a region is listed until it is dropped")
    }
}

/// Takes the lock.
pub(super) fn regions() -> MutexGuard<'static, Regions> {
    static ARMED: Once = Once::new();
    // SAFETY: the three functions are sound in the places where the system calls them, see there. They are never
    // unloaded: nothing of this program is.
    ARMED.call_once(|| unsafe {
        let refused = libc::pthread_atfork(Some(before), Some(after_in_parent), Some(after_in_child));
        assert_eq!(refused, 0, "there is no memory for a list of three functions");
    });
    lock()
}

fn lock() -> MutexGuard<'static, Regions> {
    REGIONS.lock().unwrap_or_else(PoisonError::into_inner)
}

static REGIONS: Mutex<Regions> = Mutex::new(Regions { id_next: 0, open: Vec::new() });

thread_local! {
    /// The lock, while this thread forks.
    static HELD: RefCell<Option<MutexGuard<'static, Regions>>> = const { RefCell::new(None) };
}

/// No figure is half registered when the process is copied.
extern "C" fn before() {
    let guard = lock();
    let _at_the_very_end = HELD.try_with(|held| held.replace(Some(guard)));
}

extern "C" fn after_in_parent() {
    drop(take_held());
}

/// The child is one thread, the one that called `fork`, so nobody bumps meanwhile. Nothing here allocates or frees,
/// since another thread of the parent may have been in the middle of that.
extern "C" fn after_in_child() {
    let Some(mut regions) = take_held() else { return };
    for region in &mut regions.open {
        region.leave_parent();
    }
}

fn take_held() -> Option<MutexGuard<'static, Regions>> {
    HELD.try_with(RefCell::take).ok().flatten()
}

impl Open {
    fn leave_parent(&mut self) {
        if let Some(Home { file, path }) = self.home.take() {
            // The parent's descriptor keeps the lock, and its file is not ours to remove.
            drop(file);
            std::mem::forget(path);
        }
        let used = self.registry.used();
        let kept = Mapping::new(self.mapping.bytes());
        if let Ok(kept) = &kept {
            kept.copy_from(&self.mapping, used);
        }
        if self.mapping.replace(Behind::Memory).is_err() {
            // To count into the parent's figures would be a lie, and to go on without memory there is no way.
            std::process::abort();
        }
        if let Ok(kept) = kept {
            self.mapping.copy_from(&kept, used);
        }
        self.registry.forget_values(&self.mapping);
        let pid = u64::from(std::process::id());
        self.mapping.word(at::PID).store(pid, Ordering::Relaxed);
    }
}
