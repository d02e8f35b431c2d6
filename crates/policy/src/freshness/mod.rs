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

mod limits;
mod recency;

use std::collections::VecDeque;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::time::Duration;

use slab::Slab;
use southbridge_words::Instant;

use self::recency::Recency;
use crate::seeded::{Seeded, SeededMap, SeededState};
pub use limits::{FreshnessCounters, FreshnessLimits};

/// A cache of values `V` by keys `K`, whose fetches may fail with `E`, and for which `T`s wait.
///
/// Both `K`, `V` and `E` are cloned freely: hand in what is cheap to clone.
#[derive(Debug)]
pub struct StepCache<K, V, E, T> {
    limits: FreshnessLimits,
    seeded: Seeded,
    index: SeededMap<K, u32>,
    entries: Slab<Entry<K, V, E>>,
    recency: Recency,
    flights: Slab<Flight<T>>,
    due: VecDeque<K>,
    waiting: u32,
    background: u32,
    counters: FreshnessCounters,
}

#[derive(Debug)]
struct Entry<K, V, E> {
    key: K,
    value: Option<V>,
    // Boxed: most entries have none, and there are many entries.
    error: Option<Box<E>>,
    fresh_until: Instant,
    /// From when on being asked for starts a fetch in the background.
    due_at: Instant,
    /// Until when `error` is answered without asking again.
    retry_at: Instant,
    flight: Option<NonZeroU32>,
    failures: u8,
    /// Whether the value may stand in past its time: an absence may not.
    present: bool,
}

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
            index: SeededMap::with_hasher(SeededState::new(seed)),
            entries: Slab::new(),
            recency: Recency::default(),
            flights: Slab::new(),
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
        let slot = *self.index.get(key)?;
        let known = self.entries[slot as usize].known(&self.limits, now)?;
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
        match self.slot_for(key, now) {
            Some(slot) => self.on_waiter(slot, waiter),
            None => {
                self.counters.refused += 1;
                Asked::Full(waiter)
            }
        }
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
        let entry = &mut self.entries[slot as usize];
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
        let entry = &mut self.entries[slot as usize];
        let answer = match entry.stand_in(&self.limits, now) {
            Some(value) => Ok(Known { value, fresh_until: now, stale: now >= entry.fresh_until }),
            None => Err(Failing { error, retry_at: now }),
        };
        if entry.value.is_none() && entry.error.is_none() {
            self.forget(key);
        }
        Some(Settled { waiters, answer })
    }

    /// The remembered value of `key`, whatever its age, to annotate it. It is not counted as a use.
    pub fn value_mut(&mut self, key: &K) -> Option<&mut V> {
        let slot = *self.index.get(key)?;
        self.entries[slot as usize].value.as_mut()
    }

    /// Drops the value of `key`, so that it cannot stand in any more; failures stay remembered.
    pub fn forget_value(&mut self, key: &K) {
        if let Some(slot) = self.index.get(key) {
            let entry = &mut self.entries[*slot as usize];
            entry.value = None;
            entry.fresh_until = Instant::ZERO;
        }
    }

    /// Makes `key` be fetched anew the next time it is asked for; its value can still stand in, and a
    /// remembered failure is forgiven.
    pub fn expire(&mut self, key: &K, now: Instant) {
        if let Some(slot) = self.index.get(key) {
            let entry = &mut self.entries[*slot as usize];
            entry.fresh_until = entry.fresh_until.min(now);
            entry.due_at = entry.due_at.min(now);
            entry.retry_at = now;
            entry.failures = 0;
            entry.error = None;
        }
    }

    /// Takes back a waiter that no longer waits. The fetch goes on: its answer is worth keeping.
    pub fn withdraw(&mut self, key: &K, is_it: impl Fn(&T) -> bool) -> Option<T> {
        let slot = *self.index.get(key)?;
        let flight = self.entries[slot as usize].flight?;
        let waiters = &mut self.flights[flight_at(flight)].waiters;
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
        self.entries.is_empty()
    }

    /// Fetches under way.
    pub fn fetching(&self) -> usize {
        self.flights.len()
    }

    /// The failure to answer at once, if there is one.
    fn failure(&mut self, key: &K, now: Instant) -> Option<Failing<E>> {
        let slot = *self.index.get(key)?;
        let entry = &self.entries[slot as usize];
        let retry_at = entry.retry_at;
        let error = entry.error.as_deref().filter(|_| now < retry_at)?.clone();
        self.on_served(slot, now);
        self.counters.failed += 1;
        Some(Failing { error, retry_at })
    }

    /// An answer was served from `slot`: note the use, and refresh it when that is due.
    fn on_served(&mut self, slot: u32, now: Instant) {
        let entry = &self.entries[slot as usize];
        if entry.flight.is_some() {
            return;
        }
        self.recency.touch(slot);
        if now >= entry.due_at && self.background < self.limits.background_max {
            self.counters.refreshed += 1;
            self.background += 1;
            self.take_off(slot, true);
        }
    }

    fn on_waiter(&mut self, slot: u32, waiter: T) -> Asked<V, E, T> {
        let flight = match self.entries[slot as usize].flight {
            Some(flight) => {
                self.counters.joined += 1;
                flight
            }
            None => {
                self.counters.misses += 1;
                self.take_off(slot, false)
            }
        };
        self.waiting += 1;
        self.flights[flight_at(flight)].waiters.push(waiter);
        Asked::Waiting
    }

    /// Starts a fetch. What is being fetched is not in `recency`, and so cannot be evicted.
    fn take_off(&mut self, slot: u32, background: bool) -> NonZeroU32 {
        self.recency.remove(slot);
        let at = self.flights.insert(Flight { waiters: Vec::new(), background });
        let flight = NonZeroU32::MIN.saturating_add(number(at));
        let entry = &mut self.entries[slot as usize];
        entry.flight = Some(flight);
        self.due.push_back(entry.key.clone());
        flight
    }

    fn land(&mut self, key: &K) -> Option<(u32, Vec<T>)> {
        let slot = *self.index.get(key)?;
        let flight = self.entries[slot as usize].flight.take()?;
        let Flight { waiters, background } = self.flights.remove(flight_at(flight));
        self.background -= u32::from(background);
        self.waiting -= number(waiters.len());
        self.recency.insert(slot);
        Some((slot, waiters))
    }

    /// The slot of `key`, made if need be; `None` when everything held is being fetched.
    fn slot_for(&mut self, key: &K, now: Instant) -> Option<u32> {
        if let Some(slot) = self.index.get(key) {
            return Some(*slot);
        }
        self.forget_spent(now);
        if self.entries.len() >= self.limits.entries_max as usize {
            let oldest = self.recency.oldest()?;
            let key = self.entries[oldest as usize].key.clone();
            self.forget(&key);
            self.counters.evicted += 1;
        }
        let slot = number(self.entries.insert(Entry::new(key.clone())));
        self.index.insert(key.clone(), slot);
        self.recency.insert(slot);
        Some(slot)
    }

    /// Drops the entries used longest ago that nothing can be had of any more. Each new entry drops at most
    /// two, so memory follows what is in use without anybody ever sweeping.
    fn forget_spent(&mut self, now: Instant) {
        for _ in 0..2 {
            let Some(oldest) = self.recency.oldest() else { return };
            let entry = &self.entries[oldest as usize];
            if !entry.is_spent(&self.limits, now) {
                return;
            }
            let key = entry.key.clone();
            self.forget(&key);
        }
    }

    /// Drops an entry that is not being fetched.
    fn forget(&mut self, key: &K) {
        if let Some(slot) = self.index.remove(key) {
            self.recency.remove(slot);
            self.entries.remove(slot as usize);
        }
    }
}

impl<K, V: Clone, E: Clone> Entry<K, V, E> {
    fn new(key: K) -> Self {
        Self {
            key,
            value: None,
            error: None,
            fresh_until: Instant::ZERO,
            due_at: Instant::ZERO,
            retry_at: Instant::ZERO,
            flight: None,
            failures: 0,
            present: false,
        }
    }

    /// What may be served at `now` without waiting.
    fn known(&self, limits: &FreshnessLimits, now: Instant) -> Option<Known<V>> {
        if now < self.fresh_until {
            let value = self.value.clone()?;
            return Some(Known { value, fresh_until: self.fresh_until, stale: false });
        }
        // Stale only when the source has failed: otherwise it is asked first.
        self.error.as_ref()?;
        let value = self.stand_in(limits, now)?;
        Some(Known { value, fresh_until: self.retry_at, stale: true })
    }

    /// What may stand in for a source that failed.
    fn stand_in(&self, limits: &FreshnessLimits, now: Instant) -> Option<V> {
        let stale = if self.present { limits.stale_max } else { Duration::ZERO };
        self.value.clone().filter(|_| now < self.fresh_until + stale)
    }

    /// Whether it holds neither a value that may be served nor a failure worth remembering.
    fn is_spent(&self, limits: &FreshnessLimits, now: Instant) -> bool {
        self.stand_in(limits, now).is_none() && now >= self.retry_at + limits.failure_max
    }

    fn on_value(&mut self, fetched: Fetched<V>, limits: &FreshnessLimits, now: Instant) -> Known<V> {
        let (value, asked, present) = match fetched {
            Fetched::Present(value, asked) => (value, asked, true),
            Fetched::Absent(value, asked) => (value, asked, false),
        };
        let fresh = limits.fresh_time(asked, present);
        self.fresh_until = now + fresh;
        self.present = present;
        self.due_at = now + refresh_after(fresh);
        self.retry_at = Instant::ZERO;
        self.failures = 0;
        self.error = None;
        self.value = Some(value.clone());
        Known { value, fresh_until: self.fresh_until, stale: false }
    }

    fn on_failure(
        &mut self,
        error: E,
        limits: &FreshnessLimits,
        seeded: &mut Seeded,
        now: Instant,
    ) -> Result<Known<V>, Failing<E>> {
        self.failures = self.failures.saturating_add(1);
        let remembered = limits.failure_time(u32::from(self.failures), seeded);
        self.retry_at = now + remembered;
        self.error = Some(Box::new(error.clone()));
        let known = self.known(limits, now);
        // With a value at hand nobody waits for the next try, so it need not come early.
        self.due_at = if known.is_some() { self.retry_at } else { now + refresh_after(remembered) };
        known.ok_or(Failing { error, retry_at: self.retry_at })
    }
}

/// When the last fifth of `fresh` begins.
fn refresh_after(fresh: Duration) -> Duration {
    fresh.mul_f64(0.8)
}

/// Where a flight lies: its number counts from one, so that "none" takes no room.
fn flight_at(flight: NonZeroU32) -> usize {
    flight.get() as usize - 1
}

/// A slot number. The caches are bounded far below what would not fit.
fn number(slot: usize) -> u32 {
    u32::try_from(slot).expect("a cache is bounded by a u32")
}

#[cfg(test)]
mod tests;
