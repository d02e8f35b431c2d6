//! Which hosts there are, how each is found, and how each is doing.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use southbridge_policy::seeded::Seeded;

use crate::shares::deal;

/// What federation there shall be. Shares are parts of one; what is left over has no such property.
#[derive(Clone, Debug, PartialEq)]
pub struct FederationSpec {
    /// How many homeservers (default 300).
    pub hosts: usize,
    /// The share found by `.well-known` (default 0.5). Shares of routes add up to at most 1; hosts beyond
    /// them are found on the default port.
    pub well_known_share: f64,
    /// The share found by an SRV record (default 0.2).
    pub srv_share: f64,
    /// The share with a port in the name (default 0.2).
    pub explicit_port_share: f64,
    /// The share that never answers a SYN (default 0).
    pub black_hole_share: f64,
    /// The share that thinks long (default 0).
    pub slow_share: f64,
    /// How long a slow host thinks before each answer (default 3 s).
    pub slow_latency: Duration,
    /// How long the others think (default 0).
    pub latency: Duration,
    /// The share that offers HTTP/2 (default 0: homeservers behind nginx rarely do on 8448).
    pub h2_share: f64,
    /// How long DNS answers may be kept, in seconds (default 300).
    pub dns_ttl: u32,
    /// Over how many addresses, from 127.0.0.1 up, the hosts are spread (default 1, at most 60).
    pub addresses: u8,
    /// How many requests are kept to be looked at (default 1,000).
    pub requests_kept_max: usize,
    /// What decides which host is what (default 1).
    pub seed: u64,
}

impl Default for FederationSpec {
    fn default() -> Self {
        Self {
            hosts: 300,
            well_known_share: 0.5,
            srv_share: 0.2,
            explicit_port_share: 0.2,
            black_hole_share: 0.0,
            slow_share: 0.0,
            slow_latency: Duration::from_secs(3),
            latency: Duration::ZERO,
            h2_share: 0.0,
            dns_ttl: 300,
            addresses: 1,
            requests_kept_max: 1000,
            seed: 1,
        }
    }
}

/// How a host is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    /// `.well-known` names a host and a port.
    WellKnown,
    /// `_matrix-fed._tcp` has a record.
    Srv,
    /// The server name has a port.
    ExplicitPort,
    /// None of these: the default port.
    Default,
}

impl Route {
    /// The name used in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WellKnown => "well_known",
            Self::Srv => "srv",
            Self::ExplicitPort => "explicit_port",
            Self::Default => "default",
        }
    }
}

/// How a host is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// Answers.
    Healthy,
    /// Answers after `slow_latency`.
    Slow,
    /// Does not answer.
    BlackHole,
}

impl Health {
    pub(super) const ALL: [Self; 3] = [Self::Healthy, Self::Slow, Self::BlackHole];

    /// The name used in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Slow => "slow",
            Self::BlackHole => "black_hole",
        }
    }
}

/// One host of the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorldHost {
    /// Its place in the list.
    pub index: usize,
    /// Its DNS name.
    pub domain: String,
    /// How it is found.
    pub route: Route,
    /// How it is doing.
    pub health: Health,
    /// Whether it offers HTTP/2.
    pub http2: bool,
}

/// The properties of all hosts, three bytes each.
#[derive(Debug)]
pub(super) struct Plan {
    spec: FederationSpec,
    routes: Vec<Route>,
    http2: Vec<bool>,
    health: Vec<AtomicU8>,
}

impl Plan {
    pub(super) fn new(spec: FederationSpec) -> Self {
        let mut seeded = Seeded::new(spec.seed);
        let mut routes = vec![Route::Default; spec.hosts];
        let shares = [
            (Route::WellKnown, spec.well_known_share),
            (Route::Srv, spec.srv_share),
            (Route::ExplicitPort, spec.explicit_port_share),
        ];
        deal(&mut seeded, &mut routes, &shares);
        let mut http2 = vec![false; spec.hosts];
        deal(&mut seeded, &mut http2, &[(true, spec.h2_share)]);
        let health = (0..spec.hosts).map(|_| AtomicU8::new(0)).collect();
        let plan = Self { routes, http2, health, spec };
        plan.draw_health(plan.spec.black_hole_share, plan.spec.slow_share);
        plan
    }

    pub(super) fn spec(&self) -> &FederationSpec {
        &self.spec
    }

    pub(super) fn draw_health(&self, black_hole_share: f64, slow_share: f64) {
        let mut drawn = vec![Health::Healthy; self.spec.hosts];
        let mut seeded = Seeded::new(self.spec.seed.wrapping_add(1));
        deal(&mut seeded, &mut drawn, &[(Health::BlackHole, black_hole_share), (Health::Slow, slow_share)]);
        for (index, health) in drawn.into_iter().enumerate() {
            self.set_health(index, health);
        }
    }

    pub(super) fn set_health(&self, index: usize, health: Health) {
        if let Some(slot) = self.health.get(index) {
            slot.store(health as u8, Ordering::Relaxed);
        }
    }

    pub(super) fn hosts(&self) -> Vec<WorldHost> {
        (0..self.spec.hosts).filter_map(|index| self.host(index)).collect()
    }

    /// The host whose DNS name this is.
    pub(super) fn find(&self, domain: &str) -> Option<WorldHost> {
        let index = domain.strip_prefix("hs")?.strip_suffix(".fed.test")?;
        self.host(index.parse().ok()?)
    }

    pub(super) fn health(&self, index: usize) -> Option<Health> {
        let health = self.health.get(index)?.load(Ordering::Relaxed);
        Some(Health::ALL[usize::from(health)])
    }

    fn host(&self, index: usize) -> Option<WorldHost> {
        Some(WorldHost {
            health: self.health(index)?,
            index,
            domain: format!("hs{index}.fed.test"),
            route: self.routes[index],
            http2: self.http2[index],
        })
    }
}
