//! What came of it: a table, and what Synapse and Southbridge remember.

use std::fmt;
use std::time::Duration;

use southbridge_tests::federation::Federation;
use southbridge_tests::{Result, columns};

/// What all Southbridges together have used, and all Synapses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    cpu: Duration,
    synapse_cpu: Duration,
    requests: f64,
    /// Of the largest of them, in bytes.
    memory: u64,
}

impl Usage {
    /// Since their processes started.
    ///
    /// # Errors
    /// One does not run.
    pub async fn of(federation: &Federation) -> Result<Self> {
        let mut sum = Self::default();
        for home in &federation.households {
            let (cpu, memory) = home.southbridge.usage()?;
            sum.cpu += cpu;
            sum.synapse_cpu += home.synapse.usage()?.0;
            sum.memory = sum.memory.max(memory);
            sum.requests += home.southbridge.metric("southbridge_synapse_requests_total", "").await?;
        }
        Ok(sum)
    }

    /// The same and what Southbridges that are gone have used.
    pub fn plus(self, gone: Self) -> Self {
        let memory = self.memory.max(gone.memory);
        Self { cpu: self.cpu + gone.cpu, requests: self.requests + gone.requests, memory, ..self }
    }

    /// What was used since `before`.
    pub fn minus(self, before: Self) -> Self {
        let cpu = self.cpu.saturating_sub(before.cpu);
        let synapse_cpu = self.synapse_cpu.saturating_sub(before.synapse_cpu);
        Self { cpu, synapse_cpu, requests: self.requests - before.requests, memory: self.memory }
    }
}

/// What came of one round.
#[derive(Clone, Debug)]
pub struct Row {
    /// The round.
    pub name: &'static str,
    /// Messages said.
    pub said: usize,
    /// Deliveries there should be: each message to every other homeserver.
    pub expected: usize,
    /// When each delivery was seen by a client on the other side, counted from the round's beginning, in order.
    pub arrivals: Vec<Duration>,
    /// What all Southbridges used for it.
    pub used: Usage,
}

impl Row {
    /// When `percent` of what is expected had arrived.
    fn time_to(&self, percent: usize) -> String {
        let needed = (self.expected * percent).div_ceil(100).max(1);
        let time = self.arrivals.get(needed - 1);
        time.map_or_else(|| "never".to_owned(), |time| format!("{:.2} s", time.as_secs_f64()))
    }

    fn cells(&self) -> [String; COLUMNS] {
        let Usage { cpu, synapse_cpu, requests, memory } = self.used;
        let per_request = cpu.as_secs_f64() * 1e6 / requests.max(1.0);
        [
            self.name.to_owned(),
            self.said.to_string(),
            format!("{}/{}", self.arrivals.len(), self.expected),
            self.time_to(50),
            self.time_to(95),
            self.time_to(100),
            format!("{requests:.0}"),
            format!("{:.2} s ({per_request:.0} µs)", cpu.as_secs_f64()),
            format!("{:.1} s", synapse_cpu.as_secs_f64()),
            format!("{:.1} MiB", memory as f64 / f64::from(1 << 20)),
        ]
    }
}

/// All rounds.
#[derive(Clone, Debug, Default)]
pub struct Table(Vec<Row>);

impl Table {
    /// Adds a round.
    pub fn add(&mut self, row: Row) {
        self.0.push(row);
    }

    /// Whether every message of every round has arrived.
    pub fn is_complete(&self) -> bool {
        self.0.iter().all(|row| row.arrivals.len() == row.expected)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = vec![HEAD.map(str::to_owned)];
        lines.extend(self.0.iter().map(Row::cells));
        columns::write(f, &lines)
    }
}

/// What Synapse's tables say of destinations that it leaves alone.
///
/// # Errors
/// A database cannot be read.
pub fn backoffs(federation: &Federation) -> Result<String> {
    let (mut known, mut backed_off) = (0, Vec::new());
    for home in &federation.households {
        for (destination, interval) in home.synapse.backoffs()? {
            known += 1;
            if interval > 0 {
                backed_off.push(format!("{} leaves {destination} alone", home.synapse.server_name()));
            }
        }
    }
    let found =
        if backed_off.is_empty() { "none is backed off from".to_owned() } else { backed_off.join(", ") };
    Ok(format!("Destinations in the tables of all Synapses: {known}; {found}."))
}

/// How Southbridge knows the others.
///
/// # Errors
/// An admin page cannot be had.
pub async fn names(federation: &Federation) -> Result<String> {
    let first = federation.home(0);
    let page = first.southbridge.admin("/debug/hosts").await?.json()?;
    let rows = page["hosts"].as_array().into_iter().flatten();
    let rows = rows.map(|row| {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        format!("{} {} ({} ms)", text("host"), text("state"), row["latency_ms"])
    });
    let rows: Vec<String> = rows.collect();
    Ok(format!("To the Southbridge of {} the others are: {}.", first.synapse.server_name(), rows.join(", ")))
}

const COLUMNS: usize = 10;
const HEAD: [&str; COLUMNS] = [
    "round",
    "said",
    "delivered",
    "50 % after",
    "95 %",
    "100 %",
    "requests",
    "CPU (each)",
    "Synapse's CPU",
    "memory, max",
];
