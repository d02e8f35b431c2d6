//! What goes to the outbox: one write at a time, and all that gathers meanwhile in the next.
//!
//! So items come back in the order of their positions, marks of one destination stay in order, and marks of many
//! share a commit. After a failure what had been in the write is put back where it was, in front.

use std::collections::VecDeque;
use std::time::Duration;

use southbridge_words::{Append, Instant, Mark, Partition, ServerName, Ticket};

use super::action::{Action, WriteId};
use super::limits::ExternaliserLimits;
use super::queues::QueueKey;
use super::refused::Refused;

/// An item on its way into the outbox.
#[derive(Clone, Debug)]
pub(crate) struct Accepting {
    pub(crate) ticket: Ticket,
    pub(crate) append: Append,
    /// When it was handed in.
    pub(crate) since: Instant,
}

/// Something to remember, and the queue that wants it.
pub(crate) type QueuedMark = (QueueKey, Mark);

/// What a write held.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) items: Vec<Accepting>,
    pub(crate) marks: Vec<QueuedMark>,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Writing {
    items: VecDeque<Accepting>,
    item_bytes: usize,
    pub(crate) marks: VecDeque<QueuedMark>,
    under_way: Option<(WriteId, Written)>,
    written: u64,
    /// The latest time that was told.
    now: Instant,
    /// When the write under way was asked for.
    asked_at: Instant,
    /// The write under way has not been answered for longer than an item may wait: the outbox hangs, as a database does
    /// that is being restarted in the midst of a commit.
    silent: bool,
    /// The outbox is left alone until then.
    pause: Option<Instant>,
    pauses: u32,
    /// Why no items are taken just now, and until when.
    full: Option<(String, Instant)>,
    /// Marks go alone: items were refused lately, and must not take marks down with them.
    apart: bool,
    /// What went last were marks, and nothing else.
    marks_went: bool,
    /// Marks go by partition: some of them are not ours any more.
    parted: bool,
    /// Why nothing durable is accepted until the end of the process.
    failed: Option<String>,
}

impl Writing {
    /// Whether no transaction can be begun just now: that would have to be remembered first.
    pub(crate) const fn is_blocked(&self) -> bool {
        self.failed.is_some() || self.pause.is_some() || self.silent
    }

    /// The time has come to `now`.
    pub(crate) fn note(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// Notes that the write under way hangs, if it has not been answered for `patience`. Says whether that is news.
    pub(crate) fn falls_silent(&mut self, patience: Duration, now: Instant) -> bool {
        let hangs = self.under_way.is_some() && now.saturating_since(self.asked_at) >= patience;
        hangs && !std::mem::replace(&mut self.silent, true)
    }

    /// Whether the write that was just answered had hung.
    pub(crate) fn speaks_again(&mut self) -> bool {
        std::mem::take(&mut self.silent)
    }

    /// Whether there is nothing to write, and nothing under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.under_way.is_none() && self.items.is_empty() && self.marks.is_empty()
    }

    /// Items that wait to be written or are being written, and their bytes.
    pub(crate) fn accepting(&self) -> (usize, usize) {
        let under_way = self.under_way.as_ref().map_or(0, |(_, written)| written.items.len());
        (self.items.len() + under_way, self.item_bytes)
    }

    /// Takes an item in.
    pub(crate) fn accept(&mut self, item: Accepting, limits: &ExternaliserLimits) -> Result<(), Refused> {
        if let Some(reason) = &self.failed {
            return Err(Refused::OutboxFailed { reason: reason.clone() });
        }
        if let Some((reason, _)) = &self.full {
            return Err(Refused::OutboxFull { reason: reason.clone() });
        }
        let (waiting, bytes) = self.accepting();
        let (waiting_max, bytes_max) = (limits.accepting_max, limits.accepting_bytes_max);
        if waiting >= waiting_max || (bytes + item.append.bytes.len() > bytes_max && waiting > 0) {
            return Err(Refused::Overloaded { waiting, waiting_max, bytes, bytes_max });
        }
        self.item_bytes += item.append.bytes.len();
        self.note(item.since);
        self.items.push_back(item);
        Ok(())
    }

    /// Takes back what was handed in by `ticket`, unless it is being written.
    pub(crate) fn cancel(&mut self, ticket: Ticket) -> bool {
        let Some(at) = self.items.iter().position(|item| item.ticket == ticket) else { return false };
        let item = self.items.remove(at).expect("it was found there");
        self.item_bytes -= item.append.bytes.len();
        true
    }

    /// The next write, if there is something to write and nothing under way.
    pub(crate) fn next(&mut self, limits: &ExternaliserLimits) -> Option<Action> {
        if self.under_way.is_some() || self.pause.is_some() || self.failed.is_some() {
            return None;
        }
        let is_turn_of_items = self.apart && self.marks_went && !self.items.is_empty();
        let marks = if is_turn_of_items { Vec::new() } else { self.next_marks(limits.write_marks_max) };
        let items = if self.apart && !marks.is_empty() { Vec::new() } else { self.next_items(limits) };
        self.marks_went = items.is_empty();
        if marks.is_empty() && items.is_empty() {
            return None;
        }
        let id = WriteId(self.written);
        self.written += 1;
        let action = Action::Write {
            id,
            appends: items.iter().map(|item| item.append.clone()).collect(),
            marks: marks.iter().map(|(_, mark)| mark.clone()).collect(),
        };
        self.under_way = Some((id, Written { items, marks }));
        self.asked_at = self.now;
        Some(action)
    }

    fn next_marks(&mut self, marks_max: usize) -> Vec<QueuedMark> {
        let Some((_, first)) = self.marks.front() else { return Vec::new() };
        let partition = Partition::of(first.destination());
        let is_together =
            |mark: &&QueuedMark| !self.parted || Partition::of(mark.1.destination()) == partition;
        let count = self.marks.iter().take(marks_max).take_while(is_together).count();
        self.marks.drain(..count).collect()
    }

    fn next_items(&mut self, limits: &ExternaliserLimits) -> Vec<Accepting> {
        let mut bytes = 0;
        let fits = |item: &&Accepting| {
            bytes += item.append.bytes.len();
            bytes <= limits.write_bytes_max
        };
        let count = self.items.iter().take(limits.write_items_max).take_while(fits).count();
        let count = count.max(1).min(self.items.len());
        self.items.drain(..count).collect()
    }

    /// A write has ended: what was in it. None when it is not the one under way.
    pub(crate) fn take(&mut self, id: WriteId) -> Option<Written> {
        let (_, written) = self.under_way.take_if(|(under_way, _)| *under_way == id)?;
        self.item_bytes -= written.items.iter().map(|item| item.append.bytes.len()).sum::<usize>();
        Some(written)
    }

    /// A write succeeded, with items in it or without. Says whether there had been trouble that is over now.
    pub(crate) fn succeed(&mut self, with_items: bool) -> bool {
        let was_full = with_items && std::mem::take(&mut self.apart);
        if self.marks.is_empty() {
            self.parted = false;
        }
        std::mem::take(&mut self.pauses) > 0 || was_full
    }

    /// Leaves the outbox alone for a while. Says whether that is news.
    pub(crate) fn pause(&mut self, limits: &ExternaliserLimits, now: Instant) -> bool {
        let wait = limits.outbox_retry.saturating_mul(1 << self.pauses.min(6)).min(PAUSE_MAX);
        self.pause = Some(now + wait);
        self.pauses += 1;
        self.pauses == 1
    }

    /// Takes no items for a while; marks, which make room, are still written. Says whether that is news.
    pub(crate) fn refuse_items(&mut self, reason: String, limits: &ExternaliserLimits, now: Instant) -> bool {
        self.full = Some((reason, now + limits.outbox_retry));
        !std::mem::replace(&mut self.apart, true)
    }

    /// Nothing durable is accepted any more. Hands out what waited.
    pub(crate) fn fail(&mut self, reason: String) -> Vec<Accepting> {
        self.failed = Some(reason);
        self.pause = None;
        self.marks.clear();
        self.item_bytes = 0;
        self.items.drain(..).collect()
    }

    /// Marks that nothing will ever come of.
    pub(crate) fn take_vain_marks(&mut self) -> VecDeque<QueuedMark> {
        if self.failed.is_some() { std::mem::take(&mut self.marks) } else { VecDeque::new() }
    }

    /// Marks are to be written by partition, to find out which are not ours any more.
    pub(crate) const fn part(&mut self) {
        (self.parted, self.apart) = (true, true);
    }

    /// Puts marks back in front.
    pub(crate) fn put_marks_back(&mut self, marks: Vec<QueuedMark>) {
        marks.into_iter().rev().for_each(|mark| self.marks.push_front(mark));
    }

    /// Puts items back in front; those that have waited for longer than `patience` are handed out instead.
    pub(crate) fn put_items_back(
        &mut self,
        items: Vec<Accepting>,
        patience: Duration,
        now: Instant,
    ) -> Vec<Accepting> {
        let is_late = |item: &Accepting| now.saturating_since(item.since) >= patience;
        let (late, early): (Vec<_>, Vec<_>) = items.into_iter().partition(is_late);
        self.item_bytes += early.iter().map(|item| item.append.bytes.len()).sum::<usize>();
        early.into_iter().rev().for_each(|item| self.items.push_front(item));
        late
    }

    /// Forgets the marks for destinations that are not ours any more.
    pub(crate) fn disown(&mut self, mut is_ours: impl FnMut(&ServerName) -> bool) {
        self.marks.retain(|(_, mark)| is_ours(mark.destination()));
    }

    /// The time has come to `now`. Says whether a pause is over.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> bool {
        self.full.take_if(|(_, until)| *until <= now);
        self.pause.take_if(|until| *until <= now).is_some()
    }

    /// The next item that has waited through a pause, or behind a write that hangs, for as long as it may.
    pub(crate) fn next_late(&mut self, patience: Duration, now: Instant) -> Option<Accepting> {
        let first = self.items.front().filter(|first| now.saturating_since(first.since) >= patience);
        let item = first.filter(|_| self.pause.is_some() || self.silent).cloned()?;
        self.items.pop_front();
        self.item_bytes -= item.append.bytes.len();
        Some(item)
    }

    /// When to come back, if items wait for `patience`.
    pub(crate) fn poll_timeout(&self, patience: Duration) -> Option<Instant> {
        let full = self.full.as_ref().map(|(_, until)| *until);
        let waits = self.pause.is_some() || self.silent;
        let late = self.items.front().filter(|_| waits).map(|first| first.since + patience);
        let hangs = (self.under_way.is_some() && !self.silent).then(|| self.asked_at + patience);
        [self.pause, full, late, hangs].into_iter().flatten().min()
    }
}

// Long enough for somebody to make room, short enough to go on soon after.
const PAUSE_MAX: Duration = Duration::from_secs(60);
