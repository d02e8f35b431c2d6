//! A PostgreSQL server of a test's own.
//!
//! It needs `initdb` and `postgres`, of PostgreSQL 13 or later, in `PATH`; `cargo xtask test` puts them there.

use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;
use tokio_postgres::{Config, NoTls, SimpleQueryMessage};

use crate::certificates::PemPair;

/// A server that listens on a unix socket in a directory of its own, and is stopped when it is dropped.
#[derive(Debug)]
pub struct PostgresServer {
    directory: TempDir,
    port: u16,
    tcp: Option<Tcp>,
    process: Option<Child>,
}

/// A server that listens on loopback as well, where callers must show a password.
#[derive(Clone, Debug, Default)]
pub struct Tcp {
    /// The password of [`PostgresServer::USER`].
    pub password: String,
    /// What it proves its name with; without, it speaks in clear text only.
    pub identity: Option<PemPair>,
}

impl PostgresServer {
    /// Who may do everything; on the unix socket without a password.
    pub const USER: &str = "southbridge";

    /// A server on a unix socket alone.
    ///
    /// # Panics
    /// When there is no PostgreSQL, or it does not start.
    pub fn start() -> Self {
        Self::make(None)
    }

    /// A server that can be reached over TCP as well.
    ///
    /// # Panics
    /// As [`PostgresServer::start`].
    pub fn start_on_tcp(tcp: Tcp) -> Self {
        Self::make(Some(tcp))
    }

    fn make(tcp: Option<Tcp>) -> Self {
        let directory = tempfile::tempdir().expect("there is a disk");
        give(directory.path());
        let password = directory.path().join("password");
        write(&password, tcp.as_ref().map_or("unused", |tcp| &tcp.password));
        let made = as_somebody("initdb")
            .args(["--auth-local=trust", "--auth-host=scram-sha-256"])
            .args(["--encoding=UTF8", "--no-locale", "--no-sync"])
            .arg(format!("--username={}", Self::USER))
            .arg(joined("--pwfile=", &password))
            .arg("-D")
            .arg(directory.path().join("data"))
            .current_dir(directory.path())
            .output()
            .expect("these tests need initdb and postgres, of PostgreSQL 13 or later, in PATH");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        if let Some(identity) = tcp.as_ref().and_then(|tcp| tcp.identity.as_ref()) {
            write(&directory.path().join("chain.pem"), &identity.chain);
            write(&directory.path().join("key.pem"), &identity.key);
        }
        // Without TCP it names the socket and nothing else.
        let port = if tcp.is_some() { free_port() } else { 5432 };
        let mut server = Self { directory, port, tcp, process: None };
        server.restart();
        server
    }

    /// Kills all of it at once, as a power cut does.
    pub fn crash(&mut self) {
        self.signal(Signal::QUIT);
    }

    /// Lets it end as an administrator does who is in a hurry: transactions are broken off.
    pub fn stop(&mut self) {
        self.signal(Signal::INT);
    }

    /// Starts it anew, when it was stopped or has crashed.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self) {
        self.process = Some(self.run());
    }

    /// Kills all of it at once, and starts it anew.
    pub fn crash_and_restart(&mut self) {
        self.crash();
        self.restart();
    }

    /// Where its socket lies.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Its port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// How it is reached on its unix socket.
    pub fn connection(&self) -> String {
        let (directory, port) = (self.directory.path().display(), self.port);
        format!("host={directory} port={port} user={} dbname=postgres", Self::USER)
    }

    /// Runs SQL with tables looked for in `schema`; the first column of the first row, if there is one.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn sql(&self, schema: &str, sql: &str) -> Option<String> {
        let config: Config = self.connection().parse().expect("we have written it");
        // On a thread of its own: the caller may be within a runtime.
        thread::scope(|scope| {
            let asked = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("there is an event queue").block_on(ask(&config, schema, sql))
            });
            asked.join().expect("it has not panicked").expect("the server answers")
        })
    }

    fn run(&self) -> Child {
        let directory = self.directory.path();
        let mut command = as_somebody("postgres");
        command.arg("-D").arg(directory.join("data")).arg("-k").arg(directory);
        command.args(["-p", &self.port.to_string(), "-c", "fsync=off", "-c", "full_page_writes=off"]);
        command.args([
            "-c",
            if self.tcp.is_some() { "listen_addresses=127.0.0.1" } else { "listen_addresses=" },
        ]);
        if self.tcp.as_ref().is_some_and(|tcp| tcp.identity.is_some()) {
            command.args(["-c", "ssl=on"]);
            command.arg("-c").arg(joined("ssl_cert_file=", &directory.join("chain.pem")));
            command.arg("-c").arg(joined("ssl_key_file=", &directory.join("key.pem")));
        }
        let mut process = command
            .current_dir(directory)
            .stderr(Stdio::piped())
            .spawn()
            .expect("postgres lies where initdb does");
        let stderr = process.stderr.take().expect("it was piped");
        let mut lines = BufReader::new(stderr).lines();
        let said: Vec<String> =
            lines.by_ref().map_while(Result::ok).take_while(|it| !it.contains("ready to accept")).collect();
        let ended = process.try_wait().expect("it is our child");
        assert!(ended.is_none(), "{said:#?}");
        // What it says later must be read, or it would wait for that.
        thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        process
    }

    fn signal(&mut self, signal: Signal) {
        if let Some(mut process) = self.process.take() {
            kill_process(Pid::from_child(&process), signal).expect("it is our child");
            process.wait().expect("it is our child");
        }
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn ask(config: &Config, schema: &str, sql: &str) -> Result<Option<String>, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    client.batch_execute(&format!("SET search_path TO {schema}")).await?;
    let messages = client.simple_query(sql).await?;
    Ok(messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}

fn free_port() -> u16 {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    bound.expect("loopback has a free port").port()
}

fn write(path: &Path, content: &str) {
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| io::Write::write_all(&mut file, content.as_bytes()));
    written.expect("there is a disk");
    give(path);
}

/// The server refuses to be run by root, and wants what it reads to be its own.
fn give(path: &Path) {
    if geteuid().is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).expect("root may give away what it has");
    }
}

fn as_somebody(program: &str) -> Command {
    let mut command = Command::new(program);
    if geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

fn joined(option: &str, path: &Path) -> OsString {
    let mut joined = OsString::from(option);
    joined.push(path);
    joined
}

const NOBODY: u32 = 65534;
