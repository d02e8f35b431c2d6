//! `[outbox]`: the database in which several Southbridges keep what the bus has accepted.

use std::fmt;
use std::time::Duration;

use southbridge_store_postgres::{PostgresError, PostgresOptions, SslMode, TlsOptions, Whereabouts};
use southbridge_store_sqlite::OutboxOptions;
use southbridge_words::Secret;

use crate::config::key::{Key, Kind, MINUTE, SECOND, Section, duration, key, optional};
use crate::config::reader::Reader;

/// An outbox in PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedOutbox {
    /// How the database is used.
    pub options: PostgresOptions,
    /// Where it is, without anything that is secret.
    pub whereabouts: Whereabouts,
}

impl SharedOutbox {
    /// Reads the table; `password` is what the file or the environment has, `outbox` what `[storage]` says of any outbox.
    pub(in crate::config) fn read(
        reader: &Reader<'_>,
        password: Option<Secret>,
        outbox: &OutboxOptions,
    ) -> Option<Self> {
        let (lease, call_max) = (reader.duration("lease"), reader.duration("call_max"));
        let mode = read_mode(reader.choice("sslmode"));
        let ca_file = reader.path("ca_file");
        let schema = reader.text("schema").unwrap_or_else(|| "southbridge".to_owned());
        let connection = reader.text("postgres")?;
        if let Some((what, key)) = misplaced(&connection) {
            reader.refuse("postgres", &format!("has {what} in it; take it out and set {key}"));
            return None;
        }
        if ca_file.is_some() && mode != SslMode::VerifyFull {
            reader.refuse(
                "ca_file",
                "is of use with sslmode = \"verify-full\" only: nothing else asks who the server is",
            );
        }
        let options = PostgresOptions {
            password,
            tls: TlsOptions { mode, ca_file },
            schema,
            lease,
            call_max,
            age_max: outbox.retention.age_max,
            key_age_max: outbox.key_age_max,
            ..PostgresOptions::new(&connection)
        };
        let checked = options.check().map_err(|error| refuse(reader, &error)).ok()?;
        if checked.has_password && options.password.is_none() {
            reader.refuse("postgres", "has a password in it; take it out and set password_file");
        }
        Some(Self { options, whereabouts: checked })
    }

    /// How often the outbox looks after itself: often enough that a lease outlives a few failures.
    pub fn upkeep_every(&self) -> Duration {
        (self.options.lease / 6).min(UPKEEP_EVERY_MAX)
    }
}

impl fmt::Display for SharedOutbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Whereabouts { place, user, database, .. } = &self.whereabouts;
        write!(
            f,
            "PostgreSQL at {place}, database {database:?} as {user:?}, schema {:?}",
            self.options.schema
        )
    }
}

fn read_mode(word: &str) -> SslMode {
    match word {
        "disable" => SslMode::Disable,
        "prefer" => SslMode::Prefer,
        "require" => SslMode::Require,
        _ => SslMode::VerifyFull,
    }
}

/// What stands in the connection string although it has a key of its own.
fn misplaced(connection: &str) -> Option<(&'static str, &'static str)> {
    let has = |word: &str| connection.contains(word);
    match () {
        () if has("password=") => Some(("a password", "password_file")),
        () if has("sslmode=") => Some(("sslmode", "outbox.sslmode")),
        () if has("sslrootcert=") => Some(("sslrootcert", "outbox.ca_file")),
        () => None,
    }
}

fn refuse(reader: &Reader<'_>, error: &PostgresError) {
    let key = match error {
        PostgresError::Schema { .. } => "schema",
        PostgresError::Authorities { .. } | PostgresError::NoAuthorities => "ca_file",
        _ => "postgres",
    };
    let why = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    reader.refuse(key, &format!("{error}{why}"));
}

const UPKEEP_EVERY_MAX: Duration = Duration::from_secs(5);

/// The keys of `[outbox]`.
pub const SECTION: Section = Section {
    name: "outbox",
    about: "A PostgreSQL database in which several Southbridges of one homeserver keep what their buses have accepted. They \
            split the destinations among them, and when one dies the others take over. Without this table the outbox lies \
            in the file of `[storage]`, for one Southbridge alone.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    optional(
        "postgres",
        Kind::Text,
        "the file of `[storage]`",
        "Where the database is, without the password: `postgresql://southbridge@db.example.org/southbridge`, or \
         `host=/run/postgresql user=southbridge dbname=southbridge` for a unix socket. Connect to the server itself (version \
         13 or later) or to a pooler that keeps sessions: two connections are used, and locks, prepared statements and \
         notifications with them.",
    ),
    optional(
        "password_file",
        Kind::Path,
        "the environment's `SOUTHBRIDGE_POSTGRES_PASSWORD`, or no password",
        "A file with the password. May be readable by its owner and group only.",
    ),
    optional(
        "schema",
        Kind::Text,
        "`southbridge`",
        "The schema for our tables, which is made if need be and used for nothing else. Southbridges with the same one share \
         their work, and so must speak for the same homeserver.",
    ),
    key(
        "sslmode",
        Kind::Choice(&["disable", "prefer", "require", "verify-full"]),
        "\"verify-full\"",
        "How private the connection is, in PostgreSQL's words. `verify-full`: encrypted, and the server proves its name. \
         `require`: encrypted, whoever the server is. `prefer`: encrypted if the server can. A unix socket is used as it is.",
    ),
    optional(
        "ca_file",
        Kind::Path,
        "the system's authorities",
        "The authorities that may vouch for the server (PEM), for `verify-full`.",
    ),
    key(
        "lease",
        duration(3 * SECOND, 10 * MINUTE),
        "\"30s\"",
        "How long a Southbridge that is silent keeps its share of the destinations: what waits for them waits that much longer \
         when it dies. Long enough for a restart of the database. The same for all that share.",
    ),
    key(
        "call_max",
        duration(SECOND, 5 * MINUTE),
        "\"10s\"",
        "How long one call of the database may take, after which it counts as out of reach: submissions are then refused, and \
         tried again later.",
    ),
];
