//! The store of ranks, as the rest of the house sees it.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use southbridge_words::{HostRecord, KeyRecord, WallTime};
use tracing::warn;

use crate::file::{StoreFile, ask};
use crate::keys;
use crate::ledger::Ledger;
use crate::worker::{Batch, Health, Worker, read};
use crate::{SqliteOutbox, StoreError};

/// How the file is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RankStoreOptions {
    /// How long to wait for another process to let go of the file. Default 10 s: a daemon that hands
    /// over to its successor closes the file first thing, and a slow disk may make it wait.
    pub lock_wait: Duration,
    /// The largest size of the file, in bytes. Default 256 MiB: room for a million hosts, and an
    /// end to whatever goes wrong.
    pub bytes_max: u64,
    /// Hosts kept, the latest seen. Default 100,000: twice what the ranker remembers.
    pub records_max: u32,
    /// Homeservers whose keys are kept, those asked last. Default 20,000: as many as the keyring remembers.
    pub key_servers_max: u32,
}

impl Default for RankStoreOptions {
    fn default() -> Self {
        Self {
            lock_wait: Duration::from_secs(10),
            bytes_max: 256 * 1024 * 1024,
            records_max: 100_000,
            key_servers_max: 20_000,
        }
    }
}

/// Keeps [`HostRecord`]s and [`KeyRecord`]s in an SQLite file, on a thread of its own.
///
/// Dropped without [`RankStore::close`], it still writes what it was given, but nobody waits for that.
#[derive(Debug)]
pub struct RankStore {
    path: PathBuf,
    file: Arc<StoreFile>,
    key_servers_max: usize,
    batches: SyncSender<Batch>,
    ended: Receiver<Result<(), Arc<StoreError>>>,
    health: Arc<Health>,
    set_aside: Option<PathBuf>,
}

impl RankStore {
    /// Opens the file at `path`, or makes it, and reads what it holds, the latest seen first.
    ///
    /// Blocks for up to `lock_wait` and for the reading. A damaged file of ours is renamed to
    /// `PATH.corrupt-SECONDS` after `wall`, with a warning, and begun anew; see
    /// [`RankStore::set_aside`].
    ///
    /// # Errors
    /// [`StoreError`] says what is wrong with the file and what to do. A file that is not ours is
    /// not changed.
    pub fn open(
        path: &Path,
        options: &RankStoreOptions,
        wall: WallTime,
    ) -> Result<(Self, Vec<HostRecord>), StoreError> {
        let (ledger, set_aside) = Ledger::open(path, options, wall)?;
        if let Some(aside) = &set_aside {
            warn!(?path, ?aside, "the rank store was damaged: it is set aside and begun anew");
        }
        Self::start(ledger, options, set_aside)
    }

    /// Uses the file that `outbox` has open, which stays open until both are closed.
    ///
    /// # Errors
    /// [`StoreError`] when the ranks cannot be read; the outbox is not concerned.
    pub fn beside(
        outbox: &SqliteOutbox,
        options: &RankStoreOptions,
    ) -> Result<(Self, Vec<HostRecord>), StoreError> {
        let file = Arc::clone(outbox.file());
        let checked = ask(&file.turn().connection, "PRAGMA quick_check(ranks)");
        checked.map_err(|source| StoreError::Failed {
            path: file.path().to_owned(),
            source: Box::new(source),
        })?;
        Self::start(Ledger::new(file, options), options, None)
    }

    fn start(
        ledger: Ledger,
        options: &RankStoreOptions,
        set_aside: Option<PathBuf>,
    ) -> Result<(Self, Vec<HostRecord>), StoreError> {
        let path = ledger.file.path().to_owned();
        let records = ledger.load()?;
        let health = Arc::new(Mutex::new(None));
        let file = Arc::clone(&ledger.file);
        let key_servers_max = options.key_servers_max as usize;
        let worker = Worker::new(ledger, options, Arc::clone(&health));
        let (batches, inbox) = sync_channel(BATCHES_MAX);
        let (end, ended) = sync_channel(1);
        let spawned = thread::Builder::new().name("sb-rank-store".to_owned()).spawn(move || {
            // Nobody may be waiting for the end any more.
            let _ = end.send(worker.run(&inbox));
        });
        spawned.map_err(|source| StoreError::CannotOpen { path: path.clone(), source })?;
        Ok((Self { path, file, key_servers_max, batches, ended, health, set_aside }, records))
    }

    /// Hands `records` to the thread; never blocks. Of two records of one host, the later counts.
    ///
    /// # Errors
    /// [`StoreError::Busy`] when the thread is too far behind to take them: they are dropped, and
    /// their hosts will be heard of again. [`StoreError::Stopped`] when the thread is gone.
    pub fn save(&self, records: Vec<HostRecord>) -> Result<(), StoreError> {
        if records.is_empty() {
            return Ok(());
        }
        self.hand_over(Batch::Ranks(records))
    }

    /// The keys in the file, of the servers written last first.
    ///
    /// # Errors
    /// [`StoreError`] when they cannot be read; ranks and outbox are not concerned.
    pub fn load_keys(&self) -> Result<Vec<KeyRecord>, StoreError> {
        keys::load(&self.file, self.key_servers_max).map_err(|source| StoreError::of(&self.path, source))
    }

    /// Hands keys to the thread; never blocks. Each record takes the place of what there was of its server, and one
    /// without keys removes it.
    ///
    /// # Errors
    /// As [`RankStore::save`].
    pub fn save_keys(&self, records: Vec<KeyRecord>) -> Result<(), StoreError> {
        if records.is_empty() {
            return Ok(());
        }
        self.hand_over(Batch::Keys(records))
    }

    fn hand_over(&self, batch: Batch) -> Result<(), StoreError> {
        self.batches.try_send(batch).map_err(|error| match error {
            TrySendError::Full(batch) => StoreError::Busy { path: self.path.clone(), records: batch.len() },
            TrySendError::Disconnected(_) => StoreError::Stopped { path: self.path.clone() },
        })
    }

    /// What went wrong with the last write; none when it went well.
    pub fn health(&self) -> Option<Arc<StoreError>> {
        read(&self.health)
    }

    /// Where the damaged file is that was found when this one was opened.
    pub fn set_aside(&self) -> Option<&Path> {
        self.set_aside.as_deref()
    }

    /// Writes what is left, closes the file and lets go of it, so that a successor may open it.
    /// Blocks for up to `wait`.
    ///
    /// # Errors
    /// What went wrong with the last write, or [`StoreError::NotFlushed`] when it takes longer than
    /// `wait`; then the thread goes on by itself.
    pub fn close(self, wait: Duration) -> Result<(), Arc<StoreError>> {
        let Self { path, file, batches, ended, .. } = self;
        // First, so that the thread is the last to hold it, and closes it.
        drop(file);
        drop(batches);
        match ended.recv_timeout(wait) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout) => Err(Arc::new(StoreError::NotFlushed { path, waited: wait })),
            Err(RecvTimeoutError::Disconnected) => Err(Arc::new(StoreError::Stopped { path })),
        }
    }
}

// A flush every few seconds fills these in minutes only if the disk stands still.
const BATCHES_MAX: usize = 64;
