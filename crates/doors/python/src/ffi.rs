//! What there is no safe call for: signals of the I/O thread, and noticing a fork.
//!
//! # Architecture Invariant
//! The only `unsafe` of this door.
#![allow(unsafe_code, reason = "calls into the C library, each with its reason")]

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use pyo3::Python;

/// How often this process has been forked off since the module was loaded: 0 in the process that loaded it.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// Which process this is, as far as forks go. Two values that differ were taken in different processes.
///
/// A counter that the C library's own fork raises in the child, because asking for the pid at every entry would
/// be a system call for each request.
pub fn process() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

/// Sees to it that [`process`] changes in every child that is forked off from now on.
pub fn watch_forks() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handler is a plain function that only adds to an atomic, which is allowed between
        // fork and exec; it lives as long as the process, for the module is never unloaded.
        let status = unsafe { libc::pthread_atfork(None, None, Some(count_fork)) };
        assert_eq!(status, 0, "pthread_atfork fails for want of memory only");
    });
}

/// Whether this is the interpreter that the process began with.
pub fn in_main_interpreter(_attached: Python<'_>) -> bool {
    // SAFETY: the caller is attached to an interpreter, so there is a current one, and asking for its number has
    // no other condition.
    unsafe { pyo3::ffi::PyInterpreterState_GetID(pyo3::ffi::PyInterpreterState_Get()) == 0 }
}

/// Where the interpreter keeps what it knows of this thread, and what the C library calls the thread.
pub fn thread_state(_attached: Python<'_>) -> (usize, usize) {
    // SAFETY: the caller is attached, so the thread has a state; it is taken for its address. `pthread_self` has no
    // conditions.
    unsafe { (pyo3::ffi::PyThreadState_Get() as usize, libc::pthread_self() as usize) }
}

/// The file behind descriptor `fd`, once more: open for as long as the result is held, whatever becomes of `fd`.
///
/// # Errors
/// When there is no such descriptor, or no more can be had.
pub fn duplicate(fd: RawFd) -> io::Result<File> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: it is borrowed for this one call, which copies it; of a number that is not open the system says so.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    Ok(File::from(borrowed.try_clone_to_owned()?))
}

extern "C" fn count_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// Does `work` with all signals blocked in this thread, and so in the threads that it starts: signals are the
/// business of the interpreter's main thread, which is interrupted in its waiting by them.
pub fn without_signals<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: both sets are initialised by sigfillset and pthread_sigmask before they are read, and neither
    // call can fail with valid arguments.
    let before = unsafe {
        let mut all = std::mem::zeroed();
        let mut before = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        before
    };
    let done = work();
    // SAFETY: `before` is the mask that the first call wrote.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut()) };
    done
}

/// What `place` holds, if `fits`; otherwise a new one takes its place, and the old one is leaked, for somebody may
/// be looking at it.
pub fn current<T: Sync>(
    place: &AtomicPtr<T>,
    new: impl FnOnce() -> T,
    fits: impl Fn(&T) -> bool,
) -> &'static T {
    let held = place.load(Ordering::Acquire);
    // SAFETY: `place` holds null or what `Box::into_raw` gave below; nothing that was in it is ever freed.
    if let Some(held) = unsafe { held.as_ref() }
        && fits(held)
    {
        return held;
    }
    let made = Box::into_raw(Box::new(new()));
    match place.compare_exchange(held, made, Ordering::AcqRel, Ordering::Acquire) {
        // SAFETY: as above, and never freed from here on.
        Ok(_) => unsafe { &*made },
        Err(first) => {
            // SAFETY: nobody has seen `made`; what was there first is never freed.
            unsafe {
                drop(Box::from_raw(made));
                &*first
            }
        }
    }
}
