//! Messages to everybody while people ask questions: in the calm, and in a storm.

use std::time::{Duration, Instant};

use super::super::DemoError;
use super::super::people::{self, Asked};
use super::super::report::{count, time};
use super::super::world::Came;
use super::{Awaited, Course, EVERYBODY, message};

/// How it went.
pub(super) struct Live {
    /// Messages of each host.
    pub(super) messages: u32,
    came: Came,
    expected: usize,
    asked: Asked,
}

/// Those that fell silent in the storm.
pub(super) struct Silent {
    pub(super) names: Vec<String>,
    pub(super) since: Instant,
    /// Messages that were handed in for everybody meanwhile.
    pub(super) messages: u32,
}

impl Course {
    /// Messages and questions while all is well.
    pub(super) async fn calm(&mut self, time: Duration) -> Result<Live, DemoError> {
        let calm = self.live("calm", time).await?;
        self.say("calm", &calm.text(&format!("{} messages to everybody, and people who ask", calm.messages)));
        Ok(calm)
    }

    /// The same while a fifth hang and a tenth are slow.
    pub(super) async fn storm(&mut self, time: Duration, calm: &Live) -> Result<Silent, DemoError> {
        self.world.order(&format!("storm {SILENT} {SLOW}"))?;
        let since = Instant::now();
        let names = self.world.names("black_hole")?;
        let slow = self.world.names("slow")?.len();
        let storm = self.live("storm", time).await?;
        let title = format!(
            "{} hang, {} are slow by 3 s: {} messages to everybody, and people who ask",
            count(names.len()),
            count(slow),
            storm.messages,
        );
        let factor = storm.quantile(0.99).as_secs_f64() / calm.quantile(0.99).as_secs_f64().max(f64::EPSILON);
        self.say("storm", &format!("{}, {factor:.1} times the calm", storm.text(&title)));
        Ok(Silent { names, since, messages: storm.messages })
    }

    async fn live(&mut self, part: &'static str, time: Duration) -> Result<Live, DemoError> {
        let healthy = self.world.names(HEALTHY)?;
        let hosts = healthy.len();
        // What two cores carry for both sides; the demo takes as many hosts as it is told to.
        let every = LIVE_EVERY.max(LIVE_PER_HOST * u32::try_from(self.names.len()).unwrap_or(u32::MAX));
        let planned = (time.as_secs_f64() / every.as_secs_f64()).ceil() as usize;
        let bar = self.progress.begin(part, planned * hosts);
        let asking = tokio::task::spawn_local(people::ask(self.door.clone(), healthy, time));
        let (mut tick, mut messages) = (tokio::time::interval(every), 0);
        while (messages as usize) < planned {
            tick.tick().await;
            messages += 1;
            self.mark(part, messages..=messages)?;
            self.bus.send(&[message(part, messages, EVERYBODY)], "durable").await?;
            bar.reach(self.world.arrived(part, Some(HEALTHY))?);
        }
        let expected = messages as usize * hosts;
        let asked = asking.await.map_err(|error| DemoError::new("those who ask", error))?;
        let came = self.arrival(Awaited { part, health: Some(HEALTHY), expected }, &bar).await?;
        if asked.failed > 0 {
            self.broken.push(format!("{part}: {} questions to healthy homeservers failed", asked.failed));
        }
        Ok(Live { messages, came, expected, asked })
    }
}

impl Live {
    fn text(&self, title: &str) -> String {
        let asked = &self.asked;
        let question = |share: f64| {
            let at = (asked.took.len() as f64 * share).ceil() as usize;
            time(asked.took.get(at.saturating_sub(1)).copied())
        };
        format!(
            "{title}: {} of {} questions\n\
             answered, half within {}, 99 % within {};\n\
             {} of {} deliveries to healthy homeservers, half within {}, 99 % within {}",
            count(asked.good),
            count(asked.good + asked.failed),
            question(0.5),
            question(0.99),
            count(self.came.arrived),
            count(self.expected),
            time(self.came.share(0.5, self.expected)),
            time(self.came.share(0.99, self.expected)),
        )
    }

    /// How long `share` of the deliveries took; zero when not so many arrived.
    fn quantile(&self, share: f64) -> Duration {
        self.came.share(share, self.expected).unwrap_or_default()
    }
}

const HEALTHY: &str = "healthy";
const SILENT: f64 = 0.2;
const SLOW: f64 = 0.1;
const LIVE_EVERY: Duration = Duration::from_millis(250);
const LIVE_PER_HOST: Duration = Duration::from_millis(1);
