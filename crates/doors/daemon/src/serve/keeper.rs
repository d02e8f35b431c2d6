//! Keeps the ranks of hosts across restarts, and the keys of homeservers: reads them at the start, writes what changes, lets go at the end.
//!
//! What is lost when the store fails is a faster start, so a failing store is said and survived.

use std::cell::{Cell, RefCell};
use std::fs;
use std::rc::Rc;
use std::time::Duration;

use southbridge::bus::Keys;
use southbridge_kernel::Kernel;
use southbridge_kernel::admin::MoreMetrics;
use southbridge_kernel::http::explain;
use southbridge_kernel::stats::Exposition;
use southbridge_store_sqlite::{RankStore, SqliteOutbox, StoreError};
use southbridge_words::HostRecord;
use tracing::{info, warn};

use crate::config::sections::storage::Storage;

/// The store of ranks, and the kernel whose ranks they are.
pub struct RankKeeper {
    kernel: Kernel,
    storage: Storage,
    store: RefCell<Option<RankStore>>,
    /// Whose changes are written, where there is a bus.
    keys: RefCell<Option<Keys>>,
    /// Whether the last write went wrong, so that each trouble is said once.
    failing: Cell<bool>,
}

impl RankKeeper {
    /// Opens the store, which lies beside `outbox` when there is one, and gives its records to the kernel. A disk that
    /// is full or broken is said and survived.
    ///
    /// # Errors
    /// [`StoreError`] when the file is one that nobody could have meant.
    pub fn open(
        storage: &Storage,
        kernel: Kernel,
        outbox: Option<&SqliteOutbox>,
    ) -> Result<Self, StoreError> {
        if !storage.given
            && let Some(dir) = storage.path.parent()
        {
            // Opening says what is wrong where this fails.
            let _ = fs::create_dir_all(dir);
        }
        let keeper = Self {
            kernel,
            storage: storage.clone(),
            store: RefCell::new(None),
            keys: RefCell::new(None),
            failing: Cell::new(false),
        };
        match keeper.try_open(outbox) {
            Ok(records) => {
                info!(hosts = records.len(), path = %storage.path.display(), "ranks restored");
                keeper.kernel.restore_hosts(records);
            }
            Err(error) if is_survivable(&error) || !storage.given => {
                warn!(error = explain(&error), "ranks are not kept: hosts are met anew after the next start");
                keeper.failing.set(true);
            }
            Err(error) => return Err(error),
        }
        Ok(keeper)
    }

    /// Gives `keys` what is kept of them, and writes what changes from now on.
    pub fn keep_keys(&self, keys: &Keys) {
        let kept = self.store.borrow().as_ref().map(RankStore::load_keys);
        match kept {
            Some(Ok(records)) => {
                info!(servers = records.len(), "keys restored");
                keys.restore(records);
            }
            Some(Err(error)) => warn!(error = explain(&error), "keys cannot be read: they are fetched anew"),
            None => {}
        }
        self.keys.replace(Some(keys.clone()));
    }

    /// Writes what changes, for ever.
    pub async fn run(self: Rc<Self>) {
        let mut ticks = tokio::time::interval(self.storage.write_interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.write();
        }
    }

    /// Writes what is left and lets go of the file, so that a successor may have it.
    pub async fn close(&self) {
        self.write();
        let Some(store) = self.store.take() else { return };
        // The file may be slow, and requests must go on meanwhile.
        let closed = tokio::task::spawn_blocking(move || store.close(CLOSE_MAX)).await;
        if let Ok(Err(error)) = closed {
            warn!(error = explain(&*error), "ranks not written to the end");
        }
    }

    /// Takes the file up again after a hand-over that came to nothing.
    pub fn reopen(&self, outbox: Option<&SqliteOutbox>) {
        if self.store.borrow().is_none()
            && let Err(error) = self.try_open(outbox)
        {
            warn!(error = explain(&error), "ranks are no longer kept");
            self.failing.set(true);
        }
    }

    /// The numbers of the store.
    pub fn metrics(self: &Rc<Self>) -> MoreMetrics {
        let this = Rc::clone(self);
        Rc::new(move |out: &mut Exposition| {
            let name = "southbridge_store_failing";
            out.head(name, "gauge", "Whether the ranks of hosts could not be written the last time.");
            out.value(name, &[], u8::from(this.failing.get()));
        })
    }

    fn try_open(&self, outbox: Option<&SqliteOutbox>) -> Result<Vec<HostRecord>, StoreError> {
        let options = &self.storage.options;
        let (store, records) = match outbox {
            Some(outbox) => RankStore::beside(outbox, options)?,
            None => RankStore::open(&self.storage.path, options, self.kernel.clock().wall())?,
        };
        self.store.replace(Some(store));
        Ok(records)
    }

    fn write(&self) {
        let store = self.store.borrow();
        let Some(store) = store.as_ref() else { return };
        let mut trouble = store.health().map(|error| explain(&*error));
        for _ in 0..BATCHES_PER_WRITE {
            let changed = self.kernel.take_changed_hosts(BATCH);
            let is_last = changed.len() < BATCH;
            if let Err(error) = store.save(changed) {
                trouble = Some(explain(&error));
            }
            if is_last {
                break;
            }
        }
        if let Some(keys) = &*self.keys.borrow() {
            for _ in 0..BATCHES_PER_WRITE {
                let changed = keys.take_changed(BATCH);
                let is_last = changed.len() < BATCH;
                if let Err(error) = store.save_keys(changed) {
                    trouble = Some(explain(&error));
                }
                if is_last {
                    break;
                }
            }
        }
        match (trouble, self.failing.get()) {
            (Some(error), false) => warn!(error, "ranks cannot be written at the moment"),
            (None, true) => info!("ranks are written again"),
            (trouble, _) => return self.failing.set(trouble.is_some()),
        }
        self.failing.set(!self.failing.get());
    }
}

/// Whether the trouble is that of the disk, and may pass.
fn is_survivable(error: &StoreError) -> bool {
    matches!(error, StoreError::DiskFull { .. } | StoreError::Failed { .. } | StoreError::Corrupt { .. })
}

/// Hosts handed to the store at a time.
const BATCH: usize = 1000;
/// A storm over ten thousand hosts is written within a few intervals.
const BATCHES_PER_WRITE: usize = 8;
const CLOSE_MAX: Duration = Duration::from_secs(5);
