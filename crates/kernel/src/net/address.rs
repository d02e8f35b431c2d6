//! Which addresses may be dialled.
//!
//! A peer names the places we connect to: by literals, by DNS, by SRV, by `.well-known`, by redirects. None of
//! them may lead into our own network. The policy is therefore asked once, for the final socket address, right
//! before the connection is opened; whatever led there has no say.
//!
//! # The rules
//! 1. The configured lists speak first: of the networks in `allow` and `deny` that hold the address, the most
//!    specific one decides, and `deny` wins a tie.
//! 2. What no list mentions is denied when it lies in a range that is not part of the public Internet.
//! 3. An IPv6 address that carries an IPv4 address within it (mapped, compatible, NAT64, 6to4, Teredo, ISATAP)
//!    must pass for itself, and what it carries must pass as well.
//!
//! # Source
//! Decision 10; faults row 13. The ranges are those of the IANA special-purpose address registries (RFC 6890 and
//! its updates), RFC 6052 and RFC 8215 (NAT64), RFC 3056 (6to4), RFC 4380 (Teredo), RFC 5214 (ISATAP).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Decides which addresses may be dialled. The default allows the public Internet and nothing else.
#[derive(Clone, Debug, Default)]
pub struct AddressPolicy {
    allow: Vec<IpNet>,
    deny: Vec<IpNet>,
}

/// The rule by which an address must not be dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeniedRange {
    /// A range that is not part of the public Internet.
    #[error("{what}, {range}")]
    Special {
        /// What the range is for.
        what: &'static str,
        /// The range.
        range: IpNet,
    },
    /// Named by the configuration.
    #[error("addresses.deny has {0}")]
    Configured(IpNet),
    /// Something else than a global unicast address.
    #[error("not a global unicast address")]
    NotGlobal,
    /// The address carries another one within it, which is denied.
    #[error("it carries {inner}: {what}, {range}")]
    Carried {
        /// The address within.
        inner: Ipv4Addr,
        /// What the range of the inner address is for.
        what: &'static str,
        /// The range of the inner address.
        range: IpNet,
    },
    /// Port zero is no port.
    #[error("port 0")]
    PortZero,
}

impl DeniedRange {
    /// The range by which it is denied, where it is one.
    fn range(&self) -> Option<IpNet> {
        match self {
            Self::Special { range, .. } | Self::Configured(range) | Self::Carried { range, .. } => {
                Some(*range)
            }
            Self::NotGlobal | Self::PortZero => None,
        }
    }
}

impl AddressPolicy {
    /// A policy with exceptions to what is allowed and denied by default.
    pub fn new(allow: impl IntoIterator<Item = IpNet>, deny: impl IntoIterator<Item = IpNet>) -> Self {
        Self { allow: longest_first(allow), deny: longest_first(deny) }
    }

    /// A policy that lets a program reach whatever it names: loopback and private networks, too. For names that the
    /// program itself has chosen; never for those that a stranger chose.
    pub fn everything() -> Self {
        Self::new([IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())], [])
    }

    /// Whether `address` may be dialled. Allocates nothing.
    ///
    /// # Errors
    /// The rule that denies it.
    pub fn check(&self, address: SocketAddr) -> Result<(), DeniedRange> {
        if address.port() == 0 {
            return Err(DeniedRange::PortZero);
        }
        self.check_ip(address.ip())
    }

    /// As [`AddressPolicy::check`], where the port is not known yet.
    ///
    /// # Errors
    /// The rule that denies it.
    pub fn check_ip(&self, address: IpAddr) -> Result<(), DeniedRange> {
        match address {
            IpAddr::V4(address) => self.check_v4(address),
            IpAddr::V6(address) => self.check_v6(address),
        }
    }

    /// Whether no address of `network` may be dialled. A network that is denied piece by piece is looked at in a few
    /// pieces, and not in more: this may say no where a closer look would say yes, and never the other way round.
    pub fn denies(&self, network: &IpNet) -> bool {
        self.denies_within(network, HALVINGS_MAX)
    }

    fn denies_within(&self, network: &IpNet, halvings_max: u32) -> bool {
        let (Err(first), Err(last)) = (self.check_ip(network.network()), self.check_ip(network.broadcast()))
        else {
            return false;
        };
        let is_one_rule = first.range().is_some_and(|range| last.range() == Some(range));
        if (is_one_rule || is_special(network)) && !self.allow.iter().any(|allowed| network.contains(allowed))
        {
            return true;
        }
        let is_single = network.prefix_len() == network.max_prefix_len();
        is_single
            || halvings_max > 0
                && network
                    .subnets(network.prefix_len() + 1)
                    .is_ok_and(|mut halves| halves.all(|half| self.denies_within(&half, halvings_max - 1)))
    }

    fn check_v4(&self, address: Ipv4Addr) -> Result<(), DeniedRange> {
        match self.verdict(IpAddr::V4(address)) {
            Verdict::Allowed => return Ok(()),
            Verdict::Denied(range) => return Err(DeniedRange::Configured(range)),
            Verdict::Silent => {}
        }
        match SPECIAL_V4.iter().find(|(range, _)| range.contains(&address)) {
            Some((range, what)) => Err(DeniedRange::Special { what, range: IpNet::V4(*range) }),
            None => Ok(()),
        }
    }

    fn check_v6(&self, address: Ipv6Addr) -> Result<(), DeniedRange> {
        let verdict = self.verdict(IpAddr::V6(address));
        if let Verdict::Denied(range) = verdict {
            return Err(DeniedRange::Configured(range));
        }
        for inner in carried(address).into_iter().flatten() {
            self.check_v4(inner).map_err(|denied| within(inner, denied))?;
        }
        if matches!(verdict, Verdict::Allowed) {
            return Ok(());
        }
        if let Some((range, what)) = SPECIAL_V6.iter().find(|(range, _)| range.contains(&address)) {
            return Err(DeniedRange::Special { what, range: IpNet::V6(*range) });
        }
        let is_global = GLOBAL_UNICAST.contains(&address) || is_translated(address);
        if is_global { Ok(()) } else { Err(DeniedRange::NotGlobal) }
    }

    fn verdict(&self, address: IpAddr) -> Verdict {
        // The lists are sorted, so the first match is the most specific one.
        let allow = self.allow.iter().find(|range| range.contains(&address));
        let deny = self.deny.iter().find(|range| range.contains(&address));
        match (allow, deny) {
            (None, None) => Verdict::Silent,
            (Some(_), None) => Verdict::Allowed,
            (Some(allow), Some(deny)) if allow.prefix_len() > deny.prefix_len() => Verdict::Allowed,
            (_, Some(deny)) => Verdict::Denied(*deny),
        }
    }
}

impl fmt::Display for AddressPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the public Internet")?;
        for range in &self.allow {
            write!(f, ", and {range}")?;
        }
        for range in &self.deny {
            write!(f, ", not {range}")?;
        }
        Ok(())
    }
}

/// What the configured lists say of an address.
enum Verdict {
    Allowed,
    Denied(IpNet),
    Silent,
}

fn longest_first(ranges: impl IntoIterator<Item = IpNet>) -> Vec<IpNet> {
    let mut ranges: Vec<IpNet> = ranges.into_iter().map(|range| range.trunc()).collect();
    ranges.sort_by_key(|range| std::cmp::Reverse(range.prefix_len()));
    ranges.dedup();
    ranges
}

fn within(inner: Ipv4Addr, denied: DeniedRange) -> DeniedRange {
    match denied {
        DeniedRange::Special { what, range } => DeniedRange::Carried { inner, what, range },
        DeniedRange::Configured(range) => {
            DeniedRange::Carried { inner, what: "denied by addresses.deny", range }
        }
        other => other,
    }
}

/// The IPv4 addresses that packets to `address` may end up at. Teredo carries two: its server and its client.
fn carried(address: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
    let segments = address.segments();
    let at = |high: usize| Some(join(segments[high], segments[high + 1]));
    match segments {
        _ if is_translated(address) => [at(6), None],
        // Compatible; `::` and `::1` are addresses of their own.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 || low > 1 => [at(6), None],
        [0x2002, ..] => [at(1), None],
        [0x2001, 0, ..] => [at(2), Some(join(!segments[6], !segments[7]))],
        // ISATAP: the interface identifier says so, below any prefix.
        [_, _, _, _, 0 | 0x200, 0x5efe, ..] => [at(6), None],
        _ => [None, None],
    }
}

/// Mapped (::ffff:a.b.c.d), its translated cousin (::ffff:0:a.b.c.d), and the well-known NAT64 prefix: nothing but
/// another way to write an IPv4 address.
fn is_translated(address: Ipv6Addr) -> bool {
    matches!(
        address.segments(),
        [0, 0, 0, 0, 0, 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..]
    )
}

fn join(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(head: [u16; 4], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(head[0], head[1], head[2], head[3], 0, 0, 0, 0), prefix)
}

/// Whether all of it is of one special range.
fn is_special(network: &IpNet) -> bool {
    match network {
        IpNet::V4(network) => SPECIAL_V4.iter().any(|(range, _)| range.contains(network)),
        IpNet::V6(network) => SPECIAL_V6.iter().any(|(range, _)| range.contains(network)),
    }
}

/// The metadata addresses come first so that the reason given is the telling one.
static SPECIAL_V4: [(Ipv4Net, &str); 20] = [
    (v4(169, 254, 169, 254, 32), "metadata service of a cloud"),
    (v4(100, 100, 100, 200, 32), "metadata service of a cloud"),
    (v4(168, 63, 129, 16, 32), "metadata service of a cloud"),
    (v4(0, 0, 0, 0, 8), "this network"),
    (v4(10, 0, 0, 0, 8), "private"),
    (v4(100, 64, 0, 0, 10), "shared by carriers (CGNAT)"),
    (v4(127, 0, 0, 0, 8), "loopback"),
    (v4(169, 254, 0, 0, 16), "link-local"),
    (v4(172, 16, 0, 0, 12), "private"),
    (v4(192, 0, 0, 0, 24), "IETF protocol assignments"),
    (v4(192, 0, 2, 0, 24), "documentation"),
    (v4(192, 88, 99, 0, 24), "6to4 relay"),
    (v4(192, 168, 0, 0, 16), "private"),
    (v4(198, 18, 0, 0, 15), "benchmarking"),
    (v4(198, 51, 100, 0, 24), "documentation"),
    (v4(203, 0, 113, 0, 24), "documentation"),
    (v4(233, 252, 0, 0, 24), "documentation"),
    (v4(224, 0, 0, 0, 4), "multicast"),
    (v4(255, 255, 255, 255, 32), "broadcast"),
    (v4(240, 0, 0, 0, 4), "reserved"),
];

static SPECIAL_V6: [(Ipv6Net, &str); 17] = [
    (
        Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), 128),
        "metadata service of a cloud",
    ),
    (Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128), "unspecified"),
    (Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128), "loopback"),
    (v6([0x64, 0xff9b, 1, 0], 48), "local-use NAT64"),
    (v6([0x100, 0, 0, 0], 64), "discard only"),
    (v6([0x2001, 2, 0, 0], 48), "benchmarking"),
    (v6([0x2001, 0x10, 0, 0], 28), "ORCHID"),
    (v6([0x2001, 0x20, 0, 0], 28), "ORCHIDv2"),
    (v6([0x2001, 0x30, 0, 0], 28), "drone remote identification"),
    (v6([0x2001, 0xdb8, 0, 0], 32), "documentation"),
    (v6([0x3fff, 0, 0, 0], 20), "documentation"),
    (v6([0x5f00, 0, 0, 0], 16), "segment routing"),
    (v6([0xfc00, 0, 0, 0], 7), "unique local"),
    (v6([0xfe80, 0, 0, 0], 10), "link-local"),
    (v6([0xfec0, 0, 0, 0], 10), "site-local"),
    (v6([0xff00, 0, 0, 0], 8), "multicast"),
    (v6([0x3ffe, 0, 0, 0], 16), "retired test network"),
];

/// All that the registries have handed out to the public so far.
static GLOBAL_UNICAST: Ipv6Net = v6([0x2000, 0, 0, 0], 3);

/// How often [`AddressPolicy::denies`] halves a network.
const HALVINGS_MAX: u32 = 8;

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
