//! The far side: a federation of fake homeservers in a process of its own, so that its CPU is not counted.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use southbridge_testkit::world::{FederationSpec, serve_forever};

use crate::Done;

/// What federation there shall be.
#[derive(Clone, Debug, clap::Args)]
pub struct PeersSpec {
    /// How many homeservers.
    #[arg(long, default_value_t = 100)]
    pub hosts: usize,
    /// The share found by .well-known.
    #[arg(long, default_value_t = 0.5)]
    pub well_known: f64,
    /// The share found by SRV.
    #[arg(long, default_value_t = 0.0)]
    pub srv: f64,
    /// The share with a port in the name.
    #[arg(long, default_value_t = 0.5)]
    pub explicit: f64,
    /// The share that vanishes.
    #[arg(long, default_value_t = 0.0)]
    pub black_hole: f64,
    /// The share that dawdles.
    #[arg(long, default_value_t = 0.0)]
    pub slow: f64,
    /// How long the others think, in milliseconds.
    #[arg(long, default_value_t = 0)]
    pub latency: u64,
    /// How long DNS answers may be kept, in seconds.
    #[arg(long, default_value_t = 3600)]
    pub ttl: u32,
    /// Over how many loopback addresses they are spread.
    #[arg(long, default_value_t = 1)]
    pub addresses: u8,
}

impl PeersSpec {
    /// So many hosts, found in every way, spread over eight addresses.
    pub fn of_all_kinds(hosts: usize) -> Self {
        Self { hosts, addresses: 8, well_known: 0.5, srv: 0.2, explicit: 0.2, ..Self::default() }
    }
}

impl Default for PeersSpec {
    fn default() -> Self {
        Self {
            hosts: 100,
            well_known: 0.5,
            srv: 0.0,
            explicit: 0.5,
            black_hole: 0.0,
            slow: 0.0,
            latency: 0,
            ttl: 3600,
            addresses: 1,
        }
    }
}

impl PeersSpec {
    fn to_args(&self) -> Vec<String> {
        vec![
            "peers".to_owned(),
            format!("--hosts={}", self.hosts),
            format!("--well-known={}", self.well_known),
            format!("--srv={}", self.srv),
            format!("--explicit={}", self.explicit),
            format!("--black-hole={}", self.black_hole),
            format!("--slow={}", self.slow),
            format!("--latency={}", self.latency),
            format!("--ttl={}", self.ttl),
            format!("--addresses={}", self.addresses),
        ]
    }
}

/// Serves a federation until standard input ends.
///
/// # Errors
/// It cannot start.
pub fn serve(spec: &PeersSpec) -> Done {
    let federation = FederationSpec {
        hosts: spec.hosts,
        well_known_share: spec.well_known,
        srv_share: spec.srv,
        explicit_port_share: spec.explicit,
        black_hole_share: spec.black_hole,
        slow_share: spec.slow,
        latency: Duration::from_millis(spec.latency),
        dns_ttl: spec.ttl,
        addresses: spec.addresses,
        requests_kept_max: 0,
        ..FederationSpec::default()
    };
    Ok(serve_forever(federation, std::io::stdin().lock(), std::io::stdout())?)
}

/// A federation that runs; it ends when this is dropped.
#[derive(Debug)]
pub struct Peers {
    child: Child,
    orders: ChildStdin,
    replies: BufReader<ChildStdout>,
    /// Where its DNS server listens.
    pub dns: SocketAddr,
    /// The authority to trust, as a PEM file.
    pub ca: PathBuf,
    /// What it has instead of port 443.
    pub well_known_port: u16,
    /// What it has instead of port 8448.
    pub default_port: u16,
    federation_port: u16,
    addresses: u8,
    hosts: Vec<Host>,
}

/// One host of the federation.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its server name.
    pub name: String,
    /// Its DNS name.
    pub domain: String,
    /// Where it really is.
    pub address: SocketAddr,
    /// How it is found.
    pub route: String,
    /// Whether it was healthy at the start.
    pub healthy: bool,
}

impl Peers {
    /// Starts a federation in another process.
    ///
    /// # Errors
    /// It does not start, or says what cannot be understood.
    pub fn start(spec: &PeersSpec) -> Done<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(spec.to_args())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take().ok_or("no standard input")?;
        let mut replies = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        let mut line = String::new();
        replies.read_line(&mut line)?;
        let told: Value = serde_json::from_str(&line)?;
        let port = |key: &str| told[key].as_u64().and_then(|port| u16::try_from(port).ok());
        let mut peers = Self {
            child,
            orders,
            replies,
            dns: told["dns"].as_str().ok_or("no DNS server")?.parse()?,
            ca: told["ca"].as_str().ok_or("no authority")?.into(),
            well_known_port: port("well_known_port").ok_or("no port")?,
            default_port: port("default_port").ok_or("no port")?,
            federation_port: port("federation_port").ok_or("no port")?,
            addresses: spec.addresses.max(1),
            hosts: Vec::new(),
        };
        let hosts = told["hosts"].as_array().ok_or("no hosts")?;
        peers.hosts = hosts.iter().enumerate().map(|(index, host)| peers.host(index, host)).collect();
        Ok(peers)
    }

    fn host(&self, index: usize, told: &Value) -> Host {
        let name = told["name"].as_str().unwrap_or_default().to_owned();
        let domain = name.split(':').next().unwrap_or_default().to_owned();
        let last = 1 + u8::try_from(index % usize::from(self.addresses)).unwrap_or(0);
        let ip = IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
        Host {
            name,
            domain,
            address: SocketAddr::new(ip, self.federation_port),
            route: told["route"].as_str().unwrap_or_default().to_owned(),
            healthy: told["health"] == "healthy",
        }
    }

    /// All hosts.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The hosts found by `route`.
    pub fn by_route(&self, route: &str) -> Vec<Host> {
        self.hosts.iter().filter(|host| host.route == route).cloned().collect()
    }

    /// Gives an order (`calm`, `storm 0.2 0.1`, `counts`).
    ///
    /// # Errors
    /// It has ended.
    pub fn order(&mut self, order: &str) -> Done<Value> {
        writeln!(self.orders, "{order}")?;
        let mut line = String::new();
        self.replies.read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        // It ends by itself with its standard input; this is only quicker.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
