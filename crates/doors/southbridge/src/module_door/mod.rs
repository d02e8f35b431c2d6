//! The module door: a socket by which modules of homeservers in other processes share this kernel.
//!
//! Each connection has a bus of its own, in the name of one homeserver and with its keys, for as long as it lasts. What can
//! be done with that bus is what [`crate::bus_port`] does at a port: the homeserver keeps the truth, asks now and then how
//! far each destination has come, and when the connection ends catches up from what it has written down. Shared by all of
//! them is whatever is below the bus: how homeservers are found, the connections to them, their ranks, and the rules for
//! addresses and certificates, which are the daemon's.
//!
//! What is said is described in [`words`], and how it is framed in [`frames`].
//!
//! # Source
//! F1, F21 (b); K14; decision 0021.

mod connection;
mod counters;
pub mod frames;
pub mod words;

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use southbridge_kernel::net::{AddressPolicy, Listener, LocalStream};

pub use counters::ModuleDoorSnapshot;

use crate::Southbridge;
use crate::local_http::{Gate, Slots, accept_each};
use counters::ModuleDoorCounters;

/// How the door is set up.
#[derive(Clone, Debug)]
pub struct ModuleDoorConfig {
    /// Connections at a time, each with a bus; those above wait in the system's queue. Default 64.
    pub connections_max: u32,
    /// The longest frame that a module may send. Default 16 MiB: an event of 64 KiB for 300,000 homeservers.
    pub frame_bytes_max: usize,
    /// What may be under way for one connection; what is beyond is refused at once. Default 65,536.
    pub under_way_max: usize,
    /// The most that a module is given to hold in memory, whatever it asks for. Default 256 MiB.
    pub bytes_max: usize,
    /// How long a module may take to say who it is. Default 10 s.
    pub greeting_max: Duration,
    /// How long what is under way may take to end when a bus is closed in order. Default 3 s.
    pub close_patience: Duration,
    /// Which addresses this kernel dials: a module that must not dial others says so.
    pub addresses: AddressPolicy,
}

impl Default for ModuleDoorConfig {
    fn default() -> Self {
        Self {
            connections_max: 64,
            frame_bytes_max: 16 << 20,
            under_way_max: 65_536,
            bytes_max: 256 << 20,
            greeting_max: Duration::from_secs(10),
            close_patience: Duration::from_secs(3),
            addresses: AddressPolicy::default(),
        }
    }
}

/// The door. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct ModuleDoor(Rc<Inside>);

struct Inside {
    southbridge: Southbridge,
    config: ModuleDoorConfig,
    counters: ModuleDoorCounters,
    slots: Rc<Slots>,
    closing: Gate,
}

impl ModuleDoor {
    /// A door to the kernel of `southbridge`.
    pub fn new(southbridge: Southbridge, config: ModuleDoorConfig) -> Self {
        Self(Rc::new(Inside {
            southbridge,
            counters: ModuleDoorCounters::default(),
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

    /// Does what the module on one connection says, until it leaves or the door closes.
    pub async fn serve_connection(&self, stream: LocalStream) {
        self.0.counters.connections.add(1);
        connection::serve(stream, &self.0).await;
    }

    /// Asks every module to close its bus, which lets what is under way end for a moment and says how far it has come; who does
    /// not is cut off.
    pub fn close(&self) {
        self.0.closing.open();
    }

    /// Waits until no connection is served any more. A module may take its time: bound it.
    pub async fn drained(&self) {
        self.0.slots.all_free().await;
    }

    /// The numbers of the door.
    pub fn snapshot(&self) -> ModuleDoorSnapshot {
        self.0.counters.snapshot(self.0.slots.held())
    }
}
