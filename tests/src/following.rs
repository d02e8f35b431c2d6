//! What one user sees happen, by long-polling `/sync`.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::client_api::ClientApi;
use crate::failure::{Failure, Result};
use crate::patience::{STEP_MAX, within};

/// A user who watches.
#[derive(Debug)]
pub struct Following {
    user: ClientApi,
    since: String,
    seen: Seen,
}

/// All that a user has seen so far.
#[derive(Debug, Default)]
pub struct Seen {
    words: HashSet<String>,
    joined: HashSet<String>,
    typing: HashMap<String, HashSet<String>>,
    read: HashSet<(String, String)>,
    messages: HashSet<String>,
    statuses: HashMap<String, String>,
}

impl Seen {
    /// Whether somebody said `words`.
    pub fn said(&self, words: &str) -> bool {
        self.words.contains(words)
    }

    /// Everything that was said, in no order.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.words.iter().map(String::as_str)
    }

    /// Whether `user` has joined a room.
    pub fn joined(&self, user: &str) -> bool {
        self.joined.contains(user)
    }

    /// Whether `user` is typing in `room`.
    pub fn types(&self, room: &str, user: &str) -> bool {
        self.typing.get(room).is_some_and(|users| users.contains(user))
    }

    /// Whether `user` has read `event`.
    pub fn has_read(&self, user: &str, event: &str) -> bool {
        self.read.contains(&(user.to_owned(), event.to_owned()))
    }

    /// Whether a to-device message whose body are these `words` has come.
    pub fn was_sent(&self, words: &str) -> bool {
        self.messages.contains(words)
    }

    /// The status message in the latest presence of `user`.
    pub fn status_of(&self, user: &str) -> Option<&str> {
        self.statuses.get(user).map(String::as_str)
    }

    fn take_in(&mut self, sync: &Value) {
        let messages = events(&sync["to_device"]).filter_map(|event| event["content"]["body"].as_str());
        self.messages.extend(messages.map(str::to_owned));
        for event in events(&sync["presence"]) {
            if let (Some(user), Some(status)) =
                (event["sender"].as_str(), event["content"]["status_msg"].as_str())
            {
                self.statuses.insert(user.to_owned(), status.to_owned());
            }
        }
        for (room, news) in sync["rooms"]["join"].as_object().into_iter().flatten() {
            events(&news["state"]).chain(events(&news["timeline"])).for_each(|event| self.take_event(event));
            for event in events(&news["ephemeral"]) {
                self.take_ephemeral(room, event);
            }
        }
    }

    fn take_event(&mut self, event: &Value) {
        let content = &event["content"];
        if let Some(words) = content["body"].as_str() {
            self.words.insert(words.to_owned());
        }
        if content["membership"] == "join"
            && let Some(user) = event["state_key"].as_str()
        {
            self.joined.insert(user.to_owned());
        }
    }

    fn take_ephemeral(&mut self, room: &str, event: &Value) {
        let content = &event["content"];
        if event["type"] == "m.typing" {
            let users = content["user_ids"].as_array().into_iter().flatten();
            let users = users.filter_map(|user| user.as_str().map(str::to_owned)).collect();
            self.typing.insert(room.to_owned(), users);
        }
        if event["type"] == "m.receipt" {
            for (read, kinds) in content.as_object().into_iter().flatten() {
                for user in kinds["m.read"].as_object().into_iter().flat_map(|users| users.keys()) {
                    self.read.insert((user.clone(), read.clone()));
                }
            }
        }
    }
}

impl Following {
    /// Begins with the present state of all rooms.
    pub(crate) async fn from_now(user: ClientApi) -> Result<Self> {
        let mut following = Self { user, since: String::new(), seen: Seen::default() };
        following.look(None, 0).await?;
        Ok(following)
    }

    /// Watches until `enough` says so.
    ///
    /// # Errors
    /// It has not within [`STEP_MAX`], or the server fails.
    pub async fn until(&mut self, what: &str, enough: impl Fn(&Seen) -> bool) -> Result<()> {
        let user = self.user.user().to_owned();
        let watching = async {
            while !enough(&self.seen) {
                let since = self.since.clone();
                self.look(Some(&since), POLL_MS).await?;
            }
            Ok(())
        };
        within(STEP_MAX, &format!("{user} sees {what}"), watching).await
    }

    /// Takes in what happened since the last look, waiting up to `timeout_ms` for something to happen.
    ///
    /// # Errors
    /// The server fails.
    pub async fn look_for(&mut self, timeout_ms: u64) -> Result<&Seen> {
        let since = self.since.clone();
        self.look(Some(&since), timeout_ms).await?;
        Ok(&self.seen)
    }

    async fn look(&mut self, since: Option<&str>, timeout_ms: u64) -> Result<()> {
        let sync = self.user.sync(since, timeout_ms).await?;
        self.seen.take_in(&sync);
        let next = sync["next_batch"].as_str();
        next.ok_or_else(|| Failure::new("a sync without next_batch"))?.clone_into(&mut self.since);
        Ok(())
    }
}

fn events(list: &Value) -> impl Iterator<Item = &Value> {
    list["events"].as_array().into_iter().flatten()
}

/// How long one sync may wait; well below the limit of a step.
const POLL_MS: u64 = 10_000;
