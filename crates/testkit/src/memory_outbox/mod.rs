//! An outbox on a simulated disk: what every real one is compared with, and what a simulation crashes.
//!
//! The disk ([`MemoryDisk`]) outlives the process: [`MemoryOutbox::open`] is a start of the process, and what
//! one outbox wrote the next one finds. A write can be told its [`Fate`] beforehand, so a story may crash at
//! every one of them, before it was durable or after.
//!
//! # Units
//! A write is one call of [`Outbox::write`], that is, one commit.
//!
//! # Source
//! F16; faults rows 19 and 20; DESIGN decision 14.

mod disk;
mod lines;

use southbridge_words::{
    Append, Appended, Item, Mark, Outbox, OutboxError, Page, Partitions, Recovered, Seq, ServerName, Upkeep,
    WallTime,
};

pub use disk::{Fate, MemoryDisk};
use lines::Lines;

/// What a process holds of a [`MemoryDisk`].
#[derive(Debug)]
pub struct MemoryOutbox {
    disk: MemoryDisk,
    failed: bool,
}

impl MemoryOutbox {
    /// Starts a process on `disk`.
    pub fn open(disk: &MemoryDisk) -> Self {
        Self { disk: disk.clone(), failed: false }
    }

    fn alive(&self) -> Result<(), OutboxError> {
        if self.failed {
            return Err(OutboxError::Failed { reason: "this process has crashed".to_owned() });
        }
        Ok(())
    }

    fn apply(&self, appends: &[Append], marks: &[Mark]) -> Vec<Appended> {
        self.disk.with(|lines| {
            let answers = appends.iter().map(|append| lines.append(append)).collect();
            marks.iter().for_each(|mark| lines.mark(mark));
            answers
        })
    }
}

impl Outbox for MemoryOutbox {
    fn recover(&mut self) -> Result<Recovered, OutboxError> {
        self.alive()?;
        Ok(Recovered { backlogs: self.disk.with(|lines| lines.backlogs()), owned: Partitions::ALL })
    }

    fn write(&mut self, appends: &[Append], marks: &[Mark]) -> Result<Vec<Appended>, OutboxError> {
        self.alive()?;
        match self.disk.begin_write() {
            Fate::Kept => Ok(self.apply(appends, marks)),
            Fate::Full => Err(OutboxError::Full { reason: "the simulated disk has no room".to_owned() }),
            Fate::Unavailable => {
                Err(OutboxError::Unavailable { reason: "the simulated disk does not answer".to_owned() })
            }
            Fate::CrashBefore => {
                self.failed = true;
                self.alive().map(|()| Vec::new())
            }
            Fate::CrashAfter => {
                self.apply(appends, marks);
                self.failed = true;
                self.alive().map(|()| Vec::new())
            }
        }
    }

    fn read(
        &mut self,
        destination: &ServerName,
        after: Seq,
        items_max: usize,
        bytes_max: usize,
    ) -> Result<Page, OutboxError> {
        self.alive()?;
        Ok(self.disk.with(|lines| page(lines, destination, after, items_max, bytes_max)))
    }

    fn upkeep(&mut self, _now: WallTime) -> Result<Upkeep, OutboxError> {
        self.alive()?;
        Ok(Upkeep::default())
    }
}

fn page(lines: &Lines, destination: &ServerName, after: Seq, items_max: usize, bytes_max: usize) -> Page {
    let mut page = Page::default();
    let mut bytes = 0;
    for item in lines.after(destination, after) {
        bytes += item.bytes.len();
        if page.items.len() == items_max || (bytes > bytes_max && !page.items.is_empty()) {
            page.more = true;
            break;
        }
        page.items.push(Item::clone(item));
    }
    page
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use southbridge_words::ItemKind;

    use super::*;

    fn name(text: &str) -> ServerName {
        ServerName::parse(text).unwrap()
    }

    fn append(text: &'static str, to: &[&str]) -> Append {
        Append {
            kind: ItemKind::Pdu,
            bytes: Bytes::from_static(text.as_bytes()),
            destinations: to.iter().map(|it| name(it)).collect(),
            accepted_at: WallTime::default(),
            key: Some(Arc::from(text)),
        }
    }

    fn delivered(to: &str, upto: u64) -> Mark {
        Mark::Delivered { destination: name(to), upto: Seq(upto) }
    }

    /// A page is cut at a count and at a size, and never so small that nothing is in it.
    #[test]
    fn a_page_ends_at_its_bounds() {
        let mut outbox = MemoryOutbox::open(&MemoryDisk::default());
        outbox
            .write(&[append("one", &["a.test"]), append("two", &["b.test"]), append("3", &["a.test"])], &[])
            .unwrap();
        let seqs = |page: &Page| page.items.iter().map(|item| item.seq.0).collect::<Vec<_>>();
        let page = outbox.read(&name("a.test"), Seq::START, 1, 100).unwrap();
        assert_eq!((seqs(&page), page.more), (vec![1], true));
        let page = outbox.read(&name("a.test"), Seq::START, 9, 1).unwrap();
        assert_eq!((seqs(&page), page.more), (vec![1], true));
        let page = outbox.read(&name("a.test"), Seq(1), 9, 1).unwrap();
        assert_eq!((seqs(&page), page.more), (vec![3], false));
    }

    /// The answer is lost with the process; what was written is not, and is known by its key.
    #[test]
    fn a_crash_after_the_write_keeps_it() {
        let disk = MemoryDisk::default();
        for (fate, again) in
            [(Fate::CrashAfter, Appended::Known(Seq(1))), (Fate::CrashBefore, Appended::New(Seq(2)))]
        {
            let text = if fate == Fate::CrashAfter { "after" } else { "before" };
            let mut outbox = MemoryOutbox::open(&disk);
            disk.set_fate(fate);
            let lost = outbox.write(&[append(text, &["a.test"])], &[]);
            assert!(matches!(lost, Err(OutboxError::Failed { .. })));
            assert!(outbox.recover().is_err(), "a crashed process does nothing more");
            let mut outbox = MemoryOutbox::open(&disk);
            assert_eq!(outbox.write(&[append(text, &["a.test"])], &[]).unwrap(), [again]);
        }
        assert_eq!(disk.items(), 2);
    }

    /// What everybody has is let go of; who lags behind is found again after a restart.
    #[test]
    fn a_cursor_survives_and_frees_what_it_has_passed() {
        let disk = MemoryDisk::default();
        let mut outbox = MemoryOutbox::open(&disk);
        outbox.write(&[append("one", &["a.test", "b.test"]), append("two", &["b.test"])], &[]).unwrap();
        outbox.write(&[], &[delivered("a.test", 1), delivered("b.test", 1)]).unwrap();
        assert_eq!(disk.items(), 1);
        let recovered = MemoryOutbox::open(&disk).recover().unwrap();
        let [backlog] = &*recovered.backlogs else { panic!("{recovered:?}") };
        assert_eq!((backlog.delivered, backlog.last), (Seq(1), Seq(2)));
    }
}
