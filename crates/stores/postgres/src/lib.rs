//! The outbox that several Southbridges share, in a PostgreSQL database.
//!
//! Each of them accepts for every destination and delivers to some: the 256 partitions of all destinations
//! are split among those that are alive, in equal shares. When one dies, the others take over its
//! partitions, with what it had begun.
//!
//! - **One order.** Positions are given out under a lock on one row (`head`) that is held until the commit,
//!   so what has a lower position was committed before.
//! - **One writer for a stream.** Only the owner of a destination adds to its stream. What another accepts for
//!   it lies in an inbox until the owner takes it over, in the order it was accepted; so an owner never
//!   learns of an item that stands before one that it has sent already.
//! - **Leases with epochs.** A process renews its lease with each upkeep; who does not is given up, and the
//!   epoch of a partition grows whenever it changes hands. A change of hands needs the same lock as a write,
//!   and a write that remembers progress for a destination of others is refused as a whole
//!   ([`OutboxError::Fenced`](southbridge_words::OutboxError::Fenced)): a process that slept through the loss of
//!   its lease can send nothing new, because it cannot begin a transaction. What it had begun its successor
//!   sends again, the same bytes under the same id.
//! - **No waiting.** What concerns the others is told to them when it is committed (`NOTIFY`); who missed it finds it
//!   with its next upkeep.
//! - **No doubt.** When the connection breaks during a commit, the outcome is looked up before anything is
//!   answered.
//!
//! # Units
//! Leases are judged by the clock of the database alone. Other times are wall-clock milliseconds since 1970.
//!
//! # Source
//! F16 ("several nodes share the work"); DESIGN decision 8.

mod adopt;
mod backlogs;
mod call;
mod ear;
mod error;
mod forgetting;
mod leases;
mod names;
mod outbox;
mod progress;
mod read;
mod schema;
mod session;
mod sets;
mod tls;
mod upkeep;
mod way;
mod write;

pub use error::PostgresError;
pub use outbox::{PostgresOptions, PostgresOutbox, Whereabouts};
pub use tls::{SslMode, TlsOptions};
