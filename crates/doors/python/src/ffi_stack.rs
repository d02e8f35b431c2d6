//! Interrupts the main thread, which then writes its own stack into a pipe.
//!
//! The handler is faulthandler's, with ours around it: ours looks who sent the signal, and writes an end behind the
//! stack. It is installed in C, so the interpreter does not know of the signal: no Python code runs because of it, and
//! no byte is written to a wake-up descriptor. System calls that can be are restarted (`SA_RESTART`); those that cannot
//! fail with `EINTR`, which Python retries (PEP 475).
//!
//! The signal is sent only when it surely meets this handler: a program that has taken it for itself, or blocks it, is
//! left alone.
//!
//! # Source
//! DESIGN decision 12; signal(7), signal-safety(7); CPython `Modules/faulthandler.c`, `faulthandler_user`.
#![allow(unsafe_code, reason = "signals, each call with its reason")]

use std::ffi::{c_int, c_void};
use std::fs;
use std::io;
use std::mem;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, Ordering};

use southbridge_kernel::debug::end_mark;

/// Which signal is ours; zero while none is.
static SIGNAL: AtomicI32 = AtomicI32::new(0);
/// faulthandler's handler.
static INNER: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
/// Where the stack goes.
static PIPE: AtomicI32 = AtomicI32::new(-1);
/// Which question is being answered.
static NUMBER: AtomicU32 = AtomicU32::new(0);

// SAFETY: what it asks of its caller is said where it is called: to be called as the system would.
type Handler = unsafe extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

/// A real-time signal that nobody has a handler for, or that is ours already (after a fork); `wanted` if that is said.
///
/// # Errors
/// Why there is none, and what to do about it.
pub fn free_signal(wanted: Option<c_int>) -> Result<c_int, String> {
    let ours = SIGNAL.load(Ordering::Relaxed);
    if ours != 0 && is_ours(ours) {
        return Ok(ours);
    }
    let real_time = libc::SIGRTMIN()..=libc::SIGRTMAX();
    if let Some(wanted) = wanted {
        return if !real_time.contains(&wanted) {
            let (first, last) = (real_time.start(), real_time.end());
            Err(format!("SOUTHBRIDGE_DEBUG_SIGNAL is {wanted}: real-time signals are {first} to {last}"))
        } else if disposition(wanted).is_some_and(|it| it.sa_sigaction == libc::SIG_DFL) {
            Ok(wanted)
        } else {
            Err(format!("SOUTHBRIDGE_DEBUG_SIGNAL is {wanted}, for which the program has a handler"))
        };
    }
    // The ends of the range are where others look first: the C library's threads, runtimes, debuggers.
    let inside = libc::SIGRTMIN() + AT_THE_ENDS..=libc::SIGRTMAX() - AT_THE_ENDS;
    let free =
        inside.rev().find(|signal| disposition(*signal).is_some_and(|it| it.sa_sigaction == libc::SIG_DFL));
    free.ok_or_else(|| "the program has handlers for all real-time signals".to_owned())
}

/// A pipe that neither end ever waits at: a thread must not stop in its handler.
///
/// # Errors
/// When the system has no descriptor left.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: the array has room for the two descriptors that are written to it.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both are open, and nobody else's. That the pipe cannot be made larger is no failure: a long stack is cut.
    unsafe {
        libc::fcntl(ends[1], libc::F_SETPIPE_SZ, PIPE_BYTES);
        Ok((OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])))
    }
}

/// Puts our handler around the one that faulthandler has installed for `signal`, which writes to `pipe`. That stays
/// open for as long as the process lives, because a handler may run at any time.
///
/// # Errors
/// What the system says.
pub fn take_over(signal: c_int, pipe: OwnedFd) -> Result<(), String> {
    let refused = || format!("signal {signal} cannot be handled: {}", io::Error::last_os_error());
    let found = disposition(signal).ok_or_else(refused)?;
    let before = PIPE.swap(pipe.into_raw_fd(), Ordering::SeqCst);
    if before >= 0 {
        // SAFETY: it was the parent's; in this process nothing writes to it any more.
        unsafe { libc::close(before) };
    }
    SIGNAL.store(signal, Ordering::SeqCst);
    if found.sa_sigaction == address() {
        return Ok(());
    }
    if found.sa_sigaction == libc::SIG_DFL || found.sa_sigaction == libc::SIG_IGN {
        return Err(format!("faulthandler has installed no handler for signal {signal}"));
    }
    INNER.store(found.sa_sigaction as *mut c_void, Ordering::SeqCst);
    let mut ours = found;
    ours.sa_sigaction = address();
    // Not blocked while it is handled: who has answered may not have come back yet when the next question comes.
    ours.sa_flags |= libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK | libc::SA_NODEFER;
    // SAFETY: the handler is a function that lives as long as the process (the module is never unloaded) and does
    // only what signal-safety(7) allows; the rest of the action is what the system itself gave us.
    if unsafe { libc::sigaction(signal, &raw const ours, ptr::null_mut()) } != 0 {
        return Err(refused());
    }
    Ok(())
}

/// Has the main thread write its stack, and the end mark of `number` behind it.
///
/// # Errors
/// Why it is left alone.
pub fn interrupt(signal: c_int, number: u32) -> Result<(), String> {
    let elsewhere =
        "; set SOUTHBRIDGE_DEBUG_SIGNAL to the number of a real-time signal that the program does not use";
    if !is_ours(signal) {
        return Err(format!("the program has taken signal {signal} for itself{elsewhere}"));
    }
    let pid = std::process::id();
    // Who starts a thread blocks all signals, for as long as the C library takes over it.
    if (0..LOOKS).all(|_| is_blocked(pid, signal)) {
        return Err(format!("its main thread blocks signal {signal}{elsewhere}"));
    }
    NUMBER.store(number, Ordering::SeqCst);
    // SAFETY: it has no conditions; the signal has a handler, as was just looked at. The main thread has the number of
    // the process, also in a child that another thread forked off.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, pid, pid, signal) };
    if sent != 0 {
        return Err(format!("its main thread cannot be interrupted: {}", io::Error::last_os_error()));
    }
    Ok(())
}

/// # Safety
/// As a signal handler with `SA_SIGINFO`: `info` is valid.
unsafe extern "C" fn handle(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the system gives a valid record, which for SI_TKILL says who has sent it.
    let is_our_own = unsafe { (*info).si_code == libc::SI_TKILL && (*info).si_pid() == libc::getpid() };
    let inner = INNER.load(Ordering::SeqCst);
    if !is_our_own || inner.is_null() {
        return;
    }
    // SAFETY: `inner` is what was the handler before us, called as the system would call it (one that takes the signal
    // alone ignores the rest). The end is written from this stack frame, and errno is given back as it was found.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        mem::transmute::<*mut c_void, Handler>(inner)(signal, info, context);
        let end = end_mark(NUMBER.load(Ordering::SeqCst));
        libc::write(PIPE.load(Ordering::SeqCst), end.as_ptr().cast(), end.len());
        *errno = before;
    }
}

fn address() -> usize {
    handle as *const () as usize
}

fn is_ours(signal: c_int) -> bool {
    disposition(signal).is_some_and(|found| found.sa_sigaction == address())
}

fn disposition(signal: c_int) -> Option<libc::sigaction> {
    // SAFETY: an all-zero sigaction is one; it is written by the call, which changes nothing.
    unsafe {
        let mut found = mem::zeroed::<libc::sigaction>();
        (libc::sigaction(signal, ptr::null(), &raw mut found) == 0).then_some(found)
    }
}

/// Whether the main thread blocks `signal` (proc_pid_status(5), `SigBlk`): it would stay pending, and come some time.
fn is_blocked(pid: u32, signal: c_int) -> bool {
    let status = fs::read_to_string(format!("/proc/self/task/{pid}/status")).unwrap_or_default();
    let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
    let blocked = blocked.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    blocked & (1 << (signal - 1)) != 0
}

/// How often a mask is looked at before it is believed: some milliseconds in all.
const LOOKS: usize = 50;
/// How many signals at either end of the range are left alone.
const AT_THE_ENDS: c_int = 5;
/// A hundred frames with the longest names there are.
const PIPE_BYTES: c_int = 256 * 1024;
