//! The bus door: a local HTTP/1.1 JSON API by which any homeserver uses the Federation Side Bus.
//!
//! On unix sockets or loopback ports, with a shared secret; connections are kept. What is asked for and what is
//! answered is described in `openapi.json`, which the door serves and a test compares with the code.
//!
//! # Units
//! `…_ms` are milliseconds, `…_bytes` bytes; a `seq` counts durable items from 1.
//!
//! # Source
//! F2, F16; issue 3, item 7.

mod answer;
mod api;
mod arguments;
mod body;
mod bounded;
mod checking;
mod checks;
mod counters;
mod description;
mod failure;
mod question;
mod routes;
mod serving;
mod sets;
mod side_bus;
mod stalled;
mod stream;
mod submission;
#[cfg(test)]
mod tests;
mod views;
mod visit;

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use southbridge_kernel::Clock;
use southbridge_kernel::net::Listener;
use southbridge_words::Secret;
use tokio::io::{AsyncRead, AsyncWrite};

pub use api::{BusApi, Reading};
pub use arguments::Arguments;
pub use body::BodyLimits;
pub use checks::{Check, Checks, read_checks};
pub use counters::BusDoorSnapshot;
pub use description::OPENAPI;
pub use failure::{Code, Failure};
pub use question::{Question, read_question};
pub use routes::{Found, NoRoute, Operation, ROUTES, Route, STATUSES_OF_ALL, find as find_route};
pub use serving::ConnectionLimits;
pub use sets::{DestinationSets, SetLimits};
pub use side_bus::ServedBus;
pub use submission::{Submission, What, read_submissions};
pub use views::{
    Acknowledged, Happened, KeyRow, LostRow, QUEUE_STATES, QueryFailure, QueueRow, ResultLine, Verdict,
};

use crate::local_http::{Gate, Slots, accept_each};
use body::Held;
use counters::BusDoorCounters;

/// How the door is set up.
#[derive(Clone, Debug)]
pub struct BusDoorConfig {
    /// What callers show. An empty one lets nobody in.
    pub secret: Secret,
    /// Connections at a time; those above wait in the system's accept queue. Default 1,024.
    pub connections_max: u32,
    /// How long connections may be silent.
    pub connections: ConnectionLimits,
    /// How much may come in.
    pub bodies: BodyLimits,
    /// How many destination sets are known.
    pub sets: SetLimits,
}

impl BusDoorConfig {
    /// The defaults, for callers who show `secret`.
    pub fn new(secret: Secret) -> Self {
        Self {
            secret,
            connections_max: 1_024,
            connections: ConnectionLimits::default(),
            bodies: BodyLimits::default(),
            sets: SetLimits::default(),
        }
    }
}

/// The door to one bus. Cheap to clone; all clones are one door.
#[derive(Clone)]
pub struct BusDoor<B>(Rc<Inside<B>>);

pub(crate) struct Inside<B> {
    bus: B,
    clock: Clock,
    config: BusDoorConfig,
    sets: RefCell<DestinationSets>,
    held: Rc<Held>,
    counters: BusDoorCounters,
    slots: Rc<Slots>,
    closing: Gate,
}

impl<B: BusApi> BusDoor<B> {
    /// A door to `bus`. EDUs are made when they come, by `clock`.
    pub fn new(bus: B, clock: Clock, config: BusDoorConfig) -> Self {
        Self(Rc::new(Inside {
            bus,
            clock,
            sets: RefCell::new(DestinationSets::new(config.sets)),
            held: Rc::default(),
            counters: BusDoorCounters::default(),
            slots: Slots::new(config.connections_max),
            closing: Gate::default(),
            config,
        }))
    }

    /// Accepts connections for ever. Dropping it (or its task) ends accepting, and nothing else.
    pub async fn serve(&self, listener: &Listener) -> Infallible {
        let serve = |stream| {
            let door = self.clone();
            async move { door.serve_connection(stream).await }
        };
        accept_each(listener, &self.0.slots, serve).await
    }

    /// Answers the requests on one connection, until its caller leaves or the door closes.
    pub async fn serve_connection<S: AsyncRead + AsyncWrite + Unpin + 'static>(&self, stream: S) {
        let inside = &self.0;
        inside.counters.connections.add(1);
        let answer = |request| {
            let inside = Rc::clone(inside);
            async move { visit::answer(&inside, request).await }
        };
        serving::serve(stream, inside.config.connections, &inside.closing, answer).await;
    }

    /// Ends streams and connections that wait for a request; requests that have begun are still answered.
    pub fn close(&self) {
        self.0.closing.open();
    }

    /// Waits until no connection is served any more. A caller may take its time: bound it.
    pub async fn drained(&self) {
        self.0.slots.all_free().await;
    }

    /// The numbers of the door.
    pub fn snapshot(&self) -> BusDoorSnapshot {
        self.0.counters.snapshot(self.0.slots.held(), self.0.held.bytes())
    }
}
