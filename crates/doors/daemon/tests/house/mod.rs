//! A daemon as a process, its directory, and the service manager's end of the notifications.
#![allow(dead_code, reason = "each test program uses what it needs")]

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// A directory with a configuration, and the service manager's end of the notifications.
pub struct House {
    dir: tempfile::TempDir,
    manager: UnixDatagram,
}

impl House {
    pub fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let manager = UnixDatagram::bind(dir.path().join("notify.sock")).unwrap();
        manager.set_read_timeout(Some(PATIENCE)).unwrap();
        let house = Self { dir, manager };
        house.configure(config);
        house
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn configure(&self, config: &str) {
        fs::write(self.path("southbridge.toml"), config).unwrap();
    }

    /// The daemon, started by way of `shell`, which may set things up before it runs `"$@"`.
    pub fn command(&self, shell: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command
            .args([
                "-c",
                shell,
                "sh",
                env!("CARGO_BIN_EXE_southbridge"),
                "serve",
                "--config",
                "southbridge.toml",
            ])
            .current_dir(self.dir.path())
            .env_clear()
            .env("NOTIFY_SOCKET", self.path("notify.sock"))
            .env("STATE_DIRECTORY", self.path("state"))
            .env("XDG_RUNTIME_DIR", self.dir.path())
            .stderr(fs::File::create(self.path("log")).unwrap());
        command
    }

    pub fn start(&self) -> Child {
        self.start_by(r#"exec "$@""#)
    }

    pub fn start_by(&self, shell: &str) -> Child {
        let child = self.command(shell).spawn().unwrap();
        self.wait_for("READY=1");
        child
    }

    /// The daemon, with `socket` as its door for Synapse, as systemd passes it.
    pub fn activate(&self, socket: impl Into<OwnedFd>) -> Child {
        let mut command = self
            .command("exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=synapse exec \"$@\"");
        command.stdin(Stdio::from(socket.into())).spawn().unwrap()
    }

    /// Waits for a message of the daemon that has `text` in it.
    pub fn wait_for(&self, text: &str) -> String {
        let mut buffer = [0; 1024];
        loop {
            let length = self.manager.recv(&mut buffer).unwrap_or_else(|error| {
                panic!("nobody said {text:?} ({error}); the log has:\n{}", self.log());
            });
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if message.contains(text) {
                return message;
            }
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// One request on a connection of its own; the whole answer.
    pub fn ask(&self, socket: &str, request: &str) -> String {
        ask(&self.path(socket), request)
    }
}

pub fn ask(path: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

pub fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

/// Waits for the end of a process that is not a child of this one.
pub fn wait_for_end(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let Ok(handle) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else { return };
    let mut poll = [rustix::event::PollFd::new(&handle, rustix::event::PollFlags::IN)];
    let patience = rustix::event::Timespec { tv_sec: 20, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut poll, Some(&patience)), Ok(1), "the process goes on");
}

pub fn main_pid(message: &str) -> u32 {
    message.lines().find_map(|line| line.strip_prefix("MAINPID=")).unwrap().parse().unwrap()
}

/// Nothing here takes as long, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);
