//! Whose turn it is to be tried.

use std::net::SocketAddr;
use std::time::Duration;

use southbridge_words::Instant;

use super::order::Addresses;

/// The pace of a race.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaceLimits {
    /// How long an address may be silent before the next one is tried as well. Default 250 ms, the
    /// Connection Attempt Delay of RFC 8305 section 8.
    pub step: Duration,
    /// Attempts under way at a time. Default 4: each holds a descriptor.
    pub attempts_max: u32,
}

impl Default for RaceLimits {
    fn default() -> Self {
        Self { step: Duration::from_millis(250), attempts_max: 4 }
    }
}

/// Try this address as well; those before it go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Try(pub SocketAddr);

/// A race between the addresses of one service (RFC 8305 section 5), as a machine.
///
/// Ask `poll` until it has nothing, sleep until `poll_timeout` or until an attempt has ended, tell
/// what happened, and ask again. The first attempt that connects wins; its teller drops the others.
#[derive(Clone, Debug)]
pub struct Race {
    addresses: Addresses,
    limits: RaceLimits,
    next: usize,
    running: u32,
    /// When the next address may be tried beside those that are running.
    due_at: Instant,
}

impl Race {
    /// A race of `addresses`, in the order they are to be tried.
    pub fn new(addresses: Addresses, limits: RaceLimits) -> Self {
        Self { addresses, limits, next: 0, running: 0, due_at: Instant::ZERO }
    }

    /// The next address to try now, if its turn has come.
    pub fn poll(&mut self, now: Instant) -> Option<Try> {
        if now < self.due_at || self.is_crowded() {
            return None;
        }
        let address = *self.addresses.get(self.next)?;
        self.next += 1;
        self.running += 1;
        self.due_at = now + self.limits.step;
        Some(Try(address))
    }

    /// The attempt at `address` has failed: the next one's turn comes at once.
    ///
    /// Says nothing of an address that was not tried.
    pub fn handle_failed(&mut self, address: SocketAddr, now: Instant) {
        if self.addresses[..self.next].contains(&address) {
            self.running = self.running.saturating_sub(1);
            self.due_at = self.due_at.min(now);
        }
    }

    /// When `poll` has something next, unless an attempt ends sooner.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let waiting = self.next < self.addresses.len() && !self.is_crowded();
        waiting.then_some(self.due_at)
    }

    /// Whether every address has been tried, and every attempt has failed.
    pub fn is_exhausted(&self) -> bool {
        self.running == 0 && self.next == self.addresses.len()
    }

    /// The addresses tried so far, in their order. All but the winner and the last belong in the
    /// [memory](super::AddressMemory): they failed, or were silent for a step.
    pub fn tried(&self) -> &[SocketAddr] {
        &self.addresses[..self.next]
    }

    fn is_crowded(&self) -> bool {
        self.running >= self.limits.attempts_max
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STEP: Duration = Duration::from_millis(250);
    const T0: Instant = Instant::ZERO;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 443))
    }

    fn race(count: u8) -> Race {
        Race::new((0..count).map(address).collect(), RaceLimits::default())
    }

    fn at(millis: u64) -> Instant {
        T0 + Duration::from_millis(millis)
    }

    /// Faults row 3: the first address is silent. It costs one step.
    #[test]
    fn a_silent_address_gives_the_next_its_turn_after_a_step() {
        let mut race = race(2);
        assert_eq!(race.poll(T0), Some(Try(address(0))));
        assert_eq!(race.poll(at(249)), None);
        assert_eq!(race.poll_timeout(), Some(T0 + STEP));
        assert_eq!(race.poll(at(250)), Some(Try(address(1))));
        assert_eq!((race.poll(at(999)), race.poll_timeout()), (None, None));
        assert!(!race.is_exhausted());
    }

    /// Faults row 3: the first address refuses. It costs nothing.
    #[test]
    fn a_failed_address_gives_the_next_its_turn_at_once() {
        let mut race = race(2);
        race.poll(T0);
        race.handle_failed(address(0), at(3));
        assert_eq!(race.poll(at(3)), Some(Try(address(1))));
        race.handle_failed(address(1), at(4));
        assert!(race.is_exhausted());
    }

    #[test]
    fn no_more_attempts_run_at_a_time_than_allowed() {
        let mut race = race(10);
        let started = (0..100).filter(|step| race.poll(T0 + STEP * *step).is_some()).count();
        assert_eq!((started, race.poll_timeout()), (4, None));
        race.handle_failed(address(2), T0 + STEP * 100);
        assert_eq!(race.poll(T0 + STEP * 100), Some(Try(address(4))));
    }

    #[test]
    fn a_race_of_nobody_is_over() {
        assert!(race(0).is_exhausted());
        assert_eq!(race(0).poll(T0), None);
    }

    proptest! {
        /// Whatever fails and whenever: each address is tried once, in order, and none is left out.
        #[test]
        fn every_address_gets_its_turn(count in 0_u8..12, waits in prop::collection::vec(0_u64..400, 200), fails in prop::collection::vec(any::<bool>(), 200)) {
            let mut race = race(count);
            let (mut now, mut tried, mut running) = (T0, Vec::new(), Vec::new());
            for (wait, fail) in waits.into_iter().zip(fails) {
                while let Some(Try(address)) = race.poll(now) {
                    tried.push(address);
                    running.push(address);
                }
                prop_assert!(running.len() <= 4);
                if (fail || running.len() == 4) && !running.is_empty() {
                    race.handle_failed(running.remove(0), now);
                }
                now += Duration::from_millis(wait);
            }
            prop_assert_eq!(tried, (0..count).map(address).collect::<Vec<_>>());
        }
    }
}
