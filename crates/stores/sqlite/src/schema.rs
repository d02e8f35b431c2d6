//! The layout of the file.
//!
//! Names are told once: a destination is a small integer everywhere else, in the ranks and in the
//! outbox. A destination stays for as long as anything refers to it.
//!
//! A file that only ever held ranks has the first layout, so that one look at its head tells whether
//! accepted items may be in it.
//!
//! Each step leads from one layout to the next and never changes once it was released; the number of
//! steps taken is the `user_version` of the file.

use rusqlite::{Connection, TransactionBehavior};

/// Marks a database as ours (`PRAGMA application_id`): "SBdg".
pub(crate) const APPLICATION_ID: u32 = 0x5342_6467;

/// The newest layout.
pub(crate) const LAYOUT_MAX: u32 = STEPS.len() as u32;

/// The layout that ranks need.
pub(crate) const RANKS_LAYOUT: u32 = 1;

/// The layout that an outbox needs.
pub(crate) const OUTBOX_LAYOUT: u32 = 2;

const STEPS: &[&str] = &[RANKS, OUTBOX];

const RANKS: &str = "CREATE TABLE destinations (
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
    CREATE INDEX ranks_by_age ON ranks (seen_at);";

// Checksums are CRC-32 over everything else in the row, its key first: a block that was written to the
// wrong place does not pass for the one that belongs there.
const OUTBOX: &str = "CREATE TABLE recipients ( -- the destinations that the outbox knows
        destination INTEGER PRIMARY KEY REFERENCES destinations (id),
        crc         INTEGER NOT NULL    -- over id and name
    ) STRICT;
    CREATE TABLE sets (                 -- each set of destinations once; rooms repeat theirs
        id      INTEGER PRIMARY KEY,
        hash    INTEGER NOT NULL,       -- FNV-1a of members
        members BLOB NOT NULL,          -- their ids ascending, the steps between them as LEB128
        crc     INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX sets_by_hash ON sets (hash);
    CREATE TABLE items (
        seq         INTEGER PRIMARY KEY,
        set_id      INTEGER NOT NULL,
        prev        INTEGER NOT NULL,   -- the item before it for the same set, so that a gap shows
        kind        INTEGER NOT NULL,   -- 1 PDU, 2 EDU
        accepted_at INTEGER NOT NULL,
        crc         INTEGER NOT NULL,
        bytes       BLOB NOT NULL
    ) STRICT;
    CREATE INDEX items_by_set ON items (set_id); -- and seq, which is the row's own number
    CREATE TABLE progress (
        destination INTEGER PRIMARY KEY,
        delivered   INTEGER NOT NULL,   -- the last seq it has
        open_id     TEXT,               -- the transaction under way, as far as there is one
        open_at     INTEGER,
        open_upto   INTEGER,
        open_edus   BLOB,
        open_hash   INTEGER,
        crc         INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE keys (                 -- what callers named the items they handed in
        key         TEXT PRIMARY KEY,
        seq         INTEGER NOT NULL,
        accepted_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX keys_by_seq ON keys (seq);
    CREATE TABLE outbox (               -- one row, from the first item on
        one      INTEGER PRIMARY KEY CHECK (one = 1),
        last_seq INTEGER NOT NULL,      -- nothing up to here is given out again
        items    INTEGER NOT NULL,      -- how many there are, so that a lost one shows
        crc      INTEGER NOT NULL
    ) STRICT;";

/// Brings a file of an older `layout` to the layout `wanted`.
pub(crate) fn migrate(connection: &mut Connection, layout: u32, wanted: u32) -> rusqlite::Result<()> {
    for (step, number) in STEPS.iter().zip(1_u32..=wanted).skip(layout as usize) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", number)?;
        transaction.commit()?;
    }
    Ok(())
}
