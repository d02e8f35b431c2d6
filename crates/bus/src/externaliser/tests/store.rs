//! The outbox of these stories: what real ones do, in memory, and whatever trouble a story wants.

use std::collections::BTreeMap;
use std::sync::Arc;

use southbridge_words::{
    Append, Appended, Backlog, Item, Mark, OpenTransaction, OutboxError, Page, Partition, Partitions,
    Recovered, Seq, ServerName,
};

/// Survives the bus that uses it.
#[derive(Debug, Default)]
pub(super) struct Store {
    items: Vec<(Item, Arc<[ServerName]>)>,
    keys: BTreeMap<Arc<str>, Seq>,
    cursors: BTreeMap<ServerName, Seq>,
    open: BTreeMap<ServerName, OpenTransaction>,
    last: u64,
    /// What the next writes answer instead.
    pub(super) trouble: Option<OutboxError>,
    /// Only items are in trouble.
    pub(super) trouble_for_items: bool,
    /// Marks for this partition are refused.
    pub(super) fenced: Option<Partition>,
    /// Nothing can be read.
    pub(super) damaged: bool,
    pub(super) reads: usize,
}

impl Store {
    pub(super) fn write(&mut self, appends: &[Append], marks: &[Mark]) -> Result<Vec<Appended>, OutboxError> {
        if let Some(trouble) = &self.trouble
            && (!self.trouble_for_items || !appends.is_empty())
        {
            return Err(trouble.clone());
        }
        let is_fenced = |mark: &Mark| Some(Partition::of(mark.destination())) == self.fenced;
        if marks.iter().any(is_fenced) {
            return Err(OutboxError::Fenced { partitions: 1 });
        }
        let answers = appends.iter().map(|append| self.append(append)).collect();
        marks.iter().for_each(|mark| self.mark(mark));
        Ok(answers)
    }

    fn append(&mut self, append: &Append) -> Appended {
        if let Some(seq) = append.key.as_ref().and_then(|key| self.keys.get(key)) {
            return Appended::Known(*seq);
        }
        self.last += 1;
        let seq = Seq(self.last);
        if let Some(key) = &append.key {
            self.keys.insert(Arc::clone(key), seq);
        }
        let item =
            Item { seq, kind: append.kind, bytes: append.bytes.clone(), accepted_at: append.accepted_at };
        self.items.push((item, Arc::clone(&append.destinations)));
        Appended::New(seq)
    }

    fn mark(&mut self, mark: &Mark) {
        let destination = mark.destination().clone();
        match mark {
            Mark::Begun { transaction, .. } => {
                let before = self.open.insert(destination, transaction.clone());
                assert_eq!(before, None, "a transaction was begun while another was open");
            }
            Mark::Delivered { upto, .. } | Mark::Dropped { upto, .. } => {
                self.open.remove(&destination);
                let before = self.cursors.insert(destination, *upto);
                assert!(before.is_none_or(|before| before < *upto), "a cursor went back");
            }
            Mark::Withdrawn { .. } => {
                self.open.remove(&destination);
            }
        }
    }

    /// Lets go of an item.
    pub(super) fn forget(&mut self, seq: Seq) {
        self.items.retain(|(item, _)| item.seq != seq);
    }

    pub(super) fn read(
        &mut self,
        to: &ServerName,
        after: Seq,
        items_max: usize,
        bytes_max: usize,
    ) -> Result<Page, OutboxError> {
        self.reads += 1;
        if self.damaged {
            return Err(OutboxError::Damaged { place: "here".to_owned(), reason: "a test".to_owned() });
        }
        let after = after.max(self.cursor(to));
        let mut page = Page::default();
        let mut bytes = 0;
        for (item, _) in self.items.iter().filter(|(item, to_all)| item.seq > after && to_all.contains(to)) {
            bytes += item.bytes.len();
            if page.items.len() == items_max || (bytes > bytes_max && !page.items.is_empty()) {
                page.more = true;
                break;
            }
            page.items.push(item.clone());
        }
        Ok(page)
    }

    pub(super) fn cursor(&self, destination: &ServerName) -> Seq {
        self.cursors.get(destination).copied().unwrap_or_default()
    }

    pub(super) fn recover(&self) -> Recovered {
        let mut lasts: BTreeMap<&ServerName, Seq> = BTreeMap::new();
        for (item, destinations) in &self.items {
            for destination in destinations.iter() {
                lasts.insert(destination, item.seq);
            }
        }
        let backlogs = lasts.into_iter().filter(|(name, last)| *last > self.cursor(name));
        let backlog = |(name, last): (&ServerName, Seq)| Backlog {
            destination: name.clone(),
            delivered: self.cursor(name),
            last,
            open: self.open.get(name).cloned(),
        };
        Recovered { backlogs: backlogs.map(backlog).collect(), owned: Partitions::ALL }
    }
}
