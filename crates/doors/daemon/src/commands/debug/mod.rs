//! `ps` and `debug`: programs that embed Southbridge are asked what they are doing.
//!
//! # Source
//! K13.

mod text;

use std::io::{self, IsTerminal};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{Timespec, poll};
use serde_json::{Map, Value};
use southbridge_kernel::debug::{DebugSocket, directories, sockets};

use crate::cli::{Debug, Ps};
use crate::commands::bus::{split, talk};
use crate::commands::{DONE, FAILED, print};

/// Lists the processes of this user that can be asked.
pub fn list(arguments: &Ps) -> u8 {
    let found = found(arguments.dir.as_deref());
    let living = found.iter().filter(|socket| !socket.is_left_behind());
    let rows: Vec<(u32, Result<Value, String>)> =
        living.map(|socket| (socket.pid, ask(socket, "process"))).collect();
    if arguments.json {
        let answers: Vec<&Value> = rows.iter().filter_map(|(_, told)| told.as_ref().ok()).collect();
        print(&format!("{:#}\n", Value::from(answers.into_iter().cloned().collect::<Vec<_>>())));
    } else {
        print(&text::of_processes(&rows));
    }
    DONE
}

/// Asks one of them.
pub fn run(arguments: &Debug) -> u8 {
    // The last to start is the one that has the number now.
    let found = found(arguments.dir.as_deref()).into_iter().rev().find(|socket| socket.pid == arguments.pid);
    let Some(socket) = found else {
        let dirs: Vec<String> =
            places(arguments.dir.as_deref()).iter().map(|dir| dir.display().to_string()).collect();
        let (pid, dirs) = (arguments.pid, dirs.join(" or "));
        eprintln!("process {pid} has no debug socket in {dirs}; `southbridge ps` lists those that have");
        return FAILED;
    };
    loop {
        let clear = if arguments.watch && io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
        let (told, troubles) = asked(&socket, &arguments.pages());
        let shown = if arguments.json { json_of(&told) } else { text::of_pages(&told) };
        print(&format!("{clear}{shown}"));
        troubles.iter().for_each(|trouble| eprintln!("{trouble}"));
        if !arguments.watch || told.is_empty() {
            return if troubles.is_empty() { DONE } else { FAILED };
        }
        // Interrupted is as good as over.
        let _waited = poll(&mut [], Some(&Timespec { tv_sec: 1, tv_nsec: 0 }));
    }
}

/// The pages that were told, and why others were not.
fn asked(socket: &DebugSocket, pages: &[&'static str]) -> (Vec<(&'static str, Value)>, Vec<String>) {
    let (mut told, mut troubles) = (Vec::new(), Vec::new());
    for page in pages {
        match ask(socket, page) {
            Ok(value) => told.push((*page, value)),
            Err(trouble) => troubles.push(trouble),
        }
    }
    (told, troubles)
}

fn json_of(told: &[(&str, Value)]) -> String {
    let pages: Map<String, Value> =
        told.iter().map(|(name, page)| ((*name).to_owned(), page.clone())).collect();
    format!("{:#}\n", Value::Object(pages))
}

fn ask(socket: &DebugSocket, page: &str) -> Result<Value, String> {
    let no_answer = |error: io::Error| format!("process {} does not answer: {error}", socket.pid);
    let (status, body) = exchange(&socket.path, page).map_err(no_answer)?;
    let value: Value = serde_json::from_slice(&body)
        .map_err(|_| format!("process {} answers, and not as a debug socket does", socket.pid))?;
    match value["error"].as_str() {
        Some(error) if status != 200 => Err(text::harmless(error)),
        _ if status != 200 => Err(format!("process {} answers {status}", socket.pid)),
        _ => Ok(value),
    }
}

fn exchange(path: &Path, page: &str) -> io::Result<(u16, Vec<u8>)> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let head = format!("GET /debug/{page} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let answer = talk(stream, head.as_bytes(), b"")?;
    split(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"))
}

fn places(dir: Option<&Path>) -> Vec<PathBuf> {
    dir.map_or_else(|| directories(own()), |dir| vec![dir.to_owned()])
}

fn found(dir: Option<&Path>) -> Vec<DebugSocket> {
    places(dir).iter().flat_map(|dir| sockets(dir, own())).collect()
}

fn own() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The I/O thread answers within milliseconds, unless the process is stopped.
const PATIENCE: Duration = Duration::from_secs(3);
