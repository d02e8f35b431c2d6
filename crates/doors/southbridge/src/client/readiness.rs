//! Which declared services can be reached, and who is told when that changes.
//!
//! A service is *down* when it could not be connected to at its last visit, or when its breaker is open; *degraded* when
//! there is a connection, and its requests fail or are slow; otherwise *up*.
//!
//! # Units
//! Durations, by the kernel's clock.
//!
//! # Source
//! K12.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use southbridge_kernel::{Clock, Told};
use southbridge_words::{HostState, Instant};
use tokio::sync::Notify;

/// Which services can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// Grows with every change.
    pub version: u64,
    /// Every declared service, by name.
    pub services: Vec<ServiceView>,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceView {
    /// Its name.
    pub name: String,
    /// How it does.
    pub state: ServiceState,
    /// For how long it has been so.
    pub lasts: Duration,
    /// Why it is not up.
    pub why: Option<String>,
}

/// How a service does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServiceState {
    /// There is a connection, and nothing is known against it.
    Up,
    /// There is a connection, and its requests fail or are slow.
    Degraded,
    /// It cannot be connected to, or its breaker is open.
    Down,
}

impl ServiceState {
    /// The name used in events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }
}

impl ServiceView {
    /// Whether it can be asked.
    pub fn is_ready(&self) -> bool {
        self.state < ServiceState::Down
    }
}

impl Readiness {
    /// Whether every service can be asked.
    pub fn all_ready(&self) -> bool {
        self.services.iter().all(ServiceView::is_ready)
    }

    /// Whether every service of `names` is declared and can be asked; none stands for all.
    pub fn are_ready(&self, names: &[String]) -> bool {
        let is_ready =
            |name: &String| self.services.iter().any(|service| service.name == *name && service.is_ready());
        if names.is_empty() { self.all_ready() } else { names.iter().all(is_ready) }
    }
}

/// What is known of who can be reached.
#[derive(Default)]
pub(super) struct News {
    version: Cell<u64>,
    known: RefCell<BTreeMap<String, Known>>,
    changed: Notify,
}

struct Known {
    visited: Result<(), String>,
    rank: HostState,
    since: Instant,
}

impl News {
    /// `name` has been declared, and nothing is known of it.
    pub(super) fn begin(&self, name: &str, since: Instant) {
        let visited = Err("it has not been connected yet".to_owned());
        self.known.borrow_mut().insert(name.to_owned(), Known { visited, rank: HostState::Unknown, since });
        self.publish();
    }

    /// `name` is not declared any more.
    pub(super) fn end(&self, name: &str) {
        if self.known.borrow_mut().remove(name).is_some() {
            self.publish();
        }
    }

    /// Something was heard of `name`.
    pub(super) fn hear(&self, name: &str, told: Told, now: Instant) {
        let changes = {
            let mut known = self.known.borrow_mut();
            let Some(known) = known.get_mut(name) else { return };
            let before = known.state();
            match told {
                Told::Visited(visited) => known.visited = visited,
                Told::Ranked(rank) => known.rank = rank,
            }
            let changes = before != known.state();
            if changes {
                known.since = now;
            }
            changes
        };
        if changes {
            self.publish();
        }
    }

    /// What is known, as soon as `wanted` says so.
    pub(super) async fn when(&self, clock: Clock, wanted: impl Fn(&Readiness) -> bool) -> Readiness {
        loop {
            let changed = self.changed.notified();
            let readiness = self.readiness(clock);
            if wanted(&readiness) {
                return readiness;
            }
            changed.await;
        }
    }

    /// What is known.
    pub(super) fn readiness(&self, clock: Clock) -> Readiness {
        let now = clock.now();
        let view = |(name, known): (&String, &Known)| ServiceView {
            name: name.clone(),
            state: known.state(),
            lasts: now.saturating_since(known.since),
            why: known.why(),
        };
        Readiness { version: self.version.get(), services: self.known.borrow().iter().map(view).collect() }
    }

    fn publish(&self) {
        self.version.set(self.version.get() + 1);
        self.changed.notify_waiters();
    }
}

impl Known {
    fn state(&self) -> ServiceState {
        match (&self.visited, self.rank) {
            (Err(_), _) | (Ok(()), HostState::Down) => ServiceState::Down,
            (Ok(()), HostState::Failing | HostState::Slow) => ServiceState::Degraded,
            (Ok(()), HostState::Healthy | HostState::Unknown) => ServiceState::Up,
        }
    }

    fn why(&self) -> Option<String> {
        let why = match (&self.visited, self.rank) {
            (Err(why), _) => why.as_str(),
            (Ok(()), HostState::Down) => {
                "its requests have failed again and again; it is probed now and then"
            }
            (Ok(()), HostState::Failing) => "its last requests failed",
            (Ok(()), HostState::Slow) => "it is slow to answer",
            (Ok(()), HostState::Healthy | HostState::Unknown) => return None,
        };
        Some(why.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(news: &News, clock: Clock) -> (u64, &'static str, bool) {
        let readiness = news.readiness(clock);
        (readiness.version, readiness.services[0].state.name(), readiness.services[0].why.is_some())
    }

    /// A service comes up, grows slow, goes down by its answers, and is withdrawn; only changes count.
    #[test]
    fn only_changes_are_news() {
        let (news, clock) = (News::default(), Clock::start());
        let hear = |told| news.hear("orders", told, clock.now());
        news.begin("orders", clock.now());
        assert_eq!(state(&news, clock), (1, "down", true));
        hear(Told::Visited(Ok(())));
        hear(Told::Visited(Ok(())));
        hear(Told::Ranked(HostState::Healthy));
        assert_eq!(state(&news, clock), (2, "up", false));
        hear(Told::Ranked(HostState::Slow));
        assert_eq!(state(&news, clock), (3, "degraded", true));
        assert!(news.readiness(clock).are_ready(&["orders".to_owned()]));
        hear(Told::Ranked(HostState::Down));
        assert_eq!(state(&news, clock), (4, "down", true));
        assert!(!news.readiness(clock).are_ready(&[]));
        news.end("orders");
        news.end("orders");
        hear(Told::Ranked(HostState::Healthy));
        assert_eq!((news.readiness(clock).version, news.readiness(clock).services.len()), (5, 0));
        assert!(!news.readiness(clock).are_ready(&["orders".to_owned()]), "it is not declared");
    }
}
