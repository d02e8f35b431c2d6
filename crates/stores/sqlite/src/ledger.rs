//! Reading and writing ranks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{OptionalExtension, Row, Transaction, TransactionBehavior, params};
use southbridge_words::{HostRecord, HostState, ServiceName, WallTime};

use crate::file::{Purpose, Safety, StoreFile};
use crate::place::{self, Owner};
use crate::schema::RANKS_LAYOUT;
use crate::{RankStoreOptions, StoreError};

/// The ranks in a file.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) file: Arc<StoreFile>,
    records_max: u32,
    saved_since_pruned: u32,
}

impl Ledger {
    /// Opens the file, or makes it; a damaged one of ours is set aside first, if it holds ranks only.
    ///
    /// Says where the damaged one is now, if there was one.
    pub(crate) fn open(
        path: &Path,
        options: &RankStoreOptions,
        wall: WallTime,
    ) -> Result<(Self, Option<PathBuf>), StoreError> {
        let purpose =
            Purpose { lock_wait: options.lock_wait, bytes_max: options.bytes_max, layout_min: RANKS_LAYOUT };
        match StoreFile::open(path, &purpose) {
            Err(StoreError::Corrupt { path, source }) => match place::owner(&path)? {
                Owner::Ourselves { has_outbox: false } => {
                    let aside = place::set_aside(&path, wall)?;
                    Ok((Self::new(StoreFile::open(&path, &purpose)?, options), Some(aside)))
                }
                Owner::Ourselves { has_outbox: true } => Err(StoreError::DamagedOutbox { path, source }),
                _ => Err(StoreError::Corrupt { path, source }),
            },
            opened => Ok((Self::new(opened?, options), None)),
        }
    }

    /// The ranks in a file that is open.
    pub(crate) fn new(file: Arc<StoreFile>, options: &RankStoreOptions) -> Self {
        // With the first save, not now: a file on a full disk is to be read all the same.
        Self { file, records_max: options.records_max, saved_since_pruned: PRUNE_EVERY }
    }

    /// Every record, the newest first, at most `records_max`.
    pub(crate) fn load(&self) -> Result<Vec<HostRecord>, StoreError> {
        self.select().map_err(|source| StoreError::of(self.file.path(), source))
    }

    /// Writes `records`, many at a time, so that the outbox gets its turn in between.
    pub(crate) fn save<'a>(
        &mut self,
        records: impl Iterator<Item = &'a HostRecord>,
    ) -> Result<(), StoreError> {
        let mut records = records.peekable();
        while records.peek().is_some() {
            let written = self.write(records.by_ref().take(RECORDS_PER_TURN));
            written.map_err(|source| StoreError::of(self.file.path(), source))?;
        }
        Ok(())
    }

    /// Closes the file, unless somebody else uses it.
    pub(crate) fn close(self) -> Result<(), StoreError> {
        self.file.close()
    }

    fn select(&self) -> rusqlite::Result<Vec<HostRecord>> {
        let turn = self.file.turn();
        let mut statement = turn.connection.prepare(SELECT)?;
        let rows = statement.query_map([self.records_max], record)?;
        // A state that no version of this program knows says nothing: such a row is passed over.
        rows.filter_map(Result::transpose).collect()
    }

    fn write<'a>(&mut self, records: impl Iterator<Item = &'a HostRecord>) -> rusqlite::Result<()> {
        let mut turn = self.file.turn();
        turn.set_safety(Safety::Later)?;
        let transaction = turn.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut saved = 0;
        for record in records {
            upsert(&transaction, record)?;
            saved += 1;
        }
        transaction.commit()?;
        drop(turn);
        self.saved_since_pruned = self.saved_since_pruned.saturating_add(saved);
        if self.saved_since_pruned >= PRUNE_EVERY {
            self.prune()?;
        }
        Ok(())
    }

    /// Forgets the longest unseen beyond `records_max`, and destinations that nothing refers to.
    fn prune(&mut self) -> rusqlite::Result<()> {
        let mut turn = self.file.turn();
        let transaction = turn.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let oldest: Option<i64> =
            transaction.query_row(OLDEST_KEPT, [self.records_max], |row| row.get(0)).optional()?;
        if let Some(oldest) = oldest {
            transaction.execute("DELETE FROM ranks WHERE seen_at < ?1", [oldest])?;
            let unused = if self.file.has_outbox() { DELETE_UNUSED_BY_BOTH } else { DELETE_UNUSED };
            transaction.execute(unused, [])?;
        }
        transaction.commit()?;
        drop(turn);
        self.saved_since_pruned = 0;
        Ok(())
    }
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

pub(crate) fn to_sql(time: WallTime) -> i64 {
    i64::try_from(time.unix_millis()).unwrap_or(i64::MAX)
}

pub(crate) fn from_sql(millis: i64) -> WallTime {
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
const DELETE_UNUSED_BY_BOTH: &str = "
    DELETE FROM destinations WHERE id NOT IN (SELECT destination FROM ranks)
    AND id NOT IN (SELECT destination FROM recipients)";
// A few milliseconds, which is what accepting a message may wait for.
const RECORDS_PER_TURN: usize = 500;
// Often enough that the file does not outgrow its limit by much, seldom enough to cost nothing.
const PRUNE_EVERY: u32 = 20_000;
