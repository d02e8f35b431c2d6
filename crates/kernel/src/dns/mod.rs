//! The one DNS subsystem: every name that the kernel's users want to reach is looked up here (F4).
//!
//! Answers are cached with their TTLs, within bounds; concurrent lookups of a name are one lookup; absence
//! (NXDOMAIN, NODATA) is an answer, and failure (SERVFAIL, silence) is not: while servers fail, what was
//! known stands in. Messages, the system's configuration and the hosts file are hickory's business; sockets are ours
//! (`docs/decisions` says why).
//!
//! # Units
//! Names are in any case, with or without the final dot, and always absolute: search domains are for people
//! at terminals. Addresses are IPv6 and IPv4 by turns; the order in which they are dialled is the racer's business.
//!
//! # Source
//! F4, K6; row 14 of the fault list. RFC 2308 (negative caching), RFC 6761 (special names), RFC 8767 (stale).

mod config;
mod kept;
mod line;
mod reading;
mod server;
mod step;
mod upstream;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::Query;
use hickory_proto::rr::{Name, RData, RecordType};
use hickory_resolver::Hosts;
use southbridge_policy::freshness::{Fetched, FreshnessCounters};
use southbridge_words::{Answer, Instant, LookupFailure, SrvRecord};

use self::kept::{Addresses, Asking};
use self::reading::Found;
use self::step::Step;
use self::upstream::Upstream;
use crate::{Alarm, Clock, Surroundings};
pub use config::{DnsConfig, DnsConfigError};
pub use reading::read_srv_message;

/// Looks names up. Cheap to clone; all clones share one cache. Its futures must run within a
/// [`LocalSet`](tokio::task::LocalSet), which also carries refreshes in the background.
#[derive(Clone)]
pub struct Dns {
    inner: Rc<Inner>,
}

/// Why a lookup gave no answer: the source failed, and nothing that was known could stand in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("looking up the {what} of {name} failed: {failure}")]
pub struct DnsError {
    /// What was looked up: `addresses`, `SRV records`.
    pub what: &'static str,
    /// Of which name.
    pub name: Arc<str>,
    /// What went wrong.
    pub failure: LookupFailure,
}

/// What the subsystem has done so far, and holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DnsCounters {
    /// The cache of addresses.
    pub addresses: FreshnessCounters,
    /// The cache of SRV records.
    pub srv: FreshnessCounters,
    /// Names held in both.
    pub names: usize,
    /// Questions put to name servers.
    pub queries: u64,
    /// Lookups that came to nothing.
    pub failures: u64,
    /// Questions that could be put at once from now.
    pub idle: usize,
}

struct Inner {
    clock: Clock,
    alarm: Alarm,
    upstream: Upstream,
    hosts: Hosts,
    negative_default: Duration,
    records_max: usize,
    addresses: Step<Addresses>,
    srv: Step<Arc<[SrvRecord]>>,
}

impl Dns {
    /// Sets DNS up. Reads the system's configuration and hosts file once; asks nobody yet.
    ///
    /// # Errors
    /// [`DnsConfigError`] when there is no server to ask, or a bound makes no sense.
    pub fn new(config: &DnsConfig, around: &Surroundings) -> Result<Self, DnsConfigError> {
        let upstream = Upstream::new(config, around)?;
        // A hosts file that cannot be read is one without lines, as for the C library.
        let hosts = Hosts::from_system();
        let hosts = hosts.ok().filter(|_| around.network.is_real()).unwrap_or_default();
        let seed = around.network.draw();
        Ok(Self {
            inner: Rc::new(Inner {
                clock: around.clock,
                alarm: around.alarm.clone(),
                upstream,
                hosts,
                negative_default: config.negative_default,
                records_max: config.records_max,
                addresses: Step::new("addresses", config.limits(), seed),
                srv: Step::new("SRV records", config.limits(), !seed),
            }),
        })
    }

    /// The addresses of `name`, A and AAAA together; empty when it has none. An IP literal is its own address.
    ///
    /// # Errors
    /// [`DnsError`] when no server knows, and nothing that was known can stand in.
    pub async fn addresses(&self, name: &str) -> Result<Answer<Arc<[IpAddr]>>, DnsError> {
        self.find_addresses(Asking::Passing(name)).await
    }

    /// The addresses of `name`, which is remembered in the very bytes that are handed in, where they can be.
    ///
    /// # Errors
    /// As [`addresses`](Self::addresses).
    pub async fn addresses_of(&self, name: &Arc<str>) -> Result<Answer<Arc<[IpAddr]>>, DnsError> {
        self.find_addresses(Asking::Shared(name)).await
    }

    async fn find_addresses(&self, name: Asking<'_>) -> Result<Answer<Arc<[IpAddr]>>, DnsError> {
        if let Ok(address) = name.as_str().parse::<IpAddr>() {
            let value = [address].into();
            return Ok(Answer { value, fresh_until: Instant::FAR_FUTURE, stale: false, cached: true });
        }
        let inner = &self.inner;
        let found =
            inner.addresses.get(name, inner, |inner| &inner.addresses, Inner::look_up_addresses).await;
        found.map(|Answer { value, fresh_until, stale, cached }| Answer {
            value: value.into(),
            fresh_until,
            stale,
            cached,
        })
    }

    /// The SRV records of `name` (`_service._proto.host`), in the order they came; empty when it has none.
    ///
    /// # Errors
    /// As [`addresses`](Self::addresses).
    pub async fn srv(&self, name: &str) -> Result<Answer<Arc<[SrvRecord]>>, DnsError> {
        self.find_srv(Asking::Passing(name)).await
    }

    /// The SRV records of `name`, which is remembered in the very bytes that are handed in, where they can be.
    ///
    /// # Errors
    /// As [`addresses`](Self::addresses).
    pub async fn srv_of(&self, name: &Arc<str>) -> Result<Answer<Arc<[SrvRecord]>>, DnsError> {
        self.find_srv(Asking::Shared(name)).await
    }

    async fn find_srv(&self, name: Asking<'_>) -> Result<Answer<Arc<[SrvRecord]>>, DnsError> {
        let inner = &self.inner;
        inner.srv.get(name, inner, |inner| &inner.srv, Inner::look_up_srv).await
    }

    /// Has `name` looked up anew the next time it is asked for; what is known can still stand in.
    pub fn distrust(&self, name: &str) {
        let now = self.inner.clock.now();
        self.inner.addresses.expire(name, now);
        self.inner.srv.expire(name, now);
    }

    /// What ends the patience of whoever asks.
    pub(crate) fn alarm(&self) -> &Alarm {
        &self.inner.alarm
    }

    /// What it has done so far, and holds.
    pub fn counters(&self) -> DnsCounters {
        let Inner { addresses, srv, upstream, .. } = &*self.inner;
        DnsCounters {
            addresses: addresses.counters(),
            srv: srv.counters(),
            names: addresses.len() + srv.len(),
            queries: upstream.queries(),
            failures: upstream.failures(),
            idle: upstream.idle(),
        }
    }
}

impl Inner {
    async fn look_up_srv(self: Rc<Self>, name: Arc<str>) -> Result<Fetched<Arc<[SrvRecord]>>, LookupFailure> {
        let found = self.upstream.ask::<SrvRecord>(absolute(&name)?, RecordType::SRV).await?;
        Ok(self.kept(found))
    }

    async fn look_up_addresses(self: Rc<Self>, name: Arc<str>) -> Result<Fetched<Addresses>, LookupFailure> {
        let absolute = absolute(&name)?;
        if let Some(addresses) = self.without_asking(&name, &absolute) {
            return Ok(self.kept(addresses));
        }
        let (v4, v6) = tokio::join!(
            self.upstream.ask(absolute.clone(), RecordType::A),
            self.upstream.ask(absolute.clone(), RecordType::AAAA),
        );
        Ok(self.kept(both(v4, v6, self.records_max)?))
    }

    /// Names that the hosts file or RFC 6761 knows.
    fn without_asking(&self, name: &str, absolute: &Name) -> Option<Found<IpAddr>> {
        let records_of = |kind| {
            let lookup = self.hosts.lookup_static_host(&Query::query(absolute.clone(), kind));
            lookup.map(|lookup| lookup.answers().iter().filter_map(|record| address(&record.data)).collect())
        };
        let v6: Option<Vec<IpAddr>> = records_of(RecordType::AAAA);
        let v4: Option<Vec<IpAddr>> = records_of(RecordType::A);
        let records = match (v6, v4) {
            (None, None) => match name.rsplit('.').next() {
                Some("localhost") => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
                Some("invalid" | "onion") => Vec::new(),
                _ => return None,
            },
            (v6, v4) => by_turns(&v6.unwrap_or_default(), &v4.unwrap_or_default(), self.records_max),
        };
        Some(Found { records, ttl: Some(KNOWN_LOCALLY) })
    }

    fn kept<R, V: From<Vec<R>> + Default>(&self, Found { records, ttl }: Found<R>) -> Fetched<V> {
        match records.is_empty() {
            true => Fetched::Absent(V::default(), ttl.unwrap_or(self.negative_default)),
            false => Fetched::Present(records.into(), ttl.unwrap_or_default()),
        }
    }
}

/// One family may fail if the other has addresses; then the whole is believed for a short time only.
fn both(
    v4: Result<Found<IpAddr>, LookupFailure>,
    v6: Result<Found<IpAddr>, LookupFailure>,
    records_max: usize,
) -> Result<Found<IpAddr>, LookupFailure> {
    let shorter = |ttl: Option<Duration>| Some(ttl.map_or(HALF_KNOWN, |ttl| ttl.min(HALF_KNOWN)));
    match (v4, v6) {
        (Ok(v4), Ok(v6)) => {
            let records = by_turns(&v6.records, &v4.records, records_max);
            // How long one family is absent does not matter while the other is there.
            let ttl = match (v4.records.is_empty(), v6.records.is_empty()) {
                (false, true) => v4.ttl,
                (true, false) => v6.ttl,
                _ => v4.ttl.into_iter().chain(v6.ttl).min(),
            };
            Ok(Found { records, ttl })
        }
        (Ok(one), Err(_)) | (Err(_), Ok(one)) if !one.records.is_empty() => {
            Ok(Found { ttl: shorter(one.ttl), ..one })
        }
        (Err(failure), _) | (_, Err(failure)) => Err(failure),
    }
}

/// One of each family in turn, so that a bound cuts off neither; each address once.
fn by_turns(v6: &[IpAddr], v4: &[IpAddr], records_max: usize) -> Vec<IpAddr> {
    let mut addresses = Vec::with_capacity((v6.len() + v4.len()).min(records_max));
    for at in 0..v6.len().max(v4.len()) {
        for address in [v6.get(at), v4.get(at)].into_iter().flatten() {
            if addresses.len() < records_max && !addresses.contains(address) {
                addresses.push(*address);
            }
        }
    }
    addresses
}

fn address(data: &RData) -> Option<IpAddr> {
    <IpAddr as reading::Kind>::from_data(data)
}

fn absolute(name: &str) -> Result<Name, LookupFailure> {
    let mut name = Name::from_ascii(name).map_err(|_| LookupFailure::Malformed)?;
    name.set_fqdn(true);
    Ok(name)
}

// How long an answer is believed when one family of addresses could not be learned.
const HALF_KNOWN: Duration = Duration::from_secs(30);
// What the hosts file says holds until the next start; it need only not be looked up for every request.
const KNOWN_LOCALLY: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests;
