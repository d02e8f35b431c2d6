//! The course of the demo: who is sent what, and when.
//!
//! Each part ends with a line that says what was seen, and adds to [`Course::broken`] what should not have been.

mod catch_up;
mod everybody;
mod killed;
mod live;
mod presence;

use std::time::{Duration, Instant};

use serde_json::json;

use super::DemoError;
use super::bus::Bus;
use super::people::Door;
use super::progress::{Part, Progress};
use super::report;
use super::serving::{Serving, Usage};
use super::world::{Came, WorldProcess};

/// What all parts of the demo share.
pub struct Course {
    world: WorldProcess,
    serving: Serving,
    progress: Progress,
    bus: Bus,
    door: Door,
    names: Vec<String>,
    at_start: Usage,
    /// What was not as it should be.
    pub broken: Vec<String>,
}

/// Some messages, and who must get them.
#[derive(Clone, Copy, Debug)]
struct Awaited {
    part: &'static str,
    /// Only hosts that are doing so count; none for all.
    health: Option<&'static str>,
    /// Arrivals.
    expected: usize,
}

impl Course {
    /// A course before `world`, for `serving` to carry.
    pub fn new(world: WorldProcess, serving: Serving, progress: Progress) -> Self {
        let bus = Bus::new(serving.bus.clone(), &serving.secret);
        let door = Door::new(serving.door.clone(), &serving.secret);
        let names = world.hosts.iter().map(|(name, _)| name.clone()).collect();
        let at_start = serving.usage();
        Self { world, serving, progress, bus, door, names, at_start, broken: Vec::new() }
    }

    /// Goes through all parts; the storm lasts for `storm`.
    ///
    /// # Errors
    /// [`DemoError`] when one of the processes is not there any more. What merely is not as it should be is
    /// [`Course::broken`].
    pub async fn run(&mut self, storm: Duration) -> Result<(), DemoError> {
        self.bus.name_set(EVERYBODY, &self.names).await?;
        self.message("cold", "no connection is open yet").await?;
        self.message("warm", "over the connections that are open").await?;
        self.burst().await?;
        self.presence().await?;
        let calm = self.calm(CALM).await?;
        let silent = self.storm(storm, &calm).await?;
        self.catch_up(silent).await?;
        let used = self.serving.usage();
        self.killed().await?;
        self.say("cost", &report::costs(&self.at_start, &used));
        self.progress.finish();
        Ok(())
    }

    /// Says what a part has come to.
    fn say(&self, title: &str, text: &str) {
        self.progress.print(&report::line(title, text));
    }

    /// Marks messages `numbers` of `part` as handed in now.
    fn mark(&mut self, part: &str, numbers: std::ops::RangeInclusive<u32>) -> Result<(), DemoError> {
        numbers.into_iter().try_for_each(|number| self.world.mark(part, number))
    }

    /// Waits until what is `awaited` has arrived, or a patience has passed; what came of it.
    async fn arrival(&mut self, awaited: Awaited, bar: &Part) -> Result<Came, DemoError> {
        let begun = Instant::now();
        loop {
            let arrived = self.world.arrived(awaited.part, awaited.health)?;
            bar.reach(arrived);
            if arrived >= awaited.expected || begun.elapsed() > PATIENCE {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        bar.finish();
        let came = self.world.came(awaited.part, awaited.health)?;
        self.check(awaited, &came);
        Ok(came)
    }

    /// What the bus promises of every message.
    fn check(&mut self, awaited: Awaited, came: &Came) {
        let wrong = [
            (awaited.expected.saturating_sub(came.arrived), "missing"),
            (came.twice, "twice"),
            (came.disordered, "out of order"),
            (came.altered, "sent again with other bytes"),
        ];
        let wrong = wrong.into_iter().filter(|(count, _)| *count > 0);
        self.broken.extend(wrong.map(|(count, what)| {
            format!("{}: of {} deliveries {count} {what}", awaited.part, awaited.expected)
        }));
    }
}

/// The message with this number, about a kilobyte, for the set called `to`.
fn message(part: &str, number: u32, to: &str) -> String {
    let pdu = json!({
        "auth_events": ["$Rr4lI2Y8yQ3pG0wK1vT6mE9cZ5xB7nD2fH8jL4sA0uM", "$k9Qm3Xc7Vb1Nz5Ls8Dh2Gf6Jt0Yr4Pw-Ea_Uo1Ii3Kk"],
        "content": { "body": "Here be words. ".repeat(40), "msgtype": "m.text", "number": number, "part": part },
        "depth": number,
        "hashes": { "sha256": "0000000000000000000000000000000000000000000" },
        "origin_server_ts": 1_700_000_000_000_u64 + u64::from(number),
        "prev_events": ["$Tz6Wn0Bq4Ho8Cs2Fl5Ag9Jd3Mk7Px1Vr-Ey_Ui0Oa2E"],
        "room_id": "!everybody:demo.test",
        "sender": "@somebody:demo.test",
        "signatures": { "demo.test": { "ed25519:demo": "0".repeat(86) } },
        "type": "m.room.message",
    });
    json!({ "pdu": pdu, "destination_set": to }).to_string()
}

/// The set of all hosts.
const EVERYBODY: &str = "everybody";
/// How long the calm before the storm lasts.
const CALM: Duration = Duration::from_secs(3);
/// Whatever takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(40);
/// How often it is looked whether all has arrived.
const LOOK_EVERY: Duration = Duration::from_millis(20);
