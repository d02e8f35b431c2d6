//! Which process this is, and who waits in it.

use std::collections::BTreeMap;
use std::fs;

use serde::Serialize;
use southbridge_words::Instant;

use super::DebugConfig;
use crate::kernel::Kernel;
use crate::port::PortView;

/// A process, as `/debug/process` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct ProcessView {
    /// Its number.
    pub pid: u32,
    /// What it was started as, cut off after 1,024 bytes.
    pub command: String,
    /// The version of Southbridge in it.
    pub version: &'static str,
    /// What else its door says of it.
    pub facts: BTreeMap<&'static str, String>,
    /// Milliseconds since its kernel started.
    pub uptime_ms: u64,
    /// How many threads it has.
    pub threads: Option<u64>,
    /// Its ports: one for each loop and each thread that waits.
    pub ports: Vec<PortView>,
    /// Requests under way.
    pub requests: usize,
    /// Marks that it is in.
    pub marks: usize,
    /// The mark that its main thread was last seen in.
    pub mark: Option<String>,
}

pub(super) fn view(config: &DebugConfig, kernel: &Kernel, started_at: Instant) -> ProcessView {
    let pid = std::process::id();
    let marks = config.marks.views(pid);
    let uptime = kernel.clock().now().saturating_since(started_at).as_millis();
    ProcessView {
        pid,
        command: command(),
        version: env!("CARGO_PKG_VERSION"),
        facts: config.facts.iter().cloned().collect(),
        uptime_ms: u64::try_from(uptime).unwrap_or(u64::MAX),
        threads: threads(),
        ports: kernel.ports(),
        requests: kernel.requests_count(),
        marks: marks.len(),
        mark: marks.first().filter(|mark| mark.is_main).map(|mark| mark.name.clone()),
    }
}

/// The number of the calling thread, which is that of the process for the main thread.
pub fn thread_id() -> u32 {
    let link = fs::read_link("/proc/thread-self").unwrap_or_default();
    let number = link.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
    number.unwrap_or_default()
}

/// The words of the command line, as far as they fit.
fn command() -> String {
    let words = fs::read("/proc/self/cmdline").unwrap_or_default();
    let words = words.strip_suffix(b"\0").unwrap_or(&words);
    let text = String::from_utf8_lossy(&words[..words.len().min(COMMAND_BYTES_MAX)]).into_owned();
    text.replace('\0', " ")
}

fn threads() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("Threads:"))?.trim().parse().ok()
}

/// Bytes of a command line that are shown.
const COMMAND_BYTES_MAX: usize = 1024;
