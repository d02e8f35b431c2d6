//! Jobs that share a commit.

use std::ops::Range;

use southbridge_words::{Append, Appended, Mark, OutboxError, Seq, ServerName, WallTime};

use crate::Job;

/// All writes of a batch as one, and what each job of it asked.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) appends: Vec<Append>,
    pub(crate) marks: Vec<Mark>,
    pub(crate) jobs: Vec<Asked<What>>,
}

/// A job without what its write consists of.
#[derive(Debug)]
pub(crate) struct Asked<W> {
    /// What it counted for when it was submitted.
    pub(crate) bytes: usize,
    pub(crate) what: W,
}

#[derive(Debug)]
pub(crate) enum What {
    Write { id: u64, appends: Range<usize>, marks: Range<usize> },
    Recover,
    Upkeep { now: WallTime },
    News,
}

/// A page that is asked for.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) destination: ServerName,
    pub(crate) after: Seq,
    pub(crate) items_max: usize,
    pub(crate) bytes_max: usize,
}

impl Batch {
    /// Adds `job`, or hands it out again when it is a read, which has no part in a commit.
    pub(crate) fn push(&mut self, job: Job, bytes: usize) -> Option<Asked<Read>> {
        let what = match job {
            Job::Write { id, mut appends, mut marks } => {
                let (appends_from, marks_from) = (self.appends.len(), self.marks.len());
                self.appends.append(&mut appends);
                self.marks.append(&mut marks);
                let appends = appends_from..self.appends.len();
                What::Write { id, appends, marks: marks_from..self.marks.len() }
            }
            Job::Read { destination, after, items_max, bytes_max } => {
                return Some(Asked { bytes, what: Read { destination, after, items_max, bytes_max } });
            }
            Job::Recover => What::Recover,
            Job::Upkeep { now } => What::Upkeep { now },
            Job::News => What::News,
        };
        self.jobs.push(Asked { bytes, what });
        None
    }

    pub(crate) fn writes(&self) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
        self.jobs.iter().filter_map(|asked| match &asked.what {
            What::Write { appends, marks, .. } => Some((appends.clone(), marks.clone())),
            What::Recover | What::Upkeep { .. } | What::News => None,
        })
    }
}

/// What became of each write of a batch, in their order.
pub(crate) type Outcomes = Vec<Result<Vec<Appended>, OutboxError>>;
