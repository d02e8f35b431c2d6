//! Which addresses have failed of late.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use southbridge_words::Instant;

use super::order::Family;
use crate::limits::InvalidLimit;
use crate::seeded::{SeededMap, SeededState};

/// How much is remembered of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressMemoryLimits {
    /// Failed addresses remembered. Default 4096, some 300 KiB.
    pub addresses_max: u32,
    /// For how long a failed address is tried last. Default 5 min: a wrong guess costs nothing, since
    /// it is tried still, and a right one saves a step of the race each time.
    pub remember: Duration,
    /// Failures of different attempts in a row, with no success between, from which a whole family is
    /// tried last. Default 5: hosts whose IPv6 is broken are many, five in a row mean it is ours.
    pub family_failures: u32,
}

impl Default for AddressMemoryLimits {
    fn default() -> Self {
        Self { addresses_max: 4096, remember: Duration::from_secs(300), family_failures: 5 }
    }
}

impl AddressMemoryLimits {
    /// Checks the limits.
    ///
    /// # Errors
    /// The first limit that makes no sense.
    pub fn validate(&self) -> Result<(), InvalidLimit> {
        let positive = "must be more than zero";
        InvalidLimit::unless(self.addresses_max > 0, "addresses_max", positive)?;
        InvalidLimit::unless(self.family_failures > 0, "family_failures", positive)
    }
}

/// Remembers for a while which addresses have failed, so that they are tried last.
///
/// Nothing is ever left out for it: where every address has failed, all are tried as before.
#[derive(Debug)]
pub struct AddressMemory {
    limits: AddressMemoryLimits,
    until: SeededMap<SocketAddr, Instant>,
    /// In the order they are forgotten in; an address that failed again has an older entry as well.
    queue: VecDeque<(SocketAddr, Instant)>,
    families: [FamilyRecord; 2],
}

#[derive(Clone, Copy, Debug, Default)]
struct FamilyRecord {
    failures: u32,
    failed_at: Instant,
}

impl AddressMemory {
    /// A memory of nothing. `seed` keys the hash of addresses.
    ///
    /// # Panics
    /// When `limits` do not [validate](AddressMemoryLimits::validate).
    pub fn new(limits: AddressMemoryLimits, seed: u64) -> Self {
        limits.validate().expect("the limits were validated where they were read");
        let until = SeededMap::with_hasher(SeededState::new(seed));
        Self { limits, until, queue: VecDeque::new(), families: Default::default() }
    }

    /// No connection to `address` came about: it was refused, unreachable, or so silent that another
    /// address overtook it.
    pub fn handle_failed(&mut self, address: SocketAddr, now: Instant) {
        let family = &mut self.families[Family::of(&address) as usize];
        family.failures = family.failures.saturating_add(1);
        family.failed_at = now;
        let until = now + self.limits.remember;
        if self.until.insert(address, until) != Some(until) {
            self.queue.push_back((address, until));
        }
        self.forget(now);
    }

    /// A connection to `address` came about.
    pub fn handle_connected(&mut self, address: SocketAddr, now: Instant) {
        self.families[Family::of(&address) as usize].failures = 0;
        self.until.remove(&address);
        self.forget(now);
    }

    /// The family to begin with: IPv6, unless it has failed again and again while IPv4 has not.
    pub fn preferred(&self, now: Instant) -> Family {
        let broken = |family| self.is_family_broken(family, now);
        if broken(Family::V6) && !broken(Family::V4) { Family::V4 } else { Family::V6 }
    }

    /// Moves the addresses that have failed of late behind the others, and keeps the order otherwise.
    pub fn arrange(&self, addresses: &mut [SocketAddr], now: Instant) {
        if addresses.len() < 2 {
            return;
        }
        let preferred = self.preferred(now);
        let spared = |address: &SocketAddr| {
            Family::of(address) != preferred && self.is_family_broken(Family::of(address), now)
        };
        addresses.sort_by_key(|address| self.has_failed(address, now) || spared(address));
    }

    /// Whether `address` has failed of late.
    pub fn has_failed(&self, address: &SocketAddr, now: Instant) -> bool {
        self.until.get(address).is_some_and(|until| *until > now)
    }

    fn is_family_broken(&self, family: Family, now: Instant) -> bool {
        let record = self.families[family as usize];
        let lately = now.saturating_since(record.failed_at) < self.limits.remember;
        lately && record.failures >= self.limits.family_failures
    }

    fn forget(&mut self, now: Instant) {
        while let Some((address, until)) = self.queue.front().copied() {
            if until > now && self.queue.len() <= self.limits.addresses_max as usize {
                return;
            }
            self.queue.pop_front();
            if self.until.get(&address) == Some(&until) {
                self.until.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Instant = Instant::ZERO;

    fn memory() -> AddressMemory {
        AddressMemory::new(AddressMemoryLimits::default(), 1)
    }

    fn v4(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 443))
    }

    fn v6(last: u16) -> SocketAddr {
        SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, last], 443))
    }

    /// Faults row 3: one of three addresses is dead. The second time it costs nothing.
    #[test]
    fn a_dead_address_is_tried_last_for_a_while() {
        let mut memory = memory();
        memory.handle_failed(v4(1), T0);
        let mut addresses = [v4(1), v4(2), v4(3)];
        memory.arrange(&mut addresses, T0);
        assert_eq!(addresses, [v4(2), v4(3), v4(1)]);
        let mut addresses = [v4(1), v4(2), v4(3)];
        memory.arrange(&mut addresses, T0 + Duration::from_secs(300));
        assert_eq!(addresses, [v4(1), v4(2), v4(3)]);
    }

    #[test]
    fn an_address_that_connects_is_forgiven() {
        let mut memory = memory();
        memory.handle_failed(v4(1), T0);
        memory.handle_connected(v4(1), T0);
        assert!(!memory.has_failed(&v4(1), T0));
    }

    /// Faults row 3: our own IPv6 is a black hole. Destinations never seen before begin with IPv4.
    #[test]
    fn a_broken_family_is_tried_last_until_it_works_again() {
        let mut memory = memory();
        memory.handle_connected(v4(1), T0);
        (0..5).for_each(|last| memory.handle_failed(v6(last), T0));
        assert_eq!(memory.preferred(T0), Family::V4);
        let mut addresses = [v6(99), v4(99)];
        memory.arrange(&mut addresses, T0);
        assert_eq!(addresses, [v4(99), v6(99)]);
        memory.handle_connected(v6(99), T0);
        assert_eq!(memory.preferred(T0), Family::V6);
    }

    #[test]
    fn with_both_families_broken_neither_is() {
        let mut memory = memory();
        (0..9).for_each(|last| memory.handle_failed(v6(last), T0));
        (0..9).for_each(|last| memory.handle_failed(v4(last), T0));
        assert_eq!(memory.preferred(T0), Family::V6);
    }

    /// An attacker's name server gives out address after address.
    #[test]
    fn the_memory_is_bounded() {
        let limits = AddressMemoryLimits { addresses_max: 10, ..AddressMemoryLimits::default() };
        let mut memory = AddressMemory::new(limits, 1);
        for round in 0..1000_u16 {
            let now = T0 + Duration::from_millis(round.into());
            memory.handle_failed(v6(round), now);
            memory.handle_failed(v4(1), now);
            assert!(memory.until.len() <= 10 && memory.queue.len() <= 10);
        }
        assert!(memory.has_failed(&v4(1), T0) && memory.has_failed(&v6(999), T0));
        assert!(!memory.has_failed(&v6(0), T0));
    }
}
