//! The way to the database: where it is, who we are there, and how private the wire is.

use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, Connection, Socket};

use crate::tls::{Encrypted, MakeTls};
use crate::{PostgresError, PostgresOptions, SslMode, TlsOptions};

/// Knows how to connect.
#[derive(Clone)]
pub(crate) struct Way {
    config: Config,
    tls: MakeTls,
    /// The schema of our tables, and the channel on which the others are told of news.
    pub(crate) schema: String,
    /// How long a call may take.
    pub(crate) call_max: Duration,
}

/// A connection that is to be driven.
pub(crate) type Wire = Connection<Socket, Encrypted<Socket>>;

impl Way {
    pub(crate) fn new(options: &PostgresOptions) -> Result<Self, PostgresError> {
        let mut config = Config::from_str(&options.connection)
            .map_err(|source| PostgresError::Options { source: Box::new(source) })?;
        if config.get_hosts().is_empty() {
            return Err(PostgresError::NoHost);
        }
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let schema = &options.schema;
        if schema.is_empty() || schema.len() > NAME_BYTES_MAX || !schema.bytes().all(is_name) {
            return Err(PostgresError::Schema { schema: schema.clone() });
        }
        if let Some(password) = &options.password {
            config.password(password.expose());
        }
        let is_remote = config.get_hosts().iter().any(|host| matches!(host, Host::Tcp(_)));
        let in_clear = TlsOptions { mode: SslMode::Disable, ca_file: None };
        let tls = if is_remote { &options.tls } else { &in_clear };
        config.ssl_mode(tls.mode.asked());
        // Where a firewall forgets a connection without a word, that is noticed.
        config.keepalives_idle(KEEPALIVE).keepalives_interval(KEEPALIVE).keepalives_retries(3);
        if config.get_application_name().is_none() {
            config.application_name("southbridge");
        }
        Ok(Self { config, tls: MakeTls::new(tls)?, schema: schema.clone(), call_max: options.call_max })
    }

    /// Connects; whoever calls says for how long that may be tried.
    pub(crate) async fn connect(&self) -> Result<(Client, Wire), PostgresError> {
        let connected = self.config.connect(self.tls.clone()).await;
        connected.map_err(|error| PostgresError::of(error, self))
    }

    /// Where it leads to, without anything that is secret.
    pub(crate) fn place(&self) -> String {
        let hosts: Vec<String> = self.config.get_hosts().iter().map(shown).collect();
        hosts.join(", ")
    }

    /// Whether the connection string has a password in it.
    pub(crate) fn has_password(&self) -> bool {
        self.config.get_password().is_some()
    }

    /// As whom we connect.
    pub(crate) fn user(&self) -> &str {
        self.config.get_user().unwrap_or("the user of this process")
    }

    /// Which database.
    pub(crate) fn database(&self) -> &str {
        self.config.get_dbname().unwrap_or_else(|| self.user())
    }
}

fn shown(host: &Host) -> String {
    match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    }
}

const KEEPALIVE: Duration = Duration::from_secs(20);
// PostgreSQL cuts longer names.
const NAME_BYTES_MAX: usize = 63;
