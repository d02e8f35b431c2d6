//! A Federation Side Bus in the test's own process, which speaks in the name of a homeserver of a [`Federation`].
//!
//! Everything here stays on the thread of a tokio `LocalSet`.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use serde_json::value::RawValue;
use southbridge::Southbridge;
use southbridge::bus::keys::VerifiedEvent;
use southbridge::bus::{Acknowledgement, BusConfig, Delivery, KeysConfig, Results, SideBus};
use southbridge::federation::FederationConfig;
use southbridge_bus::externaliser::{Event, QueueView};
use southbridge_bus::outgoing::{OutgoingEdu, OutgoingPdu, OutgoingQuery, QueryMethod};
use southbridge_bus::signing::{RoomVersion, Signer, SigningKeys};
use southbridge_kernel::KernelConfig;
use southbridge_kernel::dns::DnsConfig;
use southbridge_kernel::net::AddressPolicy;
use southbridge_kernel::tls::TlsConfig;
use southbridge_store_sqlite::{OutboxOptions, SqliteOutbox};
use southbridge_words::{ServerName, WallTime};
use tempfile::TempDir;

use crate::failure::{Failure, Result, While};
use crate::federation::Federation;
use crate::synapse::SynapseProcess;

/// A Southbridge on this thread that finds the homeservers of `federation` as the daemons of its households do.
///
/// # Errors
/// The certificates cannot be read.
pub fn southbridge(federation: &Federation) -> Result<Southbridge> {
    let loopback = "127.0.0.0/8".parse().while_doing("loopback")?;
    let kernel = KernelConfig {
        dns: DnsConfig { servers: vec![federation.dns.address()], ..DnsConfig::default() },
        tls: TlsConfig {
            ca_files: vec![federation.ca_file()],
            use_system_roots: false,
            ..TlsConfig::default()
        },
        addresses: AddressPolicy::new([loopback], []),
        ..KernelConfig::default()
    };
    let resolver =
        FederationConfig { well_known_port: Some(federation.others.port()), ..FederationConfig::default() };
    Southbridge::new(kernel, resolver).while_doing("Southbridge")
}

/// Signs in the name of `synapse` with the key that it signs with itself.
///
/// # Errors
/// Its key file cannot be read.
pub fn signer_of(synapse: &SynapseProcess) -> Result<Signer> {
    let file = synapse.signing_key_file();
    let text = std::fs::read_to_string(&file).while_doing(file.display())?;
    let keys = SigningKeys::parse(&text).while_doing(file.display())?;
    Ok(Signer::new(server(synapse.server_name())?, keys))
}

/// A bus with an outbox of its own.
pub struct Speaker {
    bus: SideBus,
    results: Results,
    directory: TempDir,
}

impl Speaker {
    /// A bus that speaks for whomever `signer` signs for.
    ///
    /// # Errors
    /// There is no disk.
    pub async fn open(southbridge: &Southbridge, signer: Signer) -> Result<Self> {
        Self::open_with(southbridge, signer, KeysConfig::default()).await
    }

    /// The same with other sources of keys.
    ///
    /// # Errors
    /// There is no disk.
    pub async fn open_with(southbridge: &Southbridge, signer: Signer, keys: KeysConfig) -> Result<Self> {
        let directory = tempfile::tempdir().while_doing("directory")?;
        Self::open_in(directory, southbridge, signer, keys).await
    }

    /// The bus is closed and another opened on its outbox, which signs with `signer`, and is told to go to
    /// `destination` at once.
    ///
    /// # Errors
    /// The outbox does not open again.
    pub async fn sign_with(
        self,
        signer: Signer,
        southbridge: &Southbridge,
        destination: &str,
    ) -> Result<Self> {
        self.bus.close().await;
        let successor = Self::open_in(self.directory, southbridge, signer, KeysConfig::default()).await?;
        successor.bus.wake(&server(destination)?);
        Ok(successor)
    }

    async fn open_in(
        directory: TempDir,
        southbridge: &Southbridge,
        signer: Signer,
        keys: KeysConfig,
    ) -> Result<Self> {
        let path = directory.path().join("outbox.db");
        let outbox = SqliteOutbox::open(&path, &OutboxOptions::default()).while_doing(path.display())?;
        let config = BusConfig { keys, ..BusConfig::new(signer.origin().clone()) };
        let bus = SideBus::open(southbridge, Box::new(outbox), signer, config).await;
        let bus = bus.while_doing(path.display())?;
        Ok(Self { results: bus.results(None), bus, directory })
    }

    /// The event with this id as `homeserver` has it, byte for byte.
    ///
    /// # Errors
    /// It does not give it away.
    pub async fn fetch(&self, event: &str, homeserver: &str) -> Result<OutgoingPdu> {
        let what = format!("{event} of {homeserver}");
        let query = OutgoingQuery::new(QueryMethod::Get, "/_matrix/federation/v1/event/{eventId}");
        let answer = self.bus.query(query.path("eventId", event), server(homeserver)?, QUERY_MAX).await;
        let answer = answer.map_err(|error| Failure::new(format!("{what}: {error:?}")))?;
        let parts: BTreeMap<String, &RawValue> = serde_json::from_slice(answer.bytes()).while_doing(&what)?;
        let pdus = parts.get("pdus").while_doing(&what)?;
        let pdus: Vec<&RawValue> = serde_json::from_str(pdus.get()).while_doing(&what)?;
        let pdu = pdus.first().while_doing(&what)?.get().to_owned();
        Ok(OutgoingPdu::new(pdu).while_doing(&what)?.with_event_id(event))
    }

    /// Hands in a PDU for `destination`.
    ///
    /// # Errors
    /// It is refused.
    pub async fn pdu(&self, pdu: OutgoingPdu, destination: &str) -> Result<Acknowledgement> {
        self.bus.send_pdu(pdu, [server(destination)?].into(), None).await.while_doing("PDU")
    }

    /// Hands in an EDU, made just now, for `destination`.
    ///
    /// # Errors
    /// It is refused.
    pub async fn edu(&self, edu_type: &str, content: &Value, destination: &str) -> Result<Acknowledgement> {
        let edu = OutgoingEdu::new(edu_type, content.to_string(), now()).while_doing(edu_type)?;
        self.bus.send_edu(edu, [server(destination)?].into(), None).await.while_doing(edu_type)
    }

    /// Waits until destinations have taken `items` durable items more, without a word against any.
    ///
    /// # Errors
    /// A PDU was refused, or items were given up.
    pub async fn delivered(&mut self, items: u32) -> Result<()> {
        let mut taken = 0;
        while taken < items {
            match self.results.next().await.while_doing("results")? {
                Delivery::Event { event, .. } => match &*event {
                    Event::Delivered { response, items, .. } if response.errors.is_empty() => taken += items,
                    other => return Err(Failure::new(format!("{other:?}"))),
                },
                Delivery::Gap { .. } => return Err(Failure::new("results were missed")),
            }
        }
        Ok(())
    }

    /// Whether the event `pdu`, of a room of this version, is what its servers signed, by keys that are fetched.
    ///
    /// # Errors
    /// It is not, or the keys are not to be had.
    pub async fn verify(&self, pdu: &OutgoingPdu, room_version: &str) -> Result<VerifiedEvent> {
        let version = RoomVersion::parse(room_version).while_doing(room_version)?;
        let verified = self.bus.keys().verify_event(pdu.bytes(), &version, QUERY_MAX).await;
        verified.while_doing("verification")
    }

    /// How many fetches of keys there were: from origins, and from notaries.
    pub fn key_fetches(&self) -> (u64, u64) {
        let counters = self.bus.keys().counters();
        (counters.origin_fetches, counters.notary_fetches)
    }

    /// How the queue for `destination` stands, if it has one.
    ///
    /// # Errors
    /// That is no server name.
    pub fn queue(&self, destination: &str) -> Result<Option<QueueView>> {
        Ok(self.bus.queue(&server(destination)?))
    }
}

fn server(name: &str) -> Result<ServerName> {
    ServerName::parse(name).while_doing(name)
}

fn now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime::from_unix_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Shorter than a step.
const QUERY_MAX: Duration = Duration::from_secs(20);
