//! The log: lines on standard error, for people or as JSON.

use std::env;
use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::config::sections::log::{Log, LogFormat};

/// Starts the log as `log` says. `SOUTHBRIDGE_LOG` in the environment has filter directives that win over it.
///
/// Does nothing when a log has been started already.
pub fn start(log: &Log) {
    let directives = env::var(FILTER_VARIABLE).unwrap_or_else(|_| log.filter.clone());
    let filter = EnvFilter::try_new(&directives).unwrap_or_else(|_| EnvFilter::new(&log.filter));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // Another log of the same process wins; there is nobody to tell.
    let _ = match (log.format, is_journal()) {
        (LogFormat::Json, _) => builder.json().flatten_event(true).try_init(),
        (LogFormat::Text, true) => builder.without_time().with_ansi(false).try_init(),
        (LogFormat::Text, false) => {
            builder.with_ansi(io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none()).try_init()
        }
    };
}

/// Whether standard error leads to the journal, which has times of its own.
fn is_journal() -> bool {
    let Ok(stream) = env::var("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(io::stderr()).is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

const FILTER_VARIABLE: &str = "SOUTHBRIDGE_LOG";
