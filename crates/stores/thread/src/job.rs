//! What the thread is asked, and what it answers.

use southbridge_words::{
    Append, Appended, Mark, OutboxError, Page, Recovered, Seq, ServerName, Upkeep, WallTime,
};

/// One call of an outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// What there is to be done, at the start.
    Recover,
    /// Accept and remember, all of it or nothing.
    Write {
        /// Comes back with the reply.
        id: u64,
        /// What is to be accepted.
        appends: Vec<Append>,
        /// What is to be remembered.
        marks: Vec<Mark>,
    },
    /// Read on for one destination.
    Read {
        /// Whose items.
        destination: ServerName,
        /// From where, exclusively.
        after: Seq,
        /// How many at most.
        items_max: usize,
        /// How many bytes at most, but for the first.
        bytes_max: usize,
    },
    /// What is to be done now and then.
    Upkeep {
        /// The time.
        now: WallTime,
    },
    /// What other processes did, when it was heard that they did something.
    News,
}

impl Job {
    /// About how much memory it holds, in bytes.
    pub fn bytes(&self) -> usize {
        let held = match self {
            Self::Write { appends, marks, .. } => {
                let items: usize = appends.iter().map(|append| append.bytes.len() + OVERHEAD_BYTES).sum();
                items + marks.iter().map(mark_bytes).sum::<usize>()
            }
            _ => 0,
        };
        held + OVERHEAD_BYTES
    }

    /// Whether nothing may share a commit with what comes after it.
    pub(crate) const fn is_barrier(&self) -> bool {
        matches!(self, Self::Recover | Self::Upkeep { .. } | Self::News)
    }
}

fn mark_bytes(mark: &Mark) -> usize {
    match mark {
        Mark::Begun { transaction, .. } => transaction.volatile_edus.len() + OVERHEAD_BYTES,
        _ => OVERHEAD_BYTES,
    }
}

/// What became of a [`Job`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To [`Job::Recover`].
    Recovered(Result<Recovered, OutboxError>),
    /// To [`Job::Write`].
    Written {
        /// As in the job.
        id: u64,
        /// One answer for each append.
        result: Result<Vec<Appended>, OutboxError>,
    },
    /// To [`Job::Read`].
    Page {
        /// As in the job.
        destination: ServerName,
        /// As in the job.
        after: Seq,
        /// What stands there.
        result: Result<Page, OutboxError>,
    },
    /// To [`Job::Upkeep`] and [`Job::News`].
    Upkept(Result<Upkeep, OutboxError>),
}

// The struct itself, its place in a queue, a name.
const OVERHEAD_BYTES: usize = 128;
