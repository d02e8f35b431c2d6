//! Jobs that share a commit.

use std::ops::Range;

use southbridge_words::{Append, Appended, Mark, OutboxError, Page, Seq, ServerName, WallTime};

use crate::Job;

/// All writes of a batch as one, and what each job of it asked.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) appends: Vec<Append>,
    pub(crate) marks: Vec<Mark>,
    pub(crate) jobs: Vec<Asked>,
}

/// A job without what its write consists of.
#[derive(Debug)]
pub(crate) struct Asked {
    /// What it counted for when it was submitted.
    pub(crate) bytes: usize,
    pub(crate) what: What,
}

#[derive(Debug)]
pub(crate) enum What {
    Write { id: u64, appends: Range<usize>, marks: Range<usize> },
    Read { destination: ServerName, after: Seq, items_max: usize, bytes_max: usize },
    Recover,
    Upkeep { now: WallTime },
}

impl Batch {
    pub(crate) fn push(&mut self, job: Job, bytes: usize) {
        let what = match job {
            Job::Write { id, mut appends, mut marks } => {
                let (appends_from, marks_from) = (self.appends.len(), self.marks.len());
                self.appends.append(&mut appends);
                self.marks.append(&mut marks);
                let appends = appends_from..self.appends.len();
                What::Write { id, appends, marks: marks_from..self.marks.len() }
            }
            Job::Read { destination, after, items_max, bytes_max } => {
                What::Read { destination, after, items_max, bytes_max }
            }
            Job::Recover => What::Recover,
            Job::Upkeep { now } => What::Upkeep { now },
        };
        self.jobs.push(Asked { bytes, what });
    }

    pub(crate) fn writes(&self) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
        self.jobs.iter().filter_map(|asked| match &asked.what {
            What::Write { appends, marks, .. } => Some((appends.clone(), marks.clone())),
            _ => None,
        })
    }
}

/// What became of each write of a batch, in their order.
pub(crate) type Outcomes = Vec<Result<Vec<Appended>, OutboxError>>;

/// The first position that `outcomes` gave out; none when nothing was added.
pub(crate) fn first_new(outcomes: &[Result<Vec<Appended>, OutboxError>]) -> Option<Seq> {
    let appended = outcomes.iter().flatten().flatten();
    let added = appended.filter_map(|appended| match appended {
        Appended::New(seq) => Some(*seq),
        Appended::Known(_) => None,
    });
    added.min()
}

/// Takes from `page` what was written by jobs after the one it answers, from `later` on.
pub(crate) fn without_later(mut page: Page, later: Option<Seq>) -> Page {
    let kept = page.items.partition_point(|item| later.is_none_or(|later| item.seq < later));
    if kept < page.items.len() {
        page.items.truncate(kept);
        // What was cut off is all there was after them, when the page was asked for.
        page.more = false;
    }
    page
}
