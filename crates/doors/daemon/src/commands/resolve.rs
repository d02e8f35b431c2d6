//! `resolve`: where a homeserver is, how that was found out, and whether it answers there.
//!
//! Runs beside a daemon and asks with caches of its own, so what it says is what holds now.

use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;
use southbridge::Southbridge;
use southbridge_bus::resolver::{Explanation, ResolveError, ResolvedFederationAddress};
use southbridge_kernel::discovery::{Route, Security};
use southbridge_kernel::http::explain;
use southbridge_kernel::net::{ConnectError, dial};
use southbridge_kernel::tls::{CertificateSummary, Handshake, TlsConnector};
use southbridge_words::{Instant, ServerName};
use tokio::task::LocalSet;

use crate::cli::Resolve;
use crate::commands::{DONE, FAILED, MISCONFIGURED, print};
use crate::config::{Config, Environment};
use crate::serve::setup;

/// Resolves, connects, and prints what happened.
pub fn run(arguments: &Resolve) -> u8 {
    match report(arguments) {
        Ok(report) => {
            let works = report.works();
            print(&if arguments.json { report.json() } else { report.to_string() });
            if works { DONE } else { FAILED }
        }
        Err(reason) => {
            eprintln!("{reason}");
            MISCONFIGURED
        }
    }
}

fn report(arguments: &Resolve) -> Result<Report, String> {
    let name = ServerName::parse(&arguments.name).map_err(|error| error.to_string())?;
    let config = Config::load(arguments.config.config.as_deref(), &Environment::of_process());
    let config = config.map_err(|problems| problems.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let report = LocalSet::new().block_on(&runtime, resolve(&name, &config, !arguments.no_connect));
    runtime.shutdown_timeout(Duration::from_millis(100));
    report
}

async fn resolve(name: &ServerName, config: &Config, connect: bool) -> Result<Report, String> {
    let southbridge = Southbridge::new(setup::kernel(config, None), setup::federation(config));
    let southbridge = southbridge.map_err(|error| explain(&error))?;
    let federation = southbridge.federation();
    let explanation = federation.explain(name).await.map_err(|error| error.to_string())?;
    let now = southbridge.kernel().clock().now();
    let mut report = Report::new(&explanation, now);
    if let (true, Ok(address)) = (connect, &explanation.outcome) {
        let route = federation.route(name, address);
        report.connection = Some(
            Connection::open(&route, config, &southbridge)
                .await
                .map_err(|error| Trouble { step: error.step().name(), reason: error.to_string() }),
        );
    }
    Ok(report)
}

/// Everything that was found out.
#[derive(Debug, Serialize)]
struct Report {
    name: String,
    steps: Vec<Step>,
    took_ms: f64,
    #[serde(flatten)]
    address: Outcome<Address>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "either")]
    connection: Option<Result<Connection, Trouble>>,
}

#[derive(Debug, Serialize)]
struct Step {
    step: &'static str,
    subject: String,
    outcome: String,
    source: &'static str,
    took_ms: f64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome<T> {
    Address(T),
    Error(Trouble),
}

/// Where the homeserver is.
#[derive(Debug, Serialize)]
struct Address {
    host: String,
    certificate_name: String,
    endpoints: Vec<Endpoint>,
    /// None when nothing that was looked up can change it.
    fresh_for_seconds: Option<u64>,
    stale: bool,
}

#[derive(Debug, Serialize)]
struct Endpoint {
    address: SocketAddr,
    priority: u16,
    weight: u16,
}

/// Why something did not work, and at which step.
#[derive(Debug, Serialize)]
struct Trouble {
    step: &'static str,
    reason: String,
}

/// What the homeserver said when it was connected to.
#[derive(Debug, Serialize)]
struct Connection {
    address: SocketAddr,
    tcp_ms: f64,
    tls_ms: f64,
    tls_version: &'static str,
    cipher: &'static str,
    protocol: &'static str,
    certificate: Option<Certificate>,
}

/// What a certificate says.
#[derive(Debug, Serialize)]
struct Certificate {
    subject: String,
    issuer: String,
    names: Vec<String>,
    not_before_unix_ms: u64,
    not_after_unix_ms: u64,
    #[serde(skip)]
    shown: String,
}

impl Report {
    fn new(explanation: &Explanation, now: Instant) -> Self {
        let steps = explanation.steps.iter().map(|step| Step {
            step: step.kind.name(),
            subject: step.subject.to_string(),
            outcome: step.outcome.clone(),
            source: step.source.name(),
            took_ms: millis(step.took),
        });
        Self {
            name: explanation.name.to_string(),
            steps: steps.collect(),
            took_ms: millis(explanation.took),
            address: match &explanation.outcome {
                Ok(address) => Outcome::Address(Address::new(address, now)),
                Err(error) => Outcome::Error(Trouble::of(error)),
            },
            connection: None,
        }
    }

    /// Whether there is an address, and whoever is there answered if asked.
    fn works(&self) -> bool {
        matches!(self.address, Outcome::Address(_)) && !matches!(self.connection, Some(Err(_)))
    }

    fn json(&self) -> String {
        let text = serde_json::to_string_pretty(self).expect("texts and numbers can be written as JSON");
        text + "\n"
    }
}

impl Trouble {
    fn of(error: &ResolveError) -> Self {
        Self { step: error.step(), reason: error.to_string() }
    }
}

impl Address {
    fn new(address: &ResolvedFederationAddress, now: Instant) -> Self {
        let endpoints = address.endpoints.iter().map(|endpoint| Endpoint {
            address: endpoint.address,
            priority: endpoint.priority,
            weight: endpoint.weight,
        });
        Self {
            host: address.host_header.to_string(),
            certificate_name: address.certificate.to_string(),
            endpoints: endpoints.collect(),
            fresh_for_seconds: (address.fresh_until < Instant::FAR_FUTURE)
                .then(|| address.fresh_until.saturating_since(now).as_secs()),
            stale: address.stale,
        }
    }
}

impl Connection {
    async fn open(route: &Route, config: &Config, southbridge: &Southbridge) -> Result<Self, ConnectError> {
        let around = southbridge.kernel().surroundings();
        let clock = around.clock;
        let Security::Tls(name) = &route.security else {
            return Err(ConnectError::Exhausted {
                reason: "a homeserver without TLS has no certificate".to_owned(),
            });
        };
        let connector = TlsConnector::new(&config.tls, clock)
            .map_err(|error| ConnectError::Exhausted { reason: explain(&error) })?;
        let addresses: Vec<SocketAddr> = route.endpoints.iter().map(|endpoint| endpoint.address).collect();
        let start = clock.now();
        let (tcp, address) = dial(&addresses, &config.addresses, &config.transport.dial, around).await?;
        let dialled = clock.now();
        let timeout = config.transport.handshake_max;
        let handshake = Handshake { address, name, profile: route.profile, alpn: route.alpn, timeout };
        let (tls, negotiated) = connector.connect(tcp, &handshake).await?;
        Ok(Self {
            address,
            tcp_ms: millis(dialled.saturating_since(start)),
            tls_ms: millis(clock.now().saturating_since(dialled)),
            tls_version: negotiated.version,
            cipher: negotiated.cipher,
            protocol: if negotiated.alpn_h2 { "HTTP/2" } else { "HTTP/1.1" },
            certificate: tls.certificate().map(Certificate::from),
        })
    }
}

impl From<CertificateSummary> for Certificate {
    fn from(summary: CertificateSummary) -> Self {
        let shown = summary.to_string();
        Self {
            subject: summary.subject,
            issuer: summary.issuer,
            names: summary.names,
            not_before_unix_ms: summary.not_before.unix_millis(),
            not_after_unix_ms: summary.not_after.unix_millis(),
            shown,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.name)?;
        for Step { step, subject, outcome, source, took_ms } in &self.steps {
            writeln!(f, "  {step:<11} {subject}: {outcome} ({source}, {took_ms:.1} ms)")?;
        }
        match &self.address {
            Outcome::Address(address) => write!(f, "{address}")?,
            Outcome::Error(trouble) => {
                writeln!(f, "not found at the step {}: {}", trouble.step, trouble.reason)?;
            }
        }
        match &self.connection {
            Some(Ok(connection)) => write!(f, "{connection}"),
            Some(Err(trouble)) => writeln!(f, "not reached at the step {}: {}", trouble.step, trouble.reason),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, certificate_name, .. } = self;
        let fresh =
            self.fresh_for_seconds.map_or_else(|| "always fresh".to_owned(), |s| format!("fresh for {s} s"));
        let stale = if self.stale { "; stale, because a source fails" } else { "" };
        writeln!(f, "found: Host {host}, certificate for {certificate_name}, {fresh}{stale}")?;
        for Endpoint { address, priority, weight } in &self.endpoints {
            writeln!(f, "  {address} (priority {priority}, weight {weight})")?;
        }
        Ok(())
    }
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, tcp_ms, tls_ms, tls_version, cipher, protocol, .. } = self;
        let mut line = String::new();
        write!(
            line,
            "reached: {address}, TCP {tcp_ms:.1} ms, {tls_version} {tls_ms:.1} ms, {cipher}, {protocol}"
        )?;
        writeln!(f, "{line}")?;
        match &self.certificate {
            Some(certificate) => writeln!(f, "  certificate {}", certificate.shown),
            None => Ok(()),
        }
    }
}

/// A connection or a trouble: `{"opened": …}`, `{"error": …}`.
fn either<S: serde::Serializer>(
    connection: &Option<Result<Connection, Trouble>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    #[serde(rename_all = "snake_case")]
    enum Shown<'a> {
        Opened(&'a Connection),
        Error(&'a Trouble),
    }
    let shown = connection.as_ref().map(|connection| match connection {
        Ok(connection) => Shown::Opened(connection),
        Err(trouble) => Shown::Error(trouble),
    });
    shown.serialize(serializer)
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
