//! The open file: reading and writing ranks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use southbridge_words::{HostRecord, HostState, ServiceName, WallTime};

use crate::place::{self, Owner};
use crate::schema::{APPLICATION_ID, LAYOUT_MAX, migrate};
use crate::{RankStoreOptions, StoreError};

/// One file of ours, locked by us.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) connection: Connection,
    path: PathBuf,
    records_max: u32,
    saved_since_pruned: u32,
}

impl Ledger {
    /// Opens the file, or makes it; a damaged one of ours is set aside first.
    ///
    /// Says where the damaged one is now, if there was one.
    pub(crate) fn open(
        path: &Path,
        options: &RankStoreOptions,
        wall: WallTime,
    ) -> Result<(Self, Option<PathBuf>), StoreError> {
        match Self::open_as_is(path, options) {
            Err(StoreError::Corrupt { .. }) if place::owner(path)? == Owner::Ourselves => {
                let aside = place::set_aside(path, wall)?;
                Ok((Self::open_as_is(path, options)?, Some(aside)))
            }
            opened => Ok((opened?, None)),
        }
    }

    /// Every record, the newest first, at most `records_max`.
    pub(crate) fn load(&self) -> Result<Vec<HostRecord>, StoreError> {
        self.select().map_err(|source| StoreError::of(&self.path, source))
    }

    /// Writes all of `records`, or none.
    pub(crate) fn save<'a>(
        &mut self,
        records: impl Iterator<Item = &'a HostRecord>,
    ) -> Result<(), StoreError> {
        self.write(records).map_err(|source| StoreError::of(&self.path, source))
    }

    /// Closes the file, which folds its log into it and lets go of the lock.
    pub(crate) fn close(self) -> Result<(), StoreError> {
        let Self { connection, path, .. } = self;
        connection.close().map_err(|(_, source)| StoreError::of(&path, source))
    }

    fn open_as_is(path: &Path, options: &RankStoreOptions) -> Result<Self, StoreError> {
        place::create(path)?;
        if place::owner(path)? == Owner::Something {
            return Err(StoreError::NotADatabase { path: path.to_owned() });
        }
        let of = |source| StoreError::of(path, source);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags).map_err(of)?;
        lock(&connection, path, options.lock_wait)?;
        let layout = layout(&connection, path)?;
        prepare(&mut connection, layout, options).map_err(of)?;
        Ok(Self {
            connection,
            path: path.to_owned(),
            records_max: options.records_max,
            // With the first save, not now: a file on a full disk is to be read all the same.
            saved_since_pruned: PRUNE_EVERY,
        })
    }

    fn select(&self) -> rusqlite::Result<Vec<HostRecord>> {
        let mut statement = self.connection.prepare(SELECT)?;
        let rows = statement.query_map([self.records_max], record)?;
        // A state that no version of this program knows says nothing: such a row is passed over.
        rows.filter_map(Result::transpose).collect()
    }

    fn write<'a>(&mut self, records: impl Iterator<Item = &'a HostRecord>) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut saved = 0;
        for record in records {
            upsert(&transaction, record)?;
            saved += 1;
        }
        transaction.commit()?;
        self.saved_since_pruned = self.saved_since_pruned.saturating_add(saved);
        if self.saved_since_pruned >= PRUNE_EVERY {
            self.prune()?;
        }
        Ok(())
    }

    /// Forgets the longest unseen beyond `records_max`, and destinations that nothing refers to.
    fn prune(&mut self) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let oldest: Option<i64> =
            transaction.query_row(OLDEST_KEPT, [self.records_max], |row| row.get(0)).optional()?;
        if let Some(oldest) = oldest {
            transaction.execute("DELETE FROM ranks WHERE seen_at < ?1", [oldest])?;
            transaction.execute(DELETE_UNUSED, [])?;
        }
        transaction.commit()?;
        self.saved_since_pruned = 0;
        Ok(())
    }
}

/// Takes the lock that is held until the connection is closed.
fn lock(connection: &Connection, path: &Path, wait: Duration) -> Result<(), StoreError> {
    let locked = connection
        .busy_timeout(wait.min(WAIT_MAX))
        // Without it another process could come in between two transactions.
        .and_then(|()| connection.pragma_update(None, "locking_mode", "EXCLUSIVE"))
        .and_then(|()| connection.execute_batch("BEGIN EXCLUSIVE; COMMIT"));
    locked.map_err(|source| match source.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => {
            StoreError::Locked { path: path.to_owned(), waited: wait }
        }
        _ => StoreError::of(path, source),
    })
}

/// The layout of a file that is ours or empty; zero for an empty one.
fn layout(connection: &Connection, path: &Path) -> Result<u32, StoreError> {
    let of = |source| StoreError::of(path, source);
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0)).map_err(of);
    // SQLite keeps these as signed numbers of 32 bits.
    let application_id = number("application_id")?.cast_unsigned();
    let layout = number("user_version")?.cast_unsigned();
    let tables: u32 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(of)?;
    match application_id {
        0 if layout == 0 && tables == 0 => Ok(0),
        APPLICATION_ID if layout > LAYOUT_MAX => {
            Err(StoreError::TooNew { path: path.to_owned(), layout, layout_max: LAYOUT_MAX })
        }
        APPLICATION_ID => Ok(layout),
        _ => Err(StoreError::Foreign { path: path.to_owned(), application_id }),
    }
}

fn prepare(connection: &mut Connection, layout: u32, options: &RankStoreOptions) -> rusqlite::Result<()> {
    check(connection)?;
    // Before the log is turned on, so that the mark of ownership is in the file itself.
    migrate(connection, layout)?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update_and_check(None, "journal_size_limit", LOG_BYTES_MAX, |_| Ok(()))?;
    let page_bytes: u64 =
        connection.pragma_query_value(None, "page_size", |row| row.get::<_, u32>(0))?.into();
    let pages_max = (options.bytes_max / page_bytes).clamp(1, i32::MAX as u64) as u32;
    connection.pragma_update_and_check(None, "max_page_count", pages_max, |_| Ok(()))
}

/// Finds damage now rather than in the middle of the night.
fn check(connection: &Connection) -> rusqlite::Result<()> {
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found == "ok" {
        return Ok(());
    }
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    Err(rusqlite::Error::SqliteFailure(code, Some(found)))
}

fn upsert(transaction: &Transaction<'_>, record: &HostRecord) -> rusqlite::Result<()> {
    let name = record.host.as_str();
    transaction.prepare_cached(INSERT_DESTINATION)?.execute([name])?;
    let latency = i64::try_from(record.latency.as_millis()).unwrap_or(i64::MAX);
    transaction.prepare_cached(UPSERT_RANK)?.execute(params![
        name,
        record.state.name(),
        latency,
        record.failures,
        record.failing_since.map(to_sql),
        record.retry_at.map(to_sql),
        to_sql(record.seen_at),
    ])?;
    Ok(())
}

fn record(row: &Row<'_>) -> rusqlite::Result<Option<HostRecord>> {
    let name: String = row.get(0)?;
    let Some(state) = HostState::from_name(&row.get::<_, String>(1)?) else {
        return Ok(None);
    };
    Ok(Some(HostRecord {
        host: ServiceName::new(&name),
        state,
        latency: Duration::from_millis(row.get::<_, i64>(2)?.try_into().unwrap_or(0)),
        failures: row.get::<_, i64>(3)?.try_into().unwrap_or(0),
        failing_since: row.get::<_, Option<i64>>(4)?.map(from_sql),
        retry_at: row.get::<_, Option<i64>>(5)?.map(from_sql),
        seen_at: from_sql(row.get(6)?),
    }))
}

fn to_sql(time: WallTime) -> i64 {
    i64::try_from(time.unix_millis()).unwrap_or(i64::MAX)
}

fn from_sql(millis: i64) -> WallTime {
    WallTime::from_unix_millis(millis.try_into().unwrap_or(0))
}

const INSERT_DESTINATION: &str = "INSERT INTO destinations (name) VALUES (?1) ON CONFLICT DO NOTHING";
const UPSERT_RANK: &str = "
    INSERT OR REPLACE INTO ranks (destination, state, latency_ms, failures, failing_since, retry_at, seen_at)
    SELECT id, ?2, ?3, ?4, ?5, ?6, ?7 FROM destinations WHERE name = ?1";
const SELECT: &str = "
    SELECT name, state, latency_ms, failures, failing_since, retry_at, seen_at
    FROM ranks JOIN destinations ON id = destination
    ORDER BY seen_at DESC LIMIT ?1";
const OLDEST_KEPT: &str = "SELECT seen_at FROM ranks ORDER BY seen_at DESC LIMIT 1 OFFSET ?1 - 1";
const DELETE_UNUSED: &str = "DELETE FROM destinations WHERE id NOT IN (SELECT destination FROM ranks)";
// Often enough that the file does not outgrow its limit by much, seldom enough to cost nothing.
const PRUNE_EVERY: u32 = 20_000;
const LOG_BYTES_MAX: u32 = 4 * 1024 * 1024;
const WAIT_MAX: Duration = Duration::from_secs(3600);
