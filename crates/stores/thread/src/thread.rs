//! The handle that jobs go into, and the end that replies come out of.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::task::{Context, Poll};
use std::thread;

use southbridge_words::Outbox;
use tokio::sync::mpsc;

use crate::worker::Worker;
use crate::{Job, Reply};

/// How much may be under way, and how much goes into one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadLimits {
    /// Jobs submitted whose replies were not taken yet. Default 4096: at two thousand writes a second, two
    /// seconds of a disk that stands still.
    pub jobs_max: usize,
    /// Bytes in those jobs. Default 64 MiB. A single larger job is taken when nothing else is under way.
    pub bytes_max: usize,
    /// Jobs that share a commit. Default 1024: one sync for all of them, and none waits for more than that.
    pub commit_jobs_max: usize,
    /// Bytes that share a commit. Default 8 MiB: a tenth of a second on a slow disk.
    pub commit_bytes_max: usize,
}

impl Default for ThreadLimits {
    fn default() -> Self {
        Self {
            jobs_max: 4096,
            bytes_max: 64 * 1024 * 1024,
            commit_jobs_max: 1024,
            commit_bytes_max: 8 * 1024 * 1024,
        }
    }
}

/// Why a job was not taken; it is handed back.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Busy {
    /// As much as may be is under way: submit it again when the next reply was taken.
    Full(Box<Job>),
    /// The thread has ended, which it does by itself only when the outbox has panicked.
    Stopped(Box<Job>),
}

impl Busy {
    /// The job.
    pub fn into_job(self) -> Job {
        match self {
            Self::Full(job) | Self::Stopped(job) => *job,
        }
    }
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the thread of the outbox has as much to do as it may hold",
            Self::Stopped(_) => "the thread of the outbox has ended",
        })
    }
}

impl std::error::Error for Busy {}

/// Where jobs are handed in.
///
/// Dropped, it lets the thread do what was submitted and close the outbox; the last reply is then followed
/// by the end of [`Replies`].
#[derive(Debug)]
pub struct OutboxThread {
    jobs: SyncSender<Job>,
    load: Arc<Load>,
    limits: ThreadLimits,
}

impl OutboxThread {
    /// Gives `outbox` a thread.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(outbox: Box<dyn Outbox>, limits: ThreadLimits) -> io::Result<(Self, Replies)> {
        let places = limits.jobs_max.max(1);
        let (jobs, inbox) = sync_channel(places);
        let (outgoing, replies) = mpsc::channel(places);
        let worker = Worker::new(outbox, limits.clone(), outgoing);
        thread::Builder::new().name("sb-outbox".to_owned()).spawn(move || worker.run(&inbox))?;
        let load = Arc::new(Load::default());
        Ok((Self { jobs, load: Arc::clone(&load), limits }, Replies { replies, load }))
    }

    /// Hands in `job`; never blocks. One reply will come for it, after those of the jobs of its kind before it.
    ///
    /// # Errors
    /// [`Busy`] hands the job back.
    pub fn submit(&self, job: Job) -> Result<(), Busy> {
        let bytes = job.bytes();
        if !self.has_room(bytes) {
            return Err(Busy::Full(Box::new(job)));
        }
        // Counted before it is sent: the reply may be there at once.
        self.load.add(bytes);
        self.jobs.try_send(job).map_err(|error| {
            self.load.remove(bytes);
            match error {
                TrySendError::Full(job) => Busy::Full(Box::new(job)),
                TrySendError::Disconnected(job) => Busy::Stopped(Box::new(job)),
            }
        })
    }

    /// How many jobs are under way.
    pub fn jobs(&self) -> usize {
        self.load.jobs.load(Ordering::Relaxed)
    }

    /// How many bytes are under way.
    pub fn bytes(&self) -> usize {
        self.load.bytes.load(Ordering::Relaxed)
    }

    fn has_room(&self, bytes: usize) -> bool {
        let (jobs, held) = (self.jobs(), self.bytes());
        jobs == 0 || (jobs < self.limits.jobs_max && held.saturating_add(bytes) <= self.limits.bytes_max)
    }
}

/// Where replies come out, in the order in which jobs were done.
#[derive(Debug)]
pub struct Replies {
    replies: mpsc::Receiver<(Reply, usize)>,
    load: Arc<Load>,
}

impl Replies {
    /// Waits for the next reply; none when the thread has ended. Nothing is lost when the waiting is given up.
    pub async fn next(&mut self) -> Option<Reply> {
        let reply = self.replies.recv().await;
        self.taken(reply)
    }

    /// The next reply, for whoever polls.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Reply>> {
        self.replies.poll_recv(context).map(|reply| self.taken(reply))
    }

    /// The next reply, if there is one.
    pub fn try_next(&mut self) -> Option<Reply> {
        let reply = self.replies.try_recv().ok();
        self.taken(reply)
    }

    /// Waits for the next reply on a thread that may block; none when the thread of the outbox has ended.
    pub fn next_blocking(&mut self) -> Option<Reply> {
        let reply = self.replies.blocking_recv();
        self.taken(reply)
    }

    fn taken(&self, reply: Option<(Reply, usize)>) -> Option<Reply> {
        let (reply, bytes) = reply?;
        self.load.remove(bytes);
        Some(reply)
    }
}

/// What is under way.
#[derive(Debug, Default)]
struct Load {
    jobs: AtomicUsize,
    bytes: AtomicUsize,
}

impl Load {
    fn add(&self, bytes: usize) {
        self.jobs.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn remove(&self, bytes: usize) {
        self.jobs.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}
