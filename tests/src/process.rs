//! A child process with a log file; it is ended by its process id, and never outlives its owner.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::failure::{Failure, Result, While};
use crate::patience::eventually;

/// A running child.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
}

impl Process {
    /// Starts `command` with an empty standard input; what it says is appended to `log`.
    ///
    /// # Errors
    /// The program cannot be started, or the log not written.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let append = || File::options().create(true).append(true).open(log);
        let (out, err) =
            append().and_then(|out| append().map(|err| (out, err))).while_doing(log.display())?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        Self::spawn(name, command)
    }

    /// Starts `command` as it is.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn spawn(name: &str, command: &mut Command) -> Result<Self> {
        let child = command.spawn().while_doing(format_args!("start of {name}"))?;
        Ok(Self { name: name.to_owned(), child })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, if it has ended.
    ///
    /// # Errors
    /// The system cannot say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().while_doing(&self.name)
    }

    /// Fails if it has ended.
    ///
    /// # Errors
    /// It has.
    pub fn check_alive(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => Err(Failure::new(format!("{} has ended with {status}", self.name))),
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It goes on for longer than `limit`.
    pub async fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("end of {}", self.name);
        eventually(limit, &what, || {
            let ended = self.ended();
            async move { ended }
        })
        .await
    }

    /// Ends it at once, as a power failure would, and waits for its end.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().and_then(|()| self.child.wait()).while_doing(&self.name)?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nobody is left to hear of an error.
        let _ = self.kill();
    }
}

/// Sends `signal` to the process `id`.
///
/// # Errors
/// There is no such process.
pub fn signal(id: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw).while_doing(id)?;
    kill_process(pid, signal).while_doing(format_args!("signal to process {id}"))
}

/// CPU time (user and system) that the process `id` has used, and the memory it holds, in bytes.
///
/// # Errors
/// There is no such process.
pub fn usage(id: u32) -> Result<(Duration, u64)> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{id}/{name}")).while_doing(name);
    let stat = read("stat")?;
    // The name of the program is in parentheses and may hold spaces; the fields behind it do not.
    let fields: Vec<u64> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().skip(1).map(|field| field.parse().unwrap_or(0)).collect())
        .unwrap_or_default();
    let ticks = fields.get(10).zip(fields.get(11)).map(|(user, system)| user + system).while_doing("stat")?;
    let statm = read("statm")?;
    let pages: u64 =
        statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).while_doing("statm")?;
    let millis = ticks * 1000 / rustix::param::clock_ticks_per_second();
    Ok((Duration::from_millis(millis), pages * rustix::param::page_size() as u64))
}

/// The last `lines` lines of the file at `path`, or why they cannot be had.
pub fn tail(path: &Path, lines: usize) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES_MAX)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) => {
            let all: Vec<&str> = text.lines().collect();
            all[all.len().saturating_sub(lines)..].join("\n")
        }
        Err(error) => format!("({}: {error})", path.display()),
    }
}

/// Where this checkout begins.
pub fn checkout() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

const TAIL_BYTES_MAX: u64 = 256 << 10;
