//! The thread: gathers what waits, commits it, answers.

use std::sync::mpsc::Receiver;

use southbridge_words::{Appended, Outbox, OutboxError};
use tokio::sync::mpsc::Sender;
use tracing::error;

use crate::batch::{Batch, Outcomes, What, first_new, without_later};
use crate::{Job, Reply, ThreadLimits};

pub(crate) struct Worker {
    outbox: Box<dyn Outbox>,
    limits: ThreadLimits,
    replies: Sender<(Reply, usize)>,
    failed: bool,
}

impl Worker {
    pub(crate) fn new(
        outbox: Box<dyn Outbox>,
        limits: ThreadLimits,
        replies: Sender<(Reply, usize)>,
    ) -> Self {
        Self { outbox, limits, replies, failed: false }
    }

    /// Works until nobody can hand in a job any more, and all are done.
    pub(crate) fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            let batch = self.gather(first, jobs);
            self.perform(batch);
        }
    }

    /// `first`, and what else is there and may share a commit with it.
    fn gather(&self, first: Job, jobs: &Receiver<Job>) -> Batch {
        let mut batch = Batch::default();
        let mut bytes_all = 0;
        let mut next = Some(first);
        while let Some(job) = next {
            let (bytes, barrier) = (job.bytes(), job.is_barrier());
            bytes_all += bytes;
            batch.push(job, bytes);
            let full = batch.jobs.len() >= self.limits.commit_jobs_max;
            let enough = barrier || full || bytes_all >= self.limits.commit_bytes_max;
            next = if enough { None } else { jobs.try_recv().ok() };
        }
        batch
    }

    fn perform(&mut self, mut batch: Batch) {
        let outcomes = self.write(&batch);
        // For each write, the first position that it or one after it gave out.
        let mut later: Vec<_> = (0..=outcomes.len()).map(|at| first_new(&outcomes[at..])).collect();
        later.reverse();
        let mut outcomes = outcomes.into_iter();
        for asked in batch.jobs.drain(..) {
            let reply = match asked.what {
                What::Write { id, .. } => {
                    later.pop();
                    Reply::Written { id, result: outcomes.next().expect("each write has an outcome") }
                }
                What::Read { destination, after, items_max, bytes_max } => {
                    let page = self.outbox.read(&destination, after, items_max, bytes_max);
                    let result = page.map(|page| without_later(page, later.last().copied().flatten()));
                    Reply::Page { destination, after, result }
                }
                What::Recover => Reply::Recovered(self.outbox.recover()),
                What::Upkeep { now } => Reply::Upkept(self.outbox.upkeep(now)),
            };
            // Nobody may be listening any more; what was submitted is done all the same.
            let _ = self.replies.blocking_send((reply, asked.bytes));
        }
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
