//! What is to happen, and when.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use southbridge_bus::resolver::LookupId;
use southbridge_words::{ConnId, Instant, Ticket};

/// Something that happens to the machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Fact {
    /// A transaction is to go to every host.
    FanOut,
    /// Somebody wants something of some host.
    Interactive,
    /// Time is up for a request.
    Deadline(Ticket),
    /// DNS answers about SRV records of a host.
    Srv(LookupId, usize, SrvName),
    /// DNS answers about addresses of a host.
    Addresses(LookupId, usize),
    /// The address of a `.well-known` host is known, or not.
    FetchAddress(Ticket),
    /// TCP is up.
    Dialled(ConnId),
    /// TCP will not come up.
    DialFailed(ConnId),
    /// TLS is up, or not.
    Shaken(ConnId),
    /// The response is there.
    Responded(Ticket),
    /// The connection was cut while a request was on it.
    Cut(Ticket),
}

/// Which of the two SRV names was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum SrvName {
    MatrixFed,
    Matrix,
}

/// Facts to come, in the order of time, and of their making where times are equal.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    facts: BinaryHeap<Reverse<(Instant, u64, Fact)>>,
    made: u64,
}

impl Agenda {
    pub(super) fn add(&mut self, at: Instant, fact: Fact) {
        self.made += 1;
        self.facts.push(Reverse((at, self.made, fact)));
    }

    pub(super) fn next_at(&self) -> Option<Instant> {
        self.facts.peek().map(|Reverse((at, ..))| *at)
    }

    pub(super) fn next(&mut self) -> Option<(Instant, Fact)> {
        self.facts.pop().map(|Reverse((at, _, fact))| (at, fact))
    }
}
