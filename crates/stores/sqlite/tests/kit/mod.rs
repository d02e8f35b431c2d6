//! What the tests of the outbox share.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use southbridge_store_sqlite::{OutboxOptions, SqliteOutbox, StoreError};
use southbridge_words::{
    Append, Appended, ItemKind, Mark, OpenTransaction, Outbox, Page, Seq, ServerName, WallTime,
};
use tempfile::TempDir;

pub const NOON: WallTime = WallTime::from_unix_millis(1_800_000_000_123);

pub fn file() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("southbridge.db");
    (directory, path)
}

pub fn options() -> OutboxOptions {
    OutboxOptions { lock_wait: Duration::ZERO, ..OutboxOptions::default() }
}

pub fn open(path: &Path) -> SqliteOutbox {
    SqliteOutbox::open(path, &options()).unwrap()
}

pub fn refused(path: &Path) -> StoreError {
    SqliteOutbox::open(path, &options()).map(|_| ()).unwrap_err()
}

pub fn name(text: &str) -> ServerName {
    ServerName::parse(text).unwrap()
}

/// `count` destinations, always the same.
pub fn names(count: usize) -> Arc<[ServerName]> {
    (0..count).map(|number| name(&format!("s{number}.example.org"))).collect()
}

pub fn append(bytes: impl Into<Bytes>, destinations: &Arc<[ServerName]>) -> Append {
    Append {
        kind: ItemKind::Pdu,
        bytes: bytes.into(),
        destinations: Arc::clone(destinations),
        accepted_at: NOON,
        key: None,
    }
}

pub fn accept(outbox: &mut SqliteOutbox, text: &str, destinations: &[&str]) -> Seq {
    let destinations = destinations.iter().map(|it| name(it)).collect();
    match outbox.write(&[append(text.to_owned(), &destinations)], &[]).unwrap()[..] {
        [Appended::New(seq)] => seq,
        ref other => panic!("{other:?}"),
    }
}

pub fn delivered(destination: &str, upto: Seq) -> Mark {
    Mark::Delivered { destination: name(destination), upto }
}

pub fn transaction(id: &str, upto: Seq) -> OpenTransaction {
    OpenTransaction {
        id: id.into(),
        origin_server_ts: NOON,
        upto,
        volatile_edus: Bytes::from_static(b"{\"edu_type\":\"m.typing\"}"),
        body_hash: u64::MAX - 5,
    }
}

pub fn read(outbox: &mut SqliteOutbox, destination: &str, after: Seq) -> Page {
    outbox.read(&name(destination), after, 1000, usize::MAX).unwrap()
}

pub fn texts(page: &Page) -> Vec<&str> {
    page.items.iter().map(|item| str::from_utf8(&item.bytes).unwrap()).collect()
}

/// How many rows a table of a closed file has.
pub fn rows(path: &Path, table: &str) -> u64 {
    let file = rusqlite::Connection::open(path).unwrap();
    let count: i64 = file.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
    count.cast_unsigned()
}

/// Changes a closed file as no program should.
pub fn tamper(path: &Path, sql: &str) {
    let file = rusqlite::Connection::open(path).unwrap();
    file.execute_batch(sql).unwrap();
}
