//! The driver: does what the keyring asks for, and tells it what came of it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use southbridge_bus::externaliser::Moment;
use southbridge_bus::keyring::{Action, FetchFailure, FetchId, KeyError, KeyView, Keyring, Wanted};
use southbridge_bus::signing::{Signer, VerifyKey};
use southbridge_kernel::discovery::Discover;
use southbridge_kernel::mishap::survived;
use southbridge_kernel::{Clock, Kernel};
use southbridge_words::{Instant, ServerName, Ticket};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{AbortHandle, spawn_local};

use super::fetching::{self, Fetch};
use super::metrics::CheckCounters;
use super::{KeysConfig, VerifyError, own};
use crate::driver::{Desk, Driver, run_timer};

/// What all clones share.
pub(super) struct Inner {
    pub(super) kernel: Kernel,
    pub(super) matrix: Rc<dyn Discover>,
    pub(super) signer: Signer,
    pub(super) config: KeysConfig,
    pub(super) keyring: RefCell<Keyring>,
    pub(super) checks: CheckCounters,
    /// One signature at a time is checked: a thousand of them must not keep the thread from everybody else.
    pub(super) turns: Semaphore,
    desk: Desk<Waiter>,
    fetches: RefCell<FxHashMap<FetchId, AbortHandle>>,
    closed: Cell<bool>,
}

pub(super) enum Waiter {
    Key(oneshot::Sender<Result<VerifyKey, KeyError>>),
    Search(oneshot::Sender<Result<(), KeyError>>),
}

impl Inner {
    pub(super) fn new(
        kernel: Kernel,
        matrix: Rc<dyn Discover>,
        signer: Signer,
        mut config: KeysConfig,
        seed: u64,
    ) -> Rc<Self> {
        config.limits.fetch_max = config.fetch_timeout.saturating_add(REPORT_MAX);
        let keyring = Keyring::new(config.limits.clone(), config.sources.clone(), seed);
        let inner = Rc::new(Self {
            kernel,
            matrix,
            signer,
            config,
            keyring: RefCell::new(keyring),
            checks: CheckCounters::default(),
            turns: Semaphore::new(1),
            desk: Desk::default(),
            fetches: RefCell::default(),
            closed: Cell::new(false),
        });
        spawn_local(run_timer(Rc::downgrade(&inner)));
        inner
    }

    /// The time, both ways.
    pub(super) fn moment(&self) -> Moment {
        let clock = self.kernel.clock();
        Moment { now: clock.now(), wall: clock.wall() }
    }

    /// The key that is `wanted`.
    pub(super) async fn key(self: &Rc<Self>, wanted: Wanted) -> Result<VerifyKey, VerifyError> {
        if let Some(own) = own::find(&self.signer, &wanted) {
            return Ok(own?);
        }
        let (told, tell) = oneshot::channel();
        let at = self.moment();
        let ask = |ticket| self.keyring.borrow_mut().handle_wanted(ticket, wanted, at);
        self.answer(Waiter::Key(told), tell, ask).await
    }

    /// Waits until keys of `server` are known that are good now.
    pub(super) async fn search(self: &Rc<Self>, server: &ServerName) -> Result<(), VerifyError> {
        if server == self.signer.origin() {
            return Ok(());
        }
        let (told, tell) = oneshot::channel();
        let at = self.moment();
        let ask = |ticket| self.keyring.borrow_mut().handle_search(ticket, server, at);
        self.answer(Waiter::Search(told), tell, ask).await
    }

    /// What is known of the keys of `server`.
    pub(super) fn view(&self, server: &ServerName) -> Vec<KeyView> {
        if server == self.signer.origin() {
            return own::views(&self.signer, self.moment(), self.config.limits.believed_max);
        }
        self.keyring.borrow().view(server, self.moment())
    }

    /// `work`, within `timeout`; zero is for ever.
    pub(super) async fn within<T>(
        &self,
        timeout: Duration,
        work: impl Future<Output = Result<T, VerifyError>>,
    ) -> Result<T, VerifyError> {
        if timeout.is_zero() {
            return work.await;
        }
        let late = |_| VerifyError::DeadlinePassed { waited: timeout };
        tokio::time::timeout(timeout, work).await.map_err(late)?
    }

    /// Ends every fetch; whoever waits is told.
    pub(super) fn close(&self) {
        self.closed.set(true);
        for (_, fetch) in self.fetches.take() {
            fetch.abort();
        }
        self.desk.clear();
    }

    async fn answer<T>(
        self: &Rc<Self>,
        waiter: Waiter,
        tell: oneshot::Receiver<Result<T, KeyError>>,
        ask: impl FnOnce(Ticket),
    ) -> Result<T, VerifyError> {
        if self.closed.get() {
            return Err(VerifyError::Closing);
        }
        // A channel that closes means that the bus has.
        Ok(self.wait(waiter, tell, ask).await.map_err(|_| VerifyError::Closing)??)
    }

    fn fetch(self: &Rc<Self>, id: FetchId, fetch: Fetch) {
        if self.closed.get() {
            return;
        }
        let inner = Rc::clone(self);
        let task = spawn_local(async move {
            // A bug of ours says nothing about the server.
            let fetched = survived(fetching::fetch(&inner, fetch)).await;
            let fetched = fetched.unwrap_or(Err(FetchFailure::Overloaded));
            inner.handle_fetched(id, fetched.as_ref().map(|body| &body[..]).map_err(|failure| *failure));
        });
        self.fetches.borrow_mut().insert(id, task.abort_handle());
    }

    fn handle_fetched(self: &Rc<Self>, id: FetchId, fetched: Result<&[u8], FetchFailure>) {
        self.fetches.borrow_mut().remove(&id);
        self.keyring.borrow_mut().handle_fetched(id, fetched, self.moment());
        self.act();
    }
}

impl Driver for Inner {
    type Waiter = Waiter;
    type Action = Action;

    fn desk(&self) -> &Desk<Waiter> {
        &self.desk
    }

    fn clock(&self) -> Clock {
        self.kernel.clock()
    }

    fn poll(&self) -> Option<Action> {
        self.keyring.borrow_mut().poll()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.keyring.borrow().poll_timeout()
    }

    fn handle_timeout(&self) {
        self.keyring.borrow_mut().handle_timeout(self.moment());
    }

    fn handle_left(self: &Rc<Self>, ticket: Ticket) {
        self.keyring.borrow_mut().handle_cancelled(ticket);
    }

    fn perform(self: &Rc<Self>, action: Action) {
        match action {
            Action::FetchOrigin { id, server, bytes_max } => {
                self.fetch(id, Fetch { whom: server, query: None, bytes_max });
            }
            Action::FetchNotary { id, notary, body, bytes_max } => {
                self.fetch(id, Fetch { whom: notary, query: Some(body), bytes_max });
            }
            Action::Answer { ticket, result } => {
                if let Some(Waiter::Key(told)) = self.desk.take(ticket) {
                    let _gone = told.send(result);
                }
            }
            Action::Searched { ticket, result } => {
                if let Some(Waiter::Search(told)) = self.desk.take(ticket) {
                    let _gone = told.send(result);
                }
            }
        }
    }
}

/// How much later than its deadline a fetch may still be told of.
const REPORT_MAX: Duration = Duration::from_secs(5);
