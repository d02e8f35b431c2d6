//! What comes back from the outbox.

use std::time::Duration;

use southbridge_words::{
    Appended, Backlog, Item, Mark, OutboxError, Page, Partition, Partitions, Recovered, ServerName, Upkeep,
};

use super::action::{Action, WriteId};
use super::event::{Acknowledgement, Event, GivenUp, Hold};
use super::machine::Externaliser;
use super::moment::Moment;
use super::refused::Refused;
use super::writing::{Accepting, QueuedMark, Written};
use crate::queue::FederationQueue;

impl Externaliser {
    /// What the outbox held when it was opened. Tell it before anything is sent; first contacts are spread.
    pub fn handle_recovered(&mut self, recovered: Recovered, at: Moment) {
        self.owned = recovered.owned;
        let mut backlogs = recovered.backlogs;
        // Any order will do, but for the one that everybody has.
        for index in (1..backlogs.len()).rev() {
            let other = self.seeded.below(index as u64 + 1) as usize;
            backlogs.swap(index, other);
        }
        let pace = f64::from(self.limits.first_contacts_per_second);
        for (index, backlog) in backlogs.iter().enumerate() {
            let wait = Duration::from_secs_f64(index as f64 / pace);
            self.take_up(backlog, wait, at);
        }
        self.fill(at);
    }

    /// What changed in the outbox without our doing.
    pub fn handle_upkeep(&mut self, upkeep: Upkeep, at: Moment) {
        if let Some(owned) = upkeep.owned {
            self.own(owned, at);
        }
        for expired in upkeep.expired {
            let (destination, upto, items) = (expired.destination, expired.upto, expired.items);
            if let Some(key) = self.queues.find(&destination) {
                self.visit(key, at, |queue, scene| queue.handle_expired(upto, items, scene));
            }
            let reason = GivenUp::Retention;
            self.tell(Event::GivenUp { destination, upto, items, reason });
        }
        let pace = f64::from(self.limits.first_contacts_per_second);
        for (index, backlog) in upkeep.backlogs.iter().enumerate() {
            self.take_up(backlog, Duration::from_secs_f64(index as f64 / pace), at);
        }
        self.fill(at);
    }

    /// A page was read for `destination`.
    pub fn handle_page(&mut self, destination: &ServerName, result: Result<Page, OutboxError>, at: Moment) {
        let Some(key) = self.queues.find(destination) else { return };
        let Some(line) = self.queues.get(key).and_then(|place| place.sends) else { return };
        self.visit(key, at, |queue, scene| queue.handle_page(result, line, scene));
        self.fill(at);
    }

    /// A write has ended.
    pub fn handle_written(&mut self, write: WriteId, result: Result<Vec<Appended>, OutboxError>, at: Moment) {
        let Some(written) = self.writing.take(write) else { return };
        let had_hung = self.writing.speaks_again();
        if had_hung && result.is_ok() {
            self.tell(Event::OutboxRecovered);
        }
        match result {
            Ok(appended) => self.on_written(written, &appended, at),
            Err(error) => self.on_not_written(written, error, at),
        }
        if had_hung {
            self.settle_all(at);
        }
        self.fill(at);
    }

    /// The write under way hangs. Those who wait for it are told what became of it when that is known; until then nothing
    /// else is begun that would have to be written, and nobody holds a connection for it.
    pub(super) fn on_silence(&mut self, at: Moment) {
        let waiting: Vec<QueuedMark> = self.writing.marks.drain(..).collect();
        let others = self.undo_begun(waiting, at);
        self.writing.put_marks_back(others);
        let reason = "it has not answered for as long as an item may wait".to_owned();
        self.trouble(OutboxError::Unavailable { reason }, true);
        self.settle_all(at);
    }

    fn on_written(&mut self, written: Written, appended: &[Appended], at: Moment) {
        if self.writing.succeed(!written.items.is_empty()) {
            self.tell(Event::OutboxRecovered);
        }
        for (item, appended) in written.items.into_iter().zip(appended) {
            self.on_accepted(item, *appended, at);
        }
        for (key, mark) in written.marks {
            self.visit(key, at, |queue, scene| {
                queue.handle_marked();
                if let Mark::Begun { transaction, .. } = &mark {
                    queue.handle_begun(&transaction.id, true, scene);
                }
            });
        }
    }

    fn on_accepted(&mut self, accepted: Accepting, appended: Appended, at: Moment) {
        let Accepting { ticket, append, .. } = accepted;
        let (seq, is_new) = match appended {
            Appended::New(seq) => (seq, true),
            Appended::Known(seq) => (seq, false),
        };
        self.tell(Event::Accepted { ticket, acknowledgement: Acknowledgement::Durable(seq) });
        if !is_new {
            return;
        }
        let item = Item { seq, kind: append.kind, bytes: append.bytes, accepted_at: append.accepted_at };
        let item = self.meter.hold(item);
        // In a shared outbox an item of somebody else's may stand before this one: everything is read back.
        let is_alone = !self.limits.outbox_shared;
        let fits = is_alone && !self.is_memory_short();
        for destination in &*append.destinations {
            if !self.owned.own(destination) {
                continue;
            }
            let key = self.queue_of(destination);
            let place = self.queues.get_mut(key).expect("it was found, or added");
            place.queue.push(&item, fits, is_alone, &self.limits.queue);
            self.settle(key, at);
        }
    }

    fn on_not_written(&mut self, written: Written, error: OutboxError, at: Moment) {
        let fence = written.marks.first().map(|(_, mark)| Partition::of(mark.destination()));
        let is_one = written.marks.iter().all(|(_, mark)| Some(Partition::of(mark.destination())) == fence);
        let marks = self.undo_begun(written.marks, at);
        match &error {
            OutboxError::Full { reason } => {
                self.writing.put_marks_back(marks);
                let is_news = if written.items.is_empty() {
                    self.pause(at)
                } else {
                    self.writing.refuse_items(reason.clone(), &self.limits, at.now)
                };
                self.refuse(written.items, &Refused::OutboxFull { reason: reason.clone() });
                self.trouble(error, is_news);
            }
            OutboxError::Failed { .. } | OutboxError::Damaged { .. } => {
                self.on_failed(written.items, marks, error, at);
            }
            OutboxError::Fenced { .. } if fence.is_some() => {
                self.writing.put_marks_back(marks);
                self.writing.put_items_back(written.items, Duration::MAX, at.now);
                self.on_fenced(fence.filter(|_| is_one), at);
            }
            _ => {
                self.writing.put_marks_back(marks);
                let (patience, now) = (self.limits.accepting_patience, at.now);
                let late = self.writing.put_items_back(written.items, patience, now);
                self.refuse(late, &Refused::OutboxUnavailable { reason: error.to_string() });
                let is_news = self.pause(at);
                self.trouble(error, is_news);
            }
        }
    }

    /// Leaves the outbox alone for a while; nobody holds a connection for it meanwhile. Says whether that is news.
    fn pause(&mut self, at: Moment) -> bool {
        let is_news = self.writing.pause(&self.limits, at.now);
        let waiting: Vec<QueuedMark> = self.writing.marks.drain(..).collect();
        let others = self.undo_begun(waiting, at);
        self.writing.put_marks_back(others);
        is_news
    }

    /// Transactions that could not be put on record were never begun. Hands out the other marks.
    fn undo_begun(&mut self, marks: Vec<QueuedMark>, at: Moment) -> Vec<QueuedMark> {
        let mut others = Vec::with_capacity(marks.len());
        for (key, mark) in marks {
            if let Mark::Begun { transaction, .. } = &mark {
                self.visit(key, at, |queue, scene| {
                    queue.handle_marked();
                    queue.handle_begun(&transaction.id, false, scene);
                });
            } else {
                others.push((key, mark));
            }
        }
        others
    }

    fn on_failed(&mut self, items: Vec<Accepting>, marks: Vec<QueuedMark>, error: OutboxError, at: Moment) {
        let reason = error.to_string();
        let waiting: Vec<QueuedMark> = self.writing.marks.drain(..).collect();
        let waiting = self.undo_begun(waiting, at);
        let refused = self.writing.fail(reason.clone());
        for (key, _) in marks.into_iter().chain(waiting) {
            self.visit(key, at, |queue, _| queue.handle_marked());
        }
        self.refuse(items.into_iter().chain(refused).collect(), &Refused::OutboxFailed { reason });
        self.trouble(error, true);
        self.settle_all(at);
    }

    /// Some of the marks are for destinations that another process serves now. Written by partition they say which: `fence`,
    /// if all of them were for one.
    fn on_fenced(&mut self, fence: Option<Partition>, at: Moment) {
        self.writing.part();
        if let Some(lost) = fence {
            let mut owned = Partitions::NONE;
            let all = (0..=u8::MAX).map(Partition::new);
            all.filter(|one| *one != lost && self.owned.contains(*one)).for_each(|one| owned.insert(one));
            self.own(owned, at);
        }
    }

    /// Work for destinations that are not ours any more stops at once.
    fn own(&mut self, owned: Partitions, at: Moment) {
        let before = std::mem::replace(&mut self.owned, owned);
        if before == owned {
            return;
        }
        let lost: Vec<_> = self.queues.keys_where(|name| before.own(name) && !owned.own(name));
        for key in lost {
            self.visit(key, at, FederationQueue::disown);
        }
        self.writing.disown(|name| owned.own(name));
    }

    /// Takes up what the outbox says of one destination. What is known better is kept.
    fn take_up(&mut self, backlog: &Backlog, wait: Duration, at: Moment) {
        if !self.owned.own(&backlog.destination) {
            return;
        }
        let is_known = self.queues.find(&backlog.destination).is_some();
        let key = self.queue_of(&backlog.destination);
        self.visit(key, at, |queue, scene| {
            if is_known && queue.knows_its_stream() {
                queue.extend(backlog.last);
                return;
            }
            queue.recover(backlog);
            if !is_known && !wait.is_zero() {
                queue.postpone(Hold::Start, scene.at.now + wait);
            }
        });
    }

    fn refuse(&mut self, items: Vec<Accepting>, why: &Refused) {
        for item in items {
            self.tell(Event::Refused { ticket: item.ticket, why: why.clone() });
        }
    }

    fn trouble(&mut self, error: OutboxError, is_news: bool) {
        if is_news {
            self.tell(Event::OutboxTrouble { error, destination: None });
        }
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.actions.push_back(Action::Tell(event));
    }
}
