//! Queries under way: each with its deadline, side by side with transactions and with one another (F9).
//!
//! ```text
//!              answer, or nothing to be tried any more
//!   Asked ─────────────────────────────────────────────▶ done
//!     │ ▲                                                  ▲
//!     │ │ the time has come, or a wake-up                  │ the deadline
//!     ▼ │                                                  │
//!   Waiting ───────────────────────────────────────────────┘
//! ```
//!
//! What is tried again: a host that is down or was not reached (nothing was sent), and, of queries that may be
//! repeated, 429, 5xx, an answer that is none, and silence. All of it only if the wait ends before the deadline, and as
//! far as the budget for retries goes. A query that may not be repeated is sent again only if it surely was
//! not sent (K16).
//!
//! # Source
//! F9, K15, K16.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use rustc_hash::FxHashMap;
use southbridge_policy::budget::RetryBudget;
use southbridge_policy::seeded::{Seeded, SeededMap, SeededState};
use southbridge_words::{Class, Instant, ServerName, Ticket};

use super::action::{Action, Errand};
use super::answer::{Answer, Failure};
use super::event::Event;
use super::limits::ExternaliserLimits;
use super::moment::Moment;
use super::refused::Refused;
use crate::outgoing::{
    FederationErrorResponse, FederationQueryResponse, FederationResponse, OutgoingQuery, ResolvedQuery,
};

#[cfg(test)]
mod tests;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Queries {
    queries: FxHashMap<Ticket, Query>,
    by_destination: SeededMap<ServerName, Vec<Ticket>>,
    timers: BTreeSet<(Instant, Ticket)>,
}

#[derive(Debug)]
struct Query {
    destination: ServerName,
    request: ResolvedQuery,
    class: Class,
    is_repeatable: bool,
    since: Instant,
    deadline: Instant,
    attempts: u32,
    asked_at: Instant,
    /// When it is tried again, if it waits.
    retry_at: Option<Instant>,
    /// What went wrong last.
    last: Option<FederationErrorResponse>,
}

/// What queries may look at and touch while they decide.
pub(crate) struct QueryScene<'a> {
    pub(crate) limits: &'a ExternaliserLimits,
    pub(crate) seeded: &'a mut Seeded,
    pub(crate) budget: &'a mut RetryBudget,
    pub(crate) actions: &'a mut VecDeque<Action>,
    pub(crate) at: Moment,
}

impl Queries {
    /// None yet. `seed` keys the hash of names.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            queries: FxHashMap::default(),
            by_destination: SeededMap::with_hasher(SeededState::new(seed)),
            timers: BTreeSet::new(),
        }
    }

    /// How many are under way.
    pub(crate) fn len(&self) -> usize {
        self.queries.len()
    }

    /// Takes a query; `timeout` zero is for ever.
    pub(crate) fn begin(
        &mut self,
        ticket: Ticket,
        query: &OutgoingQuery,
        destination: ServerName,
        timeout: Duration,
        scene: &mut QueryScene<'_>,
    ) -> Result<(), Refused> {
        let request = query.resolve().map_err(|error| Refused::InvalidQuery { reason: error.to_string() })?;
        self.check_room(&destination, scene.limits)?;
        let now = scene.at.now;
        let deadline = if timeout.is_zero() { Instant::FAR_FUTURE } else { now + timeout };
        let query = Query {
            request,
            class: query.class(),
            is_repeatable: query.is_repeatable(),
            since: now,
            deadline,
            attempts: 0,
            asked_at: now,
            retry_at: None,
            last: None,
            destination: destination.clone(),
        };
        self.by_destination.entry(destination).or_default().push(ticket);
        self.queries.insert(ticket, query);
        scene.budget.handle_request(now);
        self.ask(ticket, scene);
        Ok(())
    }

    /// An answer has come.
    pub(crate) fn handle_answer(&mut self, ticket: Ticket, answer: Answer, scene: &mut QueryScene<'_>) {
        let Some(query) = self.queries.get(&ticket) else { return };
        let response =
            FederationResponse { status: answer.status, text: reason_phrase(answer.status).to_owned() };
        let retry_after = answer.retry_after(scene.at.wall);
        match answer.status {
            200..=299 => match FederationQueryResponse::parse(answer.body) {
                Ok(result) => self.end(ticket, Ok(result), scene),
                Err(error) => {
                    let mut failed = FederationErrorResponse::ours("M_NOT_JSON", error.to_string());
                    failed.response = Some(response);
                    self.fail(ticket, failed, query.is_repeatable, None, scene);
                }
            },
            408 | 425 | 429 | 500..=599 => {
                let failed = FederationErrorResponse::of_answer(response, &answer.body);
                self.fail(ticket, failed, query.is_repeatable, retry_after, scene);
            }
            _ => self.end(ticket, Err(FederationErrorResponse::of_answer(response, &answer.body)), scene),
        }
    }

    /// No answer came.
    pub(crate) fn handle_failed(&mut self, ticket: Ticket, failure: &Failure, scene: &mut QueryScene<'_>) {
        let Some(query) = self.queries.get(&ticket) else { return };
        let failed = FederationErrorResponse::ours(errcode_of(failure), failure.to_string());
        let (may_repeat, wait) = match failure {
            Failure::Down { retry_in } => (true, Some(*retry_in)),
            Failure::Overloaded { .. } | Failure::NotSent { .. } => (true, None),
            Failure::PerhapsSent { .. } => (query.is_repeatable, None),
            Failure::Unfit { .. } => (false, None),
        };
        self.fail(ticket, failed, may_repeat, wait, scene);
    }

    /// Nobody waits for it any more.
    pub(crate) fn cancel(&mut self, ticket: Ticket, scene: &mut QueryScene<'_>) -> bool {
        let Some(query) = self.remove(ticket) else { return false };
        if query.retry_at.is_none() {
            scene.actions.push_back(Action::Withdraw(Errand::Query(ticket)));
        }
        true
    }

    /// Something was heard from `destination`: what waits for it is tried at once, but not more often than every
    /// `wake_every`.
    pub(crate) fn wake(&mut self, destination: &ServerName, scene: &mut QueryScene<'_>) {
        let Some(tickets) = self.by_destination.get(destination) else { return };
        let (now, wake_every) = (scene.at.now, scene.limits.queue.wake_every);
        let is_waiting = |ticket: &Ticket| {
            let query = &self.queries[ticket];
            query.retry_at.is_some() && now.saturating_since(query.asked_at) >= wake_every
        };
        let waiting: Vec<Ticket> = tickets.iter().copied().filter(is_waiting).collect();
        waiting.into_iter().for_each(|ticket| self.ask(ticket, scene));
    }

    /// The time has come.
    pub(crate) fn handle_timeout(&mut self, scene: &mut QueryScene<'_>) {
        let now = scene.at.now;
        while let Some((_, ticket)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            let query = &self.queries[&ticket];
            if query.deadline <= now {
                self.expire(ticket, scene);
            } else {
                self.ask(ticket, scene);
            }
        }
    }

    /// When to come back.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at).filter(|at| *at < Instant::FAR_FUTURE)
    }

    fn check_room(&self, destination: &ServerName, limits: &ExternaliserLimits) -> Result<(), Refused> {
        let here = self.by_destination.get(destination).map_or(0, Vec::len);
        let bounds = [
            ("in all", self.queries.len(), limits.queries_max),
            ("for this destination", here, limits.queries_per_destination_max),
        ];
        match bounds.into_iter().find(|(_, under_way, most)| under_way >= most) {
            None => Ok(()),
            Some((scope, under_way, under_way_max)) => {
                Err(Refused::TooManyQueries { scope, under_way, under_way_max })
            }
        }
    }

    fn ask(&mut self, ticket: Ticket, scene: &mut QueryScene<'_>) {
        let query = self.queries.get_mut(&ticket).expect("whoever asks has looked");
        self.timers.remove(&(query.timer(), ticket));
        query.retry_at = None;
        query.attempts += 1;
        query.asked_at = scene.at.now;
        self.timers.insert((query.timer(), ticket));
        scene.actions.push_back(Action::Ask {
            ticket,
            destination: query.destination.clone(),
            request: query.request.clone(),
            class: query.class,
            deadline: query.deadline.min(scene.at.now + scene.limits.query_attempt_max),
            repeatable: query.is_repeatable,
        });
    }

    /// An attempt came to nothing: it is made again, if it may be and there is time, or the query ends.
    fn fail(
        &mut self,
        ticket: Ticket,
        failed: FederationErrorResponse,
        may_repeat: bool,
        asked: Option<Duration>,
        scene: &mut QueryScene<'_>,
    ) {
        let query = self.queries.get_mut(&ticket).expect("whoever fails was looked up");
        if query.retry_at.is_some() {
            return;
        }
        let wait = query.wait(asked, scene);
        let (now, is_endless) = (scene.at.now, query.deadline == Instant::FAR_FUTURE);
        let has_time = now + wait < query.deadline;
        if !may_repeat || !has_time {
            return self.end(ticket, Err(failed), scene);
        }
        let wait = match scene.budget.handle_retry(now) {
            Ok(()) => wait,
            Err(_) if is_endless => wait.max(scene.limits.query_retry_max),
            Err(_) => return self.end(ticket, Err(failed), scene),
        };
        self.timers.remove(&(query.timer(), ticket));
        query.retry_at = Some(now + wait);
        query.last = Some(failed);
        self.timers.insert((query.timer(), ticket));
    }

    fn expire(&mut self, ticket: Ticket, scene: &mut QueryScene<'_>) {
        let query = &self.queries[&ticket];
        let waited = scene.at.now.saturating_since(query.since);
        let last = query.last.as_ref().map(|last| format!("; the last attempt: {last}")).unwrap_or_default();
        let error = format!("no answer from {} within {waited:?}{last}", query.destination);
        if query.retry_at.is_none() {
            scene.actions.push_back(Action::Withdraw(Errand::Query(ticket)));
        }
        self.end(ticket, Err(FederationErrorResponse::ours(TIMED_OUT, error)), scene);
    }

    fn end(
        &mut self,
        ticket: Ticket,
        result: Result<FederationQueryResponse, FederationErrorResponse>,
        scene: &mut QueryScene<'_>,
    ) {
        self.remove(ticket);
        scene.actions.push_back(Action::Tell(Event::QueryDone { ticket, result }));
    }

    fn remove(&mut self, ticket: Ticket) -> Option<Query> {
        let query = self.queries.remove(&ticket)?;
        self.timers.remove(&(query.timer(), ticket));
        if let Some(tickets) = self.by_destination.get_mut(&query.destination) {
            tickets.retain(|other| *other != ticket);
            if tickets.is_empty() {
                self.by_destination.remove(&query.destination);
            }
        }
        Some(query)
    }
}

impl Query {
    /// When something is to be done about it.
    fn timer(&self) -> Instant {
        self.retry_at.map_or(self.deadline, |at| at.min(self.deadline))
    }

    fn wait(&self, asked: Option<Duration>, scene: &mut QueryScene<'_>) -> Duration {
        let limits = scene.limits;
        match asked {
            Some(asked) => {
                let most = limits.queue.retry_after_max.max(limits.query_retry_first);
                asked.clamp(limits.query_retry_first, most).mul_f64(scene.seeded.factor(1.0, 1.1))
            }
            None => {
                let exponent = self.attempts.saturating_sub(1).min(30);
                let wait = limits.query_retry_first.saturating_mul(1 << exponent).min(limits.query_retry_max);
                wait.mul_f64(scene.seeded.factor(0.67, 1.33))
            }
        }
    }
}

const fn errcode_of(failure: &Failure) -> &'static str {
    match failure {
        Failure::Overloaded { .. } => "ORG.SOUTHBRIDGE.OVERLOADED",
        Failure::Unfit { .. } => "ORG.SOUTHBRIDGE.UNFIT",
        Failure::Down { .. } | Failure::NotSent { .. } | Failure::PerhapsSent { .. } => {
            "ORG.SOUTHBRIDGE.UNREACHABLE"
        }
    }
}

/// For people; RFC 9110 §15.
const fn reason_phrase(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        410 => "Gone",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => match status / 100 {
            2 => "OK",
            3 => "Redirect",
            4 => "Client Error",
            _ => "Server Error",
        },
    }
}

/// Past the deadline (F9).
const TIMED_OUT: &str = "ORG.SOUTHBRIDGE.TIMEOUT";
