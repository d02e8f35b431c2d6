//! A whole federation on loopback: DNS, certificates, `.well-known`, and thousands of homeservers.
//!
//! It runs on a thread of its own, so that blocking tests and other processes can use it, and it costs a
//! few listeners however many names there are. Where a host is reached is spread as in the real one: by
//! `.well-known`, by SRV, by a port in the name, by default.
//!
//! ```no_run
//! # fn main() -> std::io::Result<()> {
//! use southbridge_testkit::world::{FederationSpec, World};
//! let world = World::start(FederationSpec { hosts: 300, black_hole_share: 0.2, ..FederationSpec::default() })?;
//! println!("[dns]\nservers = [\"{}\"]", world.dns_address());
//! println!("[tls]\nca_files = [{:?}]", world.ca_path());
//! let names: Vec<String> = world.names();
//! world.storm(0.3, 0.1); // from now on three in ten hang, and one in ten is slow
//! # Ok(()) }
//! ```
//!
//! # Source
//! Row 1 of the fault list (200, 1,000 and 5,000 hosts); Server-Server API, "Resolving server names".

mod plan;
mod serve;
mod tally;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::black_hole::BlackHole;
use crate::certificates::{Alpn, Authority};
use crate::dns::{Answer, DnsServer, RecordType};
use crate::homeserver::{Behaviour, Homeservers, HostScript, WellKnown};
use plan::Plan;
pub use plan::{FederationSpec, Health, Route, WorldHost};
pub use serve::serve_forever;
use tally::Tally;

/// A running federation; it stops when dropped.
#[derive(Debug)]
pub struct World {
    plan: Arc<Plan>,
    ports: Ports,
    dns: DnsServer,
    homeservers: Homeservers,
    authority: Arc<Authority>,
    directory: TempDir,
    tally: Arc<Mutex<Tally>>,
    _black_holes: Vec<BlackHole>,
    runner: Runner,
}

/// The thread, which ends when this is dropped.
#[derive(Debug, Default)]
struct Runner {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Where the world listens, on each of its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Where `.well-known` is served; 443 in the world outside.
    pub well_known: u16,
    /// Where names lead that have neither a port, nor `.well-known`, nor SRV; 8448 outside.
    pub default: u16,
    /// Where explicit ports, SRV records and `m.server` lead.
    pub federation: u16,
}

impl World {
    /// Starts everything on a thread of its own; returns when all ports are open.
    ///
    /// # Errors
    /// When sockets, files or the thread cannot be had.
    pub fn start(spec: FederationSpec) -> io::Result<Self> {
        raise_descriptor_limit();
        let (tell, told) = mpsc::channel();
        let thread =
            std::thread::Builder::new().name("testkit-world".into()).spawn(move || run(spec, &tell))?;
        let mut world = told.recv().map_err(io::Error::other)??;
        world.runner.thread = Some(thread);
        Ok(world)
    }

    /// The server names, as a Matrix user would write them; the n-th is that of the n-th of [`World::hosts`].
    pub fn names(&self) -> Vec<String> {
        self.plan.hosts().iter().map(|host| self.name(host)).collect()
    }

    /// The hosts with what is true of each; health as it is now.
    pub fn hosts(&self) -> Vec<WorldHost> {
        self.plan.hosts()
    }

    /// The server name of `host`: with a port where that is its route.
    pub fn name(&self, host: &WorldHost) -> String {
        match host.route {
            Route::ExplicitPort => format!("{}:{}", host.domain, self.ports.federation),
            _ => host.domain.clone(),
        }
    }

    /// Where the DNS server listens.
    pub fn dns_address(&self) -> SocketAddr {
        self.dns.address()
    }

    /// The root certificate, as a PEM file that lives as long as the world.
    pub fn ca_path(&self) -> std::path::PathBuf {
        self.directory.path().join(CA_FILE)
    }

    /// An empty directory for whoever uses the world; it lives as long.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Where it listens.
    pub fn ports(&self) -> Ports {
        self.ports
    }

    /// The port of `.well-known`.
    pub fn well_known_port(&self) -> u16 {
        self.ports.well_known
    }

    /// The port that stands for 8448.
    pub fn default_port(&self) -> u16 {
        self.ports.default
    }

    /// To script names beyond the plan, and to count queries.
    pub fn dns(&self) -> &DnsServer {
        &self.dns
    }

    /// To script hosts beyond the plan, and to see what came in.
    pub fn homeservers(&self) -> &Homeservers {
        &self.homeservers
    }

    /// Who signed the certificates.
    pub fn authority(&self) -> &Arc<Authority> {
        &self.authority
    }

    /// Draws afresh, from the same seed, which hosts hang and which are slow. A host that hangs lets new
    /// dials to it vanish once DNS is asked again, and answers nothing on old connections.
    pub fn storm(&self, black_hole_share: f64, slow_share: f64) {
        self.plan.draw_health(black_hole_share, slow_share);
    }

    /// All hosts are well, and those that hung close the connections on which they did.
    pub fn calm(&self) {
        self.storm(0.0, 0.0);
        self.homeservers.let_go();
    }

    /// Message `number` of `part` is handed in now. From the first mark on, what comes is counted.
    pub fn mark(&self, part: &str, number: u32) {
        let (plan, tally) = (Arc::clone(&self.plan), Arc::clone(&self.tally));
        self.homeservers.watch_sends(move |host, id, body| {
            let index = plan.find(host).and_then(|host| u32::try_from(host.index).ok());
            let Some(index) = index else { return };
            tally.lock().unwrap_or_else(PoisonError::into_inner).take(index, id, body, Instant::now());
        });
        self.tally().mark(part, number, Instant::now());
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes one host, by its place in [`World::hosts`].
    pub fn set_health(&self, index: usize, health: Health) {
        self.plan.set_health(index, health);
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has nothing left to do but return.
            let _ = thread.join();
        }
    }
}

fn run(spec: FederationSpec, tell: &mpsc::Sender<io::Result<World>>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(tell.send(Err(error))),
    };
    let (stop, stopped) = oneshot::channel();
    runtime.block_on(async {
        let mut world = build(spec).await;
        if let Ok(world) = &mut world {
            world.runner.stop = Some(stop);
        }
        if tell.send(world).is_ok() {
            let _ = stopped.await;
        }
    });
    // Connections that still hang are nobody's concern any more.
    runtime.shutdown_background();
}

async fn build(spec: FederationSpec) -> io::Result<World> {
    let authority = Authority::new();
    let directory = tempfile::Builder::new().prefix("southbridge-world-").tempdir()?;
    authority.write_ca(&directory.path().join(CA_FILE))?;
    let addresses = loopback_addresses(spec.addresses);
    let plan = Arc::new(Plan::new(spec));
    let homeservers = Homeservers::start(Arc::clone(&authority)).await?;
    let mut black_holes = Vec::new();
    let ports = Ports {
        well_known: open_port(&homeservers, &addresses, &mut black_holes).await?,
        default: open_port(&homeservers, &addresses, &mut black_holes).await?,
        federation: open_port(&homeservers, &addresses, &mut black_holes).await?,
    };
    homeservers.keep_at_most(plan.spec().requests_kept_max);
    let told = Arc::clone(&plan);
    homeservers.otherwise(move |domain| script(&told, ports, domain));
    let dns = DnsServer::start().await?;
    let told = Arc::clone(&plan);
    dns.otherwise(move |name, kind| answer(&told, ports, &addresses, name, kind));
    Ok(World {
        plan,
        ports,
        dns,
        homeservers,
        authority,
        directory,
        tally: Arc::default(),
        _black_holes: black_holes,
        runner: Runner::default(),
    })
}

/// One port that is free on all addresses, and on that of the black holes.
async fn open_port(
    homeservers: &Homeservers,
    addresses: &[IpAddr],
    black_holes: &mut Vec<BlackHole>,
) -> io::Result<u16> {
    let mut failure = io::Error::other("no port tried");
    for _ in 0..PORT_ATTEMPTS_MAX {
        let hole = BlackHole::open_at((BLACK_HOLE, 0).into())?;
        let port = hole.address().port();
        match listen_on_all(homeservers, addresses, port).await {
            Ok(()) => {
                black_holes.push(hole);
                return Ok(port);
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

async fn listen_on_all(homeservers: &Homeservers, addresses: &[IpAddr], port: u16) -> io::Result<()> {
    for address in addresses {
        homeservers.listen_also((*address, port).into()).await?;
    }
    Ok(())
}

/// What the host called `domain` does.
fn script(plan: &Plan, ports: Ports, domain: &str) -> Arc<HostScript> {
    let Some(host) = plan.find(domain) else { return Arc::default() };
    let delegate = format!("{}:{}", host.domain, ports.federation);
    Arc::new(HostScript {
        behaviour: match host.health {
            Health::BlackHole => Behaviour::HangAfterAccept,
            _ => Behaviour::Healthy,
        },
        well_known: match host.route {
            Route::WellKnown => WellKnown::Delegate(delegate),
            _ => WellKnown::Absent,
        },
        alpn: if host.http2 { Alpn::Http2 } else { Alpn::Http1 },
        latency: match host.health {
            Health::Slow => plan.spec().slow_latency,
            _ => plan.spec().latency,
        },
        ..HostScript::default()
    })
}

/// What DNS says of `name`.
fn answer(plan: &Plan, ports: Ports, addresses: &[IpAddr], name: &str, kind: RecordType) -> Option<Answer> {
    let ttl = plan.spec().dns_ttl;
    if let Some(domain) = name.strip_prefix("_matrix-fed._tcp.") {
        let host = plan.find(domain)?;
        return (host.route == Route::Srv && kind == RecordType::SRV)
            .then(|| Answer::srv(10, 0, ports.federation, &host.domain, ttl));
    }
    let host = plan.find(name)?;
    if kind != RecordType::A {
        return Some(Answer::NoData { ttl: Some(ttl) });
    }
    let address = match host.health {
        Health::BlackHole => IpAddr::V4(BLACK_HOLE),
        _ => addresses[host.index % addresses.len()],
    };
    Some(Answer::addresses(&[address], ttl))
}

fn loopback_addresses(count: u8) -> Vec<IpAddr> {
    (1..=count.clamp(1, ADDRESSES_MAX)).map(|n| IpAddr::from(Ipv4Addr::new(127, 0, 0, n))).collect()
}

/// Thousands of connections need as many descriptors; most systems allow more than they give at first.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // What is not granted shows when it is missed.
    let _ = setrlimit(Resource::Nofile, limit);
}

const CA_FILE: &str = "ca.pem";
/// Its own address, so that the same ports can be alive elsewhere.
const BLACK_HOLE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);
const ADDRESSES_MAX: u8 = 60;
const PORT_ATTEMPTS_MAX: usize = 32;

#[cfg(test)]
mod tests;
