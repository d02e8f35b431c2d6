//! What can go wrong with the database, and what it means.

use std::path::PathBuf;
use std::time::Duration;

use southbridge_words::OutboxError;
use tokio_postgres::error::SqlState;

use crate::way::Way;

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
    /// It does not say where the server is.
    #[error(
        "the connection string of the outbox names no host: give `host`, a name or the directory of a unix socket"
    )]
    NoHost,
    /// The name of the schema has characters that a name of ours does not have.
    #[error("{schema:?} is no name for a schema: take up to 63 letters, digits and underscores")]
    Schema {
        /// The name.
        schema: String,
    },
    /// There is no such file of authorities, or it is another kind of file.
    #[error("the certificates in {path} cannot be used: {reason}")]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system trusts nobody.
    #[error(
        "the system has no root certificates: install them, or name a file with the database's authority"
    )]
    NoAuthorities,
    /// Nobody answers there.
    #[error("the database of the outbox cannot be reached at {place}")]
    Unreachable {
        /// Where.
        place: String,
        /// What the system says.
        source: tokio_postgres::Error,
    },
    /// The wire cannot be made private in the way that was asked for.
    #[error("no private connection to the database of the outbox at {place}: {reason}")]
    Tls {
        /// Where.
        place: String,
        /// What failed.
        reason: String,
    },
    /// The database does not believe that it is us.
    #[error("the database of the outbox refuses user {user:?}: {reason}; check the name and the password")]
    Denied {
        /// As whom we came.
        user: String,
        /// What it said.
        reason: String,
    },
    /// There is no such database.
    #[error("the server of the outbox has no database {name:?}: make it with `createdb {name}`")]
    NoDatabase {
        /// Its name.
        name: String,
    },
    /// The database says no.
    #[error("the database of the outbox cannot be used: {}", .source.as_db_error().map_or("no answer", |it| it.message()))]
    Database {
        /// What it said.
        #[from]
        source: tokio_postgres::Error,
    },
    /// It did not answer in time.
    #[error("the database of the outbox at {place} did not answer within {waited:?}")]
    Silent {
        /// Where.
        place: String,
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

impl PostgresError {
    /// What it means that no connection came of it.
    pub(crate) fn of(source: tokio_postgres::Error, way: &Way) -> Self {
        let place = way.place();
        if let Some(said) = source.as_db_error() {
            let reason = said.message().to_owned();
            return match said.code().code() {
                // Class 28 is about who somebody is.
                code if code.starts_with("28") => Self::Denied { user: way.user().to_owned(), reason },
                code if code == SqlState::INVALID_CATALOG_NAME.code() => {
                    Self::NoDatabase { name: way.database().to_owned() }
                }
                _ => Self::Database { source },
            };
        }
        match source.to_string() {
            said if said.contains("TLS handshake") => Self::Tls { place, reason: reason_of(&source) },
            said if said.contains("authentication error") || reason_of(&source) == "password missing" => {
                Self::Denied { user: way.user().to_owned(), reason: reason_of(&source) }
            }
            _ => Self::Unreachable { place, source },
        }
    }

    /// Whether the same may well succeed later, with nothing changed on our side.
    pub const fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::Database { .. } | Self::Silent { .. } | Self::System { .. }
        )
    }
}

/// The innermost of what was said; the words around it are ours anyway.
fn reason_of(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => reason_of(source),
        None => error.to_string(),
    }
}

/// What went wrong during a call.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The database says so, or the connection does.
    Database(tokio_postgres::Error),
    /// The database did not answer in time.
    Silent,
    /// There is no connection to be had.
    Unreachable(Box<PostgresError>),
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
            Self::Silent | Self::Unreachable(_) | Self::Unknown => true,
            Self::Damaged { .. } | Self::Fenced { .. } | Self::Expelled => false,
        }
    }

    /// What it means for who uses the outbox.
    pub(crate) fn explain(&self) -> OutboxError {
        match self {
            Self::Database(error) => explain(error),
            Self::Silent => OutboxError::Unavailable { reason: "the database does not answer".to_owned() },
            Self::Unreachable(error) => OutboxError::Unavailable { reason: error.to_string() },
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
