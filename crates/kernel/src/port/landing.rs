//! Where ports are attached, and who serves them: on the I/O thread, or on a runtime that a test moves.
//!
//! # Source
//! K2, K3, T4; DESIGN decision 2.

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::FxHashMap;
use southbridge_words::Ticket;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::Port;
use super::desk::{Desk, Errand, Line, Task, Tasks, Unanswered};
use super::doorstep::Doorstep;
use super::queue::{Shared, Submission};
use super::turns::Turns;
use super::view::PortFacts;
use crate::clock::Clock;

/// Attaches ports to a kernel, from any thread. Cheap to clone; all clones are one.
pub struct Landing<D: Desk> {
    doorstep: Arc<Doorstep>,
    turns: Arc<Turns>,
    attaching: Attaching<D>,
    heard: Option<Arc<Notify>>,
}

/// Ports that the kernel has not seen yet.
type Attaching<D> = Arc<Mutex<Vec<Arc<Shared<D>>>>>;

impl<D: Desk> Landing<D> {
    /// A landing, and the kernel's side of it. `heard`, where there is one, is notified whenever an application is told
    /// something: whoever moves the clock then knows that it is the application's turn.
    pub fn new(heard: Option<Arc<Notify>>) -> (Self, KernelSide<D>) {
        let doorstep = Arc::<Doorstep>::default();
        let (turns, attaching) = (Arc::<Turns>::default(), Attaching::default());
        let side = KernelSide {
            doorstep: Arc::clone(&doorstep),
            turns: Arc::clone(&turns),
            attaching: Arc::clone(&attaching),
        };
        (Self { doorstep, turns, attaching, heard }, side)
    }

    /// Attaches a port that holds at most `held_max` submissions.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn attach(&self, held_max: usize) -> std::io::Result<Port<D>> {
        self.attach_for("threads", held_max)
    }

    /// Attaches a port for `frontend`, as people know it who ask what the program is doing.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn attach_for(&self, frontend: &'static str, held_max: usize) -> std::io::Result<Port<D>> {
        let (doorstep, turns) = (Arc::clone(&self.doorstep), Arc::clone(&self.turns));
        let shared = Arc::new(Shared::new(held_max, frontend, doorstep, turns, self.heard.clone())?);
        self.attaching.lock().expect("no holder of this lock panics").push(Arc::clone(&shared));
        self.doorstep.ring();
        Ok(Port { shared })
    }

    /// Has the kernel's side end: whoever waits is told so.
    pub fn stop(&self) {
        self.doorstep.stop();
        self.doorstep.ring();
    }
}

impl<D: Desk> Clone for Landing<D> {
    fn clone(&self) -> Self {
        Self {
            doorstep: Arc::clone(&self.doorstep),
            turns: Arc::clone(&self.turns),
            attaching: Arc::clone(&self.attaching),
            heard: self.heard.clone(),
        }
    }
}

impl<D: Desk> fmt::Debug for Landing<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Landing").field("stopped", &self.doorstep.is_stopped()).finish_non_exhaustive()
    }
}

/// The kernel's side of all ports of a landing. Dropped, whoever waits is told that the kernel has stopped.
pub struct KernelSide<D: Desk> {
    doorstep: Arc<Doorstep>,
    turns: Arc<Turns>,
    attaching: Attaching<D>,
}

/// One port, seen from the I/O thread.
struct Attached<D: Desk> {
    shared: Arc<Shared<D>>,
    tasks: Rc<Tasks>,
    ringer: AbortHandle,
}

impl<D: Desk> fmt::Debug for KernelSide<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelSide").field("stopped", &self.doorstep.is_stopped()).finish_non_exhaustive()
    }
}

impl<D: Desk> KernelSide<D> {
    /// Takes what comes in at the ports and has it done, until the landing is stopped. Must be run within a tokio
    /// `LocalSet`.
    pub async fn serve(&self, desk: &Rc<D>) {
        self.serve_at(&AttachedPorts::default(), desk).await;
    }

    /// The same, with its ports kept where somebody else can get at them.
    pub(super) async fn serve_at(&self, ports: &AttachedPorts<D>, desk: &Rc<D>) {
        let (clock, alarm) = (desk.kernel().clock(), desk.kernel().alarm());
        let mut watching = pin!(self.turns.watch(clock, alarm));
        let mut serving = pin!(self.serve_ports(ports, desk));
        poll_fn(|cx| {
            // It has no end.
            let _watches = watching.as_mut().poll(cx);
            serving.as_mut().poll(cx)
        })
        .await;
    }

    async fn serve_ports(&self, ports: &AttachedPorts<D>, desk: &Rc<D>) {
        loop {
            self.look(&mut ports.0.borrow_mut(), desk);
            if self.doorstep.is_stopped() {
                ports.0.take();
                return;
            }
            self.doorstep.rung().await;
        }
    }

    /// Looks at everybody who has called.
    fn look(&self, ports: &mut Ports<D>, desk: &Rc<D>) {
        self.welcome(ports, desk);
        while let Some(number) = self.doorstep.next() {
            if !ports.contains_key(&number) {
                // It was attached a moment ago.
                self.welcome(ports, desk);
            }
            let Some(port) = ports.get(&number) else { continue };
            port.shared.caller.is_seen();
            port.take_all(desk);
            if port.is_over() {
                ports.remove(&number);
            }
        }
    }

    /// Takes up the ports that have been attached since.
    fn welcome(&self, ports: &mut Ports<D>, desk: &Rc<D>) {
        let new = std::mem::take(&mut *self.attaching.lock().expect("no holder of this lock panics"));
        for shared in new {
            let facts: Arc<dyn PortFacts> = Arc::clone(&shared) as _;
            desk.kernel().note_port(Arc::downgrade(&facts));
            ports.insert(shared.caller.number, Attached::new(shared, desk.kernel().clock()));
        }
    }
}

/// The ports that are attached, by number.
type Ports<D> = FxHashMap<u64, Attached<D>>;

/// The same, for whoever serves them.
pub(super) struct AttachedPorts<D: Desk>(RefCell<Ports<D>>);

impl<D: Desk> Default for AttachedPorts<D> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<D: Desk> AttachedPorts<D> {
    /// Tells whoever waits that the kernel has stopped, without a word to any task: the runtime they are of is broken.
    pub(super) fn abandon(self) {
        for (_, port) in self.0.into_inner() {
            port.abandon();
        }
    }
}

impl<D: Desk> Attached<D> {
    fn new(shared: Arc<Shared<D>>, clock: Clock) -> Self {
        let ringer = tokio::task::spawn_local(Arc::clone(&shared).ring_when_asked(clock)).abort_handle();
        Self { shared, tasks: Rc::default(), ringer }
    }

    fn take_all(&self, desk: &Rc<D>) {
        while let Some(submission) = self.shared.take_submission() {
            match submission {
                Submission::Errand(ticket, errand) => self.start(ticket, errand, desk),
                Submission::Cancel(ticket) => self.cancel(ticket),
            }
        }
    }

    fn start(&self, ticket: Ticket, errand: Box<dyn Errand<D>>, desk: &Rc<D>) {
        let line = Line { ticket, shared: Arc::clone(&self.shared), tasks: Rc::clone(&self.tasks) };
        let _started = errand.start(desk, line);
    }

    fn cancel(&self, ticket: Ticket) {
        let task = self.tasks.borrow_mut().remove(&ticket);
        if let Some(task) = task {
            self.end(ticket, &task, Unanswered::Cancelled);
        }
    }

    fn end(&self, ticket: Ticket, task: &Task, why: Unanswered) {
        task.abort.abort();
        if task.owed {
            self.shared.complete(ticket, Err(why.into()));
        }
    }

    /// Whether the application has let go; what it had under way is then cancelled.
    fn is_over(&self) -> bool {
        let over = self.shared.is_detached();
        if over {
            self.take_tasks().values().for_each(|task| task.abort.abort());
        }
        over
    }

    /// As `drop`, but that no task is touched: what is left of them is left where it is.
    fn abandon(self) {
        for (ticket, task) in self.take_tasks() {
            if task.owed {
                self.shared.complete_unrung(ticket, Err(Unanswered::Stopped.into()));
            }
            std::mem::forget(task);
        }
        self.shared.finish();
        std::mem::forget(self);
    }

    fn take_tasks(&self) -> FxHashMap<Ticket, Task> {
        std::mem::take(&mut *self.tasks.borrow_mut())
    }
}

impl<D: Desk> Drop for Attached<D> {
    /// However the I/O thread ends, in order or by a panic: an error can be handled, and a hang cannot.
    fn drop(&mut self) {
        for (ticket, task) in self.take_tasks() {
            self.end(ticket, &task, Unanswered::Stopped);
        }
        self.ringer.abort();
        self.shared.finish();
    }
}

impl<D: Desk> Drop for KernelSide<D> {
    fn drop(&mut self) {
        self.doorstep.stop();
        let never_seen = std::mem::take(&mut *self.attaching.lock().unwrap_or_else(PoisonError::into_inner));
        never_seen.iter().for_each(|shared| shared.finish());
    }
}
