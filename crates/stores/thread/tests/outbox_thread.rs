//! The thread from the outside: how much it puts into a commit, what it refuses, and in which order it answers.

#![allow(clippy::unwrap_used, reason = "these are tests, their helpers included")]

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use bytes::Bytes;
use southbridge_store_thread::{Busy, Job, OutboxThread, Replies, Reply, ThreadLimits};
use southbridge_testkit::memory_outbox::{Fate, MemoryDisk, MemoryOutbox};
use southbridge_words::{
    Append, Appended, ItemKind, Mark, Outbox, OutboxError, Page, Recovered, Seq, ServerName, Upkeep, WallTime,
};

/// An outbox that waits for leave before its first write, and has no room for what is called "big".
struct Gated {
    inner: MemoryOutbox,
    gate: Option<Receiver<()>>,
}

impl Outbox for Gated {
    fn recover(&mut self) -> Result<Recovered, OutboxError> {
        self.inner.recover()
    }

    fn write(&mut self, appends: &[Append], marks: &[Mark]) -> Result<Vec<Appended>, OutboxError> {
        if let Some(gate) = self.gate.take() {
            let _ = gate.recv();
        }
        if appends.iter().any(|append| append.bytes == "big") {
            return Err(OutboxError::Full { reason: "too big".to_owned() });
        }
        self.inner.write(appends, marks)
    }

    fn read(&mut self, to: &ServerName, after: Seq, items: usize, bytes: usize) -> Result<Page, OutboxError> {
        self.inner.read(to, after, items, bytes)
    }

    fn upkeep(&mut self, now: WallTime) -> Result<Upkeep, OutboxError> {
        self.inner.upkeep(now)
    }
}

/// A thread whose disk stands still until the sender is used or dropped.
fn gated(disk: &MemoryDisk, limits: ThreadLimits) -> (OutboxThread, Replies, SyncSender<()>) {
    let (open, gate) = sync_channel(1);
    let outbox = Gated { inner: MemoryOutbox::open(disk), gate: Some(gate) };
    let (thread, replies) = OutboxThread::start(Box::new(outbox), limits).unwrap();
    (thread, replies, open)
}

fn name() -> ServerName {
    ServerName::parse("a.test").unwrap()
}

fn write(id: u64, text: &'static str) -> Job {
    let append = Append {
        kind: ItemKind::Pdu,
        bytes: Bytes::from_static(text.as_bytes()),
        destinations: [name()].into(),
        accepted_at: WallTime::default(),
        key: None,
    };
    Job::Write { id, appends: vec![append], marks: Vec::new() }
}

fn read() -> Job {
    Job::Read { destination: name(), after: Seq::START, items_max: 1000, bytes_max: 1_000_000 }
}

fn all(mut replies: Replies) -> Vec<Reply> {
    std::iter::from_fn(|| replies.next_blocking()).collect()
}

/// The disk stands still while a thousand writes come in; then it syncs a few times and not a thousand.
#[test]
fn what_has_gathered_is_one_commit() {
    let disk = MemoryDisk::default();
    let (thread, replies, open) = gated(&disk, ThreadLimits::default());
    (0..1000).for_each(|id| thread.submit(write(id, "text")).unwrap());
    drop((open, thread));
    let replies = all(replies);
    for (reply, id) in replies.iter().zip(0..) {
        let expected = Reply::Written { id, result: Ok(vec![Appended::New(Seq(id + 1))]) };
        assert_eq!(*reply, expected);
    }
    assert_eq!((replies.len(), disk.items()), (1000, 1000));
    assert!(disk.writes() <= 2, "{} commits", disk.writes());
}

/// One of them does not fit; its neighbours in the commit never learn of it.
#[test]
fn a_refused_write_takes_no_other_down() {
    let disk = MemoryDisk::default();
    let (thread, replies, open) = gated(&disk, ThreadLimits::default());
    for (id, text) in [(0, "text"), (1, "text"), (2, "big"), (3, "text")] {
        thread.submit(write(id, text)).unwrap();
    }
    drop((open, thread));
    let went_well = |reply: &Reply| matches!(reply, Reply::Written { result: Ok(_), .. });
    assert_eq!(all(replies).iter().map(went_well).collect::<Vec<_>>(), [true, true, false, true]);
    assert_eq!(disk.items(), 3);
}

/// A failed sync is not tried again, neither at once nor for each of them.
#[test]
fn a_failure_is_everybodys() {
    let disk = MemoryDisk::default();
    disk.set_fate(Fate::CrashBefore);
    let (thread, replies, open) = gated(&disk, ThreadLimits::default());
    (0..10).for_each(|id| thread.submit(write(id, "text")).unwrap());
    drop((open, thread));
    for reply in all(replies) {
        assert!(matches!(reply, Reply::Written { result: Err(OutboxError::Failed { .. }), .. }), "{reply:?}");
    }
    assert_eq!(disk.items(), 0);
}

/// Callers wait for writes: they go before the pages that were asked for earlier, and each page holds just what
/// was said to be accepted before it, neither less nor more.
#[test]
fn writes_go_before_reads_and_a_page_holds_what_was_told() {
    let disk = MemoryDisk::default();
    let (thread, replies, open) = gated(&disk, ThreadLimits::default());
    let jobs = [
        write(0, "text"),
        read(),
        read(),
        write(1, "text"),
        read(),
        write(2, "text"),
        read(),
        write(3, "text"),
    ];
    jobs.into_iter().for_each(|job| thread.submit(job).unwrap());
    drop((open, thread));
    let (mut written, mut told, mut pages) = (0, Vec::new(), 0);
    for reply in all(replies) {
        match reply {
            Reply::Written { id, result } => {
                assert_eq!((id, result.is_ok()), (written, true));
                written += 1;
            }
            Reply::Page { result, .. } => {
                let page = result.unwrap();
                assert_eq!((page.items.len() as u64, page.more), (written, false));
                pages += 1;
            }
            other => panic!("{other:?}"),
        }
        told.push(written);
    }
    assert_eq!((written, pages), (4, 4));
    let before_reads = told.iter().position(|before| *before == 4).unwrap();
    assert!(before_reads <= 4, "at most one page is read between two commits when both wait: {told:?}");
}

/// However many writes come, one after the other, who asked for a page gets it.
#[test]
fn a_page_is_read_between_two_commits() {
    let limits = ThreadLimits { commit_jobs_max: 1, ..ThreadLimits::default() };
    let (thread, replies, open) = gated(&MemoryDisk::default(), limits);
    thread.submit(write(0, "text")).unwrap();
    (0..3).for_each(|_| thread.submit(read()).unwrap());
    (1..100).for_each(|id| thread.submit(write(id, "text")).unwrap());
    drop((open, thread));
    let last_page = all(replies).iter().rposition(|reply| matches!(reply, Reply::Page { .. }));
    assert!(last_page.unwrap() <= 8, "{last_page:?}");
}

/// A disk that stands still must not fill the memory: beyond the bounds a job comes back to its owner.
#[test]
fn beyond_its_bounds_a_job_is_handed_back() {
    for limits in [
        ThreadLimits { jobs_max: 3, ..ThreadLimits::default() },
        ThreadLimits { bytes_max: 3 * write(0, "text").bytes(), ..ThreadLimits::default() },
    ] {
        let (thread, mut replies, open) = gated(&MemoryDisk::default(), limits);
        (0..3).for_each(|id| thread.submit(write(id, "text")).unwrap());
        let busy = thread.submit(write(3, "text")).unwrap_err();
        assert!(matches!(busy, Busy::Full(_)));
        assert_eq!(thread.jobs(), 3);
        drop(open);
        assert!(replies.next_blocking().is_some());
        thread.submit(busy.into_job()).unwrap();
        drop(thread);
        assert_eq!(all(replies).len(), 3);
    }
}

/// Somebody hands in one write that is larger than all that may wait: it is taken when nothing else waits.
#[test]
fn a_job_larger_than_the_bound_is_taken_alone() {
    let limits = ThreadLimits { bytes_max: 1, ..ThreadLimits::default() };
    let (thread, mut replies, open) = gated(&MemoryDisk::default(), limits);
    thread.submit(write(0, "text")).unwrap();
    assert!(thread.submit(write(1, "text")).is_err());
    drop(open);
    assert!(replies.next_blocking().is_some());
    thread.submit(write(1, "text")).unwrap();
    assert!(replies.next_blocking().is_some());
}

/// Recovery and upkeep see what was written before them and nothing after.
#[test]
fn recovery_sees_what_was_submitted_before_it() {
    let (thread, replies, open) = gated(&MemoryDisk::default(), ThreadLimits::default());
    let upkeep = Job::Upkeep { now: WallTime::default() };
    for job in [write(0, "text"), Job::Recover, write(1, "text"), upkeep, Job::Recover] {
        thread.submit(job).unwrap();
    }
    drop((open, thread));
    let lasts: Vec<_> = all(replies)
        .into_iter()
        .filter_map(|reply| match reply {
            Reply::Recovered(recovered) => Some(recovered.unwrap().backlogs[0].last),
            _ => None,
        })
        .collect();
    assert_eq!(lasts, [Seq(1), Seq(2)]);
}

/// On the I/O thread replies are awaited beside everything else.
#[tokio::test]
async fn replies_are_awaited() {
    let (thread, mut replies, open) = gated(&MemoryDisk::default(), ThreadLimits::default());
    thread.submit(write(7, "text")).unwrap();
    assert!(replies.try_next().is_none());
    drop(open);
    assert!(matches!(replies.next().await, Some(Reply::Written { id: 7, result: Ok(_) })));
    drop(thread);
    assert!(std::future::poll_fn(|context| replies.poll_next(context)).await.is_none());
}
