//! The cache of one step of discovery: who waits, what is fresh, what is stale, what failed.
//!
//! Every step (.well-known, SRV, addresses, their composition) has one of its own, so that a
//! failure of one step cannot poison another, and each has its own bounds.
//!
//! ```text
//!            ask ──▶ being fetched ──value──▶ fresh ──time──▶ expired ──ask──▶ being fetched
//!                         │                     │ asked in the last fifth: refreshed in the background
//!                         └──failure──▶ failing (the old value stands in up to `stale_max`,
//!                                       else the error is answered at once) ──back-off──▶ fetched again
//! ```
//!
//! - One fetch at a time for a key, however many ask ([`Asked::Waiting`]).
//! - A failure never overwrites a value. While a source fails and an old value is at hand, nobody
//!   waits: the source is asked again in the background, less and less often.
//! - An absence ("there is no such record") is a value with its own bound, and never served stale.
//!
//! # Units
//! Times are told; nothing here looks at a clock.
//!
//! # Source
//! F3, K6. Serving stale: RFC 8767. Faults 14 and 15.

mod entry;
mod limits;

use std::collections::VecDeque;
use std::hash::Hash;
use std::time::Duration;

use rustc_hash::FxHashMap;
use southbridge_words::Instant;

use self::entry::Entry;
use crate::roster::Roster;
use crate::seeded::Seeded;
use crate::slots::Row;
pub use limits::{FreshnessCounters, FreshnessLimits};

/// A cache of values `V` by keys `K`, whose fetches may fail with `E`, and for which `T`s wait.
///
/// Both `K`, `V` and `E` are cloned freely: hand in what is cheap to clone.
#[derive(Debug)]
pub struct StepCache<K, V, E, T> {
    limits: FreshnessLimits,
    seeded: Seeded,
    entries: Roster<Entry<K, V, E>>,
    /// The entries that are not being fetched: those can be evicted.
    resting: Row,
    flights: FxHashMap<u32, Flight<T>>,
    due: VecDeque<K>,
    waiting: u32,
    background: u32,
    counters: FreshnessCounters,
}

/// A fetch under way, by the slot of its entry.
#[derive(Debug)]
struct Flight<T> {
    waiters: Vec<T>,
    background: bool,
}

/// A value that is at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known<V> {
    /// The value.
    pub value: V,
    /// Until when it need not be asked for again. For a stale value: when its source is tried again.
    pub fresh_until: Instant,
    /// Whether it is past its time and stands in for a source that failed.
    pub stale: bool,
}

/// A failure that nothing can stand in for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failing<E> {
    /// What the source said.
    pub error: E,
    /// When its source is tried again.
    pub retry_at: Instant,
}

/// What asking came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked<V, E, T> {
    /// It is at hand.
    Known(Known<V>),
    /// Its source failed lately, and nothing can stand in.
    Failed(Failing<E>),
    /// The waiter will be given back by [`StepCache::handle_fetched`].
    Waiting,
    /// A bound was met; here is the waiter back.
    Full(T),
}

/// What a fetch brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched<V> {
    /// A value, and how long its source calls it fresh.
    Present(V, Duration),
    /// A value that says "there is none", and for how long.
    Absent(V, Duration),
}

/// Who waited for a fetch, and what to tell them.
#[must_use = "the waiters are waiting"]
#[derive(Debug, PartialEq, Eq)]
pub struct Settled<V, E, T> {
    /// Who waited, in the order they came. Nobody, for a refresh in the background.
    pub waiters: Vec<T>,
    /// The answer for all of them.
    pub answer: Result<Known<V>, Failing<E>>,
}

impl<K, V, E, T> StepCache<K, V, E, T>
where
    K: Clone + Eq + Hash,
    V: Clone,
    E: Clone,
{
    /// An empty cache; `seed` decides its jitter.
    pub fn new(limits: FreshnessLimits, seed: u64) -> Self {
        Self {
            limits,
            seeded: Seeded::new(seed),
            entries: Roster::new(seed),
            resting: Row::EMPTY,
            flights: FxHashMap::default(),
            due: VecDeque::new(),
            waiting: 0,
            background: 0,
            counters: FreshnessCounters::default(),
        }
    }

    /// The value of `key` if nobody need wait for it, stale or not. Counts as a use: it may start a
    /// refresh in the background, never a fetch that somebody waits for.
    pub fn known<Q>(&mut self, key: &Q, now: Instant) -> Option<Known<V>>
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let slot = self.entries.find(key)?;
        let known = self.entries[slot].known(&self.limits, now)?;
        self.on_served(slot, now);
        match known.stale {
            true => self.counters.stale += 1,
            false => self.counters.hits += 1,
        }
        Some(known)
    }

    /// Asks for `key` on behalf of `waiter`, who is joined to a fetch when the answer is not at hand.
    pub fn ask(&mut self, key: &K, waiter: T, now: Instant) -> Asked<V, E, T> {
        if let Some(known) = self.known(key, now) {
            return Asked::Known(known);
        }
        if let Some(failing) = self.failure(key, now) {
            return Asked::Failed(failing);
        }
        if self.waiting >= self.limits.waiting_max {
            self.counters.refused += 1;
            return Asked::Full(waiter);
        }
        let Some(slot) = self.slot_for(key, now) else {
            self.counters.refused += 1;
            return Asked::Full(waiter);
        };
        self.on_waiter(slot, waiter);
        Asked::Waiting
    }

    /// The next key to fetch. Every key given out must come back through [`Self::handle_fetched`] or
    /// [`Self::handle_abandoned`].
    pub fn poll(&mut self) -> Option<K> {
        self.due.pop_front()
    }

    /// A fetch of `key` has ended. `None` when no fetch of it was under way.
    pub fn handle_fetched(
        &mut self,
        key: &K,
        fetched: Result<Fetched<V>, E>,
        now: Instant,
    ) -> Option<Settled<V, E, T>> {
        let (slot, waiters) = self.land(key)?;
        let entry = &mut self.entries[slot];
        let answer = match fetched {
            Ok(fetched) => Ok(entry.on_value(fetched, &self.limits, now)),
            Err(error) => entry.on_failure(error, &self.limits, &mut self.seeded, now),
        };
        if answer.as_ref().is_ok_and(|known| known.stale) {
            self.counters.stale += waiters.len() as u64;
        }
        Some(Settled { waiters, answer })
    }

    /// A fetch of `key` was given up for a reason of our own (overload): the waiters get `error`, or what
    /// can stand in, and nothing is remembered against the source. `None` when no fetch was under way.
    pub fn handle_abandoned(&mut self, key: &K, error: E, now: Instant) -> Option<Settled<V, E, T>> {
        let (slot, waiters) = self.land(key)?;
        let entry = &self.entries[slot];
        let answer = match entry.stand_in(&self.limits, now) {
            Some(value) => Ok(Known { value, fresh_until: now, stale: !entry.is_fresh(now) }),
            None => Err(Failing { error, retry_at: now }),
        };
        if entry.is_blank() {
            self.forget(slot);
        }
        Some(Settled { waiters, answer })
    }

    /// The remembered value of `key`, whatever its age, to annotate it. It is not counted as a use.
    pub fn value_mut(&mut self, key: &K) -> Option<&mut V> {
        let slot = self.entries.find(key)?;
        self.entries[slot].value_mut()
    }

    /// Drops the value of `key`, so that it cannot stand in any more; failures stay remembered.
    pub fn forget_value(&mut self, key: &K) {
        if let Some(slot) = self.entries.find(key) {
            self.entries[slot].forget_value();
        }
    }

    /// Makes `key` be fetched anew the next time it is asked for; its value can still stand in, and a
    /// remembered failure is forgiven.
    pub fn expire(&mut self, key: &K, now: Instant) {
        if let Some(slot) = self.entries.find(key) {
            self.entries[slot].expire(now);
        }
    }

    /// Takes back a waiter that no longer waits. The fetch goes on: its answer is worth keeping.
    pub fn withdraw(&mut self, key: &K, is_it: impl Fn(&T) -> bool) -> Option<T> {
        let slot = self.entries.find(key)?;
        let waiters = &mut self.flights.get_mut(&slot)?.waiters;
        let at = waiters.iter().position(is_it)?;
        self.waiting -= 1;
        Some(waiters.remove(at))
    }

    /// What it has done so far.
    pub fn counters(&self) -> FreshnessCounters {
        self.counters
    }

    /// Entries held, those being fetched included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fetches under way.
    pub fn fetching(&self) -> usize {
        self.flights.len()
    }

    /// The failure to answer at once, if there is one.
    fn failure(&mut self, key: &K, now: Instant) -> Option<Failing<E>> {
        let slot = self.entries.find(key)?;
        let failing = self.entries[slot].failing(now)?;
        self.on_served(slot, now);
        self.counters.failed += 1;
        Some(failing)
    }

    /// An answer was served from `slot`: note the use, and refresh it when that is due.
    fn on_served(&mut self, slot: u32, now: Instant) {
        let entry = &self.entries[slot];
        if entry.is_fetched() {
            return;
        }
        let is_due = entry.is_due(now);
        self.entries.renew(&mut self.resting, slot);
        if is_due && self.background < self.limits.background_max {
            self.counters.refreshed += 1;
            self.background += 1;
            self.take_off(slot, Flight { waiters: Vec::new(), background: true });
        }
    }

    fn on_waiter(&mut self, slot: u32, waiter: T) {
        self.waiting += 1;
        match self.flights.get_mut(&slot) {
            Some(flight) => {
                self.counters.joined += 1;
                flight.waiters.push(waiter);
            }
            None => {
                self.counters.misses += 1;
                self.take_off(slot, Flight { waiters: vec![waiter], background: false });
            }
        }
    }

    /// Starts a fetch. What is being fetched is not at rest, and so cannot be evicted.
    fn take_off(&mut self, slot: u32, flight: Flight<T>) {
        self.entries.leave(&mut self.resting, slot);
        self.flights.insert(slot, flight);
        let key = self.entries[slot].on_fetch();
        self.due.push_back(key);
    }

    fn land(&mut self, key: &K) -> Option<(u32, Vec<T>)> {
        let slot = self.entries.find(key)?;
        let Flight { waiters, background } = self.flights.remove(&slot)?;
        self.background -= u32::from(background);
        self.waiting -= u32::try_from(waiters.len()).expect("who waits is bounded by a u32");
        self.entries[slot].on_fetched();
        self.entries.append(&mut self.resting, slot);
        Some((slot, waiters))
    }

    /// The slot of `key`, made if need be; `None` when everything held is being fetched.
    fn slot_for(&mut self, key: &K, now: Instant) -> Option<u32> {
        if let Some(slot) = self.entries.find(key) {
            return Some(slot);
        }
        self.forget_spent(now);
        if self.entries.len() >= self.limits.entries_max as usize {
            let oldest = self.resting.oldest()?;
            self.forget(oldest);
            self.counters.evicted += 1;
        }
        let slot = self.entries.enrol(Entry::new(key.clone()));
        self.entries.append(&mut self.resting, slot);
        Some(slot)
    }

    /// Drops the entries used longest ago that nothing can be had of any more. Each new entry drops at most
    /// two, so memory follows what is in use without anybody ever sweeping.
    fn forget_spent(&mut self, now: Instant) {
        for _ in 0..2 {
            let Some(oldest) = self.resting.oldest() else { return };
            if !self.entries[oldest].is_spent(&self.limits, now) {
                return;
            }
            self.forget(oldest);
        }
    }

    /// Drops an entry that is not being fetched.
    fn forget(&mut self, slot: u32) {
        self.entries.leave(&mut self.resting, slot);
        self.entries.strike(slot);
    }
}

#[cfg(test)]
mod tests;
