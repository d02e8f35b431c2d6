//! Those that were silent are back: everything they missed reaches them, in order.

use std::time::{Duration, Instant};

use super::super::DemoError;
use super::super::report::{count, time};
use super::live::Silent;
use super::{Awaited, Course, PATIENCE, message};

impl Course {
    /// More is said to the silent ones than memory holds for each; then they come back, and speak.
    pub(super) async fn catch_up(&mut self, silent: Silent) -> Result<(), DemoError> {
        let hosts = silent.names.len();
        let messages = u32::try_from(DELIVERIES / hosts.max(1)).unwrap_or(u32::MAX).clamp(1, MESSAGES_MAX);
        self.bus.name_set(SILENT, &silent.names).await?;
        let missed: Vec<String> = (1..=messages).map(|number| message("catch-up", number, SILENT)).collect();
        self.bus.send(&missed, "durable").await?;
        let silent_for = silent.since.elapsed();
        let expected = hosts * messages as usize;
        let bar = self.progress.begin("catch-up", expected);
        self.world.order("calm")?;
        self.mark("catch-up", 1..=messages)?;
        self.until_cuts_are_noticed().await?;
        // A homeserver that is back sends something, and ours tells the bus of it.
        self.bus.wake(&silent.names).await?;
        let came = self.arrival(Awaited { part: "catch-up", health: None, expected }, &bar).await?;
        let during = silent.messages as usize * self.names.len();
        let bar = self.progress.begin("all the rest", during);
        self.arrival(Awaited { part: "storm", health: None, expected: during }, &bar).await?;
        let text = format!(
            "{} homeservers that hung for {} are back and have missed {} messages each,\n\
             of which at most {} are in memory: all {} are there after {}, in order,\n\
             in {} transactions of each",
            count(hosts),
            time(Some(silent_for)),
            count((messages + silent.messages) as usize),
            QUEUE_ITEMS,
            count(came.arrived + silent.messages as usize * hosts),
            time(came.share(1.0, expected)),
            came.transactions.div_ceil(hosts.max(1)),
        );
        self.say("catch-up", &text);
        Ok(())
    }

    /// Waits until nothing is under way on a connection that was cut: a failure after a wake would end what it began.
    async fn until_cuts_are_noticed(&self) -> Result<(), DemoError> {
        let begun = Instant::now();
        while self.bus.queues_in("flying").await? > 0 && begun.elapsed() < PATIENCE {
            tokio::time::sleep(NOTICE_EVERY).await;
        }
        Ok(())
    }
}

const SILENT: &str = "silent";
/// Messages that are handed in for each of them: five times what is held in memory for one.
const MESSAGES_MAX: u32 = 500;
/// And no more than so many deliveries in all.
const DELIVERIES: usize = 30_000;
/// The default of `bus.queue_items_max`.
const QUEUE_ITEMS: usize = 100;
const NOTICE_EVERY: Duration = Duration::from_millis(50);
