//! The keyring itself: who waits for which key, and what becomes of a search.

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;
use southbridge_policy::seeded::{Seeded, SeededMap, SeededState};
use southbridge_words::{Instant, ServerName, Ticket};

use super::asking::Fetch;
use super::desk::Desk;
use super::flight::{Flight, Source, Waiter};
use super::held::{Failing, Found, Held};
use super::kept::{Change, Changes};
use super::shelf::Shelf;
use super::{Action, FetchId, KeyError, KeyringLimits, Purpose, Sources, Wanted};
use crate::externaliser::Moment;
use crate::signing::VerifyKey;

/// The keyring. See the [module](super) for the rules it follows.
#[derive(Debug)]
pub struct Keyring {
    pub(super) limits: KeyringLimits,
    pub(super) sources: Sources,
    pub(super) seeded: Seeded,
    pub(super) shelf: Shelf,
    pub(super) flights: SeededMap<ServerName, Flight>,
    pub(super) desks: Vec<Desk>,
    /// Servers whose origin is to be asked when there is room.
    pub(super) queue: VecDeque<ServerName>,
    /// Fetches from origins under way.
    pub(super) origins: usize,
    pub(super) fetches: FxHashMap<FetchId, Fetch>,
    /// In order: each fetch has the same time.
    pub(super) deadlines: VecDeque<(Instant, FetchId)>,
    pub(super) next_fetch: u64,
    pub(super) actions: VecDeque<Action>,
    pub(super) counters: KeyringCounters,
    /// What is to be written down.
    pub(super) changes: Changes,
    pub(super) tickets: FxHashMap<Ticket, ServerName>,
    background: usize,
}

/// What the keyring has done so far, and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyringCounters {
    /// Answered from what was known.
    pub known: u64,
    /// Joined a search under way.
    pub joined: u64,
    /// Searches somebody waited for.
    pub searches: u64,
    /// Searches in the background.
    pub refreshes: u64,
    /// Refused without asking anybody.
    pub refused: u64,
    /// Requests to origins.
    pub origin_fetches: u64,
    /// Queries to notaries.
    pub notary_fetches: u64,
    /// Answers that were not believed.
    pub not_believed: u64,
    /// Servers of which something is known, now.
    pub servers: usize,
    /// Bytes they take, now, about.
    pub bytes: usize,
    /// Tickets waiting, now.
    pub waiting: usize,
}

impl Keyring {
    /// A keyring that knows nothing yet. `seed` decides its jitter and its hashing.
    pub fn new(limits: KeyringLimits, sources: Sources, seed: u64) -> Self {
        let desks = sources.notaries.iter().cloned().map(Desk::new).collect();
        let shelf = Shelf::new(limits.servers_max, limits.bytes_max, seed);
        Self {
            limits,
            sources,
            seeded: Seeded::new(seed),
            shelf,
            flights: SeededMap::with_hasher(SeededState::new(seed)),
            desks,
            queue: VecDeque::new(),
            origins: 0,
            fetches: FxHashMap::default(),
            deadlines: VecDeque::new(),
            next_fetch: 0,
            actions: VecDeque::new(),
            counters: KeyringCounters::default(),
            changes: Changes::new(),
            tickets: FxHashMap::default(),
            background: 0,
        }
    }

    /// Somebody needs a key. The answer is an [`Action::Answer`], perhaps at once.
    pub fn handle_wanted(&mut self, ticket: Ticket, wanted: Wanted, at: Moment) {
        self.shelf.touch(&wanted.server);
        if let Some(key) = self.known(&wanted, at) {
            self.counters.known += 1;
            self.answer(ticket, Ok(key));
            self.refresh_ahead(&wanted.server, at);
        } else if let Some(error) = self.refusal(&wanted, at) {
            self.counters.refused += 1;
            self.answer(ticket, Err(error));
        } else {
            self.tickets.insert(ticket, wanted.server.clone());
            let waiter = Waiter { ticket, key: wanted.key, purpose: wanted.purpose };
            if let Some(flight) = self.flights.get_mut(&wanted.server) {
                self.counters.joined += 1;
                flight.waiters.push(waiter);
            } else {
                self.counters.searches += 1;
                self.search(&wanted.server, |flight| flight.waiters.push(waiter), at);
            }
        }
    }

    /// Nobody waits for `ticket` any longer: it gets no answer.
    pub fn handle_cancelled(&mut self, ticket: Ticket) {
        let Some(server) = self.tickets.remove(&ticket) else { return };
        if let Some(flight) = self.flights.get_mut(&server) {
            flight.waiters.retain(|waiter| waiter.ticket != ticket);
            flight.watchers.retain(|watcher| *watcher != ticket);
        }
    }

    /// The time has come that [`poll_timeout`](Self::poll_timeout) named.
    pub fn handle_timeout(&mut self, at: Moment) {
        self.give_up_overdue(at);
    }

    /// What to do next, until there is nothing.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to come back with [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        let under_way = self.deadlines.iter().find(|(_, id)| self.fetches.contains_key(id));
        under_way.map(|(deadline, _)| *deadline)
    }

    /// The key, if it is known and good. Asks nobody.
    pub fn known(&self, wanted: &Wanted, at: Moment) -> Option<VerifyKey> {
        match self.shelf.get(&wanted.server)?.find(&wanted.key, wanted.purpose, at) {
            Found::Key(key) => Some(key),
            Found::NotValid | Found::Unknown => None,
        }
    }

    /// Forgets what is known of `server`, failures included; whether there was anything. For operators.
    pub fn forget(&mut self, server: &ServerName) -> bool {
        let was_known = self.shelf.forget(server);
        if was_known {
            self.note_change(server, Change::Forgotten);
        }
        was_known
    }

    /// What it has done so far, and what it holds.
    pub fn counters(&self) -> KeyringCounters {
        let (servers, bytes) = (self.shelf.len(), self.shelf.bytes());
        KeyringCounters { servers, bytes, waiting: self.tickets.len(), ..self.counters }
    }

    /// Why nobody is to be asked for a key that is not at hand.
    fn refusal(&self, wanted: &Wanted, at: Moment) -> Option<KeyError> {
        let Wanted { server, key, purpose } = wanted;
        if let Purpose::Event { signed_at } = *purpose
            && signed_at > at.wall + self.limits.believed_max
        {
            return Some(KeyError::FromTheFuture { server: server.clone() });
        }
        if self.tickets.len() >= self.limits.waiting_max {
            return Some(KeyError::Overloaded);
        }
        if self.flights.contains_key(server) {
            return None;
        }
        let held = self.shelf.get(server)?;
        if let Some(failing) = held.failing.as_ref().filter(|failing| at.now < failing.retry_at) {
            return Some(unavailable(server, failing, at));
        }
        let asked_enough = held.asked_all || *purpose == Purpose::Request;
        let lately = |answered: &Instant| at.now.saturating_since(*answered) < self.limits.again_min;
        held.answered_at.filter(|answered| asked_enough && lately(answered))?;
        Some(match held.find(key, *purpose, at) {
            Found::NotValid => KeyError::NotValid { server: server.clone(), key: key.clone() },
            _ => KeyError::NotListed { server: server.clone(), key: key.clone() },
        })
    }

    /// Keys in the second half of their life are asked for anew, while they still serve.
    pub(super) fn refresh_ahead(&mut self, server: &ServerName, at: Moment) {
        let Some(held) = self.shelf.get(server) else { return };
        let retry_at = held.failing.as_ref().map_or(Instant::ZERO, |failing| failing.retry_at);
        let due = at.now >= held.refresh_at.max(retry_at) && !self.flights.contains_key(server);
        if due && self.background < self.limits.background_max {
            self.background += 1;
            self.counters.refreshes += 1;
            self.search(server, |flight| flight.background = true, at);
        }
    }

    /// Begins a search.
    pub(super) fn search(&mut self, server: &ServerName, prepare: impl FnOnce(&mut Flight), at: Moment) {
        let mut flight = Flight::new(server, &self.sources);
        prepare(&mut flight);
        self.flights.insert(server.clone(), flight);
        self.advance(server, at);
    }

    /// Asks the next who may know, or ends the search.
    pub(super) fn advance(&mut self, server: &ServerName, at: Moment) {
        let Some(flight) = self.flights.get_mut(server) else { return };
        match flight.next_source() {
            Some(Source::Origin) => {
                self.queue.push_back(server.clone());
                self.pump_origins(at);
            }
            Some(Source::Notary(desk)) => self.ask_notary(desk, server, at),
            None => self.settle(server, at),
        }
    }

    /// Answers those who wait for what is now known of `server`.
    pub(super) fn answer_waiters(&mut self, server: &ServerName, at: Moment) {
        let (Some(flight), Some(held)) = (self.flights.get_mut(server), self.shelf.get(server)) else {
            return;
        };
        for waiter in std::mem::take(&mut flight.waiters) {
            match held.find(&waiter.key, waiter.purpose, at) {
                Found::Key(key) => {
                    self.tickets.remove(&waiter.ticket);
                    self.actions.push_back(Action::Answer { ticket: waiter.ticket, result: Ok(key) });
                }
                Found::NotValid | Found::Unknown => flight.waiters.push(waiter),
            }
        }
    }

    /// Ends a search: who still waits is told why there is no key.
    fn settle(&mut self, server: &ServerName, at: Moment) {
        let Some(flight) = self.flights.remove(server) else { return };
        self.background -= usize::from(flight.background);
        self.remember(server, &flight, at);
        for waiter in &flight.waiters {
            self.tickets.remove(&waiter.ticket);
            let error = self.failure(server, waiter, &flight, at);
            self.answer(waiter.ticket, Err(error));
        }
        for ticket in &flight.watchers {
            self.tickets.remove(ticket);
            let result = if flight.answered { Ok(()) } else { Err(self.unanswered(server, &flight, at)) };
            self.actions.push_back(Action::Searched { ticket: *ticket, result });
        }
        for desk in flight.desks {
            self.on_notary_searched(desk, at);
        }
    }

    /// Notes what a search came to.
    fn remember(&mut self, server: &ServerName, flight: &Flight, at: Moment) {
        if flight.answered {
            let asked_all = flight.has_asked_all();
            self.shelf.change(server, |held| {
                held.answered_at = Some(at.now);
                held.asked_all = asked_all;
                (held.failing, held.failures) = (None, 0);
            });
        } else if let Some(trouble) = &flight.trouble {
            let failures = self.shelf.get(server).map_or(0, |held| held.failures).saturating_add(1);
            let retry_at = at.now + self.pause(failures);
            let failing = Failing { trouble: trouble.clone(), retry_at };
            self.shelf.change(server, |held| (held.failing, held.failures) = (Some(failing), failures));
        }
    }

    fn failure(&self, server: &ServerName, waiter: &Waiter, flight: &Flight, at: Moment) -> KeyError {
        if !flight.answered {
            return self.unanswered(server, flight, at);
        }
        let (server, key) = (server.clone(), waiter.key.clone());
        match self.shelf.get(&server).map(|held| held.find(&key, waiter.purpose, at)) {
            Some(Found::NotValid) => KeyError::NotValid { server, key },
            _ => KeyError::NotListed { server, key },
        }
    }

    /// Why a search brought nothing.
    fn unanswered(&self, server: &ServerName, flight: &Flight, at: Moment) -> KeyError {
        match self.shelf.get(server).and_then(|held: &Held| held.failing.as_ref()) {
            Some(failing) if flight.trouble.is_some() => unavailable(server, failing, at),
            _ => KeyError::Overloaded,
        }
    }

    /// How long somebody who failed so many times in a row is left alone.
    pub(super) fn pause(&mut self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(DOUBLINGS_MAX);
        let pause = self.limits.failure_first.saturating_mul(1 << doublings).min(self.limits.failure_max);
        pause.mul_f64(self.seeded.factor(0.9, 1.1))
    }

    fn answer(&mut self, ticket: Ticket, result: Result<VerifyKey, KeyError>) {
        self.actions.push_back(Action::Answer { ticket, result });
    }
}

pub(super) fn unavailable(server: &ServerName, failing: &Failing, at: Moment) -> KeyError {
    let retry_in = failing.retry_at.saturating_since(at.now);
    KeyError::Unavailable { server: server.clone(), trouble: failing.trouble.clone(), retry_in }
}

/// Enough to reach any bound from any beginning.
const DOUBLINGS_MAX: u32 = 20;
