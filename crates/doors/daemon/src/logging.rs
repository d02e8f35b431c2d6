//! The log: lines on standard error, for people or as JSON.

use std::env;
use std::ffi::OsStr;
use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::config::sections::log::{Log, LogFormat};

/// Starts the log as `log` says. `SOUTHBRIDGE_LOG` in the environment has filter directives that win over it.
///
/// Does nothing when a log has been started already.
///
/// # Errors
/// `SOUTHBRIDGE_LOG` is no filter; says what is wrong and what helps.
pub fn start(log: &Log) -> Result<(), String> {
    let filter = match env::var_os(FILTER_VARIABLE).filter(|value| !value.is_empty()) {
        Some(value) => filter_of_environment(&value)?,
        None => EnvFilter::new(&log.filter),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // Another log of the same process wins; there is nobody to tell.
    let _ = match (log.format, is_journal()) {
        (LogFormat::Json, _) => builder.json().flatten_event(true).try_init(),
        (LogFormat::Text, true) => builder.without_time().with_ansi(false).try_init(),
        (LogFormat::Text, false) => {
            builder.with_ansi(io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none()).try_init()
        }
    };
    Ok(())
}

fn filter_of_environment(value: &OsStr) -> Result<EnvFilter, String> {
    let wrong = |reason: &str| {
        format!(
            "{FILTER_VARIABLE}={value:?} is not a filter: {reason}; write levels by part of the program, such as \
             info,southbridge_kernel=debug, or leave it unset"
        )
    };
    let directives = value.to_str().ok_or_else(|| wrong("it is not UTF-8"))?;
    EnvFilter::try_new(directives).map_err(|error| wrong(&error.to_string()))
}

/// Whether standard error leads to the journal, which has times of its own.
fn is_journal() -> bool {
    let Ok(stream) = env::var("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(io::stderr()).is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

const FILTER_VARIABLE: &str = "SOUTHBRIDGE_LOG";
