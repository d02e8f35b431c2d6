//! What is known across restarts, and what somebody sees who looks.
//!
//! A key that was kept is good for no longer than it was, and for no longer than any: the bounds of
//! [`KeyringLimits::believed_max`](super::KeyringLimits::believed_max) hold again from the moment it is read. One that
//! was written in what is the future now, because the clock was set back, verifies events of the past only until its
//! server has been asked again.

use std::collections::BTreeMap;

use southbridge_words::{KeyRecord, KeyStanding, ServerName, Ticket, WallTime};

use super::held::Terms;
use super::{Action, KeyError, Keyring};
use crate::externaliser::Moment;
use crate::signing::{KeyId, VerifyKey};

/// One key, as somebody sees it who looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyView {
    /// Its name.
    pub id: KeyId,
    /// The key.
    pub key: VerifyKey,
    /// Whether it signs, or did so once.
    pub standing: KeyStanding,
    /// Until when the server stands by it; when it ceased to sign.
    pub until: WallTime,
    /// Whether it verifies what is signed now.
    pub good_now: bool,
}

/// What is to be written about a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Learned,
    Forgotten,
}

/// What is to be written, by server.
pub(super) type Changes = BTreeMap<ServerName, Change>;

impl Keyring {
    /// Somebody wants to see the keys of `server`. The answer is an [`Action::Searched`]: at once when keys are known
    /// that are good now, or when the server is left alone for a while.
    pub fn handle_search(&mut self, ticket: Ticket, server: &ServerName, at: Moment) {
        self.shelf.touch(server);
        let is_good = self.shelf.get(server).is_some_and(|held| !held.signing(at).is_empty());
        if is_good {
            self.counters.known += 1;
            self.actions.push_back(Action::Searched { ticket, result: Ok(()) });
            self.refresh_ahead(server, at);
        } else if let Some(error) = self.search_refusal(server, at) {
            self.counters.refused += 1;
            self.actions.push_back(Action::Searched { ticket, result: Err(error) });
        } else {
            self.tickets.insert(ticket, server.clone());
            if let Some(flight) = self.flights.get_mut(server) {
                self.counters.joined += 1;
                flight.watchers.push(ticket);
            } else {
                self.counters.searches += 1;
                self.search(server, |flight| flight.watchers.push(ticket), at);
            }
        }
    }

    /// What is known of the keys of `server`, by name. Asks nobody.
    pub fn view(&self, server: &ServerName, at: Moment) -> Vec<KeyView> {
        let mut keys = self.shelf.get(server).map(|held| held.shown(at)).unwrap_or_default();
        keys.sort_by(|one, other| one.id.cmp(&other.id));
        keys
    }

    /// Takes in what was kept across a restart. Servers of which something is known already are passed over.
    pub fn handle_restored(&mut self, records: impl IntoIterator<Item = KeyRecord>, at: Moment) {
        let terms =
            Terms { believed_max: self.limits.believed_max, keys_max: self.limits.keys_per_server_max };
        for record in records {
            if self.shelf.get(&record.server).is_some() {
                continue;
            }
            // Not all of them are to be asked for again at the same time.
            let share = self.seeded.factor(0.45, 0.55);
            self.shelf.change(&record.server, |held| {
                let lifetime = held.restore(&record, terms, at);
                held.refresh_at = at.now + lifetime.mul_f64(share);
            });
        }
    }

    /// Takes what has changed since it was last taken, of at most `max` servers, to be kept.
    pub fn take_changed(&mut self, max: usize, wall: WallTime) -> Vec<KeyRecord> {
        let mut records = Vec::new();
        while records.len() < max
            && let Some((server, change)) = self.changes.pop_first()
        {
            let keys = match (change, self.shelf.get(&server)) {
                (Change::Forgotten, None) => Vec::new(),
                (_, Some(held)) if !held.is_empty() => held.recorded(),
                // Only memory was short: what was kept of it before stays.
                _ => continue,
            };
            records.push(KeyRecord { server, keys, seen_at: wall });
        }
        records
    }

    pub(super) fn note_change(&mut self, server: &ServerName, change: Change) {
        self.changes.insert(server.clone(), change);
        // Nobody may be there who takes them.
        if self.changes.len() > self.limits.servers_max {
            self.changes.pop_first();
        }
    }

    fn search_refusal(&self, server: &ServerName, at: Moment) -> Option<KeyError> {
        if self.tickets.len() >= self.limits.waiting_max {
            return Some(KeyError::Overloaded);
        }
        if self.flights.contains_key(server) {
            return None;
        }
        let failing = self.shelf.get(server)?.failing.as_ref().filter(|failing| at.now < failing.retry_at)?;
        Some(super::machine::unavailable(server, failing, at))
    }
}
