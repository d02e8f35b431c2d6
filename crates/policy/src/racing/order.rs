//! From endpoints to the order they are tried in.

use std::net::SocketAddr;

use smallvec::SmallVec;
use southbridge_words::Endpoint;

use crate::seeded::Seeded;

/// The most addresses of one service that are tried: a name may have thousands, and a request lasts
/// for no more than a few.
pub const ADDRESSES_MAX: usize = 16;

/// Addresses in the order they are to be tried; at most [`ADDRESSES_MAX`], none twice.
pub type Addresses = SmallVec<[SocketAddr; 4]>;

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of `address`.
    pub const fn of(address: &SocketAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// The order in which `endpoints` are tried: lower priorities first; within one, by chance in
/// proportion to their weights (RFC 2782); then families in turn, IPv6 first (RFC 8305 section 4).
///
/// Each endpoint counts with its own weight, as each record does in RFC 2782. Addresses that one SRV
/// target resolved to come with the weight of their record; where that is the winner's, the preferred
/// family goes first among them, and otherwise the winner stays the winner.
pub fn order(endpoints: &[Endpoint], seeded: &mut Seeded) -> Addresses {
    order_preferring(Family::V6, endpoints, seeded)
}

/// As [`order`], with the family that goes first.
pub fn order_preferring(family: Family, endpoints: &[Endpoint], seeded: &mut Seeded) -> Addresses {
    // The common case, and it needs no chance.
    if let [only] = endpoints {
        return Addresses::from_slice(&[only.address]);
    }
    let mut left: SmallVec<[Endpoint; 8]> = endpoints.iter().copied().take(ENDPOINTS_MAX).collect();
    // Within a priority the weightless come first, as RFC 2782 wants them before each draw.
    left.sort_by_key(|endpoint| (endpoint.priority, endpoint.weight != 0));
    let mut ordered = Addresses::new();
    for group in left.chunk_by(|a, b| a.priority == b.priority) {
        let drawn = draw_all(group, seeded);
        let first = first_family(family, &drawn);
        for address in interleave(first, &drawn) {
            if !ordered.contains(&address) {
                ordered.push(address);
            }
        }
        if ordered.len() >= ADDRESSES_MAX {
            break;
        }
    }
    ordered.truncate(ADDRESSES_MAX);
    ordered
}

/// All of one priority, in the order of RFC 2782's draws.
fn draw_all(group: &[Endpoint], seeded: &mut Seeded) -> SmallVec<[Endpoint; 8]> {
    let mut left: SmallVec<[Endpoint; 8]> = group.into();
    let mut drawn = SmallVec::new();
    let mut weightless = left.iter().take_while(|endpoint| endpoint.weight == 0).count();
    // "Where there isn't any server selection to do": any order will do, and a fair one is best.
    if weightless == left.len() {
        shuffle(&mut left, seeded);
        return left;
    }
    while !left.is_empty() {
        // Among those that no weight tells apart, chance does.
        shuffle(&mut left[..weightless], seeded);
        let at = draw(&left, seeded);
        weightless -= usize::from(at < weightless);
        drawn.push(left.remove(at));
    }
    drawn
}

/// "Choose a uniform random number between 0 and the sum computed (inclusive), and select the RR whose
/// running sum value is the first in the selected order which is greater than or equal to the random
/// number selected" (RFC 2782).
fn draw(left: &[Endpoint], seeded: &mut Seeded) -> usize {
    let sum: u64 = left.iter().map(|endpoint| u64::from(endpoint.weight)).sum();
    let chosen = seeded.below(sum + 1);
    let mut running = 0;
    let at = left.iter().position(|endpoint| {
        running += u64::from(endpoint.weight);
        running >= chosen
    });
    at.expect("the last running sum is the sum")
}

fn shuffle(endpoints: &mut [Endpoint], seeded: &mut Seeded) {
    for end in (1..endpoints.len()).rev() {
        let at = seeded.below(end as u64 + 1);
        endpoints.swap(end, usize::try_from(at).expect("it is at most an index"));
    }
}

fn first_family(preferred: Family, drawn: &[Endpoint]) -> Family {
    let Some(winner) = drawn.first() else { return preferred };
    let is_preferred = |endpoint: &Endpoint| Family::of(&endpoint.address) == preferred;
    let a_peer = drawn.iter().any(|endpoint| endpoint.weight == winner.weight && is_preferred(endpoint));
    if a_peer { preferred } else { Family::of(&winner.address) }
}

/// One of `first`, one of the other, and so on, each family in the order it was drawn in.
fn interleave(first: Family, drawn: &[Endpoint]) -> impl Iterator<Item = SocketAddr> {
    let of = move |wanted: bool| {
        drawn
            .iter()
            .map(|endpoint| endpoint.address)
            .filter(move |address| (Family::of(address) == first) == wanted)
    };
    let (mut these, mut those) = (of(true), of(false));
    let mut turn = false;
    std::iter::from_fn(move || {
        turn = !turn;
        if turn { these.next().or_else(|| those.next()) } else { those.next().or_else(|| these.next()) }
    })
}

// More than are tried, so that chance has its say; not as many as an answer may hold.
const ENDPOINTS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn endpoint(address: &str, priority: u16, weight: u16) -> Endpoint {
        Endpoint { address: address.parse().unwrap(), priority, weight }
    }

    fn v4(last: u8, priority: u16, weight: u16) -> Endpoint {
        endpoint(&format!("192.0.2.{last}:8448"), priority, weight)
    }

    fn v6(last: u8, priority: u16, weight: u16) -> Endpoint {
        endpoint(&format!("[2001:db8::{last:x}]:8448"), priority, weight)
    }

    fn ordered(endpoints: &[Endpoint], seed: u64) -> Addresses {
        order(endpoints, &mut Seeded::new(seed))
    }

    #[test]
    fn a_lower_priority_goes_first_whatever_the_weights() {
        let endpoints = [v4(1, 20, 65535), v6(2, 20, 65535), v4(3, 10, 0), v4(4, 30, 9)];
        for seed in 0..50 {
            let addresses = ordered(&endpoints, seed);
            assert_eq!(addresses[0], v4(3, 0, 0).address);
            assert_eq!(addresses[1], v6(2, 0, 0).address);
            assert_eq!(addresses[3], v4(4, 0, 0).address);
        }
    }

    #[test]
    fn families_take_turns_and_ipv6_begins() {
        let endpoints = [v4(1, 0, 0), v4(2, 0, 0), v4(3, 0, 0), v6(1, 0, 0), v6(2, 0, 0)];
        for seed in 0..50 {
            let families: Vec<_> = ordered(&endpoints, seed).iter().map(Family::of).collect();
            assert_eq!(families, [Family::V6, Family::V4, Family::V6, Family::V4, Family::V4]);
            let other = order_preferring(Family::V4, &endpoints, &mut Seeded::new(seed));
            assert_eq!(Family::of(&other[0]), Family::V4);
            assert_eq!(Family::of(&other[1]), Family::V6);
        }
    }

    /// A target with IPv4 only and nearly all of the weight is not overtaken for its family.
    #[test]
    fn a_preferred_family_does_not_outweigh_the_weights() {
        let endpoints = [v4(1, 0, 99), v6(2, 0, 1)];
        let first = (0..1000).filter(|seed| ordered(&endpoints, *seed)[0].is_ipv4()).count();
        assert!((970..=995).contains(&first), "IPv4 first {first} times of 1000");
    }

    #[test]
    fn a_name_with_thousands_of_addresses_costs_a_few_attempts() {
        let endpoints: Vec<_> = (0..5000).map(|number| v4((number % 251) as u8, number % 7, 1)).collect();
        assert!(ordered(&endpoints, 1).len() <= ADDRESSES_MAX);
        assert!(ordered(&[], 1).is_empty());
    }

    /// RFC 2782: a weight of zero beside others has "a very small chance of being selected", one in
    /// sum + 1, and not none.
    #[test]
    fn the_weightless_are_drawn_first_once_in_sum_plus_one() {
        let endpoints = [v4(1, 0, 9), v4(2, 0, 0)];
        let weightless = v4(2, 0, 0).address;
        let first = (0..10_000).filter(|seed| ordered(&endpoints, *seed)[0] == weightless).count();
        assert!((850..=1150).contains(&first), "drawn first {first} times of 10000");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Whatever the weights, each is first about as often as its weight is of the sum.
        #[test]
        fn the_first_is_drawn_in_proportion_to_its_weight(weights in prop::collection::vec(1_u16..200, 2..6), seed: u64) {
            let endpoints: Vec<_> =
                weights.iter().enumerate().map(|(at, weight)| v4(at as u8, 0, *weight)).collect();
            let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
            let mut seeded = Seeded::new(seed);
            let mut firsts = BTreeMap::<SocketAddr, f64>::new();
            for _ in 0..4000 {
                *firsts.entry(order(&endpoints, &mut seeded)[0]).or_default() += 1.0;
            }
            for endpoint in &endpoints {
                let share = firsts.get(&endpoint.address).copied().unwrap_or(0.0) / 4000.0;
                let wanted = f64::from(endpoint.weight) / sum;
                prop_assert!((share - wanted).abs() < 0.05, "{} of {:?} came first {share}, not {wanted}", endpoint.weight, weights);
            }
        }

        /// Whatever the endpoints: all are there, each once, priorities in order.
        #[test]
        fn nothing_is_lost_and_nothing_invented(raw in prop::collection::vec((any::<bool>(), 0_u8..20, 0_u16..4, 0_u16..3), 0..=ADDRESSES_MAX), seed: u64) {
            let endpoints: Vec<_> = raw.into_iter()
                .map(|(six, last, priority, weight)| if six { v6(last, priority, weight) } else { v4(last, priority, weight) })
                .collect();
            let addresses = ordered(&endpoints, seed);
            let best = |address: &SocketAddr| endpoints.iter().filter(|e| e.address == *address).map(|e| e.priority).min();
            prop_assert!(addresses.iter().map(best).is_sorted());
            let mut sorted = addresses.to_vec();
            sorted.sort();
            let mut expected: Vec<_> = endpoints.iter().map(|endpoint| endpoint.address).collect();
            expected.sort();
            expected.dedup();
            prop_assert_eq!(sorted, expected);
        }
    }
}
