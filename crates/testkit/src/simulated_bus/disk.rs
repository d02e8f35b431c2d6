//! The outbox's thread and its disk.

use southbridge_bus::externaliser::WriteId;
use southbridge_words::{Append, Expired, ItemKind, Mark, Outbox, Seq, ServerName, Upkeep, WallTime};

use super::agenda::{Fact, Trouble, Within};
use super::callers::Kind;
use super::driver::Simulation;
use super::hosts::index_of;
use crate::memory_outbox::{Fate, MemoryOutbox};

impl Simulation<'_> {
    /// Puts the backlog there, as an earlier process would have left it.
    pub(super) fn fill_outbox(&mut self) {
        let all: std::sync::Arc<[ServerName]> = self.hosts.iter().map(|host| host.name.clone()).collect();
        let mut outbox = MemoryOutbox::open(&self.disk);
        for number in 0..self.spec.backlog {
            let entry = &mut self.ledger.items[number];
            entry.is_acknowledged = true;
            let kind = if self.kinds[number] == Kind::Pdu { ItemKind::Pdu } else { ItemKind::Edu };
            let append = Append {
                kind,
                bytes: entry.bytes.clone(),
                destinations: all.clone(),
                accepted_at: WallTime::default(),
                key: entry.key.clone(),
            };
            let expected = self.ledger.append(&append);
            let expected = expected.unwrap_or(southbridge_words::Appended::Known(Seq::START));
            let written = outbox.write(&[append], &[]);
            self.insist(written == Ok(vec![expected]), || "the outbox puts items elsewhere".to_owned());
        }
    }

    pub(super) fn write(&mut self, id: WriteId, appends: Vec<Append>, marks: Vec<Mark>) {
        self.note("write", appends.len() as u64, marks.len() as u64);
        let after = self.disk_takes();
        let Some(process) = &mut self.process else { return };
        let is_first = process.write.replace((id, appends, marks)).is_none();
        let is_usable = !process.outbox.has_failed();
        self.insist(is_first, || "two writes at a time".to_owned());
        self.insist(is_usable, || "an outbox that has failed is written to again".to_owned());
        self.add(after, Within::Written);
    }

    pub(super) fn read(&mut self, destination: &ServerName, after: Seq, items_max: usize, bytes_max: usize) {
        let host = index_of(destination);
        self.note("read", host as u64, after.0);
        let takes = self.disk_takes();
        self.add(takes, Within::Read { host, after, items_max, bytes_max });
    }

    /// One thing at a time.
    fn disk_takes(&mut self) -> std::time::Duration {
        let takes = if self.happens(self.spec.disk_slow_permille) {
            self.millis(100, 2_000)
        } else {
            self.millis(0, 5)
        };
        let now = self.now;
        let Some(process) = &mut self.process else { return takes };
        process.disk_free_at = process.disk_free_at.max(now) + takes;
        process.disk_free_at.saturating_since(now)
    }

    pub(super) fn on_written(&mut self) {
        if self.is_doomed() {
            return self.crash();
        }
        let fate = self.next_fate();
        let Some(process) = &mut self.process else { return };
        let Some((id, appends, marks)) = process.write.take() else { return };
        self.disk.set_fate(fate);
        let result = process.outbox.write(&appends, &marks);
        self.note("written", appends.len() as u64, u64::from(result.is_ok()));
        // What a failed sync has left on the disk is there after the next start, and nobody was told.
        if result.is_ok() || fate == Fate::SyncFailedKept {
            for (nth, append) in appends.iter().enumerate() {
                let told = result.as_ref().ok().map(|appended| appended[nth]);
                match self.ledger.append(append) {
                    Ok(expected) => {
                        let is_there = told.is_none_or(|told| told == expected);
                        self.insist(is_there, || "the outbox puts items elsewhere".to_owned());
                    }
                    Err(what) => self.breach(what),
                }
            }
            for mark in &marks {
                let told = self.ledger.mark(mark);
                self.check(told);
            }
            if self.is_doomed() {
                return self.crash();
            }
        }
        self.tell_bus(|bus, at| bus.handle_written(id, result, at));
    }

    fn next_fate(&mut self) -> Fate {
        let is_this_one = self.spec.disk_failure_at == Some(self.disk.writes());
        if is_this_one {
            self.agenda.add(self.now + RESTART_AFTER, Fact::Trouble(Trouble::Restart));
        }
        if std::mem::take(&mut self.is_failure_due) || is_this_one {
            // Whatever is on the disk, the outbox does no more in this process.
            let fate =
                [Fate::Torn, Fate::SyncFailedLost, Fate::SyncFailedKept][self.chance.below(3) as usize];
            self.note("disk failure", fate as u64, 0);
            return fate;
        }
        // Once in a while a write gets through a full disk.
        let is_lucky = self.disk_fate == Fate::Full && self.happens(300);
        if is_lucky { Fate::Kept } else { self.disk_fate }
    }

    pub(super) fn on_read(&mut self, host: usize, after: Seq, items_max: usize, bytes_max: usize) {
        let name = self.name(host);
        let is_silent = self.disk_fate == Fate::Unavailable;
        let Some(process) = &mut self.process else { return };
        let result = if is_silent {
            Err(southbridge_words::OutboxError::Unavailable { reason: "simulated".to_owned() })
        } else {
            process.outbox.read(&name, after, items_max, bytes_max)
        };
        self.note("page", host as u64, result.as_ref().map_or(0, |page| page.items.len() as u64));
        self.tell_bus(|bus, at| bus.handle_page(&name, result, at));
    }

    /// A retention limit drops the older half of a host's backlog.
    pub(super) fn expire(&mut self, host: usize) {
        let waiting: Vec<Seq> = self.ledger.waiting(host).collect();
        let Some(upto) = waiting.get(waiting.len() / 2).copied() else { return };
        let items = waiting.len() as u64 / 2 + 1;
        let name = self.name(host);
        let Some(process) = &mut self.process else { return };
        self.disk.set_fate(Fate::Kept);
        let mark = Mark::Dropped { destination: name.clone(), upto };
        if process.outbox.write(&[], std::slice::from_ref(&mark)).is_err() {
            return;
        }
        self.note("expired", host as u64, upto.0);
        self.expired.insert(host);
        // It is told from the outbox's thread, after it is done.
        let given_up = southbridge_bus::externaliser::GivenUp::Retention;
        let told = self.ledger.give_up(host, upto, given_up, |_| true);
        self.check(told);
        let told = self.ledger.mark(&mark);
        self.check(told);
        let upkeep =
            Upkeep { expired: vec![Expired { destination: name, upto, items }], ..Upkeep::default() };
        self.tell_bus(|bus, at| bus.handle_upkeep(upkeep, at));
    }
}

/// An operator sees to it that an outbox that has failed is opened anew.
const RESTART_AFTER: std::time::Duration = std::time::Duration::from_secs(5);
