//! Asks the name servers: one after the other, the one that answered last first.

use std::cell::Cell;
use std::time::Duration;

use hickory_proto::op::Message;
use hickory_proto::rr::{Name, RecordType};
use southbridge_words::LookupFailure;
use tokio::sync::Semaphore;

use super::reading::{Found, Kind, Reading, judge, read};
use super::server::Server;
use super::{DnsConfig, DnsConfigError};
use crate::Surroundings;

/// The name servers, and how many questions they may be asked at a time.
pub(super) struct Upstream {
    servers: Vec<Server>,
    preferred: Cell<usize>,
    permits: Semaphore,
    rounds: usize,
    lookup_max: Duration,
    records_max: usize,
    queries: Cell<u64>,
    failures: Cell<u64>,
}

impl Upstream {
    pub(super) fn new(config: &DnsConfig, around: &Surroundings) -> Result<Self, DnsConfigError> {
        let addresses = config.validate()?;
        let server = |address| Server::new(address, config.timeout, around.clone());
        let servers: Vec<Server> = addresses.into_iter().map(server).collect();
        Ok(Self {
            lookup_max: config.lookup_max(servers.len()),
            rounds: (config.attempts as usize).saturating_mul(servers.len()),
            servers,
            preferred: Cell::new(0),
            permits: Semaphore::new(config.queries_max.min(Semaphore::MAX_PERMITS)),
            records_max: config.records_max,
            queries: Cell::new(0),
            failures: Cell::new(0),
        })
    }

    /// Records of type `kind` of `name`, which is absolute.
    pub(super) async fn ask<R: Kind>(&self, name: Name, kind: RecordType) -> Result<Found<R>, LookupFailure> {
        // Waiting for one's turn is not the server's fault, and not counted.
        let turn = tokio::time::timeout(TURN_MAX, self.permits.acquire()).await;
        let Ok(Ok(_permit)) = turn else { return Err(LookupFailure::Overloaded) };
        let asked = tokio::time::timeout(self.lookup_max, self.follow(name, kind)).await;
        let found = asked.unwrap_or(Err(LookupFailure::TimedOut));
        if found.is_err() {
            self.failures.set(self.failures.get() + 1);
        }
        found
    }

    /// Questions asked so far.
    pub(super) fn queries(&self) -> u64 {
        self.queries.get()
    }

    /// Lookups that came to nothing so far.
    pub(super) fn failures(&self) -> u64 {
        self.failures.get()
    }

    /// Questions that may be asked at once from now.
    pub(super) fn idle(&self) -> usize {
        self.permits.available_permits()
    }

    /// A recursive server follows aliases by itself; the few that stop half-way are helped along.
    async fn follow<R: Kind>(&self, mut name: Name, kind: RecordType) -> Result<Found<R>, LookupFailure> {
        let mut ttl = Duration::MAX;
        for _ in 0..ALIAS_QUESTIONS_MAX {
            let answer = self.exchange(&name, kind).await?;
            match read(&answer, &name, kind, self.records_max)? {
                Reading::Found(found) => {
                    return Ok(Found { ttl: found.ttl.map(|found| found.min(ttl)), ..found });
                }
                Reading::Alias(target, alias_ttl) => {
                    name = target;
                    ttl = ttl.min(alias_ttl);
                }
            }
        }
        Err(LookupFailure::Malformed)
    }

    /// Asks one server after the other until one knows; the order begins with the one that knew last.
    async fn exchange(&self, name: &Name, kind: RecordType) -> Result<Message, LookupFailure> {
        let first = self.preferred.get();
        let mut last = LookupFailure::TimedOut;
        for round in 0..self.rounds {
            let at = (first + round) % self.servers.len();
            self.queries.set(self.queries.get() + 1);
            match self.servers[at].ask(name, kind).await.and_then(judge) {
                Ok(answer) => {
                    self.preferred.set(at);
                    return Ok(answer);
                }
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }
}

/// How long a question may wait for its turn: the first message to a room of 5,000 servers asks 15,000 at once.
const TURN_MAX: Duration = Duration::from_secs(20);
/// How often an alias is asked for that an answer did not follow to its end.
const ALIAS_QUESTIONS_MAX: usize = 4;
