//! The nouns of Southbridge: names, instants, tickets, classes, outcomes.
//!
//! Floor 0 of the house. Everything else speaks in these words, so they know nothing of
//! sockets, threads, files, clocks or random sources.
//!
//! # Architecture Invariant
//! No type here can block, fail for a reason outside its arguments, or find out the time by itself.

mod class;
mod endpoint;
mod host;
mod keys;
mod lookup;
mod name;
mod outbox;
mod outcome;
mod secret;
mod ticket;
mod time;

pub use class::{Class, PerClass};
pub use endpoint::{CertificateName, Endpoint};
pub use host::{HostRecord, HostState};
pub use keys::{KeyRecord, KeyStanding, RecordedKey};
pub use lookup::{Answer, LookupFailure, SrvRecord};
pub use name::{HostPart, InvalidServerName, ServerName, ServiceName};
pub use outbox::{
    Append, Appended, Backlog, Expired, Item, ItemKind, Mark, OpenTransaction, Outbox, OutboxError, Page,
    Partition, Partitions, Recovered, Seq, Upkeep,
};
pub use outcome::{Outcome, Step};
pub use secret::Secret;
pub use ticket::{ConnId, PeerId, Ticket};
pub use time::{Instant, WallTime};
