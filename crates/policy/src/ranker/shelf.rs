//! Where hosts are remembered: bounded, found by name, the longest idle forgotten first.
//!
//! Every operation takes constant time, whatever the number of hosts. Names come from the network, so
//! the hash is keyed with the seed and cannot be made to collide from outside.

use std::collections::VecDeque;

use slab::Slab;
use southbridge_words::{HostState, Instant, ServiceName};

use super::host::Host;
use crate::seeded::{SeededMap, SeededState};

#[derive(Debug)]
pub(super) struct Shelf {
    places: SeededMap<ServiceName, u32>,
    books: Slab<Book>,
    rows: [Row; 2],
    counts: [u32; 5],
    /// Places of hosts that changed; each at most once, as `queued` says.
    changed: VecDeque<u32>,
    queued: Vec<bool>,
    hosts_max: u32,
}

#[derive(Debug)]
pub(super) struct Book {
    name: ServiceName,
    host: Host,
    /// The row it stands in; none while it has requests in flight and cannot be forgotten.
    row: Option<RowKind>,
    older: u32,
    newer: u32,
}

/// Hosts without requests in flight, from the longest idle to the latest used.
#[derive(Clone, Copy, Debug)]
struct Row {
    oldest: u32,
    newest: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RowKind {
    /// Healthy, slow, unknown: forgetting one costs a request in the limited lane.
    Calm,
    /// Failing, down: forgetting one costs several requests their time-outs, so these go last.
    Troubled,
}

impl Shelf {
    pub(super) fn new(hosts_max: u32, seed: u64) -> Self {
        Self {
            places: SeededMap::with_hasher(SeededState::new(seed)),
            books: Slab::new(),
            rows: [Row { oldest: NOWHERE, newest: NOWHERE }; 2],
            counts: [0; 5],
            changed: VecDeque::new(),
            queued: Vec::new(),
            hosts_max,
        }
    }

    pub(super) fn get(&self, name: &ServiceName) -> Option<&Host> {
        self.places.get(name).map(|place| &self.books[*place as usize].host)
    }

    /// Acts on the host called `name`, if it is known.
    pub(super) fn visit<R>(&mut self, name: &ServiceName, act: impl FnOnce(&mut Host) -> R) -> Option<R> {
        let place = *self.places.get(name)?;
        Some(self.visit_at(place, act))
    }

    /// Acts on the host called `name`, which is made the acquaintance of if need be. None when
    /// every host there is room for has requests in flight.
    pub(super) fn visit_or_add<R>(
        &mut self,
        name: &ServiceName,
        now: Instant,
        act: impl FnOnce(&mut Host) -> R,
    ) -> Option<R> {
        let place = match self.places.get(name) {
            Some(place) => *place,
            None => self.add(name.clone(), Host::new(now))?,
        };
        Some(self.visit_at(place, act))
    }

    /// Puts up a host that is not known yet.
    pub(super) fn add(&mut self, name: ServiceName, host: Host) -> Option<u32> {
        if self.books.len() >= self.hosts_max as usize && !self.forget_one() {
            return None;
        }
        self.counts[host.state as usize] += 1;
        let book = Book { name: name.clone(), host, row: None, older: NOWHERE, newer: NOWHERE };
        let place = u32::try_from(self.books.insert(book)).expect("there are at most hosts_max of them");
        self.places.insert(name, place);
        if self.queued.len() <= place as usize {
            self.queued.resize(place as usize + 1, false);
        }
        self.shelve(place);
        Some(place)
    }

    pub(super) fn is_full(&self) -> bool {
        self.books.len() >= self.hosts_max as usize
    }

    pub(super) fn is_known(&self, name: &ServiceName) -> bool {
        self.places.contains_key(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &ServiceName> {
        self.books.iter().map(|(_, book)| &book.name)
    }

    pub(super) fn count(&self, state: HostState) -> u32 {
        self.counts[state as usize]
    }

    /// The next host that changed since this was last asked.
    pub(super) fn next_changed(&mut self) -> Option<(&ServiceName, &mut Host)> {
        loop {
            let place = self.changed.pop_front()? as usize;
            self.queued[place] = false;
            let changed = self.books.get(place).is_some_and(|book| book.host.changed);
            if changed {
                let book = &mut self.books[place];
                book.host.changed = false;
                return Some((&book.name, &mut book.host));
            }
        }
    }

    fn visit_at<R>(&mut self, place: u32, act: impl FnOnce(&mut Host) -> R) -> R {
        self.unshelve(place);
        let book = &mut self.books[place as usize];
        self.counts[book.host.state as usize] -= 1;
        let result = act(&mut book.host);
        self.counts[book.host.state as usize] += 1;
        if book.host.changed && !self.queued[place as usize] {
            self.queued[place as usize] = true;
            self.changed.push_back(place);
        }
        self.shelve(place);
        result
    }

    fn forget_one(&mut self) -> bool {
        let oldest = [RowKind::Calm, RowKind::Troubled].map(|kind| self.rows[kind as usize].oldest);
        let Some(place) = oldest.into_iter().find(|place| *place != NOWHERE) else {
            return false;
        };
        self.unshelve(place);
        let book = self.books.remove(place as usize);
        self.counts[book.host.state as usize] -= 1;
        self.places.remove(&book.name);
        true
    }

    /// Puts the book at `place` at the newest end of its row, unless it is in use.
    fn shelve(&mut self, place: u32) {
        let book = &mut self.books[place as usize];
        if book.host.in_flight > 0 {
            return;
        }
        let kind = match book.host.state {
            HostState::Healthy | HostState::Slow | HostState::Unknown => RowKind::Calm,
            HostState::Failing | HostState::Down => RowKind::Troubled,
        };
        let row = &mut self.rows[kind as usize];
        let older = row.newest;
        (book.row, book.older, book.newer) = (Some(kind), older, NOWHERE);
        row.newest = place;
        match older {
            NOWHERE => row.oldest = place,
            _ => self.books[older as usize].newer = place,
        }
    }

    fn unshelve(&mut self, place: u32) {
        let book = &mut self.books[place as usize];
        let Some(kind) = book.row.take() else { return };
        let (older, newer) = (book.older, book.newer);
        match older {
            NOWHERE => self.rows[kind as usize].oldest = newer,
            _ => self.books[older as usize].newer = newer,
        }
        match newer {
            NOWHERE => self.rows[kind as usize].newest = older,
            _ => self.books[newer as usize].older = older,
        }
    }
}

const NOWHERE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use std::mem::size_of;

    use super::*;

    /// The issue allows 1 KiB for a host that is merely remembered. Besides the book there are the
    /// name (at most 255 bytes and two counters), its place in the map (which may be half empty after
    /// it has grown, and old and new are there at once while it grows) and in the queue.
    #[test]
    fn a_remembered_host_costs_less_than_one_kibibyte() {
        let book = size_of::<(usize, Book)>();
        let name = 255 + 2 * size_of::<usize>();
        let place = (size_of::<(ServiceName, u32)>() + 1) * 3;
        let queue = 2 * (size_of::<u32>() + size_of::<bool>());
        // A growing slab may have as much room again in reserve.
        assert!(2 * book + name + place + queue <= 1024, "book {book}, name {name}, place {place}");
    }
}
