//! Runs an outbox on a thread of its own.
//!
//! An [`Outbox`](southbridge_words::Outbox) blocks while the disk turns; the I/O thread must not. So the I/O
//! thread hands in [`Job`]s and takes [`Reply`]s, and never waits:
//!
//! ```
//! # use southbridge_store_thread::{Job, OutboxThread, Reply, ThreadLimits};
//! # use southbridge_testkit::memory_outbox::{MemoryDisk, MemoryOutbox};
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let outbox = MemoryOutbox::open(&MemoryDisk::default());
//! let (thread, mut replies) = OutboxThread::start(Box::new(outbox), ThreadLimits::default()).unwrap();
//! thread.submit(Job::Recover).unwrap();
//! assert!(matches!(replies.next().await, Some(Reply::Recovered(Ok(_)))));
//! drop(thread);
//! assert!(replies.next().await.is_none(), "the outbox is closed now");
//! # });
//! ```
//!
//! - **Group commit.** What has gathered while the disk was busy becomes one write. The busier the bus, the
//!   more it gets for each sync.
//! - **Each for itself.** A write that is refused, because the outbox is full, say, takes none of those down
//!   that it shared the commit with.
//! - **Writes first.** Callers wait for them. Pages are read between commits, so that many of them hold nobody up,
//!   and one after each commit at least.
//! - **Order.** Writes are answered in their order, pages in theirs. A page holds what was there when it was read: all that
//!   replies before it speak of, and no item whose [`Reply::Written`] comes later.
//! - **Bounds.** Jobs and bytes under way are limited; a job beyond that is handed back.
//!
//! # Source
//! F16; DESIGN decision 8 ("group commit").

mod batch;
mod job;
mod thread;
mod worker;

pub use job::{Job, Reply};
pub use thread::{Busy, OutboxThread, Replies, ThreadLimits};
