//! What was handed in, what the outbox has of it, what hosts have received: kept apart from the machines, to judge them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::value::RawValue;
use southbridge_bus::externaliser::GivenUp;
use southbridge_bus::transaction::{EDUS_MAX, PDUS_MAX, Transaction};
use southbridge_words::{Append, Appended, Instant, Mark, Seq};

use super::hosts::index_of;

/// What a promise was broken by.
pub(super) type Verdict<T = ()> = Result<T, String>;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) items: Vec<Entry>,
    lines: Vec<Line>,
    last: Seq,
    keys: FxHashMap<Arc<str>, Seq>,
    /// Every transaction that ever went out: to whom, and its body.
    transactions: FxHashMap<Arc<str>, (usize, Bytes)>,
    /// The ids that were put on record.
    begun: FxHashSet<Arc<str>>,
}

/// One item that a caller has.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// As it stands in a transaction; empty when it is volatile.
    pub(super) bytes: Bytes,
    pub(super) hosts: Vec<usize>,
    pub(super) key: Option<Arc<str>>,
    pub(super) is_poison: bool,
    pub(super) is_acknowledged: bool,
    pub(super) handed_in_at: Option<Instant>,
    /// Where it stands in the outbox.
    pub(super) seq: Option<Seq>,
}

#[derive(Debug, Default)]
struct Line {
    items: BTreeMap<Seq, usize>,
    ends: FxHashMap<usize, End>,
    /// Everything up to here is done with, says the outbox.
    cursor: Seq,
    /// The transaction that is on record, and neither delivered nor withdrawn.
    open: Option<Arc<str>>,
    /// The latest item that was received.
    highest: Seq,
}

/// What became of one item at one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Received,
    GivenUp,
}

/// What a transaction holds.
#[derive(Debug)]
pub(super) struct Contents {
    /// The numbers of its durable items, the PDUs first.
    pub(super) items: Vec<usize>,
    pub(super) pdus: usize,
    pub(super) edus: usize,
}

impl Ledger {
    pub(super) fn new(hosts: usize) -> Self {
        Self { lines: (0..hosts).map(|_| Line::default()).collect(), ..Self::default() }
    }

    /// An item is being written: where it must come to stand.
    pub(super) fn append(&mut self, append: &Append) -> Verdict<Appended> {
        if let Some(known) = append.key.as_ref().and_then(|key| self.keys.get(key)) {
            return Ok(Appended::Known(*known));
        }
        let number = number_of(&append.bytes).ok_or("an item was written that nobody handed in")?;
        self.last = Seq(self.last.0 + 1);
        let seq = self.last;
        if let Some(key) = &append.key {
            self.keys.insert(Arc::clone(key), seq);
        }
        let entry = self.items.get_mut(number).ok_or("an item was written that nobody handed in")?;
        if entry.bytes != append.bytes || entry.seq.is_some() {
            return Err(format!("item {number} was changed, or written twice"));
        }
        entry.seq = Some(seq);
        for host in append.destinations.iter().map(index_of) {
            self.lines[host].items.insert(seq, number);
        }
        Ok(Appended::New(seq))
    }

    /// A mark is being written.
    pub(super) fn mark(&mut self, mark: &Mark) -> Verdict {
        let host = index_of(mark.destination());
        match mark {
            Mark::Begun { transaction, .. } => {
                self.begun.insert(Arc::clone(&transaction.id));
                match self.lines[host].open.replace(Arc::clone(&transaction.id)) {
                    None => Ok(()),
                    Some(open) => {
                        Err(format!("I2: {} takes the place of {open}, which is open", transaction.id))
                    }
                }
            }
            Mark::Withdrawn { .. } => {
                self.lines[host].open = None;
                Ok(())
            }
            Mark::Delivered { upto, .. } | Mark::Dropped { upto, .. } => self.lines[host].pass(host, *upto),
        }
    }

    /// A caller was told that item `number` is durable, at `seq`.
    pub(super) fn acknowledge(&mut self, number: usize, seq: Seq) -> Verdict {
        let entry = &mut self.items[number];
        entry.is_acknowledged = true;
        if entry.seq == Some(seq) {
            return Ok(());
        }
        Err(format!("I1: item {number} was acknowledged at {seq}, and stands at {:?}", entry.seq))
    }

    /// A transaction goes out. Says whether that is a repetition.
    pub(super) fn transmit(&mut self, host: usize, transaction: &Transaction) -> Verdict<bool> {
        let Transaction { id, body, .. } = transaction;
        if let Some((known_host, known_body)) = self.transactions.get(id) {
            if *known_host != host || known_body != body {
                return Err(format!("I2: transaction {id} has two bodies"));
            }
            return Ok(true);
        }
        let contents = self.read(host, body)?;
        if contents.pdus > PDUS_MAX || contents.edus > EDUS_MAX {
            return Err(format!("transaction {id} has {} PDUs and {} EDUs", contents.pdus, contents.edus));
        }
        if !contents.items.is_empty() && !self.begun.contains(id) {
            return Err(format!("transaction {id} goes out and is not on record"));
        }
        self.transactions.insert(Arc::clone(id), (host, body.clone()));
        Ok(false)
    }

    /// A host processes a transaction it has not seen. Hands out the items that are new to it.
    pub(super) fn receive(&mut self, host: usize, body: &[u8]) -> Verdict<Vec<usize>> {
        let contents = self.read(host, body)?;
        let mut items: Vec<(Seq, usize)> = Vec::with_capacity(contents.items.len());
        for number in contents.items {
            let seq =
                self.items[number].seq.ok_or_else(|| format!("item {number} was sent and is not durable"))?;
            items.push((seq, number));
        }
        items.sort_unstable();
        let line = &mut self.lines[host];
        let mut new = Vec::new();
        for (seq, number) in items {
            match line.ends.insert(number, End::Received) {
                Some(End::Received) => continue,
                Some(End::GivenUp) => {}
                None if seq < line.highest => {
                    return Err(format!("item {number} at {seq} reaches host {host} after {}", line.highest));
                }
                None => {}
            }
            line.highest = line.highest.max(seq);
            new.push(number);
        }
        Ok(new)
    }

    /// Whether item `number` is refused by host `host` by nature, or because it is too large for `bytes_max`.
    pub(super) fn is_unfit(&self, number: usize, bytes_max: usize) -> bool {
        let entry = &self.items[number];
        entry.is_poison || entry.bytes.len() + FRAME > bytes_max
    }

    /// The bus says that everything up to `upto` is given up.
    pub(super) fn give_up(
        &mut self,
        host: usize,
        upto: Seq,
        reason: GivenUp,
        mut may_be: impl FnMut(&Entry) -> bool,
    ) -> Verdict {
        let line = &mut self.lines[host];
        let open: Vec<usize> = line
            .items
            .range(..=upto)
            .map(|(_, number)| *number)
            .filter(|number| !line.ends.contains_key(number))
            .collect();
        if matches!(reason, GivenUp::Rejected(_)) {
            if open.len() > 1 {
                return Err(format!("I1: {} items are given up for one at host {host}", open.len()));
            }
            if let Some(number) = open.iter().find(|number| !may_be(&self.items[**number])) {
                return Err(format!("I1: item {number} is given up, and host {host} would take it"));
            }
        }
        line.ends.extend(open.into_iter().map(|number| (number, End::GivenUp)));
        Ok(())
    }

    /// What waits for `host` in the outbox, in order.
    pub(super) fn waiting(&self, host: usize) -> impl Iterator<Item = Seq> + '_ {
        let line = &self.lines[host];
        line.items.range(Seq(line.cursor.0 + 1)..).map(|(seq, _)| *seq)
    }

    /// Everything is over: whatever is durable must have arrived, or its loss have been told.
    pub(super) fn check_end(&self) -> Verdict {
        for (host, line) in self.lines.iter().enumerate() {
            if let Some((seq, number)) = line.items.iter().find(|(_, number)| !line.ends.contains_key(number))
            {
                return Err(format!("I1: item {number} at {seq} has never reached host {host}"));
            }
            if let Some(seq) = self.waiting(host).next() {
                return Err(format!("{seq} is still in the outbox for host {host}"));
            }
        }
        Ok(())
    }

    fn read(&self, host: usize, body: &[u8]) -> Verdict<Contents> {
        let parts: BTreeMap<&str, &RawValue> =
            serde_json::from_slice(body).map_err(|error| format!("a transaction is not JSON: {error}"))?;
        let list = |name: &str| -> Verdict<Vec<&RawValue>> {
            let part = parts.get(name).ok_or_else(|| format!("a transaction has no {name}"))?;
            serde_json::from_str(part.get()).map_err(|error| format!("{name} is no list: {error}"))
        };
        let (pdus, edus) = (list("pdus")?, list("edus")?);
        let mut items = Vec::new();
        for raw in pdus.iter().chain(&edus) {
            let Some(number) = number_of(raw.get().as_bytes()) else { continue };
            let entry = self.items.get(number).ok_or("a transaction has an item that nobody handed in")?;
            if entry.bytes != raw.get() || !entry.hosts.contains(&host) {
                return Err(format!("item {number} was changed, or is not for host {host}"));
            }
            items.push(number);
        }
        Ok(Contents { items, pdus: pdus.len(), edus: edus.len() })
    }

    /// The numbers of the durable items in a body that went out before.
    pub(super) fn items_of(&self, host: usize, body: &[u8]) -> Vec<usize> {
        self.read(host, body).map(|contents| contents.items).unwrap_or_default()
    }
}

impl Line {
    fn pass(&mut self, host: usize, upto: Seq) -> Verdict {
        self.open = None;
        if upto <= self.cursor {
            return Ok(());
        }
        let passed = self.items.range(Seq(self.cursor.0 + 1)..=upto);
        if let Some((seq, number)) = passed.into_iter().find(|(_, number)| !self.ends.contains_key(number)) {
            return Err(format!(
                "I1: host {host} is said to have {upto}, and has not got item {number} at {seq}"
            ));
        }
        self.cursor = upto;
        Ok(())
    }
}

/// The number that a durable item carries.
fn number_of(raw: &[u8]) -> Option<usize> {
    let raw = std::str::from_utf8(raw).ok()?;
    let rest = raw.strip_prefix("{\"content\":").unwrap_or(raw).strip_prefix("{\"n\":")?;
    rest.split_once(',')?.0.parse().ok()
}

/// What a body has besides one item, at most.
const FRAME: usize = 400;
