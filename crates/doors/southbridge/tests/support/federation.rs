//! A federation of a few names: their DNS, their web servers, their homeservers, and the resolver that finds them.

use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::time::Duration;

use southbridge::federation::{FederationConfig, FederationDiscovery};
use southbridge_kernel::KernelConfig;
use southbridge_kernel::dns::DnsConfig;
use southbridge_kernel::exchange::ExchangeError;
use southbridge_kernel::net::ConnectError;
use southbridge_testkit::certificates::Authority;
use southbridge_testkit::dns::DnsServer;
use southbridge_testkit::homeserver::{Canned, Homeservers, HostScript, WellKnown};
use southbridge_words::ServiceName;
use tokio::task::LocalSet;

use super::{PATIENCE, Rig, Target};

/// The world around one kernel.
pub struct Federation {
    pub rig: Rig,
    pub dns: DnsServer,
    /// Who answers on 443.
    pub web: Homeservers,
    /// Who answers on 8448, and wherever else names lead.
    pub matrix: Homeservers,
    discovery: Rc<FederationDiscovery>,
}

/// Runs `story` in a federation where loopback may be dialled.
pub async fn in_federation(story: impl AsyncFnOnce(Federation)) {
    in_federation_with(|_| (), story).await;
}

/// The same with another configuration. A story may let the clock jump, so nothing here watches it.
pub async fn in_federation_with(change: impl FnOnce(&mut KernelConfig), story: impl AsyncFnOnce(Federation)) {
    LocalSet::new()
        .run_until(async {
            let dns = DnsServer::start().await.expect("a port");
            let authority = Authority::new();
            let servers = vec![dns.address()];
            let rig = Rig::trusting(authority.clone(), |config| {
                let timeout = Duration::from_millis(600);
                config.dns = DnsConfig { servers, timeout, attempts: 1, ..DnsConfig::default() };
                change(config);
            });
            let web = Homeservers::start(authority.clone()).await.expect("a port");
            let matrix = Homeservers::start(authority).await.expect("a port");
            let config = FederationConfig {
                well_known_timeout: Duration::from_secs(1),
                well_known_port: Some(web.port()),
                default_port: Some(matrix.port()),
                ..FederationConfig::default()
            };
            let discovery = Rc::new(FederationDiscovery::new(rig.kernel.clone(), config));
            story(Federation { rig, dns, web, matrix, discovery }).await;
        })
        .await;
}

/// Lets the clock jump. It only stands still meanwhile: the sockets are real.
pub async fn wait(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

impl Federation {
    /// `name`, to be found by the resolver.
    pub fn find(&self, name: &str) -> Target {
        Target { service: ServiceName::new(name), discovery: self.discovery.clone() }
    }

    /// Gives `domain` the address of the whole federation.
    pub fn host(&self, domain: &str) {
        self.dns.host(domain, &[HOME], 300);
    }

    /// From now on `domain` says this when it is asked for its .well-known.
    pub fn well_known(&self, domain: &str, says: WellKnown) {
        self.web.set(domain, HostScript { well_known: says, ..HostScript::default() });
    }

    /// A delegation to `host` on the homeservers' port, believed for ten minutes.
    pub fn delegation(&self, host: &str) -> WellKnown {
        let body = format!(r#"{{"m.server":"{host}:{}"}}"#, self.matrix.port());
        WellKnown::Canned(Canned::json(200, &body).with("cache-control", "max-age=600"))
    }

    /// Asks `name` for its version. What comes back must have come from somewhere.
    pub async fn ask(&self, name: &str) -> Result<(), ExchangeError> {
        let mut call = self.rig.get(&self.find(name), PATIENCE);
        *call.request.uri_mut() = "/_matrix/federation/v1/version".parse().expect("a path");
        let (status, _) = self.rig.ask(call).await?;
        assert_eq!(status.as_u16(), 200, "{name}");
        Ok(())
    }

    /// Asks `name`, and says which host (by its `Host` header) answered.
    pub async fn who_answers(&self, name: &str) -> Result<String, ExchangeError> {
        self.ask(name).await?;
        let last = self.matrix.received().pop().expect("somebody answered");
        Ok(last.host)
    }
}

/// Whether the address policy was what stood in the way.
pub fn is_denied(error: &ExchangeError) -> bool {
    matches!(error, ExchangeError::Connect { source, .. } if matches!(**source, ConnectError::Denied { .. }))
}

/// Where all good names lead.
pub const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// An address within, where tests put a listener that must hear nothing.
pub const PRIVATE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
