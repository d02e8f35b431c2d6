//! A client's settings, made ready: files read, the environment looked at.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use southbridge_kernel::Clock;
use southbridge_kernel::tls::{TlsConfig, TlsConnector, TlsProfile};

use super::ClientError;
use super::config::{ClientConfig, ClientTls, ProxyChoice, Reach};
use super::proxy::ProxyRules;
use super::routes::SharedTls;
use super::urls::Urls;

/// What every request of a client needs to know of it.
pub(super) struct Settings {
    /// Which client it is.
    pub(super) id: u64,
    /// The same, in the names of what it shares with nobody.
    pub(super) key: String,
    pub(super) config: ClientConfig,
    pub(super) proxy: ProxyRules,
    pub(super) reach: Reach,
    pub(super) tls: SharedTls,
    pub(super) profile: TlsProfile,
    pub(super) http2: bool,
    pub(super) urls: Urls,
}

impl Settings {
    pub(super) fn new(config: ClientConfig) -> Result<Self, ClientError> {
        config.validate()?;
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let proxy = match &config.proxy {
            ProxyChoice::Direct => ProxyRules::default(),
            ProxyChoice::Rules(rules) => rules.clone(),
            ProxyChoice::Environment => ProxyRules::from_environment(|name| std::env::var(name).ok())?,
        };
        let tls = config.tls.as_ref().map(connector).transpose()?;
        let legacy = config.tls.as_ref().is_some_and(|tls| tls.legacy);
        Ok(Self {
            id,
            key: format!("client {id}"),
            proxy,
            reach: config.reach.clone(),
            tls,
            profile: if legacy { TlsProfile::Legacy } else { TlsProfile::Modern },
            http2: config.http2,
            urls: Urls::default(),
            config,
        })
    }
}

/// Reads the files of `tls`.
pub(super) fn connector(tls: &ClientTls) -> Result<Arc<TlsConnector>, ClientError> {
    let config = TlsConfig {
        ca_files: tls.ca_files.clone(),
        use_system_roots: !tls.only_ca_files,
        legacy: tls.legacy,
        certificate: tls.certificate.clone(),
        ..TlsConfig::default()
    };
    let connector = TlsConnector::new(&config, Clock::start())
        .map_err(|error| ClientError::InvalidSetting { setting: "tls", reason: error.to_string() })?;
    Ok(Arc::new(connector))
}

static NEXT: AtomicU64 = AtomicU64::new(1);
