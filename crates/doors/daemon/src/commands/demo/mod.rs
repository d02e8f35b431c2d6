//! `southbridge demo`: a federation of hundreds of homeservers on this machine, and Southbridge that carries to it.
//!
//! Three processes: the federation (fake homeservers with real TLS, .well-known, SRV and DNS), Southbridge
//! as an operator runs it, and this one, which hands messages to the bus as a homeserver does, and asks at the
//! Synapse door as a Synapse does. What arrives is counted by those homeservers.
//!
//! # Source
//! Issue 2, item 9; issue 3, item 8.

mod bus;
mod course;
mod people;
mod progress;
mod report;
mod serving;
mod world;

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use crate::cli::Demo;
use crate::commands::{DONE, FAILED};
use course::Course;
use progress::Progress;
use serving::Serving;
use world::WorldProcess;

pub use world::COMMAND as WORLD_COMMAND;

/// Something the demo needs did not work.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {reason}")]
pub struct DemoError {
    what: &'static str,
    reason: String,
}

impl DemoError {
    #[expect(clippy::needless_pass_by_value, reason = "callers hand over errors they have no more use for")]
    fn new(what: &'static str, reason: impl ToString) -> Self {
        Self { what, reason: reason.to_string() }
    }
}

/// Runs the demo.
pub fn run(arguments: &Demo) -> u8 {
    match play(arguments) {
        Ok(()) => DONE,
        Err(error) => {
            eprintln!("demo: {error}");
            FAILED
        }
    }
}

/// Plays the federation, for the demo's own child.
pub fn run_world(hosts: usize) -> u8 {
    match world::play(hosts) {
        Ok(()) => DONE,
        Err(error) => {
            eprintln!("demo-world: {error}");
            FAILED
        }
    }
}

fn play(arguments: &Demo) -> Result<(), DemoError> {
    let directory = tempfile::tempdir().map_err(|error| DemoError::new("a temporary directory", error))?;
    let progress = Progress::new(std::io::stderr().is_terminal());
    progress.say(&format!("starting {} homeservers on loopback", arguments.hosts));
    let world = WorldProcess::start(arguments.hosts as usize)?;
    progress.say(&report::routes(&world.hosts));
    let serving = Serving::start(&world, directory.path())?;
    progress.say(&format!("southbridge serves on {}", serving.bus.display()));

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| DemoError::new("this program", error))?;
    let mut course = Course::new(world, serving, progress);
    let storm_time = Duration::from_secs(arguments.storm_seconds);
    tokio::task::LocalSet::new().block_on(&runtime, course.run(storm_time)).map_err(|error| {
        DemoError::new(error.what, format!("{}\n{}", error.reason, end_of_log(directory.path())))
    })?;
    if course.broken.is_empty() {
        return Ok(());
    }
    let broken = course.broken.join("; ");
    Err(DemoError::new("not as it should be", format!("{broken}\n{}", end_of_log(directory.path()))))
}

fn end_of_log(directory: &Path) -> String {
    let log = std::fs::read_to_string(directory.join(serving::LOG)).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    format!("Southbridge's log ends:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"))
}
