//! The door for Synapse's outbound federation (`outbound_federation_restricted_to`).
//!
//! Synapse opens one connection for each request and asks for `matrix-federation://name/path`; the
//! door checks the secret and the head, hands the request to the kernel, and passes the response on
//! as it comes. What it adds is caution: see [`verdict`] for what Synapse is told when there is no
//! response, `media` and `multipart` for what it must never see.
//!
//! # Source
//! F1; issue 2, item 6; Synapse 1.163 as it was seen on the wire.

mod classify;
mod counters;
mod last_part;
mod media;
mod multipart;
mod target;
pub mod verdict;
mod visit;

use std::cell::Cell;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use southbridge_kernel::Kernel;
use southbridge_kernel::discovery::Discover;
use southbridge_kernel::net::Listener;
use southbridge_words::Secret;

pub use classify::{Errand, Kind};
pub use counters::{DoorCounters, DoorSnapshot};
pub use last_part::LastPart;
pub use multipart::{Boundary, MultipartError, PartHeads};
pub use target::{AddressError, Addressee, ReadHeadError, read_head};

use crate::local_http::{Gate, LocalIo, Slots, accept_each};
pub use crate::location::{LocationError, Place};

/// How the door is set up.
#[derive(Clone, Debug)]
pub struct SynapseDoorConfig {
    /// What Synapse shows as `Proxy-Authorization: Bearer …` (its `worker_replication_secret`).
    /// An empty one lets nobody in.
    pub secret: Secret,
    /// Connections served at once. Those above wait in the system's accept queue. Default 10,000: one
    /// for each homeserver of a large federation, at about 16 KiB.
    pub connections_max: u32,
    /// How long a caller may take to send the head of its request. Default 10 s.
    pub head_timeout: Duration,
    /// By when every request has been answered, counted from its acceptance. Default 75 s: more than
    /// Synapse's own 60 s, so that Synapse decides when it has waited enough.
    pub request_timeout: Duration,
    /// The longest request body. Default 16 MiB: peers refuse more than 12.5 MiB.
    pub request_body_bytes_max: u64,
    /// Bytes of request bodies held at once by all requests. Default 256 MiB.
    pub bodies_bytes_max: u64,
    /// How long a caller may go without reading anything of its response. Default 120 s: twice the
    /// time that Synapse gives itself for a body.
    pub stall_max: Duration,
    /// Hops of a media redirect that are followed. Default 3.
    pub redirects_max: u32,
}

impl Default for SynapseDoorConfig {
    fn default() -> Self {
        Self {
            secret: Secret::new([]),
            connections_max: 10_000,
            head_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(75),
            request_body_bytes_max: 16 * 1024 * 1024,
            bodies_bytes_max: 256 * 1024 * 1024,
            stall_max: Duration::from_secs(120),
            redirects_max: 3,
        }
    }
}

/// How names are found.
#[derive(Clone)]
pub struct Discoveries {
    /// Matrix server names.
    pub matrix: Rc<dyn Discover>,
    /// `host` or `host:port` of https servers, for the ends of media redirects.
    pub web: Rc<dyn Discover>,
}

/// The door. Cheap to clone; all clones are one door.
#[derive(Clone)]
pub struct SynapseDoor(Rc<Inside>);

pub(crate) struct Inside {
    kernel: Kernel,
    discoveries: Discoveries,
    config: SynapseDoorConfig,
    counters: DoorCounters,
    gate: Gate,
    slots: Rc<Slots>,
    bodies_bytes: Cell<u64>,
}

impl SynapseDoor {
    /// A door whose gate is still closed: callers are accepted, and wait for [`SynapseDoor::open`].
    pub fn new(kernel: Kernel, discoveries: Discoveries, config: SynapseDoorConfig) -> Self {
        Self(Rc::new(Inside {
            kernel,
            discoveries,
            counters: DoorCounters::default(),
            gate: Gate::default(),
            slots: Slots::new(config.connections_max),
            bodies_bytes: Cell::new(0),
            config,
        }))
    }

    /// Lets those who wait, and all who come, through.
    pub fn open(&self) {
        self.0.gate.open();
    }

    /// Accepts connections for ever. Dropping it (or its task) ends accepting, and nothing else.
    pub async fn serve(&self, listener: &Listener) -> Infallible {
        let serve = |stream| {
            let door = self.clone();
            async move { door.serve_connection(stream).await }
        };
        accept_each(listener, &self.0.slots, serve).await
    }

    /// Serves the one request of one connection.
    pub async fn serve_connection<S: LocalIo>(&self, stream: S) {
        self.0.counters.connections.add(1);
        visit::Visit::new(&self.0, stream).serve().await;
    }

    /// Waits until no connection is served any more.
    pub async fn drained(&self) {
        self.0.slots.all_free().await;
    }

    /// The numbers of the door.
    pub fn snapshot(&self) -> DoorSnapshot {
        self.0.counters.snapshot(self.0.slots.held())
    }
}

impl Inside {
    /// Takes a share of what request bodies may occupy, if there is as much left.
    fn hold(&self, bytes: u64) -> Option<HeldBytes<'_>> {
        let held = self.bodies_bytes.get().checked_add(bytes)?;
        (held <= self.config.bodies_bytes_max).then(|| {
            self.bodies_bytes.set(held);
            HeldBytes { door: self, bytes }
        })
    }
}

/// A share of the memory for request bodies; given back when it is dropped.
struct HeldBytes<'d> {
    door: &'d Inside,
    bytes: u64,
}

impl Drop for HeldBytes<'_> {
    fn drop(&mut self) {
        self.door.bodies_bytes.set(self.door.bodies_bytes.get() - self.bytes);
    }
}
