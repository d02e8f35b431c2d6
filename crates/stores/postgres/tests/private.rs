//! The wire to the database: who is trusted with what, and what is said when it cannot be had.

#![allow(clippy::unwrap_used, reason = "these are tests, their helpers included")]

mod kit;

use std::error::Error;

use kit::{accept, names};
use southbridge_store_postgres::{PostgresError, PostgresOptions, PostgresOutbox, SslMode, TlsOptions};
use southbridge_testkit::certificates::{Authority, CertificateKind};
use southbridge_testkit::postgres::{PostgresServer, Tcp};
use southbridge_words::{Outbox, Secret};

const PASSWORD: &str = "pass, word = 'with' everything";

struct Room {
    server: PostgresServer,
    directory: tempfile::TempDir,
}

impl Room {
    /// A server that proves to be `name`, if it has one.
    fn of(name: Option<&str>) -> Self {
        let authority = Authority::new();
        let identity = name.map(|name| authority.pem_pair(name, CertificateKind::Good));
        let server = PostgresServer::start_on_tcp(Tcp { password: PASSWORD.to_owned(), identity });
        let directory = tempfile::tempdir().unwrap();
        authority.write_ca(&directory.path().join("ca.pem")).unwrap();
        Authority::new().write_ca(&directory.path().join("stranger.pem")).unwrap();
        Self { server, directory }
    }

    fn options(&self, mode: SslMode, ca_file: Option<&str>) -> PostgresOptions {
        let ca_file = ca_file.map(|name| self.directory.path().join(name));
        let port = self.server.port();
        PostgresOptions {
            password: Some(Secret::new(PASSWORD.as_bytes())),
            tls: TlsOptions { mode, ca_file },
            ..PostgresOptions::new(&format!("host=127.0.0.1 port={port} user=southbridge dbname=postgres"))
        }
    }

    fn open(&self, mode: SslMode, ca_file: Option<&str>) -> Result<PostgresOutbox, PostgresError> {
        PostgresOutbox::open(&self.options(mode, ca_file))
    }

    /// How many connections are encrypted, and how many are not, but for the one that asks.
    fn connections(&self) -> (u64, u64) {
        let count = |is: &str| {
            let sql = format!(
                "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                 WHERE client_addr IS NOT NULL AND {is}"
            );
            self.server.sql("public", &sql).unwrap().parse().unwrap()
        };
        (count("ssl"), count("NOT ssl"))
    }
}

/// A server whose certificate is good for its name is used, and the wire is private; with a stranger's authority, or
/// another name, it is not even told the password.
#[test]
fn a_server_proves_its_name() {
    let room = Room::of(Some("127.0.0.1"));
    let mut outbox = room.open(SslMode::VerifyFull, Some("ca.pem")).unwrap();
    outbox.recover().unwrap();
    accept(&mut outbox, "private", &names(3));
    assert_eq!(room.connections(), (1, 0));
    outbox.close().unwrap();
    drop(outbox);
    let refused = room.open(SslMode::VerifyFull, Some("stranger.pem")).unwrap_err();
    assert!(matches!(refused, PostgresError::Tls { .. }), "{refused:?}");
    let named = Room::of(Some("other.example"));
    let refused = named.open(SslMode::VerifyFull, Some("ca.pem")).unwrap_err();
    assert!(matches!(refused, PostgresError::Tls { .. }), "{refused:?}");
    assert!(!refused.is_passing());
    // Who asks for encryption alone gets that.
    for mode in [SslMode::Require, SslMode::Prefer] {
        let outbox = named.open(mode, None).unwrap();
        assert_eq!(named.connections(), (1, 0), "{mode:?}");
        drop(outbox);
    }
    let outbox = named.open(SslMode::Disable, None).unwrap();
    assert_eq!(named.connections().1, 1);
    drop(outbox);
}

/// A server without TLS: what asks for it says so, `prefer` goes on without.
#[test]
fn a_server_without_tls_is_told_apart() {
    let room = Room::of(None);
    for mode in [SslMode::VerifyFull, SslMode::Require] {
        let refused = room.open(mode, (mode == SslMode::VerifyFull).then_some("ca.pem")).unwrap_err();
        let said = refused.to_string();
        assert!(said.ends_with("at 127.0.0.1: server does not support TLS"), "{said}");
    }
    room.open(SslMode::Prefer, None).unwrap();
}

/// Each mistake has its own words, and none has the password in it.
#[test]
fn what_is_wrong_is_said_without_the_password() {
    let room = Room::of(None);
    let good = room.options(SslMode::Disable, None);
    let wrong = PostgresOptions { password: Some(Secret::new(*b"hunter2")), ..good.clone() };
    let none = PostgresOptions { password: None, ..good.clone() };
    let absent =
        PostgresOptions { connection: good.connection.replace("dbname=postgres", "dbname=none"), ..good };
    let told = |options: &PostgresOptions| {
        let error = PostgresOutbox::open(options).unwrap_err();
        let mut said = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            said = format!("{said}: {cause}");
            source = cause.source();
        }
        assert!(!said.contains("hunter2") && !said.contains("everything"), "{said}");
        (error, said)
    };
    let (error, said) = told(&wrong);
    assert!(matches!(error, PostgresError::Denied { .. }) && said.contains("user \"southbridge\""), "{said}");
    let (error, said) = told(&none);
    assert!(matches!(error, PostgresError::Denied { .. }), "{said}");
    let (error, said) = told(&absent);
    assert!(matches!(error, PostgresError::NoDatabase { .. }) && said.contains("createdb none"), "{said}");
    let missing = PostgresOptions {
        tls: TlsOptions { mode: SslMode::VerifyFull, ca_file: Some("/nowhere/ca.pem".into()) },
        ..wrong
    };
    let (error, said) = told(&missing);
    assert!(matches!(error, PostgresError::Authorities { .. }) && said.contains("/nowhere/ca.pem"), "{said}");
}
