//! A PostgreSQL server of the test's own, and what the tests share.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod proxy;

use std::path::Path;

use bytes::Bytes;
use southbridge_store_postgres::{PostgresOptions, PostgresOutbox};
use southbridge_testkit::postgres::PostgresServer;
use southbridge_words::{
    Append, Appended, ItemKind, Mark, OpenTransaction, Outbox, Page, Partition, Recovered, Seq, ServerName,
    WallTime,
};

pub const NOON: WallTime = WallTime::from_unix_millis(1_800_000_000_123);

/// A server on a unix socket.
pub struct Server(PostgresServer);

impl Server {
    pub fn start() -> Self {
        Self(PostgresServer::start())
    }

    pub fn crash_and_restart(&mut self) {
        self.0.crash_and_restart();
    }

    pub fn options(&self) -> PostgresOptions {
        PostgresOptions { age_max: None, ..PostgresOptions::new(&self.0.connection()) }
    }

    /// Where its socket lies.
    pub fn directory(&self) -> &Path {
        self.0.directory()
    }

    pub fn open(&self) -> PostgresOutbox {
        PostgresOutbox::open(&self.options()).unwrap()
    }

    /// A Southbridge that has started: what it found, and its outbox.
    pub fn start_one(&self) -> (PostgresOutbox, Recovered) {
        let mut outbox = self.open();
        let recovered = outbox.recover().unwrap();
        (outbox, recovered)
    }

    /// Runs SQL beside the outbox; the first column of the first row, if there is one.
    pub fn sql(&self, sql: &str) -> Option<String> {
        self.0.sql("southbridge", sql)
    }

    pub fn count(&self, table: &str) -> u64 {
        self.sql(&format!("SELECT count(*) FROM {table}")).unwrap().parse().unwrap()
    }

    /// The lease of a process ends, as it does when nothing is heard of it for a while.
    pub fn expire(&self, process: i64) {
        self.sql(&format!("UPDATE processes SET expires_at = now() - interval '1 s' WHERE id = {process}"));
    }
}

pub fn name(text: &str) -> ServerName {
    ServerName::parse(text).unwrap()
}

/// `count` names, in many partitions.
pub fn names(count: usize) -> Vec<ServerName> {
    (0..count).map(|number| name(&format!("s{number}.example.org"))).collect()
}

pub fn append(text: impl Into<Bytes>, destinations: &[ServerName]) -> Append {
    Append {
        kind: ItemKind::Pdu,
        bytes: text.into(),
        destinations: destinations.into(),
        accepted_at: NOON,
        key: None,
    }
}

pub fn accept(outbox: &mut PostgresOutbox, text: &str, destinations: &[ServerName]) -> Seq {
    match outbox.write(&[append(text.to_owned(), destinations)], &[]).unwrap()[..] {
        [Appended::New(seq)] => seq,
        ref other => panic!("{other:?}"),
    }
}

pub fn begun(destination: &ServerName, id: &str, upto: Seq) -> Mark {
    Mark::Begun { destination: destination.clone(), transaction: transaction(id, upto) }
}

pub fn delivered(destination: &ServerName, upto: Seq) -> Mark {
    Mark::Delivered { destination: destination.clone(), upto }
}

pub fn transaction(id: &str, upto: Seq) -> OpenTransaction {
    OpenTransaction {
        id: id.into(),
        origin_server_ts: NOON,
        upto,
        volatile_edus: Bytes::from_static(b"{\"edu_type\":\"m.typing\"}"),
        body_hash: u64::MAX - 5,
    }
}

pub fn read(outbox: &mut PostgresOutbox, destination: &ServerName, after: Seq) -> Page {
    outbox.read(destination, after, 1000, usize::MAX).unwrap()
}

pub fn texts(page: &Page) -> Vec<&str> {
    page.items.iter().map(|item| str::from_utf8(&item.bytes).unwrap()).collect()
}

/// One of `names` that `recovered` makes ours, and one that it does not.
pub fn mine_and_theirs(recovered: &Recovered, names: &[ServerName]) -> (ServerName, ServerName) {
    let mine = names.iter().find(|name| recovered.owned.contains(Partition::of(name))).unwrap();
    let theirs = names.iter().find(|name| !recovered.owned.contains(Partition::of(name))).unwrap();
    (mine.clone(), theirs.clone())
}
