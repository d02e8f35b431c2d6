//! A PostgreSQL server of the test's own, and what the tests share.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod proxy;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use rustix::process::{Pid, Signal, geteuid, kill_process};
use southbridge_store_postgres::{PostgresOptions, PostgresOutbox};
use southbridge_words::{
    Append, Appended, ItemKind, Mark, OpenTransaction, Outbox, Page, Partition, Recovered, Seq, ServerName,
    WallTime,
};
use tempfile::TempDir;

pub const NOON: WallTime = WallTime::from_unix_millis(1_800_000_000_123);

/// A server that listens on a unix socket in a directory of its own, and is stopped when it is dropped.
pub struct Server {
    directory: TempDir,
    process: Child,
}

impl Server {
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // The server refuses to be run by root.
        if geteuid().is_root() {
            chown(directory.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let made = as_somebody("initdb")
            .args([
                "--username=southbridge",
                "--auth=trust",
                "--encoding=UTF8",
                "--no-locale",
                "--no-sync",
                "-D",
            ])
            .arg(directory.path().join("data"))
            .current_dir(directory.path())
            .output()
            .expect("these tests need initdb and postgres, of PostgreSQL 13 or later, in PATH");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let process = run(directory.path());
        Self { directory, process }
    }

    /// Kills all of it at once, as a power cut does, and starts it anew.
    pub fn crash_and_restart(&mut self) {
        self.signal(Signal::QUIT);
        self.process = run(self.directory.path());
    }

    pub fn options(&self) -> PostgresOptions {
        let connection = format!("host={} user=southbridge dbname=postgres", self.directory.path().display());
        PostgresOptions { age_max: None, ..PostgresOptions::new(&connection) }
    }

    /// Where its socket lies.
    pub fn directory(&self) -> &Path {
        self.directory.path()
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
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let config: tokio_postgres::Config = self.options().connection.parse().unwrap();
            let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            client.batch_execute("SET search_path TO southbridge").await.unwrap();
            let messages = client.simple_query(sql).await.unwrap();
            messages.iter().find_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            })
        })
    }

    /// The lease of a process ends, as it does when nothing is heard of it for a while.
    pub fn expire(&self, process: i64) {
        self.sql(&format!("UPDATE processes SET expires_at = now() - interval '1 s' WHERE id = {process}"));
    }

    fn signal(&mut self, signal: Signal) {
        let pid = Pid::from_child(&self.process);
        kill_process(pid, signal).unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal(Signal::INT);
    }
}

fn run(directory: &Path) -> Child {
    let mut process = as_somebody("postgres")
        .arg("-D")
        .arg(directory.join("data"))
        .arg("-k")
        .arg(directory)
        .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "full_page_writes=off"])
        .current_dir(directory)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let said: Vec<String> =
        lines.by_ref().map_while(Result::ok).take_while(|it| !it.contains("ready to accept")).collect();
    assert!(process.try_wait().unwrap().is_none(), "{said:#?}");
    // What it says later must be read, or it would wait for that.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    process
}

fn as_somebody(program: &str) -> Command {
    let mut command = Command::new(program);
    if geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
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

/// Long enough for anything here.
pub const LONG: Duration = Duration::from_secs(60);

const NOBODY: u32 = 65534;
