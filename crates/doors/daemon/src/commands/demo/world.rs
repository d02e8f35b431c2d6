//! The federation of the demo, in a process of its own: its CPU and memory are not Southbridge's.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;
use southbridge_testkit::world::{FederationSpec, serve_forever};

use super::DemoError;

/// The hidden command that plays the world.
pub const COMMAND: &str = "demo-world";

/// A running world.
pub struct WorldProcess {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// Where its DNS server listens.
    pub dns: String,
    /// The file with its certificate authority.
    pub ca: PathBuf,
    /// The port of its .well-known servers.
    pub well_known_port: u64,
    /// The port of hosts that name none.
    pub default_port: u64,
    /// The server names, and how each is found.
    pub hosts: Vec<(String, String)>,
}

impl WorldProcess {
    /// Starts a world of `hosts` homeservers.
    pub fn start(hosts: usize) -> Result<Self, DemoError> {
        let program = std::env::current_exe().map_err(|error| DemoError::new("this program", error))?;
        let mut child = Command::new(program)
            .args([COMMAND, "--hosts", &hosts.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| DemoError::new("the federation", error))?;
        let orders = child.stdin.take();
        let mut answers = BufReader::new(child.stdout.take().expect("it was asked for"));
        let mut line = String::new();
        answers.read_line(&mut line).map_err(|error| DemoError::new("the federation", error))?;
        let said: Value = serde_json::from_str(&line)
            .map_err(|_| DemoError::new("the federation", "it ended before it said where it is"))?;
        let text = |key: &str| said[key].as_str().unwrap_or_default().to_owned();
        let hosts = said["hosts"].as_array().map(Vec::as_slice).unwrap_or_default();
        let hosts = hosts
            .iter()
            .filter_map(|host| Some((host["name"].as_str()?.to_owned(), host["route"].as_str()?.to_owned())))
            .collect();
        Ok(Self {
            child,
            orders,
            answers,
            dns: text("dns"),
            ca: text("ca").into(),
            well_known_port: said["well_known_port"].as_u64().unwrap_or_default(),
            default_port: said["default_port"].as_u64().unwrap_or_default(),
            hosts,
        })
    }

    /// Gives an order, and waits until it is carried out.
    pub fn order(&mut self, order: &str) -> Result<Value, DemoError> {
        let failed = |reason: String| DemoError::new("the federation", reason);
        let orders = self.orders.as_mut().expect("it takes orders until it is dropped");
        writeln!(orders, "{order}").map_err(|error| failed(error.to_string()))?;
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(|error| failed(error.to_string()))?;
        serde_json::from_str(&line).map_err(|error| failed(error.to_string()))
    }

    /// The names of the hosts that are in good health now.
    pub fn healthy(&mut self) -> Result<HashSet<String>, DemoError> {
        let names = self.order("healthy")?;
        let names = names.as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect())
    }
}

impl Drop for WorldProcess {
    fn drop(&mut self) {
        // It ends with its standard input.
        self.orders = None;
        let _ended = self.child.wait();
    }
}

/// Plays the world until standard input ends.
pub fn play(hosts: usize) -> std::io::Result<()> {
    let spec = FederationSpec { hosts, ..FederationSpec::default() };
    serve_forever(spec, std::io::stdin().lock(), std::io::stdout())
}
