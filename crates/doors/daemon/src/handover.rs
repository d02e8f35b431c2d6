//! Hands the doors over to a successor: a new process of the same program, with the same listening sockets.
//!
//! The successor reads the configuration anew, opens what is slow to open, and says that it is ready; only then does
//! the predecessor stop accepting. Between the two the sockets are never closed, so nobody is refused.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use crate::activation::{HANDOVER, Origin};
use crate::listeners::Listeners;

/// How this program was started, for starting it again.
#[derive(Clone, Debug)]
pub struct Invocation {
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl Invocation {
    /// How this process was started. Asked early, so that a program replaced on disk is found at its old path.
    ///
    /// # Errors
    /// When the system does not say which program this is.
    pub fn of_process() -> io::Result<Self> {
        Ok(Self { program: std::env::current_exe()?, arguments: std::env::args_os().skip(1).collect() })
    }

    /// The file of the program.
    pub fn program(&self) -> &Path {
        &self.program
    }
}

/// A process that is getting ready to take over.
#[derive(Debug)]
pub struct Successor {
    child: Child,
    ready: pipe::Receiver,
}

impl Successor {
    /// Starts a successor with the sockets of `listeners`.
    ///
    /// # Errors
    /// When the system gives no process, pipe or descriptor.
    pub fn start(invocation: &Invocation, listeners: &Listeners) -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        // Duplicates are not closed on exec. They live in this function only, and no other thread starts programs.
        let mut passed: Vec<OwnedFd> = Vec::new();
        let mut words = std::process::id().to_string();
        let mut pass = |name: &str, fd: OwnedFd, mark: &str| {
            words.push_str(&format!(" {name}={}{mark}", fd.as_raw_fd()));
            passed.push(fd);
        };
        for listener in &listeners.list {
            let mark = if listener.origin == Origin::Activated { "+" } else { "" };
            pass(listener.door.name(), rustix::io::dup(listener.as_fd())?, mark);
        }
        pass("ready", rustix::io::dup(&write)?, "");
        let child =
            Command::new(&invocation.program).args(&invocation.arguments).env(HANDOVER, &words).spawn()?;
        drop(passed);
        drop(write);
        Ok(Self { child, ready: pipe::Receiver::from_owned_fd(read)? })
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// Says what became of it when it is not; it is gone then.
    pub async fn ready(&mut self) -> Result<(), String> {
        let mut word = [0; 1];
        match tokio::time::timeout(READY_MAX, self.ready.read(&mut word)).await {
            Ok(Ok(1)) => Ok(()),
            Ok(_) => {
                // It closed the pipe, so it is on its way out; its own words are on standard error.
                let status =
                    self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
                Err(format!("the successor ended before it was ready ({status}); its reasons are above"))
            }
            Err(_) => {
                self.end();
                Err(format!("the successor was not ready within {READY_MAX:?} and was ended"))
            }
        }
    }

    /// Ends it.
    pub fn end(&mut self) {
        // It may have ended by itself, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tells the predecessor, by the pipe it gave us, that it may stop accepting.
pub fn tell_ready(ready: Option<OwnedFd>) {
    if let Some(pipe) = ready
        && let Err(error) = rustix::io::write(&pipe, b"r")
    {
        tracing::warn!(%error, "predecessor not told; it goes on as well");
    }
}

/// Long enough for a store that takes its time; a successor that is not ready then is not going to be.
const READY_MAX: Duration = Duration::from_secs(60);
