//! A message to everybody: over no connections, over open ones, and ten in a burst.

use super::super::DemoError;
use super::super::report::{count, time};
use super::{Awaited, Course, EVERYBODY, message};

impl Course {
    /// One message to everybody; `how` it travels.
    pub(super) async fn message(&mut self, part: &'static str, how: &str) -> Result<(), DemoError> {
        let hosts = self.names.len();
        let bar = self.progress.begin(part, hosts);
        let before = self.serving.usage();
        self.mark(part, 1..=1)?;
        let accepted = self.bus.send(&[message(part, 1, EVERYBODY)], "durable").await?;
        let came = self.arrival(Awaited { part, health: None, expected: hosts }, &bar).await?;
        let cpu = self.serving.usage().cpu.saturating_sub(before.cpu);
        let each = cpu / u32::try_from(hosts).unwrap_or(u32::MAX);
        let text = format!(
            "1 message to {} homeservers, {how}: durable after {};\n\
             half have it after {}, all after {}; {} of CPU for each",
            count(hosts),
            time(Some(accepted)),
            time(came.share(0.5, hosts)),
            time(came.share(1.0, hosts)),
            time(Some(each)),
        );
        self.say(part, &text);
        Ok(())
    }

    /// Ten messages, handed in together.
    pub(super) async fn burst(&mut self) -> Result<(), DemoError> {
        let hosts = self.names.len();
        let expected = hosts * BURST as usize;
        let bar = self.progress.begin("burst", expected);
        let messages: Vec<String> = (1..=BURST).map(|number| message("burst", number, EVERYBODY)).collect();
        self.mark("burst", 1..=BURST)?;
        let accepted = self.bus.send(&messages, "durable").await?;
        let came = self.arrival(Awaited { part: "burst", health: None, expected }, &bar).await?;
        let text = format!(
            "{BURST} messages to everybody, handed in together: durable after {}; {} deliveries\n\
             in {} transactions, {:.2} a homeserver, in order everywhere; the last after {}",
            time(Some(accepted)),
            count(came.arrived),
            count(came.transactions),
            came.transactions as f64 / hosts as f64,
            time(came.share(1.0, expected)),
        );
        self.say("burst", &text);
        Ok(())
    }
}

const BURST: u32 = 10;
