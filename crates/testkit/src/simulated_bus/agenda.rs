//! What is to happen, and when.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use southbridge_bus::externaliser::Answer;
use southbridge_words::{ConnId, Instant, Seq, Ticket};

use super::homes::{DnsFault, WellKnownFault};
use super::naming::Lookup;
use super::wire::Parcel;

/// Something that happens. What belongs to a process is void when that process is no more.
#[derive(Clone, Debug)]
pub(super) enum Fact {
    /// A caller hands in the item with this number.
    HandIn(usize),
    /// A caller asks the query with this number.
    Query(usize),
    /// Something goes wrong, or is done by an operator.
    Trouble(Trouble),
    /// All trouble ceases.
    Heal,
    /// The process starts.
    Start,
    /// Something of a process.
    Of(u64, Within),
    /// A request reaches its host.
    Arrive(Box<Parcel>),
}

/// Something that concerns one process alone.
#[derive(Clone, Debug)]
pub(super) enum Within {
    /// The disk is done with the write under way.
    Written,
    /// The disk is done with a read, for this host.
    Read { host: usize, after: Seq, items_max: usize, bytes_max: usize },
    /// The name servers have answered, or will not.
    LookedUp(Lookup),
    /// TCP to one address is up, or will not come up.
    Tried(ConnId, SocketAddr, bool),
    /// The next address may be tried beside those that are silent.
    RaceStep(ConnId),
    /// TLS is up.
    Shaken(ConnId),
    /// An answer is here, to this attempt of an errand.
    Answered { errand: Ticket, attempt: u32, host: usize, answer: Answer },
    /// The connection was cut under this attempt; `is_stale` when before a byte was written.
    Cut { errand: Ticket, attempt: u32, is_stale: bool },
    /// Time is up for an errand.
    Deadline(Ticket),
}

/// What goes wrong, or is done to the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nothing reaches the host, or nothing comes back from it, or both, until it is mended.
    Partition { host: usize, out: bool, back: bool },
    /// The partition is over.
    Mend { host: usize },
    /// The name servers of a host fail, until they are well.
    Names { host: usize, fault: DnsFault },
    /// They are well.
    NamesWell { host: usize },
    /// The `.well-known` of a host is not what it should be, until it is.
    WellKnown { host: usize, fault: WellKnownFault },
    /// It is.
    WellKnownWell { host: usize },
    /// A host moves.
    Move(usize),
    /// The disk is full.
    DiskFull,
    /// The disk does not answer.
    DiskSilent,
    /// The disk gives out blocks of other places.
    DiskMisdirects,
    /// The disk is well.
    DiskWell,
    /// The next write fails for good: this process writes no more.
    DiskFailure,
    /// The wall clock is set, by so many seconds.
    ClockJump(i64),
    /// Something is heard from a host.
    Wake(usize),
    /// An operator drops a backlog.
    Drop(usize),
    /// A retention limit drops the older half of a backlog.
    Expire(usize),
    /// A caller loses interest in whatever was handed in last.
    Cancel,
    /// The process is restarted by an operator.
    Restart,
}

/// Facts to come, in the order of time, and of their making where times are equal.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    facts: BTreeMap<(Instant, u64), Fact>,
    made: u64,
}

impl Agenda {
    pub(super) fn add(&mut self, at: Instant, fact: Fact) {
        self.made += 1;
        self.facts.insert((at, self.made), fact);
    }

    pub(super) fn next_at(&self) -> Option<Instant> {
        self.facts.first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn next(&mut self) -> Option<(Instant, Fact)> {
        self.facts.pop_first().map(|((at, _), fact)| (at, fact))
    }
}
