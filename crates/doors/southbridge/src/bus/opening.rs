//! How a bus begins and ends.

use std::io;
use std::rc::Rc;

use southbridge_bus::externaliser::Externaliser;
use southbridge_bus::signing::Signer;
use southbridge_kernel::Kernel;
use southbridge_kernel::discovery::Discover;
use southbridge_store_thread::{Job, OutboxThread, Replies, Reply};
use southbridge_words::{Outbox, OutboxError, Recovered};
use tokio::task::spawn_local;

use super::inner::{Inner, Parts};
use super::outbox::Desk;
use super::results::Ring;
use super::timer::{run_replies, run_timer};
use super::{BusConfig, Hold, SideBus};
use crate::Southbridge;

impl SideBus {
    /// Opens the bus on `outbox`, which goes to a thread of its own, takes up what is to be done, and starts to
    /// work. Must be called within the `LocalSet` of `southbridge`.
    ///
    /// # Errors
    /// [`OutboxError`] when the outbox cannot be read, or has no thread to run on.
    ///
    /// # Panics
    /// When `config.limits` do not [validate](southbridge_bus::externaliser::ExternaliserLimits::validate).
    pub async fn open(
        southbridge: &Southbridge,
        outbox: Box<dyn Outbox>,
        signer: Signer,
        config: BusConfig,
    ) -> Result<Self, OutboxError> {
        Self::open_on(southbridge.kernel(), southbridge.matrix(), outbox, signer, config).await
    }

    /// The same on a kernel alone, with another way of finding homeservers.
    ///
    /// # Errors
    /// As [`SideBus::open`].
    pub async fn open_on(
        kernel: &Kernel,
        matrix: Rc<dyn Discover>,
        outbox: Box<dyn Outbox>,
        signer: Signer,
        config: BusConfig,
    ) -> Result<Self, OutboxError> {
        let (thread, mut replies) =
            OutboxThread::start(outbox, config.outbox.clone()).map_err(|error| no_thread(&error))?;
        let recovered = recover(&thread, &mut replies).await?;
        let externaliser = Externaliser::new(config.origin.clone(), config.limits.clone(), config.seed);
        let ring = Ring::new(config.results.clone(), rand::random());
        let parts = Parts { kernel: kernel.clone(), matrix, signer, config };
        let inner = Inner::new(parts, externaliser, Desk::new(thread), ring);
        spawn_local(run_replies(Rc::downgrade(&inner), replies));
        spawn_local(run_timer(Rc::downgrade(&inner), kernel.clock()));
        inner.tell(|machine, at| machine.handle_recovered(recovered, at));
        let hold = Rc::new(Hold(Rc::clone(&inner)));
        Ok(Self { inner, _hold: hold })
    }

    /// Ends the bus for all its clones: nothing is accepted and no transaction begun any more; what is under way
    /// may end, for a while; what is known by then is on record, and the outbox is closed.
    pub async fn close(self) {
        let inner = &self.inner;
        inner.closing.set(true);
        inner.tell(|machine, _| machine.handle_closing());
        inner.withdraw_unbegun();
        let _in_time = tokio::time::timeout(inner.parts.config.close_patience, inner.at_rest()).await;
        inner.end();
        // What the thread was given it still does; its end closes the outbox.
        loop {
            let ended = inner.ended.notified();
            if inner.outbox_closed.get() {
                break;
            }
            ended.await;
        }
    }
}

async fn recover(thread: &OutboxThread, replies: &mut Replies) -> Result<Recovered, OutboxError> {
    let ended = || OutboxError::Failed { reason: "its thread has ended".to_owned() };
    thread.submit(Job::Recover).map_err(|_| ended())?;
    match replies.next().await {
        Some(Reply::Recovered(recovered)) => recovered,
        _ => Err(ended()),
    }
}

fn no_thread(error: &io::Error) -> OutboxError {
    OutboxError::Unavailable { reason: format!("there is no thread for it: {error}") }
}
