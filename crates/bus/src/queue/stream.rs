//! One destination's part of the stream of durable items: how far it has come, and what of it is in memory.
//!
//! ```text
//!       delivered          tail            last
//! ──────────┼────────────────┼───────────────┼──▶ Seq
//!   they    │ in memory, in  │ in the outbox │
//!   have it │ order, no gaps │ only          │
//! ```
//!
//! What is in memory always follows the cursor without a gap, so a transaction can take a strict prefix of it
//! (F7). What is beyond the tail is read back by pages (F15).

use std::collections::VecDeque;
use std::time::Duration;

use southbridge_words::{Backlog, Item, Page, Seq, WallTime};

use super::held::{Held, Meter};

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Stream {
    delivered: Seq,
    last: Seq,
    items: VecDeque<Held>,
    /// Items not delivered yet that are known of.
    known: u64,
    /// Whether there may be more of them.
    at_least: bool,
    /// When the first of them was accepted, or earlier.
    head_at: WallTime,
}

impl Stream {
    /// A stream of which nothing is known.
    pub(crate) fn unknown() -> Self {
        Self::new(Seq::START, Seq::START)
    }

    /// What the outbox says of a destination: how much there is, is not known.
    pub(crate) fn recovered(backlog: &Backlog) -> Self {
        let mut stream = Self::new(backlog.delivered, backlog.last.max(backlog.delivered));
        stream.at_least = !stream.is_empty();
        stream
    }

    fn new(delivered: Seq, last: Seq) -> Self {
        let (items, head_at) = (VecDeque::new(), WallTime::default());
        Self { delivered, last, items, known: 0, at_least: false, head_at }
    }

    /// Everything up to here was delivered.
    pub(crate) const fn delivered(&self) -> Seq {
        self.delivered
    }

    /// The last item.
    pub(crate) const fn last(&self) -> Seq {
        self.last
    }

    /// Whether everything was delivered.
    pub(crate) fn is_empty(&self) -> bool {
        self.last <= self.delivered
    }

    /// The items in memory, in order, from the first that was not delivered.
    pub(crate) fn items(&self) -> impl ExactSizeIterator<Item = &Item> + Clone {
        self.items.iter().map(|held| &**held)
    }

    /// How many are in memory.
    pub(crate) fn held(&self) -> usize {
        self.items.len()
    }

    /// The last item in memory, or the cursor.
    pub(crate) fn tail(&self) -> Seq {
        self.items.back().map_or(self.delivered, |item| item.seq)
    }

    /// Whether there are items that are not in memory.
    pub(crate) fn is_behind(&self) -> bool {
        self.last > self.tail()
    }

    /// Items not delivered yet, as many as are known of, and whether there may be more.
    pub(crate) const fn known(&self) -> (u64, bool) {
        (self.known, self.at_least)
    }

    /// Whether it is a backlog, and no longer live traffic.
    pub(crate) fn is_backlog(&self, items_max: usize, live_age: Duration, wall: WallTime) -> bool {
        self.at_least
            || self.known > items_max as u64
            || (self.known > 0 && wall.saturating_since(self.head_at) > live_age)
    }

    /// Whether anything is known of it.
    pub(crate) fn is_known(&self) -> bool {
        self.last > Seq::START
    }

    /// Nothing before `first` is outstanding, if nothing is known to be.
    pub(crate) fn begin(&mut self, first: Seq) {
        if self.is_empty() {
            self.delivered = self.delivered.max(Seq(first.0.saturating_sub(1)));
            self.last = self.delivered;
        }
    }

    /// An item was accepted. It is kept in memory if nothing before it is missing there and it `fits`.
    pub(crate) fn push(&mut self, item: &Held, fits: bool) {
        if item.seq <= self.last {
            return;
        }
        if fits && !self.is_behind() {
            self.items.push_back(item.clone());
        }
        self.note(item.seq, item.accepted_at);
    }

    /// There is an item at `seq`, which will be read back.
    pub(crate) fn note(&mut self, seq: Seq, accepted_at: WallTime) {
        if seq <= self.last {
            return;
        }
        if self.is_empty() {
            self.head_at = accepted_at;
        }
        self.last = seq;
        self.known += 1;
    }

    /// The outbox knows of items up to `last`.
    pub(crate) fn extend(&mut self, last: Seq) {
        if last > self.last {
            if self.is_empty() {
                self.head_at = WallTime::default();
            }
            self.last = last;
            self.at_least = true;
        }
    }

    /// Takes a page that was read after `after`, when `last` was the last item known of.
    pub(crate) fn take_page(&mut self, after: Seq, last: Seq, page: Page, meter: &Meter) {
        if after != self.tail() {
            return; // Memory was let go of meanwhile, or the cursor moved: it is read again.
        }
        for item in page.items {
            if item.seq > self.tail() {
                self.last = self.last.max(item.seq);
                self.items.push_back(meter.hold(item));
            }
        }
        if let Some(first) = self.items.front() {
            self.head_at = first.accepted_at;
        }
        if !page.more && self.tail() <= last && self.last == last {
            // What was expected beyond has been let go of by the outbox.
            self.last = self.tail();
            (self.known, self.at_least) = (self.items.len() as u64, false);
        }
        self.known = self.known.max(self.items.len() as u64);
    }

    /// Lets go of what is in memory; it is in the outbox.
    pub(crate) fn release(&mut self) {
        self.items = VecDeque::new();
    }

    /// Lets go of what is in memory beyond `upto`.
    pub(crate) fn release_after(&mut self, upto: Seq) {
        self.items.truncate(self.items.partition_point(|item| item.seq <= upto));
    }

    /// Everything up to `upto` is done with. Says how many items that were, as far as known.
    pub(crate) fn advance(&mut self, upto: Seq, count: u64) {
        while self.items.front().is_some_and(|item| item.seq <= upto) {
            self.items.pop_front();
        }
        self.delivered = self.delivered.max(upto);
        self.last = self.last.max(self.delivered);
        self.known = self.known.saturating_sub(count);
        if let Some(first) = self.items.front() {
            self.head_at = first.accepted_at;
        }
        if self.is_empty() {
            self.items = VecDeque::new();
            (self.known, self.at_least) = (0, false);
        }
    }
}
