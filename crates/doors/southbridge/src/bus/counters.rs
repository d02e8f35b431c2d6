//! What the bus counts, and how it is shown.
//!
//! # Source
//! K10; issue 3, item 2 ("dropped … and counted by type").

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use southbridge_bus::externaliser::{Answer, Event, Failure, GivenUp};

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(super) enum Outcome {
    Success,
    RateLimited,
    Refused,
    ServerError,
    Down,
    Overloaded,
    NotSent,
    NoAnswer,
    Unfit,
}

impl Outcome {
    pub(super) const ALL: [Self; 9] = [
        Self::Success,
        Self::RateLimited,
        Self::Refused,
        Self::ServerError,
        Self::Down,
        Self::Overloaded,
        Self::NotSent,
        Self::NoAnswer,
        Self::Unfit,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::RateLimited => "rate_limited",
            Self::Refused => "refused",
            Self::ServerError => "server_error",
            Self::Down => "down",
            Self::Overloaded => "overloaded",
            Self::NotSent => "not_sent",
            Self::NoAnswer => "no_answer",
            Self::Unfit => "unfit",
        }
    }

    fn of(outcome: &Result<Answer, Failure>) -> Self {
        match outcome {
            Ok(answer) => match answer.status {
                200..300 => Self::Success,
                429 => Self::RateLimited,
                500.. => Self::ServerError,
                _ => Self::Refused,
            },
            Err(Failure::Down { .. }) => Self::Down,
            Err(Failure::Overloaded { .. }) => Self::Overloaded,
            Err(Failure::NotSent { .. }) => Self::NotSent,
            Err(Failure::Unfit { .. }) => Self::Unfit,
            Err(_) => Self::NoAnswer,
        }
    }
}

/// One number for each outcome.
#[derive(Debug, Default)]
pub(super) struct ByOutcome([Cell<u64>; 9]);

impl ByOutcome {
    fn add(&self, outcome: &Result<Answer, Failure>) {
        let count = &self.0[Outcome::of(outcome) as usize];
        count.set(count.get() + 1);
    }

    pub(super) fn get(&self, outcome: Outcome) -> u64 {
        self.0[outcome as usize].get()
    }
}

/// Requests with a transaction that left, or were to leave, and what was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests made, whatever came of them.
    pub requests: u64,
    /// Answers, by their status.
    pub answers: BTreeMap<u16, u64>,
}

impl Traffic {
    fn add(&mut self, outcome: &Result<Answer, Failure>) {
        match outcome {
            Ok(answer) => *self.answers.entry(answer.status).or_default() += 1,
            // Nobody was asked.
            Err(Failure::Down { .. } | Failure::Overloaded { .. } | Failure::Unfit { .. }) => return,
            Err(_) => {}
        }
        self.requests += 1;
    }
}

/// What has happened so far.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Since it was taken last.
    pub(super) traffic: RefCell<Traffic>,
    pub(super) transactions: ByOutcome,
    pub(super) queries: ByOutcome,
    /// Durable items that were delivered, counted for each destination.
    pub(super) items_delivered: Cell<u64>,
    /// PDUs that a destination found fault with.
    pub(super) pdus_refused: Cell<u64>,
    /// Items given up, in the order of [`Counters::REASONS`].
    pub(super) given_up: [Cell<u64>; 3],
    /// Transactions that could not be rendered again as they were.
    pub(super) diverged: Cell<u64>,
    /// Whether the outbox could not look after itself the last time.
    pub(super) upkeep_trouble: Cell<bool>,
    /// Whether the outbox is in trouble.
    pub(super) outbox_trouble: Cell<bool>,
}

impl Counters {
    pub(super) const REASONS: [&str; 3] = ["rejected", "retention", "ordered"];

    pub(super) fn carried(&self, outcome: &Result<Answer, Failure>) {
        self.transactions.add(outcome);
        self.traffic.borrow_mut().add(outcome);
    }

    pub(super) fn asked(&self, outcome: &Result<Answer, Failure>) {
        self.queries.add(outcome);
    }

    pub(super) fn happened(&self, event: &Event) {
        match event {
            Event::Delivered { items, response, .. } => {
                add(&self.items_delivered, u64::from(*items));
                add(&self.pdus_refused, response.errors.len() as u64);
            }
            Event::GivenUp { items, reason, .. } => {
                let place = match reason {
                    GivenUp::Rejected(_) => 0,
                    GivenUp::Retention => 1,
                    _ => 2,
                };
                add(&self.given_up[place], *items);
            }
            Event::Diverged { .. } => add(&self.diverged, 1),
            Event::OutboxTrouble { destination: None, .. } => self.outbox_trouble.set(true),
            Event::OutboxRecovered => self.outbox_trouble.set(false),
            _ => {}
        }
    }
}

fn add(counter: &Cell<u64>, more: u64) {
    counter.set(counter.get() + more);
}
