//! How a bus at a port is set up.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ipnet::IpNet;
use southbridge_bus::externaliser::ExternaliserLimits;
use southbridge_bus::owed::OwedLimits;
use southbridge_bus::signing::{Signer, SigningKeys};
use southbridge_kernel::Clock;
use southbridge_kernel::discovery::Way;
use southbridge_kernel::http::explain;
use southbridge_kernel::net::AddressPolicy;
use southbridge_kernel::tls::{TlsConfig, TlsConnector};
use southbridge_words::{Secret, ServerName};

use super::BusId;
use crate::bus::{BusConfig, ResultLimits};
use crate::client::ClientError;
use crate::federation::FederationConfig;

/// How a bus at a port is set up.
#[derive(Clone, Debug)]
pub struct BusSetup {
    /// In whose name it speaks.
    pub origin: ServerName,
    /// What it signs with, in the format of Synapse's `signing.key`.
    pub signing_keys: Secret,
    /// PEM files of certificate authorities that are trusted as well.
    pub ca_files: Vec<PathBuf>,
    /// Whether the system's are not trusted: only those of `ca_files` are then. Default false.
    pub only_ca_files: bool,
    /// Which addresses may be dialled. Strangers choose the names. Default: public ones.
    pub addresses: AddressPolicy,
    /// When a destination is given back.
    pub owed: OwedLimits,
    /// Bounds and paces of the queues.
    pub limits: ExternaliserLimits,
    /// How long closing waits for what is under way. Default 3 s.
    pub close_patience: Duration,
    /// For test worlds: the port dialled for .well-known instead of 443.
    pub well_known_port: Option<u16>,
}

impl BusSetup {
    /// A bus of `origin`, and all else by default.
    pub fn new(origin: ServerName, signing_keys: Secret) -> Self {
        Self {
            origin,
            signing_keys,
            ca_files: Vec::new(),
            only_ca_files: false,
            addresses: AddressPolicy::default(),
            owed: OwedLimits::default(),
            limits: ExternaliserLimits::default(),
            close_patience: Duration::from_secs(3),
            well_known_port: None,
        }
    }
}

/// Public addresses, those of `allow` as well, and not those of `deny`; networks such as `10.0.0.0/8`, or single addresses.
///
/// # Errors
/// [`ClientError::InvalidSetting`] names what is no network.
pub fn addresses(allow: &[String], deny: &[String]) -> Result<AddressPolicy, ClientError> {
    let network = |text: &String| {
        let single = || text.parse::<IpAddr>().map(IpNet::from);
        text.parse().or_else(|_| single()).map_err(|_| ClientError::InvalidSetting {
            setting: "addresses",
            reason: format!("{text:?} is neither a network nor an address"),
        })
    };
    let networks = |texts: &[String]| texts.iter().map(network).collect::<Result<Vec<IpNet>, _>>();
    Ok(AddressPolicy::new(networks(allow)?, networks(deny)?))
}

/// A bus that is about to be opened: its files have been read.
pub struct PreparedBus {
    pub(super) id: BusId,
    pub(super) signer: Signer,
    pub(super) bus: BusConfig,
    pub(super) federation: FederationConfig,
    pub(super) owed: OwedLimits,
}

impl PreparedBus {
    /// Reads the files of `setup`, which may block, and checks it.
    ///
    /// # Errors
    /// [`ClientError::InvalidSetting`] names what cannot be used.
    pub fn new(setup: BusSetup) -> Result<Self, ClientError> {
        let invalid = |setting, reason: String| ClientError::InvalidSetting { setting, reason };
        setup.limits.validate().map_err(|error| invalid("limits", error.to_string()))?;
        let text = std::str::from_utf8(setup.signing_keys.expose())
            .map_err(|_| invalid("signing_keys", "they are no text".to_owned()))?;
        let keys = SigningKeys::parse(text).map_err(|error| invalid("signing_keys", error.to_string()))?;
        let tls = TlsConfig {
            ca_files: setup.ca_files.clone(),
            use_system_roots: !setup.only_ca_files,
            ..TlsConfig::default()
        };
        let tls =
            TlsConnector::new(&tls, Clock::start()).map_err(|error| invalid("ca_files", explain(&error)))?;
        let id = BusId(NEXT.fetch_add(1, Ordering::Relaxed));
        let way = Way {
            key: format!("bus {}", id.0).into(),
            addresses: Some(setup.addresses),
            tls: Some(Arc::new(tls)),
            proxy: None,
            limits: None,
        };
        let federation = FederationConfig {
            way: Some(way),
            well_known_port: setup.well_known_port,
            seed: rand::random(),
            ..FederationConfig::default()
        };
        let bus = bus_config(setup.origin.clone(), setup.limits, setup.close_patience);
        Ok(Self { id, signer: Signer::new(setup.origin, keys), bus, federation, owed: setup.owed })
    }

    /// What it will be called.
    pub fn id(&self) -> BusId {
        self.id
    }
}

/// A bus of `origin`, of which one ear hears.
pub(crate) fn bus_config(
    origin: ServerName,
    limits: ExternaliserLimits,
    close_patience: Duration,
) -> BusConfig {
    // A message to all destinations, a few times over: they are read at once.
    let results = ResultLimits { results_max: RESULTS_MAX, ..ResultLimits::default() };
    BusConfig { limits, close_patience, results, ..BusConfig::new(origin) }
}

static NEXT: AtomicU64 = AtomicU64::new(1);
const RESULTS_MAX: usize = 100_000;
