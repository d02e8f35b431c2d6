//! Watches which functions of a library another process calls first.
//!
//! At the beginning of each function there is a breakpoint until it is reached, so that all but the first call costs
//! nothing. Only threads of the process are watched: what it forks must have ended or come before.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Where functions begin in the library's file, and what they are called.
pub type Functions = Vec<(u64, String)>;

/// Has the process `pid`, which has mapped `library` and waits, `go` on to its end; what it has called of `functions`
/// by then, in the order of the first calls.
///
/// # Errors
/// It cannot be watched, or did not end well.
pub fn first_calls(
    pid: u32,
    library: &Path,
    functions: Functions,
    go: impl FnOnce(),
) -> io::Result<Vec<String>> {
    let leader = Pid::from_raw(pid.cast_signed());
    ptrace::seize(leader, Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_EXITKILL)?;
    ptrace::interrupt(leader)?;
    waitpid(leader, None)?;
    let mut watch = Watch::new(pid, library, functions)?;
    ptrace::cont(leader, None)?;
    go();
    loop {
        // Any thread.
        let status = waitpid(None, Some(WaitPidFlag::__WALL))?;
        match status {
            WaitStatus::Exited(who, code) if who == leader => {
                return if code == 0 { Ok(watch.called) } else { Err(ended(&format!("status {code}"))) };
            }
            WaitStatus::Signaled(who, signal, _) if who == leader => return Err(ended(signal.as_str())),
            WaitStatus::Stopped(who, Signal::SIGTRAP) => {
                watch.reached(who)?;
                go_on(who, None)?;
            }
            WaitStatus::Stopped(who, signal) => go_on(who, Some(signal))?,
            // A new thread, or one that stops as it begins.
            WaitStatus::PtraceEvent(who, ..) => go_on(who, None)?,
            _ => {}
        }
    }
}

fn ended(how: &str) -> io::Error {
    io::Error::other(format!("it ended with {how}"))
}

/// A thread may have been killed with its process while it was stopped.
fn go_on(who: Pid, signal: Option<Signal>) -> io::Result<()> {
    match ptrace::cont(who, signal) {
        Err(Errno::ESRCH) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The breakpoints that are left, in the order of their addresses.
struct Watch {
    memory: File,
    base: u64,
    functions: Vec<Function>,
    called: Vec<String>,
}

struct Function {
    at: u64,
    name: String,
    /// What was there before the breakpoint; none when it has been reached.
    covered: Option<u8>,
}

impl Watch {
    fn new(pid: u32, library: &Path, mut functions: Functions) -> io::Result<Self> {
        let base = base(&fs::read_to_string(format!("/proc/{pid}/maps"))?, library)
            .ok_or_else(|| io::Error::other(format!("{} is not mapped", library.display())))?;
        let memory = File::options().read(true).write(true).open(format!("/proc/{pid}/mem"))?;
        functions.sort();
        functions.dedup_by_key(|(at, _)| *at);
        let mut watch = Self { memory, base, functions: Vec::new(), called: Vec::new() };
        for (at, name) in functions {
            let mut covered = [0];
            watch.memory.read_exact_at(&mut covered, base + at)?;
            watch.memory.write_all_at(&[BREAKPOINT], base + at)?;
            watch.functions.push(Function { at, name, covered: Some(covered[0]) });
        }
        Ok(watch)
    }

    /// `who` has stopped behind a breakpoint: takes it away, and sets `who` back before it.
    fn reached(&mut self, who: Pid) -> io::Result<()> {
        let before = place(who)? - 1;
        let at = before.wrapping_sub(self.base);
        let Ok(index) = self.functions.binary_search_by_key(&at, |function| function.at) else {
            return Ok(());
        };
        // Another thread may have come by in the meantime.
        if let Some(covered) = self.functions[index].covered.take() {
            self.memory.write_all_at(&[covered], before)?;
            self.called.push(self.functions[index].name.clone());
        }
        set_back(who, before)
    }
}

/// Where `who` goes on.
#[cfg(target_arch = "x86_64")]
fn place(who: Pid) -> io::Result<u64> {
    Ok(ptrace::getregs(who)?.rip)
}

#[cfg(target_arch = "x86_64")]
fn set_back(who: Pid, to: u64) -> io::Result<()> {
    let mut registers = ptrace::getregs(who)?;
    registers.rip = to;
    Ok(ptrace::setregs(who, registers)?)
}

#[cfg(not(target_arch = "x86_64"))]
fn place(_who: Pid) -> io::Result<u64> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_arch = "x86_64"))]
fn set_back(_who: Pid, _to: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Where `library` begins, by what the system says of a process's memory.
fn base(maps: &str, library: &Path) -> Option<u64> {
    let line = maps.lines().find(|line| line.ends_with(&*library.to_string_lossy()))?;
    u64::from_str_radix(line.split('-').next()?, 16).ok()
}

/// `int3` of x86-64.
const BREAKPOINT: u8 = 0xCC;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_begins_where_it_is_mapped_first() {
        let maps = "55d0c0000000-55d0c0001000 r--p 00000000 fe:00 1 /usr/bin/python3\n\
                    7f0000200000-7f0000300000 r--p 00000000 fe:00 2 /there/_kernel.abi3.so\n\
                    7f0000300000-7f0000400000 r-xp 00100000 fe:00 2 /there/_kernel.abi3.so\n";
        assert_eq!(base(maps, Path::new("/there/_kernel.abi3.so")), Some(0x7f00_0020_0000));
        assert_eq!(base(maps, Path::new("/elsewhere/_kernel.abi3.so")), None);
    }
}
