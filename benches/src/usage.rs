//! What a process has used: CPU, memory, descriptors.
//!
//! # Source
//! clock_gettime(2), proc(5).

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::Done;

/// CPU of this process so far, user and system, all threads.
pub fn cpu() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(spent.tv_sec.try_into().unwrap_or(0), spent.tv_nsec.try_into().unwrap_or(0))
}

/// CPU of this thread so far, user and system.
pub fn cpu_of_thread() -> Duration {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(spent.tv_sec.try_into().unwrap_or(0), spent.tv_nsec.try_into().unwrap_or(0))
}

/// CPU of process `pid` so far; in steps of 10 ms.
///
/// # Errors
/// There is no such process.
pub fn cpu_of(pid: u32) -> Done<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold anything; the numbers come behind it.
    let (_, numbers) = stat.rsplit_once(')').ok_or("/proc/PID/stat has no name")?;
    let mut ticks = numbers.split_ascii_whitespace().skip(11).take(2).map(str::parse::<u64>);
    let user = ticks.next().ok_or("no user time")??;
    let system = ticks.next().ok_or("no system time")??;
    Ok(Duration::from_millis((user + system) * MILLIS_PER_TICK))
}

/// Resident bytes of process `pid`.
///
/// # Errors
/// There is no such process.
pub fn resident_of(pid: u32) -> Done<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}

/// Resident bytes of this process.
///
/// # Errors
/// `/proc` is not there.
pub fn resident() -> Done<u64> {
    resident_of(std::process::id())
}

/// Open descriptors of this process.
pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// The unit of /proc/PID/stat on every Linux: 100 a second, whatever the kernel's own tick.
const MILLIS_PER_TICK: u64 = 10;
