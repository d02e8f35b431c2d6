//! What is remembered of one key. Thousands of hosts multiply its size, so it is tested.
//!
//! Most entries are a value and its time. What only some have lies in a box of its own: a failure here, those
//! who wait with the cache.

use std::hash::Hash;
use std::time::Duration;

use southbridge_words::Instant;

use super::{Failing, Fetched, FreshnessLimits, Known};
use crate::roster::Named;
use crate::seeded::Seeded;

#[derive(Debug)]
pub(super) struct Entry<K, V, E> {
    key: K,
    value: Option<V>,
    /// Absent while the source does well.
    trouble: Option<Box<Trouble<E>>>,
    fresh_until: Instant,
    /// How long before `fresh_until` being asked for starts a fetch in the background; milliseconds, of
    /// which a `u32` holds seven weeks.
    lead_ms: u32,
    /// Whether the value may stand in past its time: an absence may not.
    is_present: bool,
    is_fetched: bool,
}

/// A source that failed when it was last asked.
#[derive(Debug)]
struct Trouble<E> {
    error: E,
    /// Until when `error` is answered without asking again.
    retry_at: Instant,
    /// From when on being asked for starts a fetch in the background.
    due_at: Instant,
    /// In a row.
    failures: u8,
}

impl<K: Eq + Hash, V, E> Named for Entry<K, V, E> {
    type Name = K;

    fn name(&self) -> &K {
        &self.key
    }
}

impl<K: Clone, V: Clone, E: Clone> Entry<K, V, E> {
    pub(super) fn new(key: K) -> Self {
        Self {
            key,
            value: None,
            trouble: None,
            fresh_until: Instant::ZERO,
            lead_ms: 0,
            is_present: false,
            is_fetched: false,
        }
    }

    /// What may be served at `now` without waiting.
    pub(super) fn known(&self, limits: &FreshnessLimits, now: Instant) -> Option<Known<V>> {
        if self.is_fresh(now) {
            let value = self.value.clone()?;
            return Some(Known { value, fresh_until: self.fresh_until, stale: false });
        }
        // Stale only when the source has failed: otherwise it is asked first.
        let retry_at = self.trouble.as_ref()?.retry_at;
        let value = self.stand_in(limits, now)?;
        Some(Known { value, fresh_until: retry_at, stale: true })
    }

    /// What may stand in for a source that failed.
    pub(super) fn stand_in(&self, limits: &FreshnessLimits, now: Instant) -> Option<V> {
        let stale = if self.is_present { limits.stale_max } else { Duration::ZERO };
        self.value.clone().filter(|_| now < self.fresh_until + stale)
    }

    /// The failure that is answered at `now` without asking again.
    pub(super) fn failing(&self, now: Instant) -> Option<Failing<E>> {
        let Trouble { error, retry_at, .. } = &**self.trouble.as_ref()?;
        (now < *retry_at).then(|| Failing { error: error.clone(), retry_at: *retry_at })
    }

    /// Whether being asked for at `now` starts a fetch in the background.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let lead = Duration::from_millis(self.lead_ms.into());
        now >= self.trouble.as_ref().map_or(self.fresh_until.saturating_sub(lead), |trouble| trouble.due_at)
    }

    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        now < self.fresh_until
    }

    pub(super) fn is_fetched(&self) -> bool {
        self.is_fetched
    }

    /// Whether neither a value nor a failure is remembered.
    pub(super) fn is_blank(&self) -> bool {
        self.value.is_none() && self.trouble.is_none()
    }

    /// Whether it holds neither a value that may be served nor a failure worth remembering.
    pub(super) fn is_spent(&self, limits: &FreshnessLimits, now: Instant) -> bool {
        let forgiven_at = self.trouble.as_ref().map(|trouble| trouble.retry_at + limits.failure_max);
        self.stand_in(limits, now).is_none() && forgiven_at.is_none_or(|at| now >= at)
    }

    pub(super) fn value_mut(&mut self) -> Option<&mut V> {
        self.value.as_mut()
    }

    pub(super) fn forget_value(&mut self) {
        self.value = None;
        self.fresh_until = Instant::ZERO;
    }

    pub(super) fn expire(&mut self, now: Instant) {
        self.fresh_until = self.fresh_until.min(now);
        self.trouble = None;
    }

    /// A fetch begins; of this key.
    pub(super) fn on_fetch(&mut self) -> K {
        self.is_fetched = true;
        self.key.clone()
    }

    pub(super) fn on_fetched(&mut self) {
        self.is_fetched = false;
    }

    pub(super) fn on_value(
        &mut self,
        fetched: Fetched<V>,
        limits: &FreshnessLimits,
        now: Instant,
    ) -> Known<V> {
        let (value, asked, is_present) = match fetched {
            Fetched::Present(value, asked) => (value, asked, true),
            Fetched::Absent(value, asked) => (value, asked, false),
        };
        let fresh = limits.fresh_time(asked, is_present);
        self.fresh_until = now + fresh;
        self.is_present = is_present;
        self.lead_ms = u32::try_from((fresh - refresh_after(fresh)).as_millis()).unwrap_or(u32::MAX);
        self.trouble = None;
        self.value = Some(value.clone());
        Known { value, fresh_until: self.fresh_until, stale: false }
    }

    pub(super) fn on_failure(
        &mut self,
        error: E,
        limits: &FreshnessLimits,
        seeded: &mut Seeded,
        now: Instant,
    ) -> Result<Known<V>, Failing<E>> {
        let before = self.trouble.as_ref().map_or(0, |trouble| trouble.failures);
        let failures = before.saturating_add(1);
        let remembered = limits.failure_time(u32::from(failures), seeded);
        let retry_at = now + remembered;
        let due_at = now + refresh_after(remembered);
        self.trouble = Some(Box::new(Trouble { error: error.clone(), retry_at, due_at, failures }));
        let known = self.known(limits, now).ok_or(Failing { error, retry_at })?;
        // With a value at hand nobody waits for the next try, so it need not come early.
        if let Some(trouble) = &mut self.trouble {
            trouble.due_at = retry_at;
        }
        Ok(known)
    }

    /// When a failure is forgotten, and how many there were in a row.
    #[cfg(test)]
    pub(super) fn trouble(&self) -> Option<(Instant, u8)> {
        self.trouble.as_ref().map(|trouble| (trouble.retry_at, trouble.failures))
    }
}

/// When the last fifth of `fresh` begins.
fn refresh_after(fresh: Duration) -> Duration {
    fresh.mul_f64(0.8)
}

#[cfg(test)]
mod tests {
    use std::mem::size_of;
    use std::sync::Arc;

    use super::*;

    /// Every host that is remembered has two to four of these. Whoever lets them grow has changed what a
    /// host costs, and should say so where the book gives the figure.
    #[test]
    fn an_entry_costs_its_key_its_value_and_three_words() {
        assert_eq!(size_of::<Entry<Arc<str>, Arc<[u8]>, u8>>(), 56);
    }
}
