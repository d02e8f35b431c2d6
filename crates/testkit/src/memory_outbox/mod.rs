//! An outbox on a simulated disk: what every real one is compared with, and what a simulation crashes.
//!
//! The disk ([`MemoryDisk`]) outlives the process: [`MemoryOutbox::open`] is a start of the process, and what
//! one outbox wrote the next one finds. A write can be told its [`Fate`] beforehand, so a story may crash at
//! every one of them, before it was durable or after, and a write or its sync may fail: then the outbox is used no more by
//! that process, because what is on the disk is not known, and a second sync would be told that all is well.
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

    /// Whether it has failed, and must not be used by this process any more.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    fn alive(&self) -> Result<(), OutboxError> {
        if self.failed {
            return Err(OutboxError::Failed { reason: "a write or its sync has failed".to_owned() });
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
            Fate::CrashBefore | Fate::Torn | Fate::SyncFailedLost => {
                self.failed = true;
                self.alive().map(|()| Vec::new())
            }
            Fate::CrashAfter | Fate::SyncFailedKept => {
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
        let is_misdirected = self.disk.is_misdirected();
        self.disk.with(|lines| page(lines, destination, after, (items_max, bytes_max), is_misdirected))
    }

    fn upkeep(&mut self, _now: WallTime) -> Result<Upkeep, OutboxError> {
        self.alive()?;
        Ok(Upkeep::default())
    }
}

fn page(
    lines: &Lines,
    destination: &ServerName,
    after: Seq,
    (items_max, bytes_max): (usize, usize),
    is_misdirected: bool,
) -> Result<Page, OutboxError> {
    let mut page = Page::default();
    let mut bytes = 0;
    for item in lines.after(destination, after) {
        let found = lines.block(item.seq, is_misdirected);
        if !found.is_some_and(|bytes| lines.is_sound(item.seq, &bytes)) {
            let (place, reason) = (item.seq.to_string(), "its checksum is another's".to_owned());
            return Err(OutboxError::Damaged { place, reason });
        }
        bytes += item.bytes.len();
        if page.items.len() == items_max || (bytes > bytes_max && !page.items.is_empty()) {
            page.more = true;
            break;
        }
        page.items.push(Item::clone(item));
    }
    Ok(page)
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

    /// A sync that failed is no acceptance, whatever is on the disk, and there is no second one in this process.
    #[test]
    fn a_failed_sync_is_the_end_of_its_outbox() {
        for (fate, items) in [(Fate::Torn, 1), (Fate::SyncFailedLost, 1), (Fate::SyncFailedKept, 2)] {
            let disk = MemoryDisk::default();
            let mut outbox = MemoryOutbox::open(&disk);
            outbox.write(&[append("before", &["a.test"])], &[]).unwrap();
            disk.set_fate(fate);
            for text in ["failing", "after"] {
                let failed = outbox.write(&[append(text, &["a.test"])], &[]);
                assert!(matches!(failed, Err(OutboxError::Failed { .. })), "{fate:?}: {failed:?}");
            }
            assert!(outbox.has_failed());
            assert_eq!(disk.items(), items, "{fate:?}");
        }
    }

    /// A block that belongs elsewhere is found out by its checksum, and one with a bit turned over as well.
    #[test]
    fn a_misdirected_block_is_found_out() {
        let disk = MemoryDisk::default();
        let mut outbox = MemoryOutbox::open(&disk);
        outbox.write(&[append("one", &["a.test"]), append("two", &["b.test"])], &[]).unwrap();
        disk.misdirect_reads(true);
        for host in ["a.test", "b.test"] {
            let read = outbox.read(&name(host), Seq::START, 9, 100);
            assert!(matches!(read, Err(OutboxError::Damaged { .. })), "{read:?}");
        }
        disk.misdirect_reads(false);
        assert_eq!(outbox.read(&name("a.test"), Seq::START, 9, 100).unwrap().items.len(), 1);
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
