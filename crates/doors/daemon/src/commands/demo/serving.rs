//! The Southbridge of the demo, as an operator would run it, and what it costs.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use super::DemoError;
use super::world::WorldProcess;

/// A running `southbridge serve`.
pub struct Serving {
    child: Child,
    directory: PathBuf,
    /// Its door for Synapse.
    pub door: PathBuf,
    /// Its bus door.
    pub bus: PathBuf,
    /// The secret of both.
    pub secret: String,
}

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// CPU time, user and system.
    pub cpu: Duration,
    /// Resident memory now, in bytes.
    pub resident: u64,
    /// Open descriptors now.
    pub descriptors: usize,
}

impl Serving {
    /// Starts Southbridge before `world`, with its files in `directory`.
    pub fn start(world: &WorldProcess, directory: &Path) -> Result<Self, DemoError> {
        let failed = |reason: std::io::Error| DemoError::new("southbridge serve", reason);
        let secret: String = (0..32).map(|_| char::from(b'a' + rand::random::<u8>() % 26)).collect();
        std::fs::write(directory.join(CONFIG), configuration(world, &secret)).map_err(failed)?;
        write_key(&directory.join(KEY)).map_err(failed)?;
        let child = spawn(directory).map_err(failed)?;
        let (door, bus) = (directory.join("door.sock"), directory.join("bus.sock"));
        let mut serving = Self { child, directory: directory.to_owned(), door, bus, secret };
        serving.wait_until_it_listens()?;
        Ok(serving)
    }

    /// kill -9; returns when it is gone.
    pub fn kill(&mut self) {
        // It may have ended by itself; waiting tells.
        let _gone = kill_process(Pid::from_child(&self.child), Signal::KILL);
        let _ended = self.child.wait();
    }

    /// Starts it again where it was.
    pub fn start_again(&mut self) -> Result<(), DemoError> {
        self.child = spawn(&self.directory).map_err(|reason| DemoError::new("southbridge serve", reason))?;
        self.wait_until_it_listens()
    }

    fn wait_until_it_listens(&mut self) -> Result<(), DemoError> {
        let begun = Instant::now();
        let listens = |path: &Path| UnixStream::connect(path).is_ok();
        while !(listens(&self.door) && listens(&self.bus)) {
            if self.ends_within(LOOK_EVERY) || begun.elapsed() > START_MAX {
                let log = std::fs::read_to_string(self.directory.join(LOG)).unwrap_or_default();
                return Err(DemoError::new("southbridge serve", format!("it does not listen:\n{log}")));
            }
        }
        Ok(())
    }

    /// Waits for the end of the process, for `wait` at most; whether it came.
    fn ends_within(&mut self, wait: Timespec) -> bool {
        let Ok(process) = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty()) else { return true };
        let mut watched = [PollFd::new(&process, PollFlags::IN)];
        matches!(poll(&mut watched, Some(&wait)), Ok(ended) if ended > 0)
    }

    /// What it has used so far.
    pub fn usage(&self) -> Usage {
        usage_of(self.child.id())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended by itself; waiting tells.
        let _gone = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ended = self.child.wait();
    }
}

fn spawn(directory: &Path) -> std::io::Result<Child> {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(directory.join(LOG))?;
    Command::new(std::env::current_exe()?)
        .args(["serve".as_ref(), "--config".as_ref(), directory.join(CONFIG).as_os_str()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
}

/// A signing key that nobody has had before, in the format of Synapse.
fn write_key(path: &Path) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let seed = base64::engine::general_purpose::STANDARD_NO_PAD.encode(rand::random::<[u8; 32]>());
    let mut file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    writeln!(file, "ed25519 demo {seed}")
}

fn configuration(world: &WorldProcess, secret: &str) -> String {
    format!(
        "# Written by `southbridge demo`.\n\
         [synapse]\nlisten = \"unix:door.sock\"\nsecret = \"{secret}\"\n\n\
         [bus]\nserver_name = \"demo.test\"\nsigning_key_file = \"{KEY}\"\nlisten = \"unix:bus.sock\"\n\
         secret = \"{secret}\"\n# Whoever hangs is found out while one watches.\nsend_timeout = \"5s\"\n\n\
         [admin]\nlisten = \"unix:admin.sock\"\n\n\
         [dns]\nservers = [\"{}\"]\n\n\
         [tls]\nca_files = [\"{}\"]\n\n\
         [addresses]\nallow = [\"127.0.0.0/8\"]\n\n\
         [storage]\npath = \"southbridge.db\"\n\n\
         [testing]\nwell_known_port = {}\ndefault_port = {}\n",
        world.dns,
        world.ca.display(),
        world.well_known_port,
        world.default_port
    )
}

/// Reads what the process `pid` has used from /proc.
pub fn usage_of(pid: u32) -> Usage {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The fields behind the command's name, which may contain anything but is closed by the last bracket.
    let fields: Vec<u64> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect())
        .unwrap_or_default();
    let ticks = fields.get(11).copied().unwrap_or(0) + fields.get(12).copied().unwrap_or(0);
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    let pages = fields.get(21).copied().unwrap_or(0);
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    Usage {
        cpu: Duration::from_millis(ticks * 1000 / per_second),
        resident: pages * rustix::param::page_size() as u64,
        descriptors,
    }
}

/// The files of Southbridge.
const CONFIG: &str = "southbridge.toml";
const KEY: &str = "signing.key";
/// What it logs.
pub const LOG: &str = "southbridge.log";

const START_MAX: Duration = Duration::from_secs(10);
/// How often it is looked whether the door is there yet.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
