//! Where Southbridge keeps what must survive: one SQLite file, on a thread of its own.
//!
//! Today that is what the Host Ranker knows ([`RankStore`]); the outbox will lie in the same file and
//! share its table of destinations.
//!
//! - **Nobody waits for the disk.** [`RankStore::save`] hands records to the thread and returns. What
//!   cannot be written is kept, the latest of each host, and tried again.
//! - **One process at a time.** The file is locked while it is open. A successor waits for its
//!   predecessor to let go, for as long as it is told to.
//! - **Ranks are hints.** A file of ours that is damaged is set aside and begun anew, with a warning;
//!   a file that is not ours is never touched. Writes are not synced one by one: a power cut may cost
//!   the last seconds, never the file. (The outbox will be stricter in both.)
//!
//! # Units
//! Times are wall-clock milliseconds since 1970, latencies milliseconds.
//!
//! # Source
//! F5 ("ranks survive a restart"); <https://www.sqlite.org/wal.html>, "Use of WAL Without Shared-Memory"
//! (why the lock is held throughout); faults row 20.

mod error;
mod ledger;
mod place;
mod rank_store;
mod schema;
mod worker;

pub use error::StoreError;
pub use rank_store::{RankStore, RankStoreOptions};
