//! The durable outbox in an SQLite file.
//!
//! An item is written once, whoever it is for; its destinations are a set, kept once however often it is
//! used; what a destination has is one cursor. So accepting a message touches one row whatever the number of
//! destinations, and a delivery touches one more.
//!
//! - **Accepted means synced.** A write is one transaction with `synchronous=FULL`. A failed sync is the end
//!   of the outbox until a restart: what the disk then holds is not known, and asking again would get a
//!   false yes.
//! - **What is read is what was written.** Each row has a checksum over all of it, its key included; each item
//!   names the one before it in its set.
//! - **Never begun anew by itself.** A damaged file is an error that says what to do.
//! - **What is full can be emptied.** A few megabytes beside the file (`FILE-reserve`) are kept for writing down
//!   what was delivered; while they are in use nothing new is accepted.
//! - **Memory** holds numbers, not items: a few bytes for each destination, and the sets that have items.
//!
//! # Source
//! F15, F16; faults rows 19 and 20; DESIGN decision 8. <https://www.sqlite.org/wal.html>;
//! <https://lwn.net/Articles/752063/> (why a failed sync is not tried again).

pub(crate) mod checksum;
mod forgetting;
mod items;
mod live;
mod members;
mod merge;
mod names;
mod progress;
mod read;
mod reserve;
mod retention;
mod sets;
mod state;
mod trouble;
mod upkeep;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use southbridge_words::{
    Append, Appended, Mark, Outbox, OutboxError, Page, Recovered, Seq, ServerName, Upkeep, WallTime,
};
use tracing::error;

use crate::StoreError;
use crate::file::{Purpose, Safety, StoreFile};
use crate::place;
use crate::schema::OUTBOX_LAYOUT;
use reserve::Reserve;
pub use retention::{AtLimit, RetentionLimits};
use state::State;
use trouble::{Done, Trouble};
use upkeep::Housekeeping;
use write::Write;

/// How the file is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxOptions {
    /// How long to wait for another process to let go of the file. Default 10 s: a daemon that hands over to
    /// its successor closes the file first thing, and a slow disk may make it wait.
    pub lock_wait: Duration,
    /// How much is kept, and for how long.
    pub retention: RetentionLimits,
    /// How long the key of an item is remembered. Default one day: a caller that crashed has asked again by
    /// then.
    pub key_age_max: Duration,
    /// How many keys are remembered, the latest. Default a million, about 100 MB on the disk.
    pub keys_max: u64,
}

impl Default for OutboxOptions {
    fn default() -> Self {
        Self {
            lock_wait: Duration::from_secs(10),
            retention: RetentionLimits::default(),
            key_age_max: Duration::from_secs(24 * 3600),
            keys_max: 1_000_000,
        }
    }
}

/// An outbox in an SQLite file, which it shares with the ranks ([`RankStore::beside`](crate::RankStore::beside)).
#[derive(Debug)]
pub struct SqliteOutbox {
    file: Arc<StoreFile>,
    options: OutboxOptions,
    state: State,
    housekeeping: Housekeeping,
    reserve: Reserve,
    failed: Option<String>,
}

impl SqliteOutbox {
    /// Opens the file at `path`, or makes it.
    ///
    /// Blocks for up to `lock_wait`, and for reading where everybody stands.
    ///
    /// # Errors
    /// [`StoreError`] says what is wrong with the file and what to do. The file is not changed then; a
    /// damaged one is never begun anew.
    pub fn open(path: &Path, options: &OutboxOptions) -> Result<Self, StoreError> {
        let purpose = Purpose {
            lock_wait: options.lock_wait,
            bytes_max: options.retention.bytes_max.saturating_add(RESERVE_BYTES),
            layout_min: OUTBOX_LAYOUT,
        };
        let damaged = |error| match error {
            StoreError::Corrupt { path, source } => StoreError::DamagedOutbox { path, source },
            other => other,
        };
        let file = StoreFile::open(path, &purpose).map_err(damaged)?;
        let loaded = State::load(&file.turn().connection);
        let state = loaded.map_err(|trouble| damaged(unopened(path, trouble)))?;
        let (options, housekeeping, reserve) =
            (options.clone(), Housekeeping::default(), Reserve::beside(path));
        Ok(Self { file, options, state, housekeeping, reserve, failed: None })
    }

    /// How many accepted items lie in the file at `path`, for whoever keeps them elsewhere now. None where there is no such
    /// file, or nothing can be read in it; it is not changed.
    pub fn waiting_in(path: &Path) -> u64 {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let count = || -> rusqlite::Result<i64> {
            let connection = Connection::open_with_flags(path, flags)?;
            connection.query_row("SELECT count(*) FROM items", [], |row| row.get(0))
        };
        count().map_or(0, i64::cast_unsigned)
    }

    /// Moves a damaged file and its log out of the way, under a name that says since when: an operator's
    /// decision, because what was accepted and lies in it is then never delivered. Nobody may have it open.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be renamed.
    pub fn set_aside(path: &Path, wall: WallTime) -> Result<PathBuf, StoreError> {
        place::set_aside(path, wall)
    }

    /// Closes the file, unless the ranks in it are still in use, and says whether that went well. Dropping
    /// does the same without a word.
    ///
    /// # Errors
    /// [`StoreError`] when SQLite could not close it. Nothing that was accepted is lost by that.
    pub fn close(self) -> Result<(), StoreError> {
        self.file.close()
    }

    pub(crate) const fn file(&self) -> &Arc<StoreFile> {
        &self.file
    }

    /// Does `work` within one transaction, all of it or nothing, in memory as on the disk.
    fn transact<T>(
        &mut self,
        safety: Safety,
        work: impl FnOnce(&Connection, &mut State, &mut Housekeeping, &OutboxOptions) -> Done<(T, state::Added)>,
    ) -> Result<T, OutboxError> {
        self.usable()?;
        let Self { file, state, options, housekeeping, .. } = self;
        let last = state.last;
        let mut turn = file.turn();
        let done = turn.set_safety(safety).map_err(Trouble::from).and_then(|()| {
            let transaction = turn.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = work(&transaction, state, housekeeping, options)?;
            transaction.commit()?;
            Ok(done)
        });
        let hangs = !turn.connection.is_autocommit();
        drop(turn);
        match done {
            Ok((done, added)) => {
                state.keep(added);
                Ok(done)
            }
            Err(trouble) => {
                state.undo(last);
                Err(self.judge(trouble, hangs))
            }
        }
    }

    /// What `trouble` means; a write that may or may not be on the disk is the end.
    fn judge(&mut self, trouble: Trouble, hangs: bool) -> OutboxError {
        let mut explained = trouble.explain(self.file.path());
        if hangs {
            explained =
                OutboxError::Failed { reason: format!("{explained}, and it could not be taken back") };
        }
        if let OutboxError::Failed { reason } = &explained {
            error!(reason, "the outbox has failed: nothing durable is accepted or delivered until a restart");
            self.failed = Some(reason.clone());
        }
        explained
    }

    fn write_once(
        &mut self,
        appends: &[Append],
        marks: &[Mark],
        reserve_is_held: bool,
    ) -> Result<Vec<Appended>, OutboxError> {
        self.transact(Safety::Now, |connection, state, _, options| {
            retention::check_room(connection, &options.retention, appends, reserve_is_held)?;
            Write::new(connection, state).perform(appends, marks)
        })
    }

    fn upkeep_once(&mut self, now: WallTime) -> Result<Upkeep, OutboxError> {
        let upkept = self.transact(Safety::Later, |connection, state, housekeeping, options| {
            let upkeep = housekeeping.perform(connection, state, options, now)?;
            Ok((upkeep, state::Added::default()))
        });
        if upkept.is_err() && self.failed.is_none() {
            // What was let go of in memory is on the disk still.
            self.reload()?;
        }
        upkept
    }

    /// Gives the database the room that was kept for emptying it; says whether there was any.
    fn make_room(&mut self) -> bool {
        let spent = self.reserve.spend();
        if spent {
            // The log is written from its beginning again, if this succeeds.
            let turn = self.file.turn();
            let folded = turn.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
            if let Err(error) = folded {
                tracing::debug!(%error, "the log could not be folded into the file");
            }
        }
        spent
    }

    fn reload(&mut self) -> Result<(), OutboxError> {
        let loaded = State::load(&self.file.turn().connection);
        match loaded {
            Ok(state) => self.state = state,
            Err(trouble) => {
                let explained = trouble.explain(self.file.path());
                self.failed = Some(explained.to_string());
                return Err(explained);
            }
        }
        Ok(())
    }

    fn look<T>(&mut self, work: impl FnOnce(&Connection, &mut State) -> Done<T>) -> Result<T, OutboxError> {
        self.usable()?;
        let done = work(&self.file.turn().connection, &mut self.state);
        done.map_err(|trouble| trouble.explain(self.file.path()))
    }

    fn usable(&self) -> Result<(), OutboxError> {
        match &self.failed {
            Some(reason) => Err(OutboxError::Failed { reason: reason.clone() }),
            None => Ok(()),
        }
    }
}

impl Outbox for SqliteOutbox {
    fn recover(&mut self) -> Result<Recovered, OutboxError> {
        self.look(|connection, state| state.recovered(connection))
    }

    fn write(&mut self, appends: &[Append], marks: &[Mark]) -> Result<Vec<Appended>, OutboxError> {
        if appends.is_empty() && marks.is_empty() {
            return self.usable().map(|()| Vec::new());
        }
        let reserve_is_held = self.reserve.is_held();
        let written = self.write_once(appends, marks, reserve_is_held);
        match written {
            // What frees room must be possible on a full disk.
            Err(OutboxError::Full { .. }) if appends.is_empty() && self.make_room() => {
                self.write_once(appends, marks, false)
            }
            written => written,
        }
    }

    fn read(
        &mut self,
        destination: &ServerName,
        after: Seq,
        items_max: usize,
        bytes_max: usize,
    ) -> Result<Page, OutboxError> {
        self.look(|connection, state| {
            let Some(id) = state.names.known(connection, destination)? else { return Ok(Page::default()) };
            let after = after.0.max(state.cursors.of(id));
            read::page(connection, state, id, after, read::Bounds { items_max, bytes_max })
        })
    }

    fn upkeep(&mut self, now: WallTime) -> Result<Upkeep, OutboxError> {
        let upkept = match self.upkeep_once(now) {
            Err(OutboxError::Full { .. }) if self.make_room() => self.upkeep_once(now),
            upkept => upkept,
        };
        if upkept.is_ok() {
            self.reserve.restore();
        }
        upkept
    }
}

fn unopened(path: &Path, trouble: Trouble) -> StoreError {
    let source = match trouble {
        Trouble::Sql(source) => return StoreError::of(path, source),
        Trouble::Damaged { place, reason } => format!("{place}: {reason}"),
        Trouble::Full { reason } => reason,
    };
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    StoreError::of(path, rusqlite::Error::SqliteFailure(code, Some(source)))
}

// What progress, ranks and names may take beyond the items, so that what is full can still be emptied.
const RESERVE_BYTES: u64 = 512 * 1024 * 1024;
