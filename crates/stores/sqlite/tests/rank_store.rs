//! The store from the outside: what it keeps, whom it waits for, and what it does with a bad file.

#![allow(clippy::unwrap_used, reason = "these are tests, their helpers included")]

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use southbridge_store_sqlite::{RankStore, RankStoreOptions, StoreError};
use southbridge_words::{HostRecord, HostState, ServiceName, WallTime};
use tempfile::TempDir;

const NOON: WallTime = WallTime::from_unix_millis(1_800_000_000_123);
const LONG: Duration = Duration::from_secs(60);

fn file() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("southbridge.db");
    (directory, path)
}

fn impatient() -> RankStoreOptions {
    RankStoreOptions { lock_wait: Duration::ZERO, ..RankStoreOptions::default() }
}

fn open(path: &Path) -> (RankStore, Vec<HostRecord>) {
    RankStore::open(path, &impatient(), NOON).unwrap()
}

fn refused(path: &Path) -> StoreError {
    RankStore::open(path, &impatient(), NOON).map(|_| ()).unwrap_err()
}

fn record(number: u32) -> HostRecord {
    HostRecord {
        host: ServiceName::new(&format!("h{number}.example.org:8448")),
        state: HostState::Down,
        latency: Duration::from_millis(1234),
        failures: 17,
        failing_since: Some(WallTime::from_unix_millis(1_700_000_000_000)),
        retry_at: Some(WallTime::from_unix_millis(1_800_000_100_000)),
        seen_at: WallTime::from_unix_millis(1_799_000_000_000 + u64::from(number)),
    }
}

fn save(path: &Path, records: Vec<HostRecord>) {
    let (store, _) = open(path);
    store.save(records).unwrap();
    store.close(LONG).unwrap();
}

/// What went in comes out, field by field, the latest seen first.
#[test]
fn a_record_survives_a_restart() {
    let (_directory, path) = file();
    let plain = HostRecord { state: HostState::Healthy, failing_since: None, retry_at: None, ..record(2) };
    save(&path, vec![record(1), plain.clone()]);
    let (store, records) = open(&path);
    assert_eq!(records, [plain, record(1)]);
    assert!(store.health().is_none());
}

#[test]
fn of_two_records_of_one_host_the_later_counts() {
    let (_directory, path) = file();
    let later = HostRecord { failures: 18, ..record(1) };
    save(&path, vec![record(1)]);
    save(&path, vec![record(1), later.clone()]);
    assert_eq!(open(&path).1, [later]);
}

#[test]
fn times_that_no_clock_shows_are_kept_without_harm() {
    let (_directory, path) = file();
    let odd = HostRecord {
        latency: Duration::MAX,
        failures: u32::MAX,
        retry_at: Some(WallTime::from_unix_millis(u64::MAX)),
        seen_at: WallTime::from_unix_millis(0),
        ..record(1)
    };
    save(&path, vec![odd.clone()]);
    let records = open(&path).1;
    assert_eq!((records[0].failures, records[0].seen_at), (odd.failures, odd.seen_at));
    assert!(records[0].retry_at > record(1).retry_at);
}

#[test]
fn the_longest_unseen_are_forgotten_beyond_the_limit() {
    let (_directory, path) = file();
    save(&path, (0..100).map(record).collect());
    let options = RankStoreOptions { records_max: 10, ..impatient() };
    let (store, records) = RankStore::open(&path, &options, NOON).unwrap();
    assert_eq!(records, (90..100).rev().map(record).collect::<Vec<_>>());
    store.save(vec![record(99)]).unwrap();
    store.close(LONG).unwrap();
    assert_eq!(open(&path).1.len(), 10, "and not only left unread");
}

/// The file tells whom a homeserver talks to.
#[test]
fn the_file_is_for_its_owner_only() {
    let (_directory, path) = file();
    save(&path, vec![record(1)]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

/// Two daemons on one file: the second says so.
#[test]
fn a_file_in_use_is_refused_to_others() {
    let (_directory, path) = file();
    let (_first, _) = open(&path);
    let error = refused(&path);
    assert!(matches!(error, StoreError::Locked { .. }), "{error:?}");
    assert!(error.to_string().contains("is held by another process"), "{error}");
}

/// A daemon hands over to its successor, in two processes as in earnest.
#[test]
fn a_successor_waits_until_its_predecessor_lets_go() {
    if be_the_predecessor() {
        return;
    }
    let (_directory, path) = file();
    let mut predecessor = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_successor_waits_until_its_predecessor_lets_go", "--nocapture"])
        .env(PREDECESSOR, &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(predecessor.stdout.take().unwrap()).lines();
    assert!(lines.by_ref().any(|line| line.unwrap().contains("the file is open")));
    assert!(matches!(refused(&path), StoreError::Locked { .. }));
    // The successor is at the door before the predecessor hears that it may go.
    let stdin = predecessor.stdin.take();
    let release = std::thread::spawn(move || drop(stdin));
    let options = RankStoreOptions { lock_wait: LONG, ..RankStoreOptions::default() };
    let (_store, records) = RankStore::open(&path, &options, NOON).unwrap();
    assert_eq!(records, [record(1)]);
    release.join().unwrap();
    assert!(predecessor.wait().unwrap().success());
}

/// In the other process of a test, which is the test once more: holds the file until standard input ends. Whether
/// this is that process.
fn be_the_predecessor() -> bool {
    let Some(path) = std::env::var_os(PREDECESSOR) else { return false };
    let (store, _) = open(Path::new(&path));
    println!("the file is open");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    store.save(vec![record(1)]).unwrap();
    store.close(LONG).unwrap();
    true
}

/// In the other process: the file it holds.
const PREDECESSOR: &str = "RANK_STORE";

/// The process is killed: nothing is closed, and nothing is lost that was written.
#[test]
fn a_killed_process_leaves_a_good_file_and_no_lock() {
    if be_the_predecessor() {
        return;
    }
    let (_directory, path) = file();
    save(&path, vec![record(1)]);
    let mut killed = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_killed_process_leaves_a_good_file_and_no_lock", "--nocapture"])
        .env(PREDECESSOR, &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(killed.stdout.take().unwrap()).lines();
    assert!(lines.map(Result::unwrap).any(|line| line.contains("the file is open")));
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!(open(&path).1, [record(1)]);
}

/// Faults row 20: a block in the middle of the file is garbage. Ranks are hints: begin anew.
#[test]
fn a_damaged_file_of_ours_is_set_aside() {
    let (_directory, path) = file();
    save(&path, (0..1000).map(record).collect());
    let mut damaged = OpenOptions::new().write(true).open(&path).unwrap();
    damaged.seek(SeekFrom::Start(4096)).unwrap();
    damaged.write_all(&[0xA5; 16384]).unwrap();
    let (store, records) = open(&path);
    assert_eq!(records, []);
    let aside = path.with_file_name("southbridge.db.corrupt-1800000000");
    assert_eq!(store.set_aside(), Some(&*aside));
    assert!(aside.exists());
    store.save(vec![record(1)]).unwrap();
    store.close(LONG).unwrap();
    assert_eq!(open(&path).1, [record(1)]);
}

/// After a crash of the system the head of a file may read as zeros, or its end may be missing.
#[test]
fn a_file_cut_or_blanked_by_a_crash_is_set_aside() {
    for cut in [false, true] {
        let (_directory, path) = file();
        save(&path, (0..1000).map(record).collect());
        let mut damaged = OpenOptions::new().write(true).open(&path).unwrap();
        match cut {
            true => damaged.set_len(5000).unwrap(),
            false => damaged.write_all(&[0; 8192]).unwrap(),
        }
        let (store, records) = open(&path);
        assert_eq!(records, []);
        assert!(store.set_aside().is_some());
    }
}

/// `storage.path = "homeserver.yaml"`: a slip of the pen must not cost the file.
#[test]
fn a_file_that_is_no_database_is_left_alone() {
    let (_directory, path) = file();
    let text = "server_name: example.org\n".repeat(100);
    fs::write(&path, &text).unwrap();
    let error = refused(&path);
    assert!(matches!(error, StoreError::NotADatabase { .. }), "{error:?}");
    assert!(
        error.to_string().ends_with("is not a database: remove it, or name another file as storage path")
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

/// `storage.path = "homeserver.db"`: Synapse's own.
#[test]
fn a_database_of_another_program_is_left_alone() {
    let (_directory, path) = file();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE events (id); INSERT INTO events VALUES (1)").unwrap();
    drop(other);
    let before = fs::read(&path).unwrap();
    let error = refused(&path);
    assert!(matches!(error, StoreError::Foreign { application_id: 0, .. }), "{error:?}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_file_of_a_newer_version_is_left_alone() {
    let (_directory, path) = file();
    save(&path, vec![record(1)]);
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = refused(&path);
    assert!(matches!(error, StoreError::TooNew { layout: 99, .. }), "{error:?}");
}

#[test]
fn a_missing_directory_is_named() {
    let (directory, _) = file();
    let path = directory.path().join("nowhere/southbridge.db");
    let error = refused(&path);
    assert!(matches!(error, StoreError::CannotOpen { .. }), "{error:?}");
    assert!(error.to_string().contains("nowhere/southbridge.db"), "{error}");
}

/// Faults row 20: the file may not grow. The caller is told when it asks, and never waits.
#[test]
fn a_full_disk_is_told_and_what_was_saved_before_stays() {
    let (_directory, path) = file();
    save(&path, (0..10).map(record).collect());
    let options = RankStoreOptions { bytes_max: 48 * 1024, ..impatient() };
    let (store, _) = RankStore::open(&path, &options, NOON).unwrap();
    store.save((0..5000).map(record).collect()).unwrap();
    let error = store.close(LONG).unwrap_err();
    assert!(matches!(*error, StoreError::DiskFull { .. }), "{error:?}");
    let (_store, records) = RankStore::open(&path, &options, NOON).unwrap();
    assert!((0..10).all(|number| records.contains(&record(number))));
}

/// The disk stands still; a caller that goes on saving is told so at some point, and never held.
#[test]
fn a_flood_of_records_is_refused_and_not_queued_without_end() {
    let (_directory, path) = file();
    let (store, _) = open(&path);
    let batches: Vec<_> = (0..2000).map(|_| (0..50).map(record).collect::<Vec<_>>()).collect();
    let outcomes: Vec<_> = batches.into_iter().map(|batch| store.save(batch)).collect();
    for outcome in outcomes {
        assert!(matches!(outcome, Ok(()) | Err(StoreError::Busy { records: 50, .. })), "{outcome:?}");
    }
    store.close(LONG).unwrap();
    assert_eq!(open(&path).1.len(), 50);
}
