//! The fake Internet that tests, the demo and the benchmarks use.
//!
//! Everything listens on free loopback ports, stops when dropped, and can be told something else while it
//! runs. The pieces run on the caller's tokio runtime (a current-thread one will do); [`world::World`] brings
//! its own thread, so that blocking tests and other processes can use it.
//!
//! | what | for example |
//! | --- | --- |
//! | [`answer`] | `Answer::parse(&wire)?.whole`: what a caller that speaks raw bytes was answered |
//! | [`certificates`] | `Authority::new().write_ca(path)`; `authority.pem_pair("a.test", CertificateKind::Expired)` |
//! | [`dns`] | `let dns = DnsServer::start().await?; dns.set("a.test", RecordType::A, Answer::ServFail); dns.queries("a.test", RecordType::A)` |
//! | [`homeserver`] | `let servers = Homeservers::start(authority).await?; servers.behave("a.test", Behaviour::HangAfterTls); servers.received_by("a.test")` |
//! | [`raw`] | `RawPeer::tls(&authority, Alpn::Http1, vec![faults::keep_alive_race(), faults::well()]).await?` |
//! | [`raw::http2`] | `Http2Peer::start(&authority, Http2Fault::GoAwayAfter(1)).await?` |
//! | [`black_hole`] | `BlackHole::open()?.address()` times out; `ClosedPort::reserve()?.address()` refuses |
//! | [`hostile`] | `hostile::serve_forever(&[], &mut stdin(), &mut stdout())`: every hostile peer, for suites in other languages |
//! | [`cut_proxy`] | `let proxy = CutProxy::start(upstream).await?; proxy.set(Mode::Throttle { bytes_per_second: 1 })` |
//! | [`world`] | `World::start(FederationSpec { hosts: 5000, black_hole_share: 0.2, ..Default::default() })?` |
//! | | `world::serve_forever(spec, stdin().lock(), stdout())`: the same in a process of its own |
//! | [`memory_outbox`] | `let disk = MemoryDisk::default(); let outbox = MemoryOutbox::open(&disk); disk.set_fate(Fate::CrashAfter)` |
//! | [`postgres`] | `let mut server = PostgresServer::start_on_tcp(Tcp { password, identity }); server.crash_and_restart()` |
//! | [`simulated`] | `simulate(&SimulationSpec { hosts: 5000, black_hole_share: 0.2, ..Default::default() })`: no socket at all |
//! | [`simulated_bus`] | `simulate_bus(&BusSpec::of_seed(7))`: the bus, its outbox and its hosts, and whatever may go wrong |
//!
//! # Architecture Invariant
//! Nothing in the house but tests, the demo and the benchmarks depends on this crate.

pub mod answer;
pub mod black_hole;
pub mod certificates;
pub mod cut_proxy;
pub mod dns;
pub mod homeserver;
pub mod hostile;
pub mod memory_outbox;
pub mod postgres;
#[cfg(test)]
mod probe;
pub mod raw;
mod shares;
pub mod simulated;
pub mod simulated_bus;
mod simulated_names;
mod task;
pub mod world;
