//! From the configuration to the settings of the rooms below.

use southbridge::federation::FederationConfig;
use southbridge::forward_proxy::{ForwardProxyConfig, Guard};
use southbridge::synapse_door::SynapseDoorConfig;
use southbridge_kernel::KernelConfig;
use southbridge_kernel::OpeningConfig;
use southbridge_kernel::http::HttpLimits;
use southbridge_kernel::stats::{Region, StatsConfig};
use southbridge_kernel::tls::TlsProfile;
use southbridge_words::Secret;

use crate::config::Config;

/// The settings of the kernel.
pub fn kernel(config: &Config, region: Option<Region>) -> KernelConfig {
    let transport = &config.transport;
    let opening = OpeningConfig {
        dial: transport.dial.clone(),
        handshake_max: transport.handshake_max,
        http: HttpLimits {
            head_bytes_max: transport.head_bytes_max,
            headers_max: transport.headers_max as usize,
        },
        streams_max: transport.streams_max,
    };
    KernelConfig {
        dns: config.dns.clone(),
        tls: config.tls.clone(),
        addresses: config.addresses.clone(),
        pool: config.pool.clone(),
        opening,
        admission: config.limits.clone(),
        ranker: config.hosts.clone(),
        budget: config.retries.clone(),
        body_rate_min: transport.body_rate_min,
        stats: StatsConfig {
            region,
            services_max: config.statistics.services_max as usize,
            endpoints_max: config.statistics.endpoints_max as usize,
        },
        seed: rand::random(),
    }
}

/// The settings of the Federation Resolver.
pub fn federation(config: &Config) -> FederationConfig {
    let legacy = config.host.iter().filter(|(_, host)| host.tls == TlsProfile::Legacy);
    let moved = |port, fixed| (port != fixed).then_some(port);
    FederationConfig {
        resolver: config.resolver.clone(),
        well_known_timeout: config.well_known_timeout,
        legacy_hosts: legacy.map(|(name, _)| name.as_str().to_owned()).collect(),
        well_known_port: moved(config.testing.well_known_port, 443),
        default_port: moved(config.testing.default_port, 8448),
        seed: rand::random(),
        ..FederationConfig::default()
    }
}

/// The settings of the door for Synapse.
pub fn synapse_door(config: &Config, secret: Secret) -> SynapseDoorConfig {
    let synapse = &config.synapse;
    SynapseDoorConfig {
        secret,
        connections_max: synapse.connections_max,
        head_timeout: synapse.head_timeout,
        request_timeout: synapse.request_timeout,
        request_body_bytes_max: synapse.request_body_bytes_max,
        bodies_bytes_max: synapse.bodies_bytes_max,
        stall_max: synapse.stall_max,
        redirects_max: synapse.redirects_max,
    }
}

/// The settings of the forward proxy.
pub fn forward_proxy(config: &Config) -> ForwardProxyConfig {
    let proxy = &config.forward_proxy;
    let guard = match &proxy.credentials {
        Some(credentials) => Guard::default().with_basic(&credentials.username, &credentials.password),
        None => Guard::default(),
    };
    ForwardProxyConfig {
        guard,
        connections_max: proxy.connections_max,
        tunnels_max: proxy.tunnels_max,
        head_timeout: proxy.head_timeout,
        connect_timeout: proxy.connect_timeout,
        idle_max: proxy.idle_max,
        request_timeout: proxy.request_timeout,
        request_body_bytes_max: proxy.request_body_bytes_max,
        stall_max: proxy.stall_max,
        ports_denied: proxy.ports_denied.iter().flat_map(|range| range.first..=range.last).collect(),
    }
}
