//! Where Southbridge keeps what must survive: one SQLite file, on a thread of its own.
//!
//! In it lie what was accepted for delivery ([`SqliteOutbox`]), and what is worth remembering of other homeservers
//! ([`RankStore`]): what the Host Ranker knows of them, and their keys.
//! They share the table of destinations, and one connection, on which they take turns.
//!
//! - **Nobody waits for the disk.** [`RankStore::save`] hands records to a thread and returns; an outbox is
//!   given a thread by `southbridge-store-thread`.
//! - **One process at a time.** The file is locked while it is open. A successor waits for its
//!   predecessor to let go, for as long as it is told to.
//! - **Ranks are hints.** A file of ours that holds nothing else is set aside when it is damaged and begun
//!   anew, with a warning; writes of ranks are not synced one by one: a power cut may cost the last seconds.
//! - **Keys are a cache.** They are written like ranks, the latest servers only, and a row that is damaged is passed
//!   over. Whether a key is still good is for whoever reads it to say.
//! - **Messages are promises.** An accepted item is synced before it is acknowledged, and a damaged file
//!   that may hold one is an error and left as it is. So is a file that is not ours.
//!
//! # Units
//! Times are wall-clock milliseconds since 1970, latencies milliseconds.
//!
//! # Source
//! F5 ("ranks survive a restart"); F16; <https://www.sqlite.org/wal.html>, "Use of WAL Without Shared-Memory"
//! (why the lock is held throughout); faults rows 19 and 20.

mod error;
mod file;
mod keys;
mod ledger;
mod outbox;
mod place;
mod rank_store;
mod schema;
mod worker;

pub use error::StoreError;
pub use outbox::{AtLimit, OutboxOptions, RetentionLimits, SqliteOutbox};
pub use rank_store::{RankStore, RankStoreOptions};
