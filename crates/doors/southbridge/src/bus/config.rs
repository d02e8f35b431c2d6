//! How the bus is set up.

use std::sync::Arc;
use std::time::Duration;

use southbridge_bus::externaliser::ExternaliserLimits;
use southbridge_store_thread::ThreadLimits;
use southbridge_words::{PerClass, ServerName};
use tokio::sync::Notify;

use super::KeysConfig;

/// How the Federation Side Bus is set up.
#[derive(Clone, Debug)]
pub struct BusConfig {
    /// In whose name it speaks.
    pub origin: ServerName,
    /// Bounds and paces of the queues.
    pub limits: ExternaliserLimits,
    /// How much the thread of the outbox takes at a time.
    pub outbox: ThreadLimits,
    /// Bounds of what comes back.
    pub answers: AnswerLimits,
    /// How the keys of others are fetched and remembered.
    pub keys: KeysConfig,
    /// Bounds of what is kept of the results.
    pub results: ResultLimits,
    /// How often the outbox looks after itself: lets go of what everybody has, applies retention limits, renews
    /// leases. Default 5 s.
    pub upkeep_every: Duration,
    /// Rings when other processes may have done something that concerns this one, so that it need not wait for the next
    /// upkeep. None where the outbox has one user.
    pub news: Option<Arc<Notify>>,
    /// How long [`SideBus::close`](super::SideBus::close) waits for what is under way. Default 10 s.
    pub close_patience: Duration,
    /// Seed of all jitter and of transaction ids: no two processes may have the same. Random by default.
    pub seed: u64,
}

impl BusConfig {
    /// A bus that speaks in the name of `origin`, and all else by default.
    pub fn new(origin: ServerName) -> Self {
        Self {
            origin,
            limits: ExternaliserLimits::default(),
            outbox: ThreadLimits::default(),
            answers: AnswerLimits::default(),
            keys: KeysConfig::default(),
            results: ResultLimits::default(),
            upkeep_every: Duration::from_secs(5),
            news: None,
            close_patience: Duration::from_secs(10),
            seed: rand::random(),
        }
    }
}

/// Bounds of what comes back, in bytes of the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerLimits {
    /// Of the answer to a transaction. Default 1 MiB: fifty errors of 20 KiB.
    pub transaction_bytes_max: u64,
    /// Of the answer to a query, by its class. Default: 16 MiB where a person waits for a profile or keys, 128 MiB
    /// for the state of a room that is joined, 64 MiB for what mends the graph of a room, 1 MiB for what should
    /// not come as a query at all (media).
    pub query_bytes_max: PerClass<u64>,
    /// Of an answer that is not 2xx: more than this says nothing. Default 64 KiB.
    pub error_bytes_max: u64,
    /// Of all answers that are being read. Default 256 MiB.
    pub all_bytes_max: u64,
}

impl Default for AnswerLimits {
    fn default() -> Self {
        Self {
            transaction_bytes_max: 1 << 20,
            // Interactive, join, live, repair, media, backfill.
            query_bytes_max: PerClass([16 << 20, 128 << 20, 16 << 20, 64 << 20, 1 << 20, 64 << 20]),
            error_bytes_max: 64 << 10,
            all_bytes_max: 256 << 20,
        }
    }
}

/// Bounds of what is kept of the results for those who read them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultLimits {
    /// How many. Default 20,000: a message to 10,000 homeservers, twice.
    pub results_max: usize,
    /// How many bytes of what destinations say about single PDUs. Default 8 MiB.
    pub bytes_max: usize,
}

impl Default for ResultLimits {
    fn default() -> Self {
        Self { results_max: 20_000, bytes_max: 8 << 20 }
    }
}
