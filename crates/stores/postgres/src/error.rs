//! What can go wrong with the database, and what it means.

use std::time::Duration;

use southbridge_words::OutboxError;
use tokio_postgres::error::SqlState;

/// Why the outbox could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresError {
    /// The connection string cannot be read.
    #[error("the connection string of the outbox cannot be read")]
    Options {
        /// What is wrong with it.
        source: Box<tokio_postgres::Error>,
    },
    /// The name of the schema has characters that a name of ours does not have.
    #[error("{schema:?} is no name for a schema: take letters, digits and underscores")]
    Schema {
        /// The name.
        schema: String,
    },
    /// The database cannot be reached, or says no.
    #[error("the database of the outbox cannot be used: {}", .source.as_db_error().map_or("no answer", |it| it.message()))]
    Database {
        /// What it said.
        #[from]
        source: tokio_postgres::Error,
    },
    /// It did not answer in time.
    #[error("the database of the outbox did not answer within {waited:?}")]
    Silent {
        /// How long it was waited for.
        waited: Duration,
    },
    /// The tables were made by a newer Southbridge.
    #[error(
        "schema {schema:?} has layout {layout}, this program knows up to {layout_max}: run the newer one"
    )]
    TooNew {
        /// The schema.
        schema: String,
        /// Its layout.
        layout: i32,
        /// The newest layout known here.
        layout_max: i32,
    },
    /// No runtime for the connection.
    #[error("the system has no event queue for the connection to the outbox")]
    System {
        /// What it said.
        #[from]
        source: std::io::Error,
    },
}

/// What went wrong during a call.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The database says so, or the connection does.
    Database(tokio_postgres::Error),
    /// The database did not answer in time.
    Silent,
    /// The connection broke while a commit was under way.
    Unknown,
    /// What is read is not what was written.
    Damaged { place: String, reason: &'static str },
    /// Another process serves these now.
    Fenced { partitions: u32 },
    /// This process was given up for dead, and has no row any more.
    Expelled,
}

pub(crate) type Done<T> = Result<T, Trouble>;

impl Trouble {
    pub(crate) fn damaged(place: impl Into<String>, reason: &'static str) -> Self {
        Self::Damaged { place: place.into(), reason }
    }

    /// Whether the connection is of no use any more.
    pub(crate) fn is_of_the_connection(&self) -> bool {
        match self {
            Self::Database(error) => error.as_db_error().is_none_or(|error| {
                // Class 57 is an administrator's doing: shut down, crashed, terminated.
                error.code().code().starts_with("57P")
                    || *error.code() == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
            }),
            Self::Silent | Self::Unknown => true,
            Self::Damaged { .. } | Self::Fenced { .. } | Self::Expelled => false,
        }
    }

    /// What it means for who uses the outbox.
    pub(crate) fn explain(&self) -> OutboxError {
        match self {
            Self::Database(error) => explain(error),
            Self::Silent => OutboxError::Unavailable { reason: "the database does not answer".to_owned() },
            Self::Unknown => OutboxError::Failed {
                reason: "the connection broke during a commit, and its outcome cannot be found out"
                    .to_owned(),
            },
            Self::Damaged { place, reason } => {
                OutboxError::Damaged { place: place.clone(), reason: (*reason).to_owned() }
            }
            Self::Fenced { partitions } => OutboxError::Fenced { partitions: *partitions },
            Self::Expelled => OutboxError::Unavailable {
                reason: "the others took this process for dead; it comes back with the next upkeep"
                    .to_owned(),
            },
        }
    }
}

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error)
    }
}

fn explain(error: &tokio_postgres::Error) -> OutboxError {
    let Some(said) = error.as_db_error() else {
        return OutboxError::Unavailable { reason: format!("no connection to the database: {error}") };
    };
    let reason = format!("{} ({})", said.message(), said.code().code());
    match said.code() {
        code if *code == SqlState::DISK_FULL => OutboxError::Full { reason },
        code if *code == SqlState::DATA_CORRUPTED || *code == SqlState::INDEX_CORRUPTED => {
            OutboxError::Damaged { place: "the database".to_owned(), reason }
        }
        _ => OutboxError::Unavailable { reason },
    }
}
