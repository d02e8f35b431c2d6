//! What came of a story.

use std::time::Duration;

use southbridge_words::Instant;

/// What came of a story in which no promise was broken.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BusReport {
    /// A hash over everything that happened, with its times: two stories that agree in it are one.
    pub fingerprint: u64,
    /// Things that happened.
    pub facts: u64,
    /// Points at which the process could have crashed.
    pub points: u64,
    /// How often it did.
    pub crashes: u64,
    /// Items handed in, those handed in again included.
    pub handed_in: u64,
    /// Durable items acknowledged.
    pub accepted: u64,
    /// Items refused.
    pub refused: u64,
    /// Queries ended.
    pub queries: u64,
    /// Times that something was given up, by order or because its receiver refused it.
    pub given_up: u64,
    /// The most of anything at once.
    pub most: Most,
    /// Hosts that were not well, were cut off, moved, or could not be found for a while.
    pub touched: Vec<bool>,
    /// When nothing was left to be done.
    pub ended_at: Instant,
    /// Every transaction that went out: when, to which host, and whether it had gone out before.
    pub transmissions: Vec<(Instant, usize, bool)>,
    /// Every first arrival of a durable item: at which host, when it was handed in, when it arrived.
    pub arrivals: Vec<(usize, Instant, Instant)>,
    /// Every first arrival of an item that an earlier process had left: at which host, and when.
    pub backlog_arrivals: Vec<(usize, Instant)>,
}

/// The most of anything at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the limits")]
pub struct Most {
    pub sends: usize,
    pub connections: u32,
    pub item_bytes: usize,
    pub volatile_bytes: usize,
}

impl BusReport {
    /// How long durable items took from being handed in to their arrival at hosts that `are` of interest: the time
    /// that `share` of them did not exceed.
    pub fn latency(&self, share: f64, are: impl Fn(usize) -> bool) -> Duration {
        let of_interest = self.arrivals.iter().filter(|(host, ..)| are(*host));
        let mut took: Vec<Duration> = of_interest.map(|(_, since, at)| at.saturating_since(*since)).collect();
        took.sort_unstable();
        let at = (share * took.len() as f64).ceil() as usize;
        took.get(at.saturating_sub(1)).copied().unwrap_or_default()
    }

    /// The most transactions that went out within any `window`, to whomever.
    pub fn busiest(&self, window: Duration) -> usize {
        let mut from = 0;
        let mut most = 0;
        for (until, (at, ..)) in self.transmissions.iter().enumerate() {
            while self.transmissions[from].0 + window < *at {
                from += 1;
            }
            most = most.max(until + 1 - from);
        }
        most
    }

    pub(super) fn transmitted(&mut self, at: Instant, host: usize, is_repetition: bool) {
        self.transmissions.push((at, host, is_repetition));
    }

    pub(super) fn received(&mut self, host: usize, since: Instant, at: Instant) {
        self.arrivals.push((host, since, at));
    }

    pub(super) fn received_of_backlog(&mut self, host: usize, at: Instant) {
        self.backlog_arrivals.push((host, at));
    }

    pub(super) fn fold(&mut self, now: Instant, what: &str, one: u64, other: u64) {
        let name = what.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        for number in [now.as_nanos(), name, one, other] {
            // SplitMix64's finaliser, chained: order counts.
            let mut z = (self.fingerprint ^ number).wrapping_add(0x9E37_79B9_7F4A_7C15);
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            self.fingerprint = z ^ (z >> 31);
        }
    }
}
