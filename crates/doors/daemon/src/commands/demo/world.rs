//! The federation of the demo, in a process of its own: its CPU and memory are not Southbridge's.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde::Deserialize;
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

    /// The names of the hosts that are doing so now.
    pub fn names(&mut self, health: &str) -> Result<Vec<String>, DemoError> {
        self.read(health)
    }

    /// Message `number` of `part` is handed in now.
    pub fn mark(&mut self, part: &str, number: u32) -> Result<(), DemoError> {
        self.order(&format!("mark {part} {number}")).map(drop)
    }

    /// How many deliveries of `part` have come to the hosts that are doing so now, or to all.
    pub fn arrived(&mut self, part: &str, health: Option<&str>) -> Result<usize, DemoError> {
        #[derive(Deserialize)]
        struct Arrived {
            arrived: usize,
        }
        let arrived: Arrived = self.read(&format!("arrived {part} {}", health.unwrap_or_default()))?;
        Ok(arrived.arrived)
    }

    /// What has come of `part` to the hosts that are doing so now, or to all.
    pub fn came(&mut self, part: &str, health: Option<&str>) -> Result<Came, DemoError> {
        self.read(&format!("part {part} {}", health.unwrap_or_default()))
    }

    /// What has come of presence, of which the newest is number `newest`.
    pub fn presence(&mut self, newest: u32) -> Result<Presence, DemoError> {
        self.read(&format!("presence {newest}"))
    }

    fn read<T: for<'de> Deserialize<'de>>(&mut self, order: &str) -> Result<T, DemoError> {
        let said = self.order(order)?;
        T::deserialize(&said).map_err(|_| DemoError::new("the federation", format!("{order}: {said}")))
    }
}

/// What the homeservers have of some messages.
#[derive(Debug, Default, Deserialize)]
pub struct Came {
    /// Deliveries: messages times hosts.
    pub arrived: usize,
    /// Of these, in more than one transaction.
    pub twice: usize,
    /// Of these, after a later message.
    pub disordered: usize,
    /// In how many transactions.
    pub transactions: usize,
    /// How long each took, in microseconds, the soonest first.
    pub took_us: Vec<u64>,
    /// Transactions, of all so far, that came again under their id.
    pub repeated: usize,
    /// Of these, with other bytes.
    pub altered: usize,
}

impl Came {
    /// After what time `share` of the `expected` deliveries had come; none when they have not.
    pub fn share(&self, share: f64, expected: usize) -> Option<Duration> {
        let count = (expected as f64 * share).ceil() as usize;
        self.took_us.get(count.saturating_sub(1)).map(|took| Duration::from_micros(*took))
    }
}

/// What the homeservers have of presence.
#[derive(Debug, Deserialize)]
pub struct Presence {
    /// States that have come.
    pub copies: usize,
    /// In how many transactions.
    pub transactions: usize,
    /// People times hosts that are at the newest state.
    pub newest: usize,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_that_has_not_come_takes_no_time() {
        let came = Came { took_us: vec![1, 2, 3], ..Came::default() };
        let share = |share| came.share(share, 4).map(|took| took.as_micros());
        assert_eq!((share(0.5), share(0.75), share(1.0)), (Some(2), Some(3), None));
    }
}
