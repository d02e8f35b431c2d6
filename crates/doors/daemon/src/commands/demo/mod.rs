//! `southbridge demo`: a federation of hundreds of homeservers on this machine, with Southbridge in front.
//!
//! Three processes: the federation (fake homeservers with real TLS, .well-known, SRV and DNS), Southbridge
//! as an operator runs it, and this one, which asks at Southbridge's door as a Synapse does.
//!
//! # Source
//! Issue 2, item 9.

mod course;
mod load;
mod progress;
mod report;
mod serving;
mod world;

use std::io::IsTerminal;
use std::time::Duration;

use crate::cli::Demo;
use crate::commands::{DONE, FAILED};
use course::Course;
use load::Door;
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
    let mut world = WorldProcess::start(arguments.hosts as usize)?;
    progress.say(&report::routes(&world.hosts));
    let serving = Serving::start(&world, directory.path())?;
    progress.say(&format!("southbridge serves on {}", serving.door.display()));
    let at_start = serving.usage();

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| DemoError::new("this program", error))?;
    let door = Door::new(serving.door.clone(), &serving.secret);
    let names: Vec<String> = world.hosts.iter().map(|(name, _)| name.clone()).collect();
    let storm_time = Duration::from_secs(arguments.storm_seconds);
    let outcome = tokio::task::LocalSet::new().block_on(&runtime, async {
        let course = Course { door, names, serving: &serving, progress: &progress };
        let (cold, _) = course.fan_out("cold fan-out", 1, None).await;
        let (warm, _) = course.fan_out("warm fan-out", 2, None).await;
        let calm = course.queries("calm", Duration::from_secs(5)).await;
        world.order("storm 0.2 0.1")?;
        let healthy = world.healthy()?;
        let storm = course.storm(3, &healthy, storm_time).await;
        Ok::<_, DemoError>((cold, warm, calm, storm))
    })?;
    progress.finish();
    let (cold, warm, calm, storm) = outcome;
    print!("{}", report::table(&[&cold, &warm, &storm.transactions], &calm, &storm.queries));
    println!("{}", report::costs(&at_start, &serving.usage(), &[&cold, &warm]));
    if cold.is_complete() && warm.is_complete() && storm.transactions.is_complete() {
        Ok(())
    } else {
        let log = std::fs::read_to_string(directory.path().join("southbridge.log")).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(20).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        Err(DemoError::new(
            "not every healthy homeserver was served",
            format!("Southbridge's log ends:\n{}", tail.join("\n")),
        ))
    }
}
