//! The hosts of the simulated world: how each is found, how it does, and how far away it is.

use std::time::Duration;

use southbridge_policy::seeded::Seeded;
use southbridge_words::{Instant, ServerName, ServiceName};

use super::SimulationSpec;
use crate::shares::deal;

/// How a host does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Answers within 20 to 170 ms.
    Healthy,
    /// Answers within 3 to 9 s.
    Slow,
    /// Never answers a SYN, and nothing on old connections.
    BlackHole,
    /// Refuses connections, and cuts old ones.
    Refusing,
    /// Refuses and cuts for half of every minute, and is healthy in the other half.
    Flapping,
    /// Its name cannot be resolved; else healthy.
    DnsFailing,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::Healthy, Self::Slow, Self::BlackHole, Self::Refusing, Self::Flapping, Self::DnsFailing];

    /// The name used in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Slow => "slow",
            Self::BlackHole => "black hole",
            Self::Refusing => "refusing",
            Self::Flapping => "flapping",
            Self::DnsFailing => "dns failing",
        }
    }
}

/// How a host is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    WellKnown,
    Srv,
    ExplicitPort,
    Default,
}

/// One host.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) name: ServerName,
    pub(super) service: ServiceName,
    pub(super) domain: String,
    pub(super) kind: Kind,
    pub(super) route: Route,
    pub(super) http2: bool,
    /// There and back on the wire.
    pub(super) round_trip: Duration,
    phase: Duration,
}

/// What a host does to a dial or a request, now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    /// Answers, after so long beyond the wire.
    Answers(Duration),
    /// Nothing.
    Silent,
    /// RST.
    Refuses,
}

impl Host {
    /// How it takes what arrives at `now`; its own time to think is drawn from `seeded`.
    pub(super) fn mood(&self, spec: &SimulationSpec, now: Instant, seeded: &mut Seeded) -> Mood {
        let millis = |from: u64, width: u64, seeded: &mut Seeded| {
            Mood::Answers(Duration::from_millis(from + seeded.below(width)))
        };
        if now < Instant::ZERO + spec.calm_for {
            return millis(5, 50, seeded);
        }
        match self.kind {
            Kind::Healthy | Kind::DnsFailing => millis(5, 50, seeded),
            Kind::Slow => millis(3_000, 6_000, seeded),
            Kind::BlackHole => Mood::Silent,
            Kind::Refusing => Mood::Refuses,
            Kind::Flapping if self.is_in_bad_half(now) => Mood::Refuses,
            Kind::Flapping => millis(5, 50, seeded),
        }
    }

    /// Whether its name cannot be resolved now.
    pub(super) fn is_unresolvable(&self, spec: &SimulationSpec, now: Instant) -> bool {
        self.kind == Kind::DnsFailing && now >= Instant::ZERO + spec.calm_for
    }

    fn is_in_bad_half(&self, now: Instant) -> bool {
        let at = now.saturating_since(Instant::ZERO) + self.phase;
        at.as_secs() % FLAP.as_secs() < FLAP.as_secs() / 2
    }
}

/// Draws all hosts.
pub(super) fn draw(spec: &SimulationSpec, seeded: &mut Seeded) -> Vec<Host> {
    let mut kinds = vec![Kind::Healthy; spec.hosts];
    let shares = [
        (Kind::BlackHole, spec.black_hole_share),
        (Kind::Slow, spec.slow_share),
        (Kind::Refusing, spec.refusing_share),
        (Kind::Flapping, spec.flapping_share),
        (Kind::DnsFailing, spec.dns_failing_share),
    ];
    deal(seeded, &mut kinds, &shares);
    let mut routes = vec![Route::Default; spec.hosts];
    let shares = [
        (Route::WellKnown, spec.well_known_share),
        (Route::Srv, spec.srv_share),
        (Route::ExplicitPort, spec.explicit_port_share),
    ];
    deal(seeded, &mut routes, &shares);
    let mut http2 = vec![false; spec.hosts];
    deal(seeded, &mut http2, &[(true, spec.h2_share)]);
    (0..spec.hosts).map(|index| host(index, kinds[index], routes[index], http2[index], seeded)).collect()
}

fn host(index: usize, kind: Kind, route: Route, http2: bool, seeded: &mut Seeded) -> Host {
    let domain = format!("hs{index}.sim");
    let name = match route {
        Route::ExplicitPort => format!("{domain}:8448"),
        _ => domain.clone(),
    };
    let name = ServerName::parse(&name).expect("the names of the simulated world are server names");
    Host {
        service: ServiceName::from(&name),
        name,
        domain,
        kind,
        route,
        http2,
        round_trip: Duration::from_millis(10 + seeded.below(100)),
        phase: Duration::from_secs(seeded.below(FLAP.as_secs())),
    }
}

const FLAP: Duration = Duration::from_secs(60);
