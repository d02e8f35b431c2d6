//! The tables, in a schema of their own.
//!
//! Each step leads from one layout to the next and never changes once it was released.

use tokio_postgres::Client;

use crate::PostgresError;

/// The newest layout.
const LAYOUT_MAX: i32 = STEPS.len() as i32;

const STEPS: &[&str] = &["
    CREATE TABLE head (                 -- one row; who adds items or changes leases locks it
        one      boolean PRIMARY KEY DEFAULT true CHECK (one),
        last_seq bigint NOT NULL,       -- the last position given out
        leases   bigint NOT NULL        -- grows whenever a partition changes hands
    );
    INSERT INTO head (last_seq, leases) VALUES (0, 0);
    CREATE TABLE processes (            -- the Southbridges
        id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        expires_at timestamptz NOT NULL,
        batch      bigint NOT NULL DEFAULT 0 -- its last write
    );
    CREATE TABLE partitions (
        number  smallint PRIMARY KEY,
        owner   bigint,                 -- a process
        epoch   bigint NOT NULL DEFAULT 0,
        adopted bigint NOT NULL DEFAULT 0 -- the last of the inbox that was taken over for it
    );
    INSERT INTO partitions (number) SELECT generate_series(0, 255);
    CREATE TABLE destinations (
        id        integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        name      text COLLATE \"C\" NOT NULL UNIQUE,
        partition smallint NOT NULL
    );
    CREATE TABLE sets (                 -- each set of destinations once; rooms repeat theirs
        id      integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        hash    bigint NOT NULL,
        members integer[] NOT NULL      -- ascending
    );
    CREATE INDEX sets_by_hash ON sets (hash);
    CREATE INDEX sets_by_member ON sets USING gin (members);
    CREATE TABLE items (
        seq         bigint PRIMARY KEY,
        set_id      integer NOT NULL REFERENCES sets (id),
        kind        smallint NOT NULL,  -- 1 PDU, 2 EDU
        accepted_at bigint NOT NULL,
        crc         bigint NOT NULL,
        bytes       bytea NOT NULL
    );
    CREATE INDEX items_by_set ON items (set_id, seq);
    CREATE TABLE inbox (                -- accepted by one process for destinations of others
        seq         bigint PRIMARY KEY,
        set_id      integer NOT NULL REFERENCES sets (id),
        kind        smallint NOT NULL,
        accepted_at bigint NOT NULL,
        crc         bigint NOT NULL,
        bytes       bytea NOT NULL
    );
    CREATE TABLE progress (
        destination integer PRIMARY KEY,
        delivered   bigint NOT NULL,    -- the last seq it has
        open_id     text,               -- the transaction under way, as far as there is one
        open_at     bigint,
        open_upto   bigint,
        open_edus   bytea,
        open_hash   bigint
    ) WITH (fillfactor = 70);
    CREATE TABLE keys (                 -- what callers named the items they handed in
        key         text COLLATE \"C\" PRIMARY KEY,
        seq         bigint NOT NULL,
        accepted_at bigint NOT NULL
    );
    CREATE INDEX keys_by_seq ON keys (seq);
", "
    ALTER TABLE head ADD COLUMN forgotten bigint NOT NULL DEFAULT 0; -- grows whenever sets or destinations are deleted
    ALTER TABLE sets ADD COLUMN idle_since bigint; -- when it was first seen without items
    CREATE INDEX inbox_by_set ON inbox (set_id);
"];

/// Brings `schema` to the newest layout, making it if need be. Several processes may do so at once. Where it has the
/// newest layout, or is there and empty, no right is needed to make schemas.
pub(crate) async fn migrate(client: &mut Client, schema: &str) -> Result<(), PostgresError> {
    let transaction = client.transaction().await?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    if transaction.query_opt("SELECT FROM pg_namespace WHERE nspname = $1", &[&schema]).await?.is_none() {
        transaction.batch_execute(&format!("CREATE SCHEMA \"{schema}\"")).await?;
    }
    transaction
        .batch_execute(&format!(
            "SET LOCAL search_path TO \"{schema}\";
             CREATE TABLE IF NOT EXISTS layout (version integer NOT NULL)"
        ))
        .await?;
    let row = transaction.query_opt("SELECT version FROM layout", &[]).await?;
    let layout: i32 = row.map_or(0, |row| row.get(0));
    if layout > LAYOUT_MAX {
        return Err(PostgresError::TooNew { schema: schema.to_owned(), layout, layout_max: LAYOUT_MAX });
    }
    for (step, number) in STEPS.iter().zip(1_i32..).skip(layout.unsigned_abs() as usize) {
        transaction.batch_execute(step).await?;
        transaction.execute("DELETE FROM layout", &[]).await?;
        transaction.execute("INSERT INTO layout VALUES ($1)", &[&number]).await?;
    }
    transaction.commit().await?;
    Ok(())
}

// Taken while tables are made; "SBdg" and a one.
const LOCK: i64 = 0x5342_6467_0000_0001;
