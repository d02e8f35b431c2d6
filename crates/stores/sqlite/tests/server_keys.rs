//! Keys of homeservers in the file: kept, bounded, and never taken for what they are not.

#![allow(clippy::unwrap_used, reason = "these are tests, their helpers included")]

use std::path::Path;
use std::time::Duration;

use southbridge_store_sqlite::{OutboxOptions, RankStore, RankStoreOptions, SqliteOutbox};
use southbridge_words::{KeyRecord, KeyStanding, RecordedKey, ServerName, WallTime};

const NOON: u64 = 1_800_000_000_123;
const LONG: Duration = Duration::from_secs(60);

fn options() -> RankStoreOptions {
    RankStoreOptions { lock_wait: Duration::ZERO, ..RankStoreOptions::default() }
}

fn open(path: &Path) -> RankStore {
    RankStore::open(path, &options(), WallTime::from_unix_millis(NOON)).unwrap().0
}

fn record(number: u64) -> KeyRecord {
    let key = |id: &str, standing, seed| RecordedKey {
        id: id.into(),
        key: [seed; 32],
        standing,
        until: WallTime::from_unix_millis(NOON + u64::from(seed)),
    };
    KeyRecord {
        server: ServerName::parse(&format!("h{number}.example.org:8448")).unwrap(),
        keys: vec![key("ed25519:a", KeyStanding::Signing, 1), key("ed25519:b", KeyStanding::Old, 2)],
        seen_at: WallTime::from_unix_millis(NOON + number),
    }
}

fn save(path: &Path, records: Vec<KeyRecord>) {
    let store = open(path);
    store.save_keys(records).unwrap();
    store.close(LONG).unwrap();
}

fn load(path: &Path) -> Vec<KeyRecord> {
    let store = open(path);
    let records = store.load_keys().unwrap();
    store.close(LONG).unwrap();
    records
}

/// What went in comes out, the latest first; a server that changed its keys has the new ones, and what is forgotten is.
#[test]
fn keys_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("southbridge.db");
    assert_eq!(load(&path), []);
    save(&path, vec![record(1), record(2), record(3)]);
    assert_eq!(load(&path), [record(3), record(2), record(1)]);
    let changed = KeyRecord { keys: record(2).keys.split_off(1), ..record(4) };
    let changed = KeyRecord { server: record(2).server, ..changed };
    save(&path, vec![changed.clone(), KeyRecord { keys: Vec::new(), ..record(1) }]);
    assert_eq!(load(&path), [changed, record(3)]);
}

/// They lie beside an outbox as well, and the file is closed for whoever comes next.
#[test]
fn keys_lie_beside_an_outbox() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("southbridge.db");
    let outbox = OutboxOptions { lock_wait: Duration::ZERO, ..OutboxOptions::default() };
    for round in 0..2 {
        let outbox = SqliteOutbox::open(&path, &outbox).unwrap();
        let (store, _) = RankStore::beside(&outbox, &options()).unwrap();
        assert_eq!(store.load_keys().unwrap().len(), round);
        store.save_keys(vec![record(1)]).unwrap();
        drop(outbox);
        store.close(LONG).unwrap();
    }
}

/// A stranger makes up servers without end: the file keeps the latest.
#[test]
fn the_number_of_servers_is_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("southbridge.db");
    let few = RankStoreOptions { key_servers_max: 50, ..options() };
    for first in [0, 40, 80] {
        let (store, _) = RankStore::open(&path, &few, WallTime::from_unix_millis(NOON)).unwrap();
        store.save_keys((first..first + 40).map(record).collect()).unwrap();
        store.close(LONG).unwrap();
    }
    let kept = load(&path);
    assert_eq!(kept.len(), 50);
    assert_eq!((&kept[0], &kept[49]), (&record(119), &record(70)));
}

/// A bit flips on the disk: that key is not known any more, and the others are.
#[test]
fn a_damaged_key_is_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("southbridge.db");
    save(&path, vec![record(1)]);
    let file = rusqlite::Connection::open(&path).unwrap();
    file.execute("UPDATE server_keys SET key = zeroblob(32) WHERE key_id = 'ed25519:a'", []).unwrap();
    drop(file);
    let kept = load(&path);
    assert_eq!(kept[0].keys, record(1).keys.split_off(1));
}
