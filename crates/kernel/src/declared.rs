//! Services that were declared: connected before the first request, and kept connected (K7).
//!
//! A declared service is visited now and then: it is discovered anew, so that a change of its endpoints
//! reaches its connections, and a connection to it is lent and given back unused. That opens one where
//! there is none, keeps it from being closed for idleness, and replaces it when it has died.
//!
//! A visit that fails counts with the ranker like a request, so that requests to a service that cannot be reached are
//! answered at once, also the first (S4). One that succeeds says that the way is open, and not that requests are
//! answered: it wakes a host that was down because it could not be reached, and none that was down because it did not
//! answer.
//!
//! # Source
//! K6, K7, K12, K14, K16, S4.

use std::cell::Cell;
use std::rc::{Rc, Weak};
use std::time::Duration;

use southbridge_policy::lane::Lane;
use southbridge_policy::ranker::{Advice, BreakerLimits, Demand};
use southbridge_words::{Class, HostState, Outcome, ServiceName, Step};
use tokio::sync::Notify;

use crate::discovery::{Discover, DiscoveryError};
use crate::kernel::Shared;
use crate::pool::{LendError, Need};

/// What holds for a declared service alone. Bounds on its connections are its route's ([`crate::discovery::Way`]).
#[derive(Clone, Debug, Default)]
pub struct ServiceTerms {
    /// Requests to it at a time, waiting or on the wire. Default: as for all services.
    pub requests_max: Option<u32>,
    /// When it is held to be down. Default: as for all services.
    pub breaker: Option<BreakerLimits>,
}

/// What is told of a declared service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It was visited: there is a connection, or why not.
    Visited(Result<(), String>),
    /// Its requests have fared so that it is this from now on.
    Ranked(HostState),
}

/// Keeps a service connected, and its terms, until it is dropped.
#[must_use = "a service is kept connected only as long as this is held"]
#[derive(Debug)]
pub struct Declared {
    shared: Weak<Shared>,
    service: ServiceName,
    again: Rc<Notify>,
    task: tokio::task::JoinHandle<()>,
}

impl Declared {
    /// Visits it now, and not only when it is time.
    pub fn visit(&self) {
        self.again.notify_one();
    }
}

impl Drop for Declared {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(shared) = self.shared.upgrade() {
            shared.set_terms(&self.service, &ServiceTerms::default());
            shared.watched.borrow_mut().remove(&self.service);
        }
    }
}

/// Somebody who is told how a service does.
pub(crate) struct Watch {
    tell: Box<dyn Fn(Told)>,
    last: Cell<HostState>,
    again: Rc<Notify>,
}

impl Shared {
    fn set_terms(&self, service: &ServiceName, terms: &ServiceTerms) {
        self.admission.borrow_mut().bound(service, terms.requests_max);
        self.ranker.borrow_mut().bound(service, terms.breaker.as_ref());
    }

    /// The ranker has been told of a request to `service`: whoever watches it is, too, if that has changed anything.
    pub(crate) fn look_at(&self, service: &ServiceName) {
        let watch = self.watched.borrow().get(service).cloned();
        if let Some(watch) = watch
            && self.tell_rank(service, &watch) == Some(HostState::Failing)
        {
            // A visit says more of whether it can be reached, and sooner than the next would.
            watch.again.notify_one();
        }
    }

    /// Tells `watch` how `service` does, if that has changed; how it does then.
    fn tell_rank(&self, service: &ServiceName, watch: &Watch) -> Option<HostState> {
        let view = self.ranker.borrow().view(service, self.clock.now());
        let (state, last) = view.map_or((HostState::Unknown, None), |view| (view.state, view.last));
        // Whether it can be reached, visits say; nothing is known yet of how it answers.
        let unreached = state == HostState::Failing && last <= Some(Step::Handshake);
        let shown = if unreached { HostState::Unknown } else { state };
        if watch.last.replace(shown) != shown {
            (watch.tell)(Told::Ranked(shown));
            return Some(state);
        }
        unreached.then_some(state)
    }
}

/// Declares `service`; `tell` is told what came of every visit, and of every change of its rank.
pub(crate) fn declare(
    shared: &Rc<Shared>,
    service: ServiceName,
    discovery: Rc<dyn Discover>,
    terms: &ServiceTerms,
    tell: impl Fn(Told) + 'static,
) -> Declared {
    shared.set_terms(&service, terms);
    shared.ranker.borrow_mut().handle_replaced(&service, shared.clock.now());
    let again = Rc::new(Notify::new());
    let watch = Rc::new(Watch {
        tell: Box::new(tell),
        last: Cell::new(HostState::Unknown),
        again: Rc::clone(&again),
    });
    shared.watched.borrow_mut().insert(service.clone(), Rc::clone(&watch));
    let weak = Rc::downgrade(shared);
    let keeping = keep(weak.clone(), service.clone(), discovery, Rc::clone(&again), watch);
    Declared { shared: weak, service, again, task: tokio::task::spawn_local(keeping) }
}

async fn keep(
    shared: Weak<Shared>,
    service: ServiceName,
    discovery: Rc<dyn Discover>,
    again: Rc<Notify>,
    watch: Rc<Watch>,
) {
    let mut failures = 0_u32;
    loop {
        let Some(strong) = shared.upgrade() else { return };
        let visit = strong.visit(&service, &discovery).await;
        let mut pause = VISIT_EVERY;
        match visit {
            Visit::Connected => {
                failures = 0;
                (watch.tell)(Told::Visited(Ok(())));
            }
            Visit::Crowded => {}
            Visit::TooEarly { retry_in } => pause = retry_in.clamp(RETRY_FIRST, RETRY_LAST),
            Visit::Failed { reason } => {
                failures += 1;
                tracing::debug!(%service, reason, failures, "declared service not connected");
                (watch.tell)(Told::Visited(Err(reason)));
                pause = (RETRY_FIRST * (1 << (failures - 1).min(6))).min(RETRY_LAST);
            }
        }
        strong.tell_rank(&service, &watch);
        drop(strong);
        let _asked_or_time = tokio::time::timeout(pause, again.notified()).await;
    }
}

/// What came of a visit.
enum Visit {
    Connected,
    /// There was no room of ours for it: that says nothing about the service.
    Crowded,
    /// It is down, and it is nobody's turn yet to see whether it is back.
    TooEarly {
        retry_in: Duration,
    },
    Failed {
        reason: String,
    },
}

impl Shared {
    /// Sees that there is a connection to `service`, and lets the ranker know.
    async fn visit(self: &Rc<Self>, service: &ServiceName, discovery: &Rc<dyn Discover>) -> Visit {
        let now = self.clock.now();
        let view = self.ranker.borrow().view(service, now);
        let is_down = view.as_ref().is_some_and(|view| view.state == HostState::Down);
        let answers_nothing = is_down && view.is_some_and(|view| view.last > Some(Step::Handshake));
        if answers_nothing {
            // Whether it answers again, a request finds out.
            return match self.connect(service, discovery).await {
                Ok(()) => Visit::Connected,
                Err(unconnected) => unconnected.into_visit(),
            };
        }
        if let Advice::Refuse(down) = self.ranker.borrow_mut().ask(service, Demand::Prompt, now) {
            return Visit::TooEarly { retry_in: down.retry_in };
        }
        let mut asked = Asked { shared: self, service, outcome: Outcome::Abandoned };
        let connected = self.connect(service, discovery).await;
        asked.outcome = connected.as_ref().err().map_or(Outcome::Abandoned, |failed| failed.outcome);
        drop(asked);
        match connected {
            Ok(()) => {
                if is_down {
                    self.ranker.borrow_mut().handle_wake(service, self.clock.now());
                }
                Visit::Connected
            }
            Err(unconnected) => unconnected.into_visit(),
        }
    }

    async fn connect(
        self: &Rc<Self>,
        service: &ServiceName,
        discovery: &Rc<dyn Discover>,
    ) -> Result<(), Unconnected> {
        let now = self.clock.now();
        let mark = self.underway.enter(service, Class::Backfill, now);
        let deadline = now + VISIT_MAX;
        let route =
            discovery.discover(service, deadline).await.map_err(|error| Unconnected::of_discovery(&error))?;
        let need = Need {
            ticket: mark.ticket(),
            class: Class::Backfill,
            lane: Lane::Limited,
            deadline,
            fresh: false,
        };
        let borrowed = self.lending.borrow(&route, need, &mark).await;
        let mut lent = borrowed.map_err(|why| {
            if matches!(&why, LendError::Failed(why) if !why.is_ours()) {
                discovery.distrust(service);
            }
            Unconnected::of_lending(&why)
        })?;
        // Given back unused; a connection that has died is noticed here and replaced at the next visit.
        if lent.ready().await {
            return Ok(());
        }
        Err(Unconnected {
            reason: "its connection was gone".to_owned(),
            outcome: Outcome::Abandoned,
            is_ours: false,
        })
    }
}

/// The ranker was asked, and is owed an outcome: also when the visit is broken off.
struct Asked<'a> {
    shared: &'a Shared,
    service: &'a ServiceName,
    outcome: Outcome,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let now = self.shared.clock.now();
        self.shared.ranker.borrow_mut().handle_outcome(self.service, self.outcome, now);
    }
}

/// Why there is no connection.
struct Unconnected {
    reason: String,
    outcome: Outcome,
    /// Whether it was for lack of room on our side.
    is_ours: bool,
}

impl Unconnected {
    fn of_discovery(error: &DiscoveryError) -> Self {
        let is_ours = matches!(error, DiscoveryError::Overloaded { .. });
        let says_nothing = is_ours || matches!(error, DiscoveryError::DeadlinePassed { .. });
        let outcome =
            if says_nothing { Outcome::Abandoned } else { Outcome::Failed { step: Step::Discovery } };
        Self { reason: error.to_string(), outcome, is_ours }
    }

    fn of_lending(error: &LendError) -> Self {
        let reason = error.to_string();
        let failed =
            |step| Self { reason: reason.clone(), outcome: Outcome::Failed { step }, is_ours: false };
        match error {
            LendError::Failed(why) if !why.is_ours() => failed(why.step()),
            LendError::DeadlinePassed { step } if *step > Step::Discovery => failed(*step),
            LendError::Failed(_) | LendError::Full(_) | LendError::DeadlinePassed { .. } => {
                Self { reason, outcome: Outcome::Abandoned, is_ours: true }
            }
        }
    }

    fn into_visit(self) -> Visit {
        if self.is_ours { Visit::Crowded } else { Visit::Failed { reason: self.reason } }
    }
}

/// Well within the time after which idle connections are closed, here and at most peers.
const VISIT_EVERY: Duration = Duration::from_secs(30);
const VISIT_MAX: Duration = Duration::from_secs(20);
const RETRY_FIRST: Duration = Duration::from_millis(500);
/// A service that is back is known to be within that.
const RETRY_LAST: Duration = Duration::from_secs(5);
