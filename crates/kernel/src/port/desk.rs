//! The desk: what stands on the I/O thread behind the ports, and the errands it does for them.
//!
//! An errand crosses to the I/O thread whole, runs there as one task, and answers once. Whatever ends its task (its
//! own end, a cancellation, the end of the kernel, a panic), its submission is answered.
//!
//! # Source
//! K3, K15; DESIGN decision 2.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use southbridge_words::Ticket;
use tokio::task::AbortHandle;

use super::queue::Shared;
use crate::discovery::Discover;
use crate::kernel::Kernel;

/// What stands on the I/O thread behind the ports.
pub trait Desk: Sized + 'static {
    /// What a submission is answered with.
    type Answer: Send + 'static;
    /// What it fails with.
    type Error: From<Unanswered> + Send + 'static;

    /// The kernel.
    fn kernel(&self) -> &Kernel;

    /// The way of finding routes that is called `name`.
    fn scheme(&self, name: &str) -> Option<Rc<dyn Discover>>;
}

/// Something that an application has done on the I/O thread.
pub trait Errand<D: Desk>: Send + 'static {
    /// Begins it, on the I/O thread: `line` takes the work, and runs it.
    fn start(self: Box<Self>, desk: &Rc<D>, line: Line<D>) -> Started;
}

/// The errand has been handed to its line.
#[derive(Debug)]
pub struct Started(());

/// Why the port itself answers, because nobody else will.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// The application asked for it.
    #[error("cancelled by the application")]
    Cancelled,
    /// There is no I/O thread any more.
    #[error("the kernel has stopped")]
    Stopped,
    /// A bug of ours.
    #[error("the kernel failed in the middle of the request; its log says where")]
    Failed,
}

/// The tasks of one port.
pub(super) type Tasks = RefCell<FxHashMap<Ticket, Task>>;

/// One errand that is being done.
pub(super) struct Task {
    pub(super) abort: AbortHandle,
    /// Whether its submission has not been answered yet.
    pub(super) owed: bool,
}

/// The way back from an errand that has not begun.
pub struct Line<D: Desk> {
    pub(super) ticket: Ticket,
    pub(super) shared: Arc<Shared<D>>,
    pub(super) tasks: Rc<Tasks>,
}

/// Answers one submission, once.
pub struct Reply<D: Desk> {
    ticket: Ticket,
    shared: Arc<Shared<D>>,
    tasks: Rc<Tasks>,
}

impl<D: Desk> Line<D> {
    /// Runs `work` as a task of its own. It goes on after its reply, and can be cancelled until its end.
    pub fn carry<F>(self, work: impl FnOnce(Reply<D>) -> F) -> Started
    where
        F: Future<Output = ()> + 'static,
    {
        let Self { ticket, shared, tasks } = self;
        let reply = Reply { ticket, shared: Arc::clone(&shared), tasks: Rc::clone(&tasks) };
        let ending = Ending { ticket, shared, tasks: Rc::clone(&tasks) };
        // Some kilobytes: a task moves its future about, and one that lies elsewhere is moved no more.
        let work = Box::pin(work(reply));
        let task = tokio::task::spawn_local(async move {
            // Dropped after the work, however that ends.
            let _ending = ending;
            work.await;
        });
        tasks.borrow_mut().insert(ticket, Task { abort: task.abort_handle(), owed: true });
        Started(())
    }
}

impl<D: Desk> Reply<D> {
    /// The number of the submission.
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// Answers. Who has been told that the submission was cancelled is told nothing more.
    pub fn give(self, result: Result<D::Answer, D::Error>) {
        let is_owed = self.tasks.borrow_mut().get_mut(&self.ticket).is_some_and(Task::take_owed);
        if is_owed {
            self.shared.complete(self.ticket, result);
        }
    }
}

impl Task {
    fn take_owed(&mut self) -> bool {
        std::mem::take(&mut self.owed)
    }
}

/// The end of a task. One that ends without a word, by a panic, has failed.
struct Ending<D: Desk> {
    ticket: Ticket,
    shared: Arc<Shared<D>>,
    tasks: Rc<Tasks>,
}

impl<D: Desk> Drop for Ending<D> {
    fn drop(&mut self) {
        let task = self.tasks.borrow_mut().remove(&self.ticket);
        if task.is_some_and(|task| task.owed) {
            self.shared.complete(self.ticket, Err(Unanswered::Failed.into()));
        }
    }
}
