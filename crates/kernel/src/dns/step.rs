//! One kind of lookup: its cache, and those who wait for it.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use southbridge_policy::freshness::{
    Asked, Failing, Fetched, FreshnessCounters, FreshnessLimits, Known, Settled, StepCache,
};
use southbridge_words::{Answer, Instant, LookupFailure};
use tokio::sync::oneshot;

use super::kept::Asking;
use super::{DnsError, Inner};
use crate::mishap::survived;

type Told<V> = Result<Known<V>, Failing<LookupFailure>>;
type Waiter<V> = oneshot::Sender<Told<V>>;

/// The cache of one kind of record.
pub(super) struct Step<V> {
    what: &'static str,
    cache: RefCell<StepCache<Arc<str>, V, LookupFailure, Waiter<V>>>,
}

impl<V: Clone + 'static> Step<V> {
    pub(super) fn new(what: &'static str, limits: FreshnessLimits, seed: u64) -> Self {
        Self { what, cache: RefCell::new(StepCache::new(limits, seed)) }
    }

    /// The records of `name`: from the cache, or by `look_up`, which then runs by itself and serves all who
    /// ask meanwhile. `this` finds this step again when that has ended.
    pub(super) async fn get<F>(
        &self,
        name: Asking<'_>,
        inner: &Rc<Inner>,
        this: fn(&Inner) -> &Self,
        look_up: fn(Rc<Inner>, Arc<str>) -> F,
    ) -> Result<Answer<V>, DnsError>
    where
        F: Future<Output = Result<Fetched<V>, LookupFailure>> + 'static,
    {
        let now = inner.clock.now();
        let known = self.cache.borrow_mut().known(&*name.plain(), now);
        if let Some(known) = known {
            self.start_due(inner, this, look_up);
            return Ok(answer(known, true));
        }
        let key = name.key();
        let (waiter, told) = oneshot::channel();
        let asked = self.cache.borrow_mut().ask(&key, waiter, now);
        self.start_due(inner, this, look_up);
        let failed = |failure| DnsError { what: self.what, name: Arc::clone(&key), failure };
        match asked {
            Asked::Known(known) => Ok(answer(known, true)),
            Asked::Failed(failing) => Err(failed(failing.error)),
            Asked::Full(_) => Err(failed(LookupFailure::Overloaded)),
            Asked::Waiting => match told.await {
                Ok(Ok(known)) => Ok(answer(known, false)),
                Ok(Err(failing)) => Err(failed(failing.error)),
                // The runtime is shutting down, and took the lookup with it.
                Err(_) => Err(failed(LookupFailure::TimedOut)),
            },
        }
    }

    pub(super) fn expire(&self, name: &str, now: Instant) {
        self.cache.borrow_mut().expire(&Asking::Passing(name).key(), now);
    }

    pub(super) fn counters(&self) -> FreshnessCounters {
        self.cache.borrow().counters()
    }

    pub(super) fn len(&self) -> usize {
        self.cache.borrow().len()
    }

    /// Starts the lookups that the cache says are due, each on its own.
    fn start_due<F>(
        &self,
        inner: &Rc<Inner>,
        this: fn(&Inner) -> &Self,
        look_up: fn(Rc<Inner>, Arc<str>) -> F,
    ) where
        F: Future<Output = Result<Fetched<V>, LookupFailure>> + 'static,
    {
        loop {
            let Some(key) = self.cache.borrow_mut().poll() else { return };
            let inner = Rc::clone(inner);
            tokio::task::spawn_local(async move {
                let fetched = survived(look_up(Rc::clone(&inner), Arc::clone(&key))).await;
                // A bug of ours says nothing about the name.
                let fetched = fetched.unwrap_or(Err(LookupFailure::Overloaded));
                this(&inner).on_fetched(&key, fetched, inner.clock.now());
            });
        }
    }

    fn on_fetched(&self, key: &Arc<str>, fetched: Result<Fetched<V>, LookupFailure>, now: Instant) {
        let mut cache = self.cache.borrow_mut();
        let settled = match fetched {
            Err(LookupFailure::Overloaded) => cache.handle_abandoned(key, LookupFailure::Overloaded, now),
            fetched => cache.handle_fetched(key, fetched, now),
        };
        drop(cache);
        let Some(Settled { waiters, answer }) = settled else { return };
        for waiter in waiters {
            // Whoever has gone meanwhile is not told.
            let _ = waiter.send(answer.clone());
        }
    }
}

fn answer<V>(known: Known<V>, cached: bool) -> Answer<V> {
    let Known { value, fresh_until, stale } = known;
    Answer { value, fresh_until, stale, cached }
}
