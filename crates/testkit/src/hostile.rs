//! Every hostile peer at once, in a process of its own: for suites that are not written in Rust.
//!
//! It says in one line of JSON where they are (`peers`: a URL for each name) and whom to trust (`ca`, in PEM), and
//! ends with its standard input, so that it cannot outlive whoever started it. Names have a group and a fault, such
//! as `cut off/reset within a length`; [`serve_forever`] starts those that begin with one of the words it is given.
//!
//! # Source
//! Rows 1, 2, 4, 5, 6, 8, 9 and 11 of the fault list.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::black_hole::{BlackHole, ClosedPort};
use crate::certificates::{Alpn, Authority, CertificateKind, CertificatesByName};
use crate::raw::http2::{Http2Fault, Http2Peer};
use crate::raw::{RawPeer, Step, faults};

/// Starts the peers whose names begin with one of `wanted` (all of them if nothing is wanted in particular), writes
/// one line to `output`, and serves until `input` ends.
///
/// # Errors
/// When a socket cannot be had, there is no peer of such a name, or nobody listens to what is said.
pub fn serve_forever(wanted: &[String], input: &mut impl Read, output: &mut impl Write) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let peers = runtime.block_on(Peers::start(wanted))?;
    writeln!(output, "{}", peers.describe())?;
    output.flush()?;
    io::copy(input, &mut io::sink()).map(drop)
}

/// What runs. Everything stops when it is dropped.
pub struct Peers {
    authority: Arc<Authority>,
    urls: BTreeMap<String, String>,
    running: Vec<Running>,
}

/// What is held so that it goes on.
enum Running {
    Raw { _peer: RawPeer },
    Http2 { _peer: Http2Peer },
    Hole { _hole: BlackHole },
    Closed { _port: ClosedPort },
}

impl Peers {
    /// Those whose names begin with one of `wanted`, or all.
    ///
    /// # Errors
    /// When a socket cannot be had, or there is no peer of such a name.
    pub async fn start(wanted: &[String]) -> io::Result<Self> {
        let mut peers = Self { authority: Authority::new(), urls: BTreeMap::new(), running: Vec::new() };
        for (name, script) in scripts() {
            if is_wanted(&name, wanted) {
                let peer = RawPeer::plain(vec![script]).await?;
                peers.add(name, &url("http", peer.address()), Running::Raw { _peer: peer });
            }
        }
        peers.start_unreachable(wanted)?;
        peers.start_tls(wanted).await?;
        for (name, fault) in HTTP2 {
            let name = format!("http2/{name}");
            if is_wanted(&name, wanted) {
                let peer = Http2Peer::start(&peers.authority, fault).await?;
                peers.add(name, &url("https", peer.address()), Running::Http2 { _peer: peer });
            }
        }
        if peers.urls.is_empty() {
            let message = format!("no hostile peer is called {}", wanted.join(" or "));
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Ok(peers)
    }

    /// What another process has to know.
    pub fn describe(&self) -> Value {
        json!({ "ca": self.authority.ca_pem(), "peers": self.urls })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.running.len()
    }

    fn add(&mut self, name: String, url: &str, running: Running) {
        self.urls.insert(name, url.to_owned());
        self.running.push(running);
    }

    fn start_unreachable(&mut self, wanted: &[String]) -> io::Result<()> {
        if is_wanted("connect/black hole", wanted) {
            let hole = BlackHole::open()?;
            self.add(
                "connect/black hole".to_owned(),
                &url("http", hole.address()),
                Running::Hole { _hole: hole },
            );
        }
        if is_wanted("connect/refused", wanted) {
            let port = ClosedPort::reserve()?;
            self.add(
                "connect/refused".to_owned(),
                &url("http", port.address()),
                Running::Closed { _port: port },
            );
        }
        Ok(())
    }

    /// One server for all certificates: it is asked by the name whose certificate is meant. And what is no TLS.
    async fn start_tls(&mut self, wanted: &[String]) -> io::Result<()> {
        for (name, host, kind) in CERTIFICATES {
            let name = format!("certificate/{name}");
            if is_wanted(&name, wanted) {
                let certificates = CertificatesByName::new(Arc::clone(&self.authority));
                certificates.set(host, kind);
                let peer = RawPeer::tls_of(&certificates, Alpn::Http1, vec![faults::well()]).await?;
                let url = format!("https://{host}:{}", peer.address().port());
                self.add(name, &url, Running::Raw { _peer: peer });
            }
        }
        for (name, script) in not_tls() {
            if is_wanted(&name, wanted) {
                let peer = RawPeer::plain(vec![script]).await?;
                self.add(name, &url("https", peer.address()), Running::Raw { _peer: peer });
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peers").field("urls", &self.urls).finish_non_exhaustive()
    }
}

fn is_wanted(name: &str, wanted: &[String]) -> bool {
    wanted.is_empty() || wanted.iter().any(|word| name.starts_with(word.as_str()))
}

fn url(scheme: &str, address: SocketAddr) -> String {
    format!("{scheme}://{address}")
}

/// What is played over plain TCP.
fn scripts() -> Vec<(String, Vec<Step>)> {
    let groups = [
        ("cut off", faults::cut_off()),
        ("framing", faults::misframed()),
        ("endless", faults::endless(ENDLESS_MAX)),
    ];
    let mut all: Vec<_> = groups
        .into_iter()
        .flat_map(|(group, list)| {
            list.into_iter().map(move |(name, script)| (format!("{group}/{name}"), script))
        })
        .collect();
    let slow = [
        ("slow/never", vec![Step::ReadRequest, Step::Stall]),
        ("slow/deaf", vec![Step::Deaf]),
        ("slow/head drips", faults::drip_head(DRIP)),
        ("slow/body drips", faults::drip(1 << 20, 1, DRIP)),
        ("slow/body stops", vec![Step::ReadRequest, Step::write(HALF), Step::Stall]),
        ("idle/closed", faults::close_when_idle()),
        ("idle/reset under the second request", faults::keep_alive_reset()),
        ("well/plain", faults::well()),
    ];
    all.extend(slow.map(|(name, script)| (name.to_owned(), script)));
    all
}

/// What answers a handshake of TLS with something else.
fn not_tls() -> Vec<(String, Vec<Step>)> {
    let plain = vec![
        Step::Read(1),
        Step::write("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
        Step::Close,
    ];
    [
        ("tls/answers in plain HTTP", plain),
        ("tls/closes", vec![Step::Read(1), Step::Close]),
        ("tls/resets", vec![Step::Read(1), Step::Reset]),
        ("tls/says nothing", vec![Step::Stall]),
    ]
    .map(|(name, script)| (name.to_owned(), script))
    .into()
}

/// Names, the host each is asked by, and what its certificate is like.
const CERTIFICATES: [(&str, &str, CertificateKind); 9] = [
    ("good", "good.localhost", CertificateKind::Good),
    ("wildcard too high", "a.b.localhost", CertificateKind::WildcardTooHigh),
    ("expired", "expired.localhost", CertificateKind::Expired),
    ("not yet valid", "early.localhost", CertificateKind::NotYetValid),
    ("wrong name", "other.localhost", CertificateKind::WrongName),
    ("unknown authority", "unknown.localhost", CertificateKind::OtherAuthority),
    ("self-signed", "self.localhost", CertificateKind::SelfSigned),
    ("name in the subject only", "subject.localhost", CertificateKind::NoSan),
    ("huge chain", "huge.localhost", CertificateKind::HugeChain),
];

const HTTP2: [(&str, Http2Fault); 11] = [
    ("well", Http2Fault::None),
    ("resets each request", Http2Fault::ResetEach(2)),
    ("one stream at a time", Http2Fault::StreamsMax(1)),
    ("window of zero", Http2Fault::WindowZero),
    ("goes away after one", Http2Fault::GoAwayAfter(1)),
    ("continuation flood", Http2Fault::ContinuationFlood),
    ("settings flood", Http2Fault::SettingsFlood),
    ("ping flood", Http2Fault::PingFlood),
    ("empty data flood", Http2Fault::EmptyDataFlood),
    ("header bomb", Http2Fault::HeaderBomb),
    ("mute", Http2Fault::Mute),
];

const HALF: &str = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789";

/// Enough to pass every bound of ours but that of a body.
const ENDLESS_MAX: u64 = 16 << 20;

const DRIP: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_them_say_where_they_are_and_end_with_their_input() {
        let mut said = Vec::new();
        serve_forever(&[], &mut io::empty(), &mut said).unwrap();
        let told: Value = serde_json::from_slice(&said).unwrap();
        let peers = told["peers"].as_object().unwrap();
        assert!(peers.len() > 60, "{}", peers.len());
        assert!(peers.values().all(|url| url.as_str().unwrap().starts_with("http")));
        assert!(told["ca"].as_str().unwrap().contains("BEGIN CERTIFICATE"));
    }

    #[test]
    fn one_is_started_by_the_beginning_of_its_name() {
        let mut said = Vec::new();
        serve_forever(&["tls/resets".to_owned()], &mut io::empty(), &mut said).unwrap();
        let told: Value = serde_json::from_slice(&said).unwrap();
        assert_eq!(told["peers"].as_object().unwrap().keys().collect::<Vec<_>>(), ["tls/resets"]);
        let error = serve_forever(&["tsl".to_owned()], &mut io::empty(), &mut said).unwrap_err();
        assert_eq!(error.to_string(), "no hostile peer is called tsl");
    }
}
