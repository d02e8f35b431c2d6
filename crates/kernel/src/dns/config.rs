//! What names are looked up with, and the bounds on what is believed.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::config::ProtocolConfig;
use hickory_resolver::system_conf::read_system_conf;
use southbridge_policy::freshness::FreshnessLimits;

/// How DNS is asked and how long its answers are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsConfig {
    /// The recursive name servers, tried in this order. Default: none, which means the system's
    /// (`/etc/resolv.conf`).
    pub servers: Vec<SocketAddr>,
    /// How long one server is given for one question, resends included. Default 3 s.
    pub timeout: Duration,
    /// How many times the list of servers is gone through. Default 2.
    pub attempts: u32,
    /// Records are believed at least so long, whatever their TTL. Default 5 s: a TTL of zero would
    /// otherwise be a question for every request.
    pub ttl_min: Duration,
    /// Records are believed at most so long. Default 24 h.
    pub ttl_max: Duration,
    /// "There are no such records" is believed at most so long. Default 1 h.
    pub negative_max: Duration,
    /// How long that is believed when the answer does not say (no SOA). Default 60 s.
    pub negative_default: Duration,
    /// How long past their time records may stand in for servers that fail. Default 24 h; RFC 8767 suggests one
    /// to three days.
    pub stale_max: Duration,
    /// How long the first failure to look a name up is remembered; doubles. Default 1 s.
    pub failure_first: Duration,
    /// The longest time a failure is remembered. Default 30 s.
    pub failure_max: Duration,
    /// Names remembered, for addresses and for SRV each. Default 20 000.
    pub entries_max: u32,
    /// Records used of one answer. Default 32.
    pub records_max: usize,
    /// Questions under way at a time; each may hold a socket, when its answer needs TCP. Default 256.
    pub queries_max: usize,
    /// Callers waiting for answers in all. Default 20 000.
    pub waiting_max: u32,
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            timeout: Duration::from_secs(3),
            attempts: 2,
            ttl_min: Duration::from_secs(5),
            ttl_max: Duration::from_secs(24 * 3600),
            negative_max: Duration::from_secs(3600),
            negative_default: Duration::from_secs(60),
            stale_max: Duration::from_secs(24 * 3600),
            failure_first: Duration::from_secs(1),
            failure_max: Duration::from_secs(30),
            entries_max: 20_000,
            records_max: 32,
            queries_max: 256,
            waiting_max: 20_000,
        }
    }
}

/// Why DNS cannot be set up.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DnsConfigError {
    /// No server was given, and the system's configuration does not name one.
    #[error("the system names no DNS server: {reason}; name one with dns.servers")]
    NoSystemServers {
        /// What reading it said.
        reason: String,
    },
    /// A value that would make every lookup fail.
    #[error("dns.{field} is {value}: it must be at least {least}")]
    TooSmall {
        /// Which.
        field: &'static str,
        /// What it was.
        value: String,
        /// What it must be.
        least: &'static str,
    },
}

impl DnsConfig {
    /// Checks the bounds, and gives the servers to ask.
    pub(super) fn validate(&self) -> Result<Vec<SocketAddr>, DnsConfigError> {
        let too_small = |field, value: String, least| Err(DnsConfigError::TooSmall { field, value, least });
        if self.timeout < TIMEOUT_MIN {
            return too_small("timeout", format!("{:?}", self.timeout), "10ms");
        }
        for (field, value) in [
            ("attempts", self.attempts as usize),
            ("entries_max", self.entries_max as usize),
            ("records_max", self.records_max),
            ("queries_max", self.queries_max),
            ("waiting_max", self.waiting_max as usize),
        ] {
            if value == 0 {
                return too_small(field, "0".into(), "1");
            }
        }
        if self.servers.is_empty() { system_servers() } else { Ok(self.servers.clone()) }
    }

    /// The longest time one lookup takes: every server, every attempt, and a wait for its turn.
    pub(super) fn lookup_max(&self, servers: usize) -> Duration {
        let rounds = self.attempts.saturating_mul(u32::try_from(servers).unwrap_or(u32::MAX));
        self.timeout.saturating_mul(rounds.min(ROUNDS_MAX))
    }

    pub(super) fn limits(&self) -> FreshnessLimits {
        FreshnessLimits {
            entries_max: self.entries_max,
            waiting_max: self.waiting_max,
            background_max: BACKGROUND_MAX,
            fresh_min: self.ttl_min,
            fresh_max: self.ttl_max,
            absent_max: self.negative_max,
            stale_max: self.stale_max,
            failure_first: self.failure_first,
            failure_max: self.failure_max,
        }
    }
}

fn system_servers() -> Result<Vec<SocketAddr>, DnsConfigError> {
    let (system, _) =
        read_system_conf().map_err(|error| DnsConfigError::NoSystemServers { reason: error.to_string() })?;
    let mut servers = Vec::new();
    for server in system.name_servers() {
        let udp = server.connections.iter().find(|one| matches!(one.protocol, ProtocolConfig::Udp));
        let address = SocketAddr::new(server.ip, udp.map_or(DNS_PORT, |udp| udp.port));
        // A name server of `0.0.0.0` means this machine, as it does for the C library.
        let address = if server.ip == IpAddr::from([0, 0, 0, 0]) {
            SocketAddr::new(IpAddr::from([127, 0, 0, 1]), address.port())
        } else {
            address
        };
        if !servers.contains(&address) {
            servers.push(address);
        }
    }
    servers.truncate(SYSTEM_SERVERS_MAX);
    match servers.is_empty() {
        true => Err(DnsConfigError::NoSystemServers { reason: "no nameserver line".into() }),
        false => Ok(servers),
    }
}

const TIMEOUT_MIN: Duration = Duration::from_millis(10);
const DNS_PORT: u16 = 53;
/// As many as the C library uses.
const SYSTEM_SERVERS_MAX: usize = 3;
/// A lookup does not take longer than this many timeouts, however many servers there are.
const ROUNDS_MAX: u32 = 6;
const BACKGROUND_MAX: u32 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_that_admit_nothing_are_refused_with_their_name() {
        let servers = vec![SocketAddr::from(([127, 0, 0, 1], 53))];
        let good = DnsConfig { servers, ..DnsConfig::default() };
        assert!(good.validate().is_ok());
        let refused = |config: DnsConfig| config.validate().expect_err("refused").to_string();
        let timeout = DnsConfig { timeout: Duration::ZERO, ..good.clone() };
        assert_eq!(refused(timeout), "dns.timeout is 0ns: it must be at least 10ms");
        let entries = DnsConfig { entries_max: 0, ..good };
        assert_eq!(refused(entries), "dns.entries_max is 0: it must be at least 1");
    }
}
