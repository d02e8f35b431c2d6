//! Where hosts are remembered: bounded, found by name, the longest idle forgotten first.
//!
//! Every operation takes constant time, whatever the number of hosts.

use std::collections::VecDeque;

use southbridge_words::{HostState, Instant, ServiceName};

use super::host::Host;
use crate::roster::{Named, Roster};
use crate::slots::Row;

#[derive(Debug)]
pub(super) struct Shelf {
    books: Roster<Book>,
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
}

/// Hosts without requests in flight stand in rows, from the longest idle to the latest used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RowKind {
    /// Healthy, slow, unknown: forgetting one costs a request in the limited lane.
    Calm,
    /// Failing, down: forgetting one costs several requests their time-outs, so these go last.
    Troubled,
}

impl Named for Book {
    type Name = ServiceName;

    fn name(&self) -> &ServiceName {
        &self.name
    }
}

impl Shelf {
    pub(super) fn new(hosts_max: u32, seed: u64) -> Self {
        Self {
            books: Roster::new(seed),
            rows: [Row::EMPTY; 2],
            counts: [0; 5],
            changed: VecDeque::new(),
            queued: Vec::new(),
            hosts_max,
        }
    }

    pub(super) fn get(&self, name: &ServiceName) -> Option<&Host> {
        self.books.find(name).map(|place| &self.books[place].host)
    }

    /// Acts on the host called `name`, if it is known.
    pub(super) fn visit<R>(&mut self, name: &ServiceName, act: impl FnOnce(&mut Host) -> R) -> Option<R> {
        let place = self.books.find(name)?;
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
        let place = match self.books.find(name) {
            Some(place) => place,
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
        let place = self.books.enrol(Book { name, host, row: None });
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
        self.books.find(name).is_some()
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
            let place = self.changed.pop_front()?;
            self.queued[place as usize] = false;
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
        let book = &mut self.books[place];
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
        let Some(place) = self.rows.iter().find_map(Row::oldest) else { return false };
        self.unshelve(place);
        let book = self.books.strike(place);
        self.counts[book.host.state as usize] -= 1;
        true
    }

    /// Puts the book at `place` at the newest end of its row, unless it is in use.
    fn shelve(&mut self, place: u32) {
        let book = &mut self.books[place];
        if book.host.in_flight > 0 {
            return;
        }
        let kind = match book.host.state {
            HostState::Healthy | HostState::Slow | HostState::Unknown => RowKind::Calm,
            HostState::Failing | HostState::Down => RowKind::Troubled,
        };
        book.row = Some(kind);
        self.books.append(&mut self.rows[kind as usize], place);
    }

    fn unshelve(&mut self, place: u32) {
        if let Some(kind) = self.books[place].row.take() {
            self.books.leave(&mut self.rows[kind as usize], place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::mem::size_of;

    use super::*;
    use crate::ranker::host::Trouble;

    /// `hosts_max` multiplies it. Beside the book there are the name, eight bytes for its row, six in the
    /// index and up to nine in the queue; a host in trouble has a box more. Whoever lets these grow has
    /// changed what a host costs, and should say so where the book gives the figure.
    #[test]
    fn a_host_that_does_well_costs_eleven_words_and_its_name() {
        assert_eq!((size_of::<Book>(), size_of::<Option<Book>>()), (88, 88));
        assert!(size_of::<Trouble>() <= 104, "{}", size_of::<Trouble>());
    }
}
