//! Where the outbox of the bus lies, and how it is opened there: a file of one's own, or a database that is shared.

use std::fmt;
use std::fs;
use std::sync::Arc;

use southbridge::bus::BusConfig;
use southbridge_kernel::http::explain;
use southbridge_store_postgres::{PostgresError, PostgresOutbox};
use southbridge_store_sqlite::SqliteOutbox;
use southbridge_words::Outbox;
use tokio::sync::Notify;
use tracing::warn;

use crate::config::Config;
use crate::config::sections::outbox::SharedOutbox;
use crate::config::sections::storage::Storage;

/// Where the outbox lies.
#[derive(Clone, Debug)]
pub enum OutboxPlace {
    /// In the file that the ranks lie in.
    File(Storage),
    /// In a database; the ranks lie in a file all the same.
    Database(Box<SharedOutbox>, Storage),
}

impl OutboxPlace {
    /// What the configuration says.
    pub fn of(config: &Config) -> Self {
        match &config.outbox {
            Some(shared) => Self::Database(Box::new(shared.clone()), config.storage.clone()),
            None => Self::File(config.storage.clone()),
        }
    }

    /// The key that names it.
    pub const fn key(&self) -> &'static str {
        match self {
            Self::File(_) => "storage.path",
            Self::Database(..) => "outbox.postgres",
        }
    }

    /// Its kind, for the metrics page.
    pub const fn store(&self) -> &'static str {
        match self {
            Self::File(_) => "sqlite",
            Self::Database(..) => "postgres",
        }
    }
}

impl fmt::Display for OutboxPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(storage) => write!(f, "{}", storage.path.display()),
            Self::Database(shared, _) => write!(f, "{shared}"),
        }
    }
}

/// Why an outbox is not open.
#[derive(Debug)]
pub struct Unopened {
    /// The key, what is wrong, and what to do.
    pub text: String,
    /// Whether it may well be different in a while, with the same configuration.
    pub is_passing: bool,
}

impl Unopened {
    /// The configuration, or what it names, must be changed.
    pub const fn for_good(text: String) -> Self {
        Self { text, is_passing: false }
    }
}

/// An outbox that is open, and has nobody yet who uses it.
#[derive(Debug)]
pub enum OpenOutbox {
    /// In a file.
    File(Box<SqliteOutbox>),
    /// In a database.
    Database(Box<PostgresOutbox>),
}

impl OpenOutbox {
    /// Opens the outbox of the bus; none when there is no bus. Waits while a predecessor lets go of a file.
    ///
    /// # Errors
    /// [`Unopened`]. A damaged file is left as it is.
    pub async fn of(config: &Config) -> Result<Option<Self>, Unopened> {
        if config.bus.is_off() {
            return Ok(None);
        }
        Self::open(&OutboxPlace::of(config)).await.map(Some)
    }

    /// Opens the outbox at `place`.
    ///
    /// # Errors
    /// As [`OpenOutbox::of`].
    pub async fn open(place: &OutboxPlace) -> Result<Self, Unopened> {
        match place {
            OutboxPlace::File(storage) => open_file(storage),
            OutboxPlace::Database(shared, storage) => {
                warn_of_what_waits_in(storage);
                open_database(shared).await
            }
        }
    }

    /// The outbox, if it lies in a file: the ranks lie beside it.
    pub fn in_file(&self) -> Option<&SqliteOutbox> {
        match self {
            Self::File(outbox) => Some(outbox),
            Self::Database(_) => None,
        }
    }

    /// The outbox for a bus, whose `config` learns what it must know of it.
    ///
    /// # Errors
    /// [`Unopened`] when there is no thread to be had.
    pub fn for_bus(self, place: &OutboxPlace, config: &mut BusConfig) -> Result<Box<dyn Outbox>, Unopened> {
        let mut outbox = match self {
            Self::File(outbox) => return Ok(outbox),
            Self::Database(outbox) => outbox,
        };
        if let OutboxPlace::Database(shared, _) = place {
            config.upkeep_every = shared.upkeep_every();
        }
        config.limits.outbox_shared = true;
        let news = Arc::new(Notify::new());
        config.news = Some(Arc::clone(&news));
        outbox.listen(move || news.notify_one()).map_err(|error| unopened(&error))?;
        Ok(outbox)
    }
}

fn open_file(storage: &Storage) -> Result<OpenOutbox, Unopened> {
    if !storage.given
        && let Some(dir) = storage.path.parent()
    {
        // Opening says what is wrong where this fails.
        let _ = fs::create_dir_all(dir);
    }
    let opened = SqliteOutbox::open(&storage.path, &storage.outbox);
    let outbox = opened.map_err(|error| Unopened::for_good(format!("storage.path: {}", explain(&error))))?;
    Ok(OpenOutbox::File(Box::new(outbox)))
}

async fn open_database(shared: &SharedOutbox) -> Result<OpenOutbox, Unopened> {
    let options = shared.options.clone();
    let opened = tokio::task::spawn_blocking(move || PostgresOutbox::open(&options)).await;
    let outbox = opened.expect("opening a database does not panic").map_err(|error| unopened(&error))?;
    Ok(OpenOutbox::Database(Box::new(outbox)))
}

fn unopened(error: &PostgresError) -> Unopened {
    Unopened { text: format!("outbox.postgres: {}", explain(error)), is_passing: error.is_passing() }
}

/// Whoever turns to a database leaves nothing behind unknowingly.
fn warn_of_what_waits_in(storage: &Storage) {
    let items = SqliteOutbox::waiting_in(&storage.path);
    if items > 0 {
        warn!(
            items,
            path = %storage.path.display(),
            "accepted messages lie in the file and are not delivered from there while [outbox] names a database: \
             serve once without it until they are gone"
        );
    }
}
