//! The thread that writes.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use southbridge_words::{HostRecord, KeyRecord, ServiceName};
use tracing::{info, warn};

use crate::keys::UnsavedKeys;
use crate::ledger::Ledger;
use crate::{RankStoreOptions, StoreError};

/// How the last write went; none when it went well.
pub(crate) type Health = Mutex<Option<Arc<StoreError>>>;

/// What is handed over at a time.
#[derive(Debug)]
pub(crate) enum Batch {
    Ranks(Vec<HostRecord>),
    Keys(Vec<KeyRecord>),
}

impl Batch {
    /// How many records it has.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Ranks(records) => records.len(),
            Self::Keys(records) => records.len(),
        }
    }
}

/// Writes what it is given; keeps what it could not write, the latest of each host.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) ledger: Ledger,
    unsaved: BTreeMap<ServiceName, HostRecord>,
    unsaved_max: usize,
    unsaved_keys: UnsavedKeys,
    key_servers_max: usize,
    health: Arc<Health>,
}

impl Worker {
    pub(crate) fn new(ledger: Ledger, options: &RankStoreOptions, health: Arc<Health>) -> Self {
        Self {
            ledger,
            unsaved: BTreeMap::new(),
            unsaved_max: options.records_max as usize,
            unsaved_keys: UnsavedKeys::default(),
            key_servers_max: options.key_servers_max as usize,
            health,
        }
    }

    /// Works until the sending end is gone and all is written, or cannot be.
    pub(crate) fn run(mut self, batches: &Receiver<Batch>) -> Result<(), Arc<StoreError>> {
        while let Some(batch) = self.next(batches) {
            self.receive(batch);
            // One transaction for all that has come meanwhile.
            while let Ok(batch) = batches.try_recv() {
                self.receive(batch);
            }
            self.flush();
        }
        self.flush();
        let outcome = read(&self.health).map_or(Ok(()), Err);
        outcome.and(self.ledger.close().map_err(Arc::new))
    }

    /// The next batch: an empty one when it is time to try again, none when there will be no more.
    fn next(&self, batches: &Receiver<Batch>) -> Option<Batch> {
        if self.unsaved.is_empty() && self.unsaved_keys.is_empty() {
            return batches.recv().ok();
        }
        match batches.recv_timeout(RETRY_EVERY) {
            Ok(batch) => Some(batch),
            Err(RecvTimeoutError::Timeout) => Some(Batch::Ranks(Vec::new())),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    fn receive(&mut self, batch: Batch) {
        match batch {
            Batch::Ranks(records) => self.take(records),
            Batch::Keys(records) => self.unsaved_keys.take(records, self.key_servers_max),
        }
    }

    pub(crate) fn take(&mut self, batch: Vec<HostRecord>) {
        for record in batch {
            if self.unsaved.len() < self.unsaved_max || self.unsaved.contains_key(&record.host) {
                self.unsaved.insert(record.host.clone(), record);
            }
        }
    }

    pub(crate) fn flush(&mut self) {
        if self.unsaved.is_empty() && self.unsaved_keys.is_empty() {
            return;
        }
        let saved = self.ledger.save(self.unsaved.values());
        if saved.is_ok() {
            self.unsaved.clear();
        }
        let file = &self.ledger.file;
        let keys = self.unsaved_keys.flush(file, self.key_servers_max);
        let keys = keys.map_err(|source| StoreError::of(file.path(), source));
        self.tell(saved.and(keys).err());
    }

    /// Changes of health are worth a line; a disk that stays full is not worth one every few seconds.
    fn tell(&self, error: Option<StoreError>) {
        let before = read(&self.health);
        match (&before, &error) {
            (Some(_), None) => info!("ranks are saved again"),
            (Some(old), Some(new)) if old.kind() == new.kind() => {}
            (_, Some(error)) => {
                warn!(%error, kind = error.kind(), unsaved = self.unsaved.len(), "ranks cannot be saved");
            }
            (None, None) => {}
        }
        write(&self.health, error);
    }
}

/// How the last write went.
pub(crate) fn read(health: &Health) -> Option<Arc<StoreError>> {
    // Nothing is done under the lock that could leave the value half made.
    health.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn write(health: &Health, error: Option<StoreError>) {
    *health.lock().unwrap_or_else(PoisonError::into_inner) = error.map(Arc::new);
}

// A full disk is seldom emptied within a second, and a minute of ranks is worth little.
const RETRY_EVERY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use southbridge_words::{HostState, WallTime};

    use super::*;

    fn record(number: u32, failures: u32) -> HostRecord {
        HostRecord {
            host: ServiceName::new(&format!("{number}.a-host-with-a-long-name.example.org")),
            state: HostState::Failing,
            latency: Duration::from_millis(20),
            failures,
            failing_since: None,
            retry_at: None,
            seen_at: WallTime::from_unix_millis(u64::from(number)),
        }
    }

    fn worker(directory: &tempfile::TempDir) -> Worker {
        let path = directory.path().join("southbridge.db");
        let (ledger, _) = Ledger::open(&path, &RankStoreOptions::default(), WallTime::default()).unwrap();
        Worker::new(
            ledger,
            &RankStoreOptions { records_max: 1000, ..RankStoreOptions::default() },
            Arc::default(),
        )
    }

    fn pages_max(worker: &Worker, pages: u32) {
        let turn = worker.ledger.file.turn();
        turn.connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
    }

    /// Faults row 20: the disk fills up, and hours later somebody makes room.
    #[test]
    fn what_a_full_disk_refused_is_written_when_there_is_room() {
        let directory = tempfile::tempdir().unwrap();
        let mut worker = worker(&directory);
        pages_max(&worker, 8);
        worker.take((0..500).map(|number| record(number, 1)).collect());
        worker.flush();
        let error = read(&worker.health).expect("500 hosts do not fit in eight pages");
        assert_eq!(error.kind(), "disk_full");
        assert!(error.to_string().starts_with("no room to write \"/"), "{error}");
        worker.take(vec![record(7, 2)]);
        pages_max(&worker, 8000);
        worker.flush();
        assert!(read(&worker.health).is_none());
        let records = worker.ledger.load().unwrap();
        assert_eq!(records.len(), 500);
        assert_eq!(records.iter().find(|record| record.host == self::record(7, 0).host).unwrap().failures, 2);
    }

    /// A disk that stays full for days must not fill the memory as well.
    #[test]
    fn what_waits_for_room_is_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let mut worker = worker(&directory);
        pages_max(&worker, 8);
        for round in 0..10 {
            worker.take((0..500).map(|number| record(round * 500 + number, 1)).collect());
            worker.flush();
        }
        assert_eq!(worker.unsaved.len(), 1000);
    }

    /// Faults row 20: the file system was remounted read-only.
    #[test]
    fn a_file_that_became_read_only_is_an_error_and_no_end() {
        let directory = tempfile::tempdir().unwrap();
        let mut worker = worker(&directory);
        worker.ledger.file.turn().connection.pragma_update(None, "query_only", true).unwrap();
        worker.take(vec![record(1, 1)]);
        worker.flush();
        assert_eq!(read(&worker.health).unwrap().kind(), "read_only");
        worker.ledger.file.turn().connection.pragma_update(None, "query_only", false).unwrap();
        worker.flush();
        assert!(read(&worker.health).is_none());
        assert_eq!(worker.ledger.load().unwrap().len(), 1);
    }
}
