//! One Southbridge as systemd runs it: its sockets are held by the test and passed to each new process.

use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use http::StatusCode;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::failure::{Failure, Result, While};
use crate::http_client::{Reply, get};
use crate::patience::within;
use crate::process::{Process, checkout, signal, tail, usage};
use crate::sockets::{DoorAddress, Sockets};
use crate::systemd::Systemd;

/// What a Southbridge is told about its surroundings.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// A directory of its own that exists.
    pub dir: PathBuf,
    /// The secret of the door for Synapse.
    pub secret: String,
    /// Where names are looked up.
    pub dns: SocketAddr,
    /// The certificates it trusts, and no others.
    pub ca_file: PathBuf,
    /// The port that `.well-known` is asked for on.
    pub well_known_port: u16,
    /// A loopback address that counts as forbidden.
    pub forbidden: Ipv4Addr,
}

/// A Southbridge: its sockets, and the process that serves them at present.
#[derive(Debug)]
pub struct SouthbridgeProcess {
    dir: PathBuf,
    binary: PathBuf,
    sockets: Sockets,
    systemd: Systemd,
    running: Option<Running>,
}

/// Who serves the sockets.
#[derive(Debug)]
enum Running {
    /// A process that we have started.
    Child(Process),
    /// The successor of one.
    Successor(u32),
}

impl Running {
    fn id(&self) -> u32 {
        match self {
            Self::Child(process) => process.id(),
            Self::Successor(id) => *id,
        }
    }
}

impl SouthbridgeProcess {
    /// Opens the sockets (a unix one for Synapse if `unix`) and writes the configuration; starts nothing.
    ///
    /// # Errors
    /// A file or socket cannot be had, or there is no daemon and it does not build.
    pub fn prepare(surroundings: &Surroundings, binary: &Path, door: DoorKind) -> Result<Self> {
        let dir = surroundings.dir.clone();
        let unix = dir.join("southbridge.sock");
        let sockets = Sockets::open((door == DoorKind::Unix).then_some(unix.as_path()))?;
        let mut secret = std::fs::OpenOptions::new();
        let secret =
            secret.write(true).create(true).truncate(true).mode(0o600).open(dir.join("proxy.secret"));
        let written =
            secret.and_then(|mut file| std::io::Write::write_all(&mut file, surroundings.secret.as_bytes()));
        written.while_doing("proxy.secret")?;
        let text = toml::to_string(&config(surroundings, &sockets)).while_doing(CONFIG)?;
        std::fs::write(dir.join(CONFIG), text).while_doing(CONFIG)?;
        let systemd = Systemd::listen(&dir.join("notify.sock"))?;
        Ok(Self { dir, binary: binary.to_owned(), sockets, systemd, running: None })
    }

    /// Starts a process on the sockets, and waits until it says that it works.
    ///
    /// # Errors
    /// It ends, or takes too long.
    pub async fn start(&mut self) -> Result<()> {
        let mut command = self.sockets.command(&self.binary, &self.log())?;
        command.args(["serve", "--config", CONFIG]).current_dir(&self.dir);
        command.env("NOTIFY_SOCKET", self.systemd.path()).env("STATE_DIRECTORY", &self.dir);
        command.env("SOUTHBRIDGE_LOG", env::var("SOUTHBRIDGE_LOG").unwrap_or_else(|_| "info".into()));
        command.env("RUST_BACKTRACE", "1");
        let mut process = Process::spawn("southbridge", &mut command)?;
        tokio::select! {
            ready = within(START_MAX, "southbridge says that it is ready", self.systemd.ready()) => { ready?; }
            ended = process.wait(START_MAX * 2) => {
                let said = tail(&self.log(), LINES_SHOWN);
                return Err(Failure::new(format!("southbridge ended with {} while starting:\n{said}", ended?)));
            }
        }
        self.running = Some(Running::Child(process));
        Ok(())
    }

    /// Ends the process at once, as `kill -9` does; its sockets stay open and nobody serves them.
    ///
    /// # Errors
    /// There is none.
    pub fn kill(&mut self) -> Result<()> {
        match self.running.take().while_doing("southbridge runs")? {
            Running::Child(mut process) => process.kill(),
            Running::Successor(id) => signal(id, Signal::KILL),
        }
    }

    /// Has the process hand over to a successor (SIGHUP), and waits until it has ended. Answers both process ids.
    ///
    /// # Errors
    /// There is no process of ours, the successor does not start, or the predecessor does not end.
    pub async fn hand_over(&mut self) -> Result<(u32, u32)> {
        let Some(Running::Child(mut predecessor)) = self.running.take() else {
            return Err(Failure::new("there is no process that we have started"));
        };
        signal(predecessor.id(), Signal::HUP)?;
        let told = within(START_MAX, "a successor says that it is ready", async {
            loop {
                if let Some(id) = self.systemd.ready().await?.main_pid {
                    return Ok(id);
                }
            }
        });
        let successor = told.await?;
        self.running = Some(Running::Successor(successor));
        let status = predecessor.wait(START_MAX).await?;
        if !status.success() {
            return Err(Failure::new(format!("the predecessor ended with {status}")));
        }
        Ok((predecessor.id(), successor))
    }

    /// Where Synapse finds the door.
    pub fn door(&self) -> &DoorAddress {
        &self.sockets.door
    }

    /// Where Synapse finds the forward proxy.
    pub fn forward_proxy(&self) -> SocketAddr {
        self.sockets.forward_proxy_address
    }

    /// What it has said.
    pub fn log(&self) -> PathBuf {
        self.dir.join("southbridge.log")
    }

    /// Its process id.
    ///
    /// # Errors
    /// It does not run.
    pub fn id(&self) -> Result<u32> {
        self.running.as_ref().map(Running::id).while_doing("southbridge runs")
    }

    /// CPU time that it has used, and memory that it holds, in bytes.
    ///
    /// # Errors
    /// It does not run.
    pub fn usage(&self) -> Result<(Duration, u64)> {
        usage(self.id()?)
    }

    /// A page of the admin socket.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn admin(&self, page: &str) -> Result<Reply> {
        get(self.sockets.admin_address, page).await
    }

    /// The host `name` as the ranker sees it.
    ///
    /// # Errors
    /// The page cannot be had, or the host is not on it.
    pub async fn host(&self, name: &str) -> Result<Value> {
        let page = self.admin("/debug/hosts").await?.json()?;
        let hosts = page["hosts"].as_array().into_iter().flatten();
        let found = hosts.into_iter().find(|row| row["host"] == name).cloned();
        found.ok_or_else(|| Failure::new(format!("{name} is not among the hosts: {page}")))
    }

    /// The sum of all samples of `metric` whose labels contain `labels`.
    ///
    /// # Errors
    /// The page cannot be had, or has no such sample.
    pub async fn metric(&self, metric: &str, labels: &str) -> Result<f64> {
        let page = self.admin("/metrics").await?;
        let text = String::from_utf8_lossy(&page.body).into_owned();
        let matching = text.lines().filter(|line| {
            line.strip_prefix(metric).is_some_and(|rest| rest.starts_with([' ', '{']))
                && line.contains(labels)
        });
        let values: Vec<f64> = matching.filter_map(|line| line.rsplit_once(' ')?.1.parse().ok()).collect();
        if values.is_empty() {
            return Err(Failure::new(format!("no sample of {metric} with {labels:?} in:\n{text}")));
        }
        Ok(values.iter().sum())
    }

    /// Whether it says that its doors work.
    ///
    /// # Errors
    /// The page cannot be had.
    pub async fn is_ready(&self) -> Result<bool> {
        Ok(self.admin("/ready").await?.status == StatusCode::OK)
    }
}

impl Drop for SouthbridgeProcess {
    fn drop(&mut self) {
        // A child is ended by its own owner.
        if let Some(Running::Successor(id)) = self.running {
            let _ = signal(id, Signal::KILL);
        }
    }
}

/// How Synapse reaches Southbridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoorKind {
    /// By `path:` in the instance map.
    Unix,
    /// By `host:` and `port:`.
    Tcp,
}

/// The daemon to test: the one that `SOUTHBRIDGE_BIN` names, or the one of this checkout, brought up to date by cargo.
///
/// # Errors
/// It does not build.
pub fn daemon() -> Result<PathBuf> {
    if let Some(given) = env::var_os("SOUTHBRIDGE_BIN") {
        return Ok(given.into());
    }
    // target/debug/deps/NAME for tests, target/debug/NAME for programs.
    let here = env::current_exe().while_doing("own path")?;
    let profile = here.ancestors().skip(1).find(|dir| !dir.ends_with("deps")).while_doing("own path")?;
    let mut build = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--quiet", "-p", "southbridge-daemon", "--bin", "southbridge"]);
    if profile.ends_with("release") {
        build.arg("--release");
    }
    let built = build.current_dir(checkout()).status().while_doing("cargo build -p southbridge-daemon")?;
    if !built.success() {
        return Err(Failure::new("cargo build -p southbridge-daemon failed"));
    }
    Ok(profile.join("southbridge"))
}

fn config(surroundings: &Surroundings, sockets: &Sockets) -> Value {
    let door = match &sockets.door {
        DoorAddress::Tcp(address) => address.to_string(),
        DoorAddress::Unix(path) => format!("unix:{}", path.display()),
    };
    json!({
        "synapse": {"listen": [door], "secret_file": "proxy.secret"},
        "forward_proxy": {"listen": [sockets.forward_proxy_address]},
        "admin": {"listen": sockets.admin_address},
        "dns": {"servers": [surroundings.dns]},
        "tls": {"ca_files": [surroundings.ca_file], "system_roots": false},
        "addresses": {"allow": ["127.0.0.0/8"], "deny": [surroundings.forbidden]},
        "storage": {"path": "southbridge.db"},
        "testing": {"well_known_port": surroundings.well_known_port},
    })
}

const CONFIG: &str = "southbridge.toml";
const LINES_SHOWN: usize = 10;
/// A migration of the store and a busy machine included.
const START_MAX: Duration = Duration::from_secs(20);
