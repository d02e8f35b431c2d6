//! The open file: found, locked, checked, brought to the newest layout. Whoever uses it takes turns.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::StoreError;
use crate::place::{self, Owner};
use crate::schema::{APPLICATION_ID, LAYOUT_MAX, OUTBOX_LAYOUT, migrate};

/// One file of ours, locked by us. Its users share one connection, because the lock keeps out every other.
#[derive(Debug)]
pub(crate) struct StoreFile {
    path: PathBuf,
    layout: u32,
    turn: Mutex<Turn>,
}

/// The connection, while it is somebody's turn.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) connection: Connection,
    safety: Safety,
}

/// When a commit is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Safety {
    /// When it is done.
    Now,
    /// Some time later, in order: a power cut costs the last ones.
    Later,
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Purpose {
    /// How long another process may take to let go of it.
    pub(crate) lock_wait: Duration,
    /// Its largest size in bytes.
    pub(crate) bytes_max: u64,
    /// The layout it must have at least.
    pub(crate) layout_min: u32,
}

impl StoreFile {
    /// Opens the file, or makes it. Whether a damaged one is set aside is the caller's decision.
    pub(crate) fn open(path: &Path, purpose: &Purpose) -> Result<Arc<Self>, StoreError> {
        place::create(path)?;
        if place::owner(path)? == Owner::Something {
            return Err(StoreError::NotADatabase { path: path.to_owned() });
        }
        let of = |source| StoreError::of(path, source);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags).map_err(of)?;
        if connection.is_readonly("main").map_err(of)? {
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY);
            return Err(of(rusqlite::Error::SqliteFailure(code, None)));
        }
        lock(&connection, path, purpose.lock_wait)?;
        let layout = layout(&connection, path)?;
        prepare(&mut connection, layout, purpose).map_err(of)?;
        let layout = layout.max(purpose.layout_min);
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        let turn = Mutex::new(Turn { connection, safety: Safety::Later });
        Ok(Arc::new(Self { path: path.to_owned(), layout, turn }))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether an outbox lies or lay in it.
    pub(crate) const fn has_outbox(&self) -> bool {
        self.layout >= OUTBOX_LAYOUT
    }

    /// Waits for its turn.
    pub(crate) fn turn(&self) -> MutexGuard<'_, Turn> {
        // A transaction that was cut short is rolled back when it is dropped.
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the file, which folds its log into it and lets go of the lock, unless somebody else uses it.
    pub(crate) fn close(self: Arc<Self>) -> Result<(), StoreError> {
        let Some(Self { path, turn, .. }) = Arc::into_inner(self) else { return Ok(()) };
        let turn = turn.into_inner().unwrap_or_else(PoisonError::into_inner);
        turn.connection.close().map_err(|(_, source)| StoreError::of(&path, source))
    }
}

impl Turn {
    /// Says how soon the next commits must be on the disk.
    pub(crate) fn set_safety(&mut self, safety: Safety) -> rusqlite::Result<()> {
        if self.safety != safety {
            let level = match safety {
                Safety::Now => "FULL",
                Safety::Later => "NORMAL",
            };
            self.connection.pragma_update(None, "synchronous", level)?;
            self.safety = safety;
        }
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

fn prepare(connection: &mut Connection, layout: u32, purpose: &Purpose) -> rusqlite::Result<()> {
    check(connection, layout)?;
    if layout < purpose.layout_min {
        // While there is no log, so that the mark of ownership and the layout are in the file itself.
        connection.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(()))?;
    }
    // Or the planner looks at the values that are bound, and plans anew for each of them: half of what a page costs.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    migrate(connection, layout, purpose.layout_min)?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update_and_check(None, "journal_size_limit", LOG_BYTES_MAX, |_| Ok(()))?;
    let page_bytes: u64 =
        connection.pragma_query_value(None, "page_size", |row| row.get::<_, u32>(0))?.into();
    let pages_max = (purpose.bytes_max / page_bytes).clamp(1, i32::MAX as u64) as u32;
    connection.pragma_update_and_check(None, "max_page_count", pages_max, |_| Ok(()))
}

/// Finds damage now rather than in the middle of the night.
fn check(connection: &Connection, layout: u32) -> rusqlite::Result<()> {
    if layout < OUTBOX_LAYOUT {
        return ask(connection, "PRAGMA quick_check(1)");
    }
    // Names are looked up in an index, so that is compared with its table. Items and sets may be gigabytes, and
    // have checksums of their own. Ranks are looked at by who uses them: they are not worth a refusal.
    ask(connection, "PRAGMA integrity_check(destinations)")?;
    ["recipients", "progress"]
        .iter()
        .try_for_each(|table| ask(connection, &format!("PRAGMA quick_check({table})")))
}

/// Runs one of SQLite's checks.
pub(crate) fn ask(connection: &Connection, check: &str) -> rusqlite::Result<()> {
    let found: String = connection.query_row(check, [], |row| row.get(0))?;
    if found == "ok" {
        return Ok(());
    }
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    Err(rusqlite::Error::SqliteFailure(code, Some(found)))
}

const LOG_BYTES_MAX: u32 = 4 * 1024 * 1024;
const WAIT_MAX: Duration = Duration::from_secs(3600);
// All that ranks and outbox ever prepare.
const STATEMENTS_MAX: usize = 64;
