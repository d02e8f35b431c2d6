//! Presence, which changes faster than anybody needs to know: of the states that wait, the newest goes out.

use std::time::Instant;

use serde_json::json;

use super::super::DemoError;
use super::super::report::{count, percent};
use super::{Course, EVERYBODY, LOOK_EVERY, PATIENCE};

impl Course {
    /// Many changes of the presence of a few people, handed in at once for everybody.
    pub(super) async fn presence(&mut self) -> Result<(), DemoError> {
        let hosts = self.names.len();
        let newest = hosts * PEOPLE as usize;
        let bar = self.progress.begin("presence", newest);
        let submissions: Vec<String> =
            (1..=CHANGES).flat_map(|change| (0..PEOPLE).map(move |person| status(person, change))).collect();
        self.bus.send(&submissions, "volatile").await?;
        let begun = Instant::now();
        let seen = loop {
            let seen = self.world.presence(CHANGES)?;
            bar.reach(seen.newest);
            if seen.newest >= newest || begun.elapsed() > PATIENCE {
                break seen;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        };
        bar.finish();
        let handed_in = submissions.len() * hosts;
        if seen.newest < newest {
            self.broken
                .push(format!("presence: {} of {newest} newest states are missing", newest - seen.newest));
        }
        let text = format!(
            "{CHANGES} changes of each of {PEOPLE} people to everybody, {} in all: {} of them\n\
             travel ({}), in {} transactions; the newest is known everywhere",
            count(handed_in),
            count(seen.copies),
            percent(seen.copies, handed_in),
            count(seen.transactions),
        );
        self.say("presence", &text);
        Ok(())
    }
}

fn status(person: u32, change: u32) -> String {
    let status = json!({
        "user_id": format!("@somebody{person}:demo.test"),
        "presence": if change.is_multiple_of(2) { "online" } else { "unavailable" },
        "last_active_ago": 1000,
        "status_msg": change.to_string(),
    });
    let edu = json!({ "edu_type": "m.presence", "content": { "push": [status] } });
    json!({ "edu": edu, "destination_set": EVERYBODY }).to_string()
}

const PEOPLE: u32 = 10;
const CHANGES: u32 = 20;
