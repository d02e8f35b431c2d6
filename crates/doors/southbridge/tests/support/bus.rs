//! A Federation Side Bus in a federation of a few names, with a real outbox on a real disk.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use southbridge::Southbridge;
use southbridge::bus::{Acknowledgement, BusConfig, Delivery, Results, SendError, SideBus};
use southbridge::federation::FederationConfig;
use southbridge_bus::externaliser::Event;
use southbridge_bus::outgoing::{OutgoingEdu, OutgoingPdu};
use southbridge_bus::signing::{KeyId, Numbers, Signer, SigningKey, SigningKeys, XMatrix, to_canonical};
use southbridge_kernel::KernelConfig;
use southbridge_kernel::dns::DnsConfig;
use southbridge_store_sqlite::{OutboxOptions, SqliteOutbox};
use southbridge_testkit::certificates::Authority;
use southbridge_testkit::dns::DnsServer;
use southbridge_testkit::homeserver::{Homeservers, HostScript, SentTransaction};
use southbridge_words::{ServerName, WallTime};
use tempfile::TempDir;
use tokio::task::LocalSet;

use super::Rig;
use super::federation::HOME;

/// The world around one bus.
pub struct BusWorld {
    pub rig: Rig,
    pub dns: DnsServer,
    /// Everybody's homeserver, on 8448.
    pub servers: Homeservers,
    pub southbridge: Southbridge,
    directory: TempDir,
}

/// Runs `story` in a federation where loopback may be dialled.
pub async fn in_bus_world(story: impl AsyncFnOnce(BusWorld)) {
    in_bus_world_with(|_| (), story).await;
}

/// The same with another configuration of the kernel. A story may let the clock jump, so nothing here watches it.
pub async fn in_bus_world_with(change: impl FnOnce(&mut KernelConfig), story: impl AsyncFnOnce(BusWorld)) {
    LocalSet::new()
        .run_until(async {
            let dns = DnsServer::start().await.expect("a port");
            let authority = Authority::new();
            let addresses = vec![dns.address()];
            let rig = Rig::trusting(authority.clone(), |config| {
                let timeout = Duration::from_millis(600);
                config.dns = DnsConfig { servers: addresses, timeout, attempts: 1, ..DnsConfig::default() };
                change(config);
            });
            let servers = Homeservers::start(authority).await.expect("a port");
            servers.record_sends();
            // One fleet is everybody's web server as well, and has no .well-known for anybody.
            let config = FederationConfig {
                well_known_timeout: Duration::from_secs(1),
                well_known_port: Some(servers.port()),
                default_port: Some(servers.port()),
                ..FederationConfig::default()
            };
            let southbridge = Southbridge::on(rig.kernel.clone(), config);
            let directory = tempfile::tempdir().expect("a directory");
            let world = BusWorld { rig, dns, servers, southbridge, directory };
            story(world).await;
        })
        .await;
}

impl BusWorld {
    /// The bus of [`ORIGIN`], with pauses that a test can wait for.
    pub async fn open(&self) -> SideBus {
        self.open_with(|_| ()).await
    }

    /// The same with another configuration.
    pub async fn open_with(&self, change: impl FnOnce(&mut BusConfig)) -> SideBus {
        let mut config = quick();
        change(&mut config);
        SideBus::open(&self.southbridge, Box::new(self.outbox()), signer(), config)
            .await
            .expect("the outbox of a test opens")
    }

    /// The outbox, which one bus at a time may have.
    pub fn outbox(&self) -> SqliteOutbox {
        SqliteOutbox::open(&self.outbox_path(), &OutboxOptions::default()).expect("a disk")
    }

    pub fn outbox_path(&self) -> PathBuf {
        self.directory.path().join("outbox.db")
    }

    /// Gives each of `names` the address of the whole federation.
    pub fn hosts<const N: usize>(&self, names: [&str; N]) -> [ServerName; N] {
        names.map(|name| {
            self.dns.host(name, &[HOME], 300);
            server(name)
        })
    }

    /// The numbers of the test PDUs that `host` has processed, in the order they came.
    pub fn numbers_at(&self, host: &ServerName) -> Vec<u64> {
        let sent = self.servers.sent_to(host.as_str());
        sent.iter().filter(|transaction| transaction.processed).flat_map(numbers_in).collect()
    }
}

/// Settings with pauses that a test can wait for.
pub fn quick() -> BusConfig {
    let mut config = BusConfig::new(server(ORIGIN));
    config.close_patience = Duration::from_secs(2);
    let queue = &mut config.limits.queue;
    queue.failure_first = Duration::from_millis(20);
    queue.wake_every = Duration::from_millis(20);
    config.limits.query_retry_first = Duration::from_millis(20);
    config
}

/// The numbers of the test PDUs in `transaction`.
pub fn numbers_in(transaction: &SentTransaction) -> Vec<u64> {
    let json = transaction.json();
    let pdus = json["pdus"].as_array().cloned().unwrap_or_default();
    pdus.iter().filter_map(|pdu| pdu["content"]["n"].as_u64()).collect()
}

/// Checks the signature of a transaction that `destination` was sent.
pub fn assert_signed(transaction: &SentTransaction, destination: &ServerName) {
    let [value] = &*transaction.authorization else { panic!("{:?}", transaction.authorization) };
    let shown = XMatrix::parse(value.as_bytes()).expect("X-Matrix");
    let content = to_canonical(&transaction.body, Numbers::Canonical).expect("JSON");
    let path = format!("/_matrix/federation/v1/send/{}", transaction.id);
    let key = signing_key().verify_key();
    shown.verify("PUT", &path, destination, Some(&content), &key).expect("a good signature");
    assert_eq!(shown.origin, server(ORIGIN));
}

/// The PDU with this number.
pub fn pdu(number: u64) -> OutgoingPdu {
    // With spaces and an order of its own, to see that nobody touches them.
    let text = format!(r#"{{"type": "m.room.message", "content":{{"n":{number}}}, "depth":{number}}}"#);
    OutgoingPdu::new(text).expect("a PDU")
}

/// An EDU.
pub fn edu(edu_type: &str, content: &serde_json::Value) -> OutgoingEdu {
    let wall = WallTime::from_unix_millis(1_800_000_000_000);
    OutgoingEdu::new(edu_type, Bytes::from(content.to_string()), wall).expect("an EDU")
}

/// Hands in the PDU with this number.
pub async fn send(bus: &SideBus, number: u64, to: &[ServerName]) -> Result<Acknowledgement, SendError> {
    bus.send_pdu(pdu(number), to.into(), None).await
}

/// Waits for the next delivery to `destination`.
pub async fn delivery_to(results: &mut Results, destination: &ServerName) -> Event {
    loop {
        match results.next().await.expect("the bus is there") {
            Delivery::Event { event, .. } => {
                if let Event::Delivered { destination: to, .. } = &*event
                    && to == destination
                {
                    return (*event).clone();
                }
            }
            Delivery::Gap { .. } => panic!("a gap"),
        }
    }
}

/// Waits until `holds` does, for at most twenty seconds; lets other threads run meanwhile.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "it never came about that {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A host that thinks for a while before each answer.
pub fn slow() -> HostScript {
    HostScript { latency: Duration::from_millis(300), ..HostScript::default() }
}

pub fn server(name: &str) -> ServerName {
    ServerName::parse(name).expect("a name")
}

fn signing_key() -> SigningKey {
    SigningKey::from_seed(KeyId::parse("ed25519:test").expect("a key id"), &[7; 32])
}

/// Signs for [`ORIGIN`].
pub fn signer() -> Signer {
    Signer::new(server(ORIGIN), SigningKeys::of(signing_key()))
}

/// The homeserver that the bus belongs to.
pub const ORIGIN: &str = "origin.test";

/// Destinations as they are handed in.
pub fn to(names: &[ServerName]) -> Arc<[ServerName]> {
    names.into()
}
