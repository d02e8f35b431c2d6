//! kill -9 in the midst of it, with everything accepted.

use std::time::{Duration, Instant};

use super::super::DemoError;
use super::super::report::{count, time};
use super::{Awaited, Course, EVERYBODY, PATIENCE, message};

impl Course {
    /// Kills Southbridge when a part of ten messages for everybody is delivered, and starts it again.
    pub(super) async fn killed(&mut self) -> Result<(), DemoError> {
        let expected = self.names.len() * MESSAGES as usize;
        let bar = self.progress.begin("killed", expected);
        let messages: Vec<String> =
            (1..=MESSAGES).map(|number| message("killed", number, EVERYBODY)).collect();
        self.mark("killed", 1..=MESSAGES)?;
        let begun = Instant::now();
        let accepted = self.bus.send(&messages, "durable").await?;
        while self.world.arrived("killed", None)? < expected / KILLED_AT && begun.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.serving.kill();
        let killed_at = begun.elapsed();
        let before = self.world.came("killed", None)?;
        self.serving.start_again()?;
        let serving_at = begun.elapsed();
        let came = self.arrival(Awaited { part: "killed", health: None, expected }, &bar).await?;
        let since_killed = |at: Option<Duration>| at.map(|at| at.saturating_sub(killed_at));
        let next = came.took_us.get(before.arrived).map(|took| Duration::from_micros(*took));
        let text = format!(
            "{MESSAGES} messages to everybody, durable after {}; kill -9 with {} of {} delivered:\n\
             it serves again after {}, the next has its messages after {}, the last after {};\n\
             none is lost or comes twice; {} transactions were sent again, the same bytes and id",
            time(Some(accepted)),
            count(before.arrived),
            count(expected),
            time(since_killed(Some(serving_at))),
            time(since_killed(next)),
            time(since_killed(came.share(1.0, expected))),
            count(came.repeated - before.repeated),
        );
        self.say("kill -9", &text);
        Ok(())
    }
}

const MESSAGES: u32 = 10;
/// One in so many is delivered when it is killed.
const KILLED_AT: usize = 4;
