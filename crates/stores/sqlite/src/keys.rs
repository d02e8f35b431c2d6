//! Reading and writing the keys of homeservers.
//!
//! They are a cache beside everything else: the table is made when the first key is written, and is no step of the
//! layout, so that a version which does not know it takes the file all the same. A row with a bit that flipped would
//! refuse what its server signs, so each row has a checksum, and one that does not fit is passed over.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, Row, Transaction, TransactionBehavior, params};
use southbridge_words::{KeyRecord, KeyStanding, RecordedKey, ServerName};

use crate::file::{Safety, StoreFile};
use crate::ledger::{from_sql, to_sql};
use crate::outbox::checksum::Checksum;

/// The keys of at most `servers_max` homeservers, those written last.
pub(crate) fn load(file: &StoreFile, servers_max: usize) -> rusqlite::Result<Vec<KeyRecord>> {
    let turn = file.turn();
    let known: Option<u32> = turn.connection.query_row(IS_THERE, [], |row| row.get(0)).optional()?;
    if known.is_none() {
        return Ok(Vec::new());
    }
    let mut statement = turn.connection.prepare(SELECT)?;
    let mut rows = statement.query([])?;
    let mut records: Vec<KeyRecord> = Vec::new();
    while let Some(row) = rows.next()? {
        let Some(KeyRecord { server, keys, seen_at }) = read(row)? else { continue };
        if let Some(last) = records.last_mut().filter(|last| last.server == server) {
            last.keys.extend(keys);
        } else if records.len() == servers_max {
            break;
        } else {
            records.push(KeyRecord { server, keys, seen_at });
        }
    }
    Ok(records)
}

/// Writes `records`, each in the place of what was there of its server; what has no keys is removed.
pub(crate) fn save<'a>(
    file: &StoreFile,
    records: impl Iterator<Item = &'a KeyRecord>,
) -> rusqlite::Result<()> {
    let mut turn = file.turn();
    turn.set_safety(Safety::Later)?;
    let transaction = turn.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(TABLE)?;
    for record in records {
        replace(&transaction, record)?;
    }
    transaction.commit()
}

/// Forgets those written the longest time ago beyond `servers_max`.
pub(crate) fn prune(file: &StoreFile, servers_max: usize) -> rusqlite::Result<()> {
    let mut turn = file.turn();
    let transaction = turn.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let kept = i64::try_from(servers_max).unwrap_or(i64::MAX);
    let oldest: Option<i64> = transaction.query_row(OLDEST_KEPT, [kept], |row| row.get(0)).optional()?;
    if let Some(oldest) = oldest {
        transaction.execute("DELETE FROM server_keys WHERE seen_at < ?1", [oldest])?;
    }
    transaction.commit()
}

fn replace(transaction: &Transaction<'_>, record: &KeyRecord) -> rusqlite::Result<()> {
    let server = record.server.as_str();
    transaction.prepare_cached("DELETE FROM server_keys WHERE server = ?1")?.execute([server])?;
    let seen_at = to_sql(record.seen_at);
    for key in &record.keys {
        let (signing, until) = (i64::from(key.standing == KeyStanding::Signing), to_sql(key.until));
        let crc = checksum(server, &key.id, &key.key, [signing, until, seen_at]);
        let row = params![server, &*key.id, key.key, signing, until, seen_at, crc];
        transaction.prepare_cached(INSERT)?.execute(row)?;
    }
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<Option<KeyRecord>> {
    let (server, id, key): (String, String, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let numbers: [i64; 3] = [row.get(3)?, row.get(4)?, row.get(5)?];
    let is_whole = row.get::<_, i64>(6)? == checksum(&server, &id, &key, numbers);
    let (Ok(server), Ok(key)) = (ServerName::parse(&server), <[u8; 32]>::try_from(key)) else {
        return Ok(None);
    };
    let [signing, until, seen_at] = numbers;
    let standing = if signing == 0 { KeyStanding::Old } else { KeyStanding::Signing };
    let key = RecordedKey { id: id.into(), key, standing, until: from_sql(until) };
    Ok(is_whole.then(|| KeyRecord { server, keys: vec![key], seen_at: from_sql(seen_at) }))
}

fn checksum(server: &str, id: &str, key: &[u8], numbers: [i64; 3]) -> i64 {
    let texts = Checksum::of("server_keys").bytes(server.as_bytes()).bytes(id.as_bytes()).bytes(key);
    numbers.into_iter().fold(texts, Checksum::number).finish()
}

/// What waits to be written: of each server the latest.
#[derive(Debug, Default)]
pub(crate) struct UnsavedKeys {
    records: BTreeMap<ServerName, KeyRecord>,
    saved_since_pruned: Option<usize>,
}

impl UnsavedKeys {
    /// Takes `records`, as far as there is room for `servers_max`.
    pub(crate) fn take(&mut self, records: Vec<KeyRecord>, servers_max: usize) {
        for record in records {
            if self.records.len() < servers_max || self.records.contains_key(&record.server) {
                self.records.insert(record.server.clone(), record);
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Writes all of it, or keeps it.
    pub(crate) fn flush(&mut self, file: &StoreFile, servers_max: usize) -> rusqlite::Result<()> {
        if self.records.is_empty() {
            return Ok(());
        }
        let records: Vec<&KeyRecord> = self.records.values().collect();
        // Many at a time, so that the outbox gets its turn in between.
        for some in records.chunks(RECORDS_PER_TURN) {
            save(file, some.iter().copied())?;
        }
        let saved = self.saved_since_pruned.map_or(PRUNE_EVERY, |saved| saved + self.records.len());
        self.records.clear();
        self.saved_since_pruned = Some(saved);
        if saved >= PRUNE_EVERY {
            prune(file, servers_max)?;
            self.saved_since_pruned = Some(0);
        }
        Ok(())
    }
}

const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS server_keys (
        server  TEXT NOT NULL,      -- the Matrix server name, byte for byte
        key_id  TEXT NOT NULL,
        key     BLOB NOT NULL,      -- 32 bytes
        signing INTEGER NOT NULL,   -- 1: it signs, 0: it did
        until   INTEGER NOT NULL,   -- Unix time in ms, as below
        seen_at INTEGER NOT NULL,   -- the same for all keys of a server
        crc     INTEGER NOT NULL,   -- over all of it
        PRIMARY KEY (server, key_id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS server_keys_by_age ON server_keys (seen_at, server);";
const IS_THERE: &str = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'server_keys'";
const INSERT: &str = "
    INSERT INTO server_keys (server, key_id, key, signing, until, seen_at, crc) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
const SELECT: &str = "
    SELECT server, key_id, key, signing, until, seen_at, crc FROM server_keys ORDER BY seen_at DESC, server, key_id";
const OLDEST_KEPT: &str = "
    SELECT seen_at FROM server_keys GROUP BY server ORDER BY seen_at DESC LIMIT 1 OFFSET ?1 - 1";
// A few milliseconds, which is what accepting a message may wait for.
const RECORDS_PER_TURN: usize = 200;
// Often enough that the table does not outgrow its limit by much.
const PRUNE_EVERY: usize = 1_000;
