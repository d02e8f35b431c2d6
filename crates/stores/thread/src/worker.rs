//! The thread: gathers what waits, commits it, reads, answers.
//!
//! Callers wait for writes, and only queues wait for pages: so what is to be written goes first. A page is read
//! between two commits, one after each at least, and then as many as come before something is to be written again.

use std::collections::VecDeque;
use std::sync::mpsc::Receiver;

use southbridge_words::{Appended, Outbox, OutboxError};
use tokio::sync::mpsc::Sender;
use tracing::{error, warn};

use crate::batch::{Asked, Batch, Outcomes, Read, What};
use crate::{Job, Reply, ThreadLimits};

pub(crate) struct Worker {
    outbox: Box<dyn Outbox>,
    limits: ThreadLimits,
    replies: Sender<(Reply, usize)>,
    /// Pages that are still to be read; the bound of jobs under way is theirs, too.
    reads: VecDeque<Asked<Read>>,
    failed: bool,
}

impl Worker {
    pub(crate) fn new(
        outbox: Box<dyn Outbox>,
        limits: ThreadLimits,
        replies: Sender<(Reply, usize)>,
    ) -> Self {
        Self { outbox, limits, replies, reads: VecDeque::new(), failed: false }
    }

    /// Works until nobody can hand in a job any more, and all are done.
    pub(crate) fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            let batch = self.gather(None, jobs);
            let batch = if batch.jobs.is_empty() && self.reads.is_empty() {
                let Ok(first) = jobs.recv() else { break };
                self.gather(Some(first), jobs)
            } else {
                batch
            };
            self.perform(batch);
            if let Some(read) = self.reads.pop_front() {
                self.read(read);
            }
        }
        if let Err(failure) = self.outbox.close() {
            warn!(%failure, "the outbox could not be closed: others may have to wait for its lease to end");
        }
    }

    /// `first`, and what else is there and may share a commit with it. Reads are put aside.
    fn gather(&mut self, first: Option<Job>, jobs: &Receiver<Job>) -> Batch {
        let mut batch = Batch::default();
        let mut bytes_all = 0;
        let mut next = first.or_else(|| jobs.try_recv().ok());
        while let Some(job) = next {
            let (bytes, barrier) = (job.bytes(), job.is_barrier());
            bytes_all += bytes;
            if let Some(read) = batch.push(job, bytes) {
                self.reads.push_back(read);
            }
            let full = batch.jobs.len() >= self.limits.commit_jobs_max;
            let enough = barrier || full || bytes_all >= self.limits.commit_bytes_max;
            next = if enough { None } else { jobs.try_recv().ok() };
        }
        batch
    }

    fn perform(&mut self, mut batch: Batch) {
        let mut outcomes = self.write(&batch).into_iter();
        for asked in batch.jobs.drain(..) {
            let reply = match asked.what {
                What::Write { id, .. } => {
                    Reply::Written { id, result: outcomes.next().expect("each write has an outcome") }
                }
                What::Recover => Reply::Recovered(self.outbox.recover()),
                What::Upkeep { now } => Reply::Upkept(self.outbox.upkeep(now)),
                What::News => Reply::Upkept(self.outbox.news()),
            };
            self.answer(reply, asked.bytes);
        }
    }

    fn read(&mut self, asked: Asked<Read>) {
        let Read { destination, after, items_max, bytes_max } = asked.what;
        let result = self.outbox.read(&destination, after, items_max, bytes_max);
        self.answer(Reply::Page { destination, after, result }, asked.bytes);
    }

    fn answer(&self, reply: Reply, bytes: usize) {
        // Nobody may be listening any more; what was submitted is done all the same.
        let _ = self.replies.blocking_send((reply, bytes));
    }

    /// Writes all of it at once, or, where a part of it is refused, each for itself.
    fn write(&mut self, batch: &Batch) -> Outcomes {
        let writes: Vec<_> = batch.writes().collect();
        if writes.is_empty() {
            return Vec::new();
        }
        let together = self.outbox.write(&batch.appends, &batch.marks);
        match together {
            Ok(appended) => {
                let share = |(appends, _): &(std::ops::Range<usize>, _)| {
                    let share: &[Appended] = appended.get(appends.clone()).expect("one answer an append");
                    Ok(share.to_vec())
                };
                writes.iter().map(share).collect()
            }
            Err(refused) if is_about_a_part(&refused) && writes.len() > 1 => writes
                .iter()
                .map(|(appends, marks)| {
                    self.outbox.write(&batch.appends[appends.clone()], &batch.marks[marks.clone()])
                })
                .collect(),
            Err(failure) => {
                self.tell(&failure);
                vec![Err(failure); writes.len()]
            }
        }
    }

    fn tell(&mut self, failure: &OutboxError) {
        if !self.failed && matches!(failure, OutboxError::Failed { .. }) {
            error!(%failure, "the outbox has failed: nothing durable is accepted until a restart");
            self.failed = true;
        }
    }
}

/// Whether one write can be refused for this and another be taken.
fn is_about_a_part(refused: &OutboxError) -> bool {
    matches!(refused, OutboxError::Full { .. } | OutboxError::Fenced { .. })
}
