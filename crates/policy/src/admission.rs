//! Admission: how many requests may be in flight, and what is turned away first.
//!
//! Everything that waits anywhere in the kernel holds one place here, from its submission to its
//! completion, so no queue inside needs a bound of its own to be bounded. A request that finds no
//! place is answered at once.
//!
//! Each class has a *ceiling*, a share of every bound: backfill is turned away while sixty percent of
//! the places are taken, by whomever, and an interactive query only when all are. So the lowest classes
//! are shed first, and what a person waits for finds room in any storm that is not made of its own kind.
//!
//! # Units
//! Requests are counted; bodies in bytes held in memory, not in bytes passed through.
//!
//! # Source
//! K14, F19.

use std::fmt;

use rustc_hash::FxHashMap;
use southbridge_words::{Class, PerClass, ServiceName, Ticket};

use crate::limits::InvalidLimit;
use crate::seeded::{SeededMap, SeededState};

/// How much may be in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmissionLimits {
    /// Requests in all. Default 20,000: twice a room of ten thousand servers.
    pub in_flight_max: u32,
    /// Requests for one service. Default 512: more than one host answers before they time out.
    pub per_service_max: u32,
    /// Bytes of bodies held in memory, of all requests. Default 256 MiB.
    pub body_bytes_max: u64,
    /// How much of each bound may be taken, in percent, for a request of a class to be admitted.
    /// Default 100, 95, 90, 80, 70, 60, from interactive to backfill: a tenth of the room is kept from
    /// live traffic, for people.
    pub ceiling_percent: PerClass<u8>,
}

impl Default for AdmissionLimits {
    fn default() -> Self {
        Self {
            in_flight_max: 20_000,
            per_service_max: 512,
            body_bytes_max: 256 * 1024 * 1024,
            ceiling_percent: PerClass([100, 95, 90, 80, 70, 60]),
        }
    }
}

impl AdmissionLimits {
    /// Checks the limits.
    ///
    /// # Errors
    /// The first limit that makes no sense.
    pub fn validate(&self) -> Result<(), InvalidLimit> {
        let positive = "must be more than zero";
        InvalidLimit::unless(self.in_flight_max > 0, "in_flight_max", positive)?;
        InvalidLimit::unless(self.per_service_max > 0, "per_service_max", positive)?;
        InvalidLimit::unless(self.body_bytes_max > 0, "body_bytes_max", positive)?;
        let percents = self.ceiling_percent.0;
        let in_range = percents.iter().all(|percent| (1..=100).contains(percent));
        InvalidLimit::unless(in_range, "ceiling_percent", "must be from 1 to 100 for each class")?;
        let in_order = percents.is_sorted_by(|urgent, less| urgent >= less);
        InvalidLimit::unless(in_order, "ceiling_percent", "must not rise from one class to a less urgent one")
    }

    /// The part of `most` that `class` may fill; never nothing.
    fn ceiling(&self, class: Class, most: u64) -> u64 {
        // In wide numbers, for a bound in bytes may be any.
        let share = u128::from(most) * u128::from(self.ceiling_percent[class]) / 100;
        u64::try_from(share).expect("a part is not more than the whole").max(1)
    }
}

/// Where there is no more room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// In the whole kernel.
    Total,
    /// For the one service.
    Service,
    /// For bodies in memory.
    BodyBytes,
}

impl Scope {
    /// The name used in metrics and error bodies.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Total => "requests in flight",
            Self::Service => "requests in flight to this service",
            Self::BodyBytes => "bytes of bodies",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A request was turned away: nothing of it was sent, and it may be repeated later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{held} of {held_max} {scope} held, the most for class {class}")]
pub struct Overload {
    /// What is held already, by all classes.
    pub held: u64,
    /// The most that may be, for a request of this class to be admitted.
    pub held_max: u64,
    /// Of what.
    pub scope: Scope,
    /// The class of the request.
    pub class: Class,
}

/// What is in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdmissionUse {
    /// Requests in all.
    pub in_flight: u32,
    /// Requests of each class.
    pub per_class: PerClass<u32>,
    /// Bytes of bodies held in memory.
    pub body_bytes: u64,
}

/// Admission control (K14), as a machine. Every operation takes constant time.
#[derive(Debug)]
pub struct Admission {
    limits: AdmissionLimits,
    permits: FxHashMap<Ticket, Permit>,
    services: SeededMap<ServiceName, u32>,
    /// The bounds of services that have one of their own.
    own_max: SeededMap<ServiceName, u32>,
    usage: AdmissionUse,
}

/// The place that one ticket holds.
#[derive(Debug)]
struct Permit {
    service: ServiceName,
    class: Class,
    body_bytes: u64,
}

impl Admission {
    /// With nothing in flight. `seed` keys the hash of service names.
    ///
    /// # Panics
    /// When `limits` do not [validate](AdmissionLimits::validate).
    pub fn new(limits: AdmissionLimits, seed: u64) -> Self {
        limits.validate().expect("the limits were validated where they were read");
        Self {
            limits,
            permits: FxHashMap::default(),
            services: SeededMap::with_hasher(SeededState::new(seed)),
            own_max: SeededMap::with_hasher(SeededState::new(seed)),
            usage: AdmissionUse::default(),
        }
    }

    /// From now on `service` has a bound of its own instead of `per_service_max`, or no longer. Requests admitted
    /// already stay. It is kept until it is taken back: whoever sets it bounds how many there are.
    pub fn bound(&mut self, service: &ServiceName, requests_max: Option<u32>) {
        match requests_max {
            Some(requests_max) => self.own_max.insert(service.clone(), requests_max.max(1)),
            None => self.own_max.remove(service),
        };
    }

    /// Admits a request that holds `body_bytes` in memory. Its place is held until `handle_done`.
    ///
    /// # Errors
    /// [`Overload`] when there is no room for its class; then there is no place to give back.
    pub fn handle_request(
        &mut self,
        ticket: Ticket,
        service: &ServiceName,
        class: Class,
        body_bytes: u64,
    ) -> Result<(), Overload> {
        let to_service = self.services.get(service).copied().unwrap_or(0);
        self.check(Scope::Total, class, self.usage.in_flight.into(), 1, self.limits.in_flight_max.into())?;
        let to_service_max = self.own_max.get(service).copied().unwrap_or(self.limits.per_service_max);
        self.check(Scope::Service, class, to_service.into(), 1, to_service_max.into())?;
        self.check_bytes(class, body_bytes)?;
        let permit = Permit { service: service.clone(), class, body_bytes };
        let twice = self.permits.insert(ticket, permit);
        assert!(twice.is_none(), "{ticket} is used a second time");
        *self.services.entry(service.clone()).or_default() += 1;
        self.usage.in_flight += 1;
        self.usage.per_class[class] += 1;
        self.usage.body_bytes += body_bytes;
        Ok(())
    }

    /// The request now holds `body_bytes` in memory, more or less than before. Holding less always
    /// succeeds. Does nothing for a ticket that holds no place.
    ///
    /// # Errors
    /// [`Overload`] when there is no room for more; then what was held before is held still.
    pub fn handle_body(&mut self, ticket: Ticket, body_bytes: u64) -> Result<(), Overload> {
        let Some(permit) = self.permits.get(&ticket) else { return Ok(()) };
        let (class, before) = (permit.class, permit.body_bytes);
        if let Some(more) = body_bytes.checked_sub(before).filter(|more| *more > 0) {
            self.check_bytes(class, more)?;
        }
        self.usage.body_bytes = self.usage.body_bytes - before + body_bytes;
        if let Some(permit) = self.permits.get_mut(&ticket) {
            permit.body_bytes = body_bytes;
        }
        Ok(())
    }

    /// The request is completed, one way or the other: its place is free. Harmless when it held none.
    pub fn handle_done(&mut self, ticket: Ticket) {
        let Some(permit) = self.permits.remove(&ticket) else { return };
        self.usage.in_flight -= 1;
        self.usage.per_class[permit.class] -= 1;
        self.usage.body_bytes -= permit.body_bytes;
        if let Some(count) = self.services.get_mut(&permit.service) {
            *count -= 1;
            if *count == 0 {
                self.services.remove(&permit.service);
            }
        }
    }

    /// What is in flight.
    pub fn usage(&self) -> AdmissionUse {
        self.usage
    }

    /// Requests in flight to `service`.
    pub fn service_usage(&self, service: &ServiceName) -> u32 {
        self.services.get(service).copied().unwrap_or(0)
    }

    fn check_bytes(&self, class: Class, more: u64) -> Result<(), Overload> {
        if more == 0 {
            return Ok(());
        }
        self.check(Scope::BodyBytes, class, self.usage.body_bytes, more, self.limits.body_bytes_max)
    }

    fn check(&self, scope: Scope, class: Class, held: u64, more: u64, most: u64) -> Result<(), Overload> {
        let held_max = self.limits.ceiling(class, most);
        match held.checked_add(more) {
            Some(then) if then <= held_max => Ok(()),
            _ => Err(Overload { held, held_max, scope, class }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SMALL: AdmissionLimits = AdmissionLimits {
        in_flight_max: 10,
        per_service_max: 5,
        body_bytes_max: 1000,
        ceiling_percent: PerClass([100, 90, 80, 70, 60, 50]),
    };

    fn service(number: u64) -> ServiceName {
        ServiceName::new(&format!("s{number}"))
    }

    /// As many requests of `class` as are let in, each for a service of its own.
    fn fill(admission: &mut Admission, class: Class, first: u64) -> (u64, Overload) {
        for number in 0.. {
            let ticket = first + number;
            if let Err(error) = admission.handle_request(Ticket(ticket), &service(ticket), class, 0) {
                return (number, error);
            }
        }
        unreachable!("there is a bound")
    }

    /// Backfill fills what it can; there is room above it for all that is more urgent.
    #[test]
    fn the_lowest_class_is_shed_first() {
        let mut admission = Admission::new(SMALL, 1);
        let (admitted, error) = fill(&mut admission, Class::Backfill, 0);
        assert_eq!(admitted, 5);
        assert_eq!(error, Overload { held: 5, held_max: 5, scope: Scope::Total, class: Class::Backfill });
        assert_eq!(error.to_string(), "5 of 5 requests in flight held, the most for class backfill");
        assert_eq!(fill(&mut admission, Class::Live, 100).0, 3);
        assert_eq!(fill(&mut admission, Class::Media, 200).0, 0);
        assert_eq!(fill(&mut admission, Class::Interactive, 300).0, 2);
        assert_eq!(admission.usage().per_class, PerClass([2, 0, 3, 0, 0, 5]));
    }

    #[test]
    fn one_popular_service_leaves_room_for_the_others() {
        let mut admission = Admission::new(SMALL, 1);
        let mut ask =
            |ticket, to| admission.handle_request(Ticket(ticket), &service(to), Class::Interactive, 0);
        (0..5).for_each(|ticket| ask(ticket, 1).unwrap());
        assert_eq!(ask(5, 1).unwrap_err().scope, Scope::Service);
        assert_eq!(ask(6, 2), Ok(()));
    }

    /// A declared service may have fewer places than all others, or more; the bound on the whole holds all the same.
    #[test]
    fn a_service_may_have_a_bound_of_its_own() {
        let mut admission = Admission::new(SMALL, 1);
        admission.bound(&service(1), Some(2));
        admission.bound(&service(2), Some(9));
        let mut ask =
            |ticket, to| admission.handle_request(Ticket(ticket), &service(to), Class::Interactive, 0);
        (0..2).for_each(|ticket| ask(ticket, 1).unwrap());
        assert_eq!(
            ask(2, 1).unwrap_err(),
            Overload { held: 2, held_max: 2, scope: Scope::Service, class: Class::Interactive }
        );
        (10..18).for_each(|ticket| ask(ticket, 2).unwrap());
        assert_eq!(ask(18, 2).unwrap_err().scope, Scope::Total);
        admission.bound(&service(1), None);
        admission.handle_done(Ticket(17));
        assert_eq!(admission.handle_request(Ticket(20), &service(1), Class::Interactive, 0), Ok(()));
    }

    #[test]
    fn a_place_is_free_again_when_its_request_is_done() {
        let mut admission = Admission::new(SMALL, 1);
        let (admitted, _) = fill(&mut admission, Class::Interactive, 0);
        (0..admitted).for_each(|ticket| admission.handle_done(Ticket(ticket)));
        admission.handle_done(Ticket(0));
        assert_eq!(admission.usage(), AdmissionUse::default());
        assert!(admission.services.is_empty(), "a service nobody asks for takes no memory");
        assert_eq!(fill(&mut admission, Class::Interactive, 100).0, admitted);
    }

    #[test]
    fn bodies_in_memory_are_bounded_in_all() {
        let mut admission = Admission::new(SMALL, 1);
        admission.handle_request(Ticket(1), &service(1), Class::Interactive, 900).unwrap();
        let refused = admission.handle_request(Ticket(2), &service(1), Class::Interactive, 101);
        assert_eq!(refused.unwrap_err().scope, Scope::BodyBytes);
        admission.handle_request(Ticket(3), &service(1), Class::Interactive, 0).unwrap();
        assert!(admission.handle_body(Ticket(3), 101).is_err());
        admission.handle_body(Ticket(1), 100).unwrap();
        admission.handle_body(Ticket(3), 101).unwrap();
        assert_eq!(admission.usage().body_bytes, 201);
    }

    #[test]
    fn an_absurd_body_is_turned_away_without_overflow() {
        let mut admission = Admission::new(SMALL, 1);
        admission.handle_request(Ticket(1), &service(1), Class::Interactive, 1).unwrap();
        assert!(admission.handle_body(Ticket(1), u64::MAX).is_err());
        assert!(admission.handle_request(Ticket(2), &service(1), Class::Live, u64::MAX).is_err());
    }

    #[test]
    fn ceilings_must_not_favour_the_less_urgent() {
        assert_eq!(AdmissionLimits::default().validate(), Ok(()));
        let limits = AdmissionLimits { ceiling_percent: PerClass([50, 60, 60, 60, 60, 60]), ..SMALL };
        assert_eq!(limits.validate().unwrap_err().field, "ceiling_percent");
    }

    proptest! {
        /// Whatever comes and goes, in whatever order.
        #[test]
        fn what_is_held_is_the_sum_of_the_permits(
            steps in prop::collection::vec((0_u64..30, 0_u64..3, 0_usize..6, 0_u64..400, 0_u8..3), 0..300)
        ) {
            let mut admission = Admission::new(SMALL, 1);
            for (ticket, to, class, bytes, what) in steps {
                let ticket = Ticket(ticket);
                let known = admission.permits.contains_key(&ticket);
                match what {
                    0 if !known => {
                        let _ = admission.handle_request(ticket, &service(to), Class::ALL[class], bytes);
                    }
                    1 => {
                        let _ = admission.handle_body(ticket, bytes);
                    }
                    _ => admission.handle_done(ticket),
                }
                let usage = admission.usage();
                let permits = admission.permits.values();
                prop_assert_eq!(usage.body_bytes, permits.map(|permit| permit.body_bytes).sum::<u64>());
                prop_assert_eq!(usage.in_flight as usize, admission.permits.len());
                prop_assert_eq!(usage.in_flight, usage.per_class.0.iter().sum::<u32>());
                prop_assert_eq!(usage.in_flight, admission.services.values().sum::<u32>());
                prop_assert!(usage.in_flight <= 10 && usage.body_bytes <= 1000);
            }
        }
    }
}
