//! Where hosts live and how they are found: what is true, and what the sources of it say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use southbridge_policy::seeded::Seeded;
use southbridge_words::{LookupFailure, SrvRecord};

use super::driver::Simulation;
use super::hosts::Ailment;
use super::spec::BusSpec;

/// Where a host lives, and how it is found.
#[derive(Clone, Debug)]
pub(super) struct Home {
    pub(super) way: Way,
    /// Counts its moves. Addresses, delegated names and SRV targets are of one of them.
    pub(super) moves: u32,
    /// How long its records may be believed.
    pub(super) ttl: Duration,
    /// It has an address of each family, and nothing answers at the IPv6 one.
    pub(super) is_half_deaf: bool,
    /// What is wrong with its name servers.
    pub(super) dns_fault: Option<DnsFault>,
    /// What is wrong with its `.well-known`.
    pub(super) well_known_fault: Option<WellKnownFault>,
}

/// How a host is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By the port in its name.
    Port,
    /// By `.well-known`.
    WellKnown,
    /// By SRV records.
    Srv,
    /// On port 8448.
    Default,
}

/// What is wrong with name servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DnsFault {
    ServFail,
    Silent,
    Refused,
}

/// What is wrong with a `.well-known` host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WellKnownFault {
    /// 500.
    Failing,
    /// 200, and the page of somebody who wants a password first.
    CaptivePortal,
    /// No answer.
    Silent,
    /// 404, although it delegates.
    Forgetful,
}

/// What is at an address that was a host's once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The host.
    Itself,
    Nobody,
    /// Nothing, not even a refusal.
    Silence,
    /// Somebody else, with a certificate of their own.
    Stranger,
}

impl DnsFault {
    const ALL: [Self; 3] = [Self::ServFail, Self::Silent, Self::Refused];

    pub(super) fn failure(self) -> LookupFailure {
        match self {
            Self::ServFail => LookupFailure::ServFail,
            Self::Silent => LookupFailure::TimedOut,
            Self::Refused => LookupFailure::Refused,
        }
    }

    pub(super) fn draw(chance: &mut Seeded) -> Self {
        Self::ALL[chance.below(3) as usize]
    }
}

impl WellKnownFault {
    const ALL: [Self; 4] = [Self::Failing, Self::CaptivePortal, Self::Silent, Self::Forgetful];

    pub(super) fn draw(chance: &mut Seeded) -> Self {
        Self::ALL[chance.below(4) as usize]
    }
}

impl Home {
    pub(super) fn draw(spec: &BusSpec, chance: &mut Seeded) -> Self {
        let is_by_port = chance.factor(0.0, 1.0) >= spec.named_share;
        let way = [Way::WellKnown, Way::WellKnown, Way::Srv, Way::Default][chance.below(4) as usize];
        let ttl = Duration::from_secs([0, 60, 300, 86_400][chance.below(4) as usize]);
        Self {
            way: if is_by_port { Way::Port } else { way },
            moves: 0,
            ttl,
            is_half_deaf: chance.factor(0.0, 1.0) < spec.half_deaf_share,
            dns_fault: None,
            well_known_fault: None,
        }
    }

    /// It moves: to another address, and perhaps to be found another way. The name keeps its port, if it has one.
    pub(super) fn relocate(&mut self, chance: &mut Seeded) {
        self.moves += 1;
        let way = [Way::WellKnown, Way::Srv, Way::Default][chance.below(3) as usize];
        if self.way != Way::Port && chance.below(6) == 0 {
            self.way = way;
        }
    }

    /// Whom it delegates to, if it does.
    pub(super) fn delegate(&self, host: usize) -> Option<String> {
        (self.way == Way::WellKnown).then(|| format!("d{}.hs{host}.sim:8448", self.moves))
    }

    /// The SRV records of `name`.
    pub(super) fn srv(&self, name: &str) -> Vec<SrvRecord> {
        let domain = name.strip_prefix("_matrix-fed._tcp.hs").filter(|_| self.way == Way::Srv);
        let target = domain.map(|rest| format!("t{}.hs{rest}", self.moves));
        target
            .map(|target| SrvRecord { priority: 10, weight: 1, port: 443, target: target.into() })
            .into_iter()
            .collect()
    }

    /// The addresses of `name`. Names of an earlier home have none any more.
    pub(super) fn addresses(&self, host: usize, name: &str) -> Vec<IpAddr> {
        let label = name.split('.').next().unwrap_or_default();
        let of_home = label.strip_prefix(['d', 't']).map(|moves| moves.parse() == Ok(self.moves));
        if of_home == Some(false) {
            return Vec::new();
        }
        let number = u32::try_from(host).unwrap_or(u32::MAX);
        let v4 = Ipv4Addr::from(FIRST_V4.wrapping_add(number << 8 | self.moves & 0xff));
        let mut addresses = vec![IpAddr::from(v4)];
        if self.is_half_deaf {
            let v6 = u128::from(number) << 32 | u128::from(self.moves);
            addresses.insert(0, IpAddr::from(Ipv6Addr::from(FIRST_V6 | v6)));
        }
        addresses
    }

    /// Who is to be found at `ip`, which this home's host was said to have.
    pub(super) fn at(&self, ip: IpAddr) -> Found {
        let moves = match ip {
            IpAddr::V6(_) => return Found::Silence,
            IpAddr::V4(v4) => u32::from(v4) & 0xff,
        };
        match moves {
            moves if moves == self.moves & 0xff => Found::Itself,
            moves => [Found::Nobody, Found::Silence, Found::Stranger][moves as usize % 3],
        }
    }
}

impl Simulation<'_> {
    /// What is wrong with the name servers of `host` now.
    pub(super) fn dns_fault(&self, host: usize) -> Option<DnsFault> {
        if self.is_healed {
            return None;
        }
        let of_the_nameless = if host.is_multiple_of(2) { DnsFault::Silent } else { DnsFault::ServFail };
        let host = &self.hosts[host];
        host.home.dns_fault.or((host.ailment == Ailment::Nameless).then_some(of_the_nameless))
    }
}

const FIRST_V4: u32 = 0x0a00_0000;
const FIRST_V6: u128 = 0x2001_0db8 << 96;
