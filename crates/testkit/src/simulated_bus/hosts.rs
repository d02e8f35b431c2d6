//! The hosts of the simulated world: how each does, and what it has received.

use std::time::Duration;

use bytes::Bytes;
use rustc_hash::FxHashMap;
use southbridge_policy::seeded::Seeded;
use southbridge_words::{Instant, ServerName, ServiceName};

use super::homes::{Home, Way};
use super::spec::BusSpec;
use crate::simulated_names;

/// How a host does until all trouble ceases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ailment {
    /// Answers within 5 to 55 ms.
    None,
    /// Thinks for 3 to 120 s.
    Slow,
    /// Never answers anything.
    Dead,
    /// Refuses connections.
    Refusing,
    /// Refuses for half of every minute.
    Flapping,
    /// Its name cannot be resolved.
    Nameless,
    /// Answers 429, with and without `Retry-After`.
    RateLimiting,
    /// Answers 502 most of the time, before or after it did the work.
    Failing,
    /// Answers 413 to what is too large for it.
    Small,
    /// Answers 520 to what is too large for it, having done the work or not.
    SmallBehindCdn,
    /// Answers 403.
    Unwelcoming,
    /// Answers 200 and nonsense most of the time, having done the work or not.
    Garbling,
    /// Answers 410.
    Gone,
}

const AILMENTS: [Ailment; 12] = [
    Ailment::Slow,
    Ailment::Dead,
    Ailment::Refusing,
    Ailment::Flapping,
    Ailment::Nameless,
    Ailment::RateLimiting,
    Ailment::Failing,
    Ailment::Small,
    Ailment::SmallBehindCdn,
    Ailment::Unwelcoming,
    Ailment::Garbling,
    Ailment::Gone,
];

/// One host.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) name: ServerName,
    pub(super) service: ServiceName,
    pub(super) ailment: Ailment,
    pub(super) is_in_outage: bool,
    pub(super) home: Home,
    /// There and back on the wire.
    pub(super) round_trip: Duration,
    /// The largest body it takes, while it is small.
    pub(super) bytes_max: usize,
    /// Nothing reaches it.
    pub(super) is_cut_out: bool,
    /// Nothing comes back.
    pub(super) is_cut_back: bool,
    phase: Duration,
    /// The transactions it has processed: their bodies.
    pub(super) processed: FxHashMap<std::sync::Arc<str>, Bytes>,
}

/// Whether a host can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Open,
    Silent,
    Refusing,
}

impl Host {
    pub(super) fn reach(&self, spec: &BusSpec, now: Instant, is_healed: bool) -> Reach {
        let since_start = now.saturating_since(Instant::ZERO);
        let is_out = spec.outage.is_some_and(|(_, from, to)| (from..to).contains(&since_start));
        if self.is_in_outage && is_out && !is_healed {
            return Reach::Silent;
        }
        match self.ailment {
            _ if is_healed => Reach::Open,
            Ailment::Dead => Reach::Silent,
            Ailment::Refusing => Reach::Refusing,
            Ailment::Flapping if (since_start + self.phase).as_secs() % 60 < 30 => Reach::Refusing,
            _ => Reach::Open,
        }
    }
}

/// Draws all hosts.
pub(super) fn draw(spec: &BusSpec, chance: &mut Seeded) -> Vec<Host> {
    (0..spec.hosts).map(|index| host(index, spec, chance)).collect()
}

fn host(index: usize, spec: &BusSpec, chance: &mut Seeded) -> Host {
    let is_ailing = chance.factor(0.0, 1.0) < spec.ailing_share;
    let ailment = AILMENTS[chance.below(AILMENTS.len() as u64) as usize];
    let outage_share = spec.outage.map_or(0.0, |(share, ..)| share);
    let home = Home::draw(spec, chance);
    let port = if home.way == Way::Port { ":8448" } else { "" };
    let name = ServerName::parse(&format!("hs{index}.sim{port}")).expect("it is a server name");
    Host {
        service: ServiceName::from(&name),
        name,
        ailment: if is_ailing { ailment } else { Ailment::None },
        home,
        is_in_outage: chance.factor(0.0, 1.0) < outage_share,
        round_trip: Duration::from_millis(10 + chance.below(100)),
        bytes_max: 1_000 + chance.below(40_000) as usize,
        is_cut_out: false,
        is_cut_back: false,
        phase: Duration::from_secs(chance.below(60)),
        processed: FxHashMap::default(),
    }
}

/// The place of the host with this name.
pub(super) fn index_of(name: &ServerName) -> usize {
    simulated_names::index_of(name.as_str())
}
