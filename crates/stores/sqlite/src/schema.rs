//! The layout of the file.
//!
//! Names are told once: a destination is a small integer everywhere else, in the ranks today and in
//! the outbox to come. A destination stays for as long as anything refers to it.
//!
//! Each step leads from one layout to the next and never changes once it was released; the number of
//! steps taken is the `user_version` of the file.

use rusqlite::{Connection, TransactionBehavior};

/// Marks a database as ours (`PRAGMA application_id`): "SBdg".
pub(crate) const APPLICATION_ID: u32 = 0x5342_6467;

/// The newest layout.
pub(crate) const LAYOUT_MAX: u32 = STEPS.len() as u32;

const STEPS: &[&str] = &["CREATE TABLE destinations (
        id   INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE      -- the Matrix server name, byte for byte
    ) STRICT;
    CREATE TABLE ranks (
        destination   INTEGER PRIMARY KEY REFERENCES destinations (id),
        state         TEXT NOT NULL,   -- healthy, slow, unknown, failing, down
        latency_ms    INTEGER NOT NULL,
        failures      INTEGER NOT NULL,
        failing_since INTEGER,         -- Unix time in ms, as all below
        retry_at      INTEGER,
        seen_at       INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX ranks_by_age ON ranks (seen_at);"];

/// Brings a file of an older `layout` to the newest.
pub(crate) fn migrate(connection: &mut Connection, layout: u32) -> rusqlite::Result<()> {
    for (step, number) in STEPS.iter().zip(1_u32..).skip(layout as usize) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", number)?;
        transaction.commit()?;
    }
    Ok(())
}
