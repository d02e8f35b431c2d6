//! What holds whatever the world does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use southbridge_words::{Answer, Instant, LookupFailure, SrvRecord, Ticket};

use super::world::{T0, server_name};
use crate::resolver::{
    Action, LookupId, Resolver, ResolverLimits, WellKnownAnswer, WellKnownFailure, WellKnownResult,
};

const NAMES: [&str; 6] =
    ["a.example", "A.example", "b.example", "c.example:1", "192.0.2.1", "delegated.example"];

/// One thing that may happen.
#[derive(Clone, Debug)]
enum Happens {
    Request(usize),
    Explain(usize),
    Cancel(usize),
    Known(usize),
    Distrust(usize),
    Wait(u64),
    /// Some open lookup is answered, well or badly.
    Answer {
        which: usize,
        how: u8,
    },
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => (0..NAMES.len()).prop_map(Happens::Request),
        1 => (0..NAMES.len()).prop_map(Happens::Explain),
        1 => (0_usize..40).prop_map(Happens::Cancel),
        2 => (0..NAMES.len()).prop_map(Happens::Known),
        1 => (0..NAMES.len()).prop_map(Happens::Distrust),
        2 => (0_u64..200_000).prop_map(Happens::Wait),
        9 => (0_usize..16, any::<u8>()).prop_map(|(which, how)| Happens::Answer { which, how }),
    ]
}

#[derive(Clone, Copy)]
enum Open {
    WellKnown(LookupId),
    Srv(LookupId),
    Addresses(LookupId),
}

struct Story {
    resolver: Resolver,
    now: Instant,
    open: Vec<Open>,
    waiting: BTreeSet<Ticket>,
    next: u64,
}

impl Story {
    fn new() -> Self {
        let limits =
            ResolverLimits { waiting_max: 12, names_max: 4, well_knowns_max: 3, ..ResolverLimits::default() };
        Self {
            resolver: Resolver::new(limits, 3),
            now: T0,
            open: Vec::new(),
            waiting: BTreeSet::new(),
            next: 0,
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.next += 1;
        self.waiting.insert(Ticket(self.next));
        Ticket(self.next)
    }

    fn happens(&mut self, what: &Happens) {
        match *what {
            Happens::Request(name) => {
                let ticket = self.ticket();
                self.resolver.handle_request(ticket, &server_name(NAMES[name]), self.now);
            }
            Happens::Explain(name) => {
                let ticket = self.ticket();
                self.resolver.handle_explain(ticket, &server_name(NAMES[name]), self.now);
            }
            Happens::Cancel(which) => {
                if let Some(ticket) = self.waiting.iter().nth(which).copied() {
                    self.waiting.remove(&ticket);
                    self.resolver.handle_cancelled(ticket);
                }
            }
            Happens::Known(name) => drop(self.resolver.known(&server_name(NAMES[name]), self.now)),
            Happens::Distrust(name) => {
                self.resolver.handle_distrusted(&server_name(NAMES[name]), self.now);
            }
            Happens::Wait(seconds) => {
                self.now += Duration::from_secs(seconds);
                self.resolver.handle_timeout(self.now);
            }
            Happens::Answer { which, how } => {
                if !self.open.is_empty() {
                    let open = self.open.swap_remove(which % self.open.len());
                    self.answer(open, how);
                }
            }
        }
        self.drain();
    }

    fn answer(&mut self, open: Open, how: u8) {
        let Self { resolver, now, .. } = self;
        let fresh_until = *now + Duration::from_secs(u64::from(how) * 7);
        match open {
            Open::WellKnown(id) => resolver.handle_well_known(id, well_known(how), *now),
            Open::Srv(id) => {
                let record = |port| SrvRecord { priority: 0, weight: 0, port, target: "t.example".into() };
                let value: Option<Arc<[SrvRecord]>> = match how % 4 {
                    0 => None,
                    1 => Some([].into()),
                    2 => Some([record(0), record(1), record(2)].into()),
                    _ => Some([SrvRecord { target: ".".into(), ..record(0) }].into()),
                };
                let answer =
                    value.map(|value| Answer { value, fresh_until, stale: how > 200, cached: false });
                resolver.handle_srv(id, answer.ok_or(LookupFailure::ServFail), *now);
            }
            Open::Addresses(id) => {
                let value = match how % 4 {
                    0 => Err(LookupFailure::Overloaded),
                    1 => Err(LookupFailure::TimedOut),
                    2 => Ok([].into()),
                    _ => Ok([[192, 0, 2, 1].into()].into()),
                };
                let answer = value.map(|value| Answer { value, fresh_until, stale: false, cached: how > 99 });
                resolver.handle_addresses(id, answer, *now);
            }
        }
    }

    fn drain(&mut self) {
        while let Some(action) = self.resolver.poll() {
            if let Some(ticket) = action.ticket() {
                assert!(self.waiting.remove(&ticket), "{ticket} was told twice, or after it had gone");
            }
            match action {
                Action::FetchWellKnown { id, .. } => self.open.push(Open::WellKnown(id)),
                Action::LookupSrv { id, .. } => self.open.push(Open::Srv(id)),
                Action::LookupAddresses { id, .. } => self.open.push(Open::Addresses(id)),
                Action::Resolved { address, .. } => assert!(!address.endpoints.is_empty()),
                _ => {}
            }
        }
    }
}

fn well_known(how: u8) -> WellKnownResult {
    let body: &[u8] = match how % 7 {
        0 => return WellKnownResult::Failed(WellKnownFailure::TimedOut),
        1 => return WellKnownResult::Failed(WellKnownFailure::Overloaded),
        2 => b"{\"m.server\":\"delegated.example\"}",
        3 => b"{\"m.server\":\"delegated.example:1\"}",
        4 => b"{\"m.server\":\"192.0.2.9\"}",
        5 => b"<html>",
        _ => b"",
    };
    let status = if how.is_multiple_of(5) { 404 } else { 200 };
    WellKnownResult::Answered(WellKnownAnswer { status, body: body.to_vec(), ..WellKnownAnswer::default() })
}

proptest! {
    /// Requests, cancellations, answers good, bad, late and never, and time that jumps: each ticket is told
    /// exactly once, nothing is left over, and what is held stays within its bounds.
    #[test]
    fn every_ticket_is_told_exactly_once(story in prop::collection::vec(happens(), 1..250)) {
        let mut world = Story::new();
        for what in &story {
            world.happens(what);
            prop_assert!(world.resolver.counters().names <= 4);
            prop_assert!(world.resolver.counters().well_knowns <= 3);
        }
        while let Some(deadline) = world.resolver.poll_timeout() {
            world.now = world.now.max(deadline);
            world.resolver.handle_timeout(world.now);
            world.drain();
        }
        prop_assert!(world.waiting.is_empty(), "never told: {:?}", world.waiting);
        prop_assert_eq!(world.resolver.counters().under_way, 0);
    }

    /// However the requests for one name fall, no step of it is asked twice at a time.
    #[test]
    fn requests_for_one_name_make_one_fetch(requests in 1_usize..200) {
        let mut world = Story::new();
        world.resolver = Resolver::new(ResolverLimits::default(), 3);
        for _ in 0..requests {
            world.happens(&Happens::Request(0));
            prop_assert_eq!(world.open.len(), 1);
        }
    }
}
