//! The bus at work: its outbox, its queues and its door, opened together and closed together.
//!
//! An outbox in a file has one user at a time, and one in a database has its share for itself. So at a hand-over the bus
//! is closed before the successor opens it; callers find the sockets open all the while, and wait.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use southbridge::Southbridge;
use southbridge::bus::{BusConfig, KeysConfig, SideBus};
use southbridge::bus_door::{BusDoor, ServedBus};
use southbridge_bus::signing::Signer;
use southbridge_kernel::admin::{AlsoWake, MoreMetrics};
use southbridge_kernel::http::explain;
use southbridge_kernel::net::{ListenOptions, Listener};
use southbridge_words::{OutboxError, Secret, ServiceName};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use super::keeper::RankKeeper;
use super::numbers;
use super::outbox::{OpenOutbox, OutboxPlace, Unopened};
use crate::config::Config;
use crate::config::sections::bus::{Bus, Identity};
use crate::door::Door;
use crate::listeners::Listeners;

/// The bus, as long as there is one.
pub struct BusKeeper {
    southbridge: Southbridge,
    identity: Identity,
    config: Bus,
    keys: KeysConfig,
    place: OutboxPlace,
    secret: Secret,
    listeners: RefCell<Vec<Rc<Listener>>>,
    running: RefCell<Option<Running>>,
}

struct Running {
    bus: SideBus,
    door: BusDoor<ServedBus>,
    accepting: Vec<JoinHandle<()>>,
}

impl BusKeeper {
    /// Takes up what waits in `outbox` and starts to deliver it. Nobody is let in yet. None when there is no bus.
    ///
    /// # Errors
    /// Says what is wrong with the outbox, or with a socket.
    pub async fn start(
        southbridge: &Southbridge,
        config: &Config,
        secret: Secret,
        listeners: &Listeners,
        outbox: Option<OpenOutbox>,
        ranks: &RankKeeper,
    ) -> Result<Option<Rc<Self>>, Unopened> {
        let (Some(outbox), Some(identity)) = (outbox, &config.bus.identity) else { return Ok(None) };
        let inherit = |passed: &crate::listeners::Listener| -> io::Result<Rc<Listener>> {
            let listener = Listener::inherit(passed.socket.try_clone()?, &ListenOptions::default());
            listener.map(Rc::new).map_err(io::Error::other)
        };
        let listeners = listeners.of(Door::Bus).map(inherit).collect::<io::Result<_>>();
        let keeper = Self {
            southbridge: southbridge.clone(),
            identity: identity.clone(),
            config: config.bus.clone(),
            keys: config.keys.config.clone(),
            place: OutboxPlace::of(config),
            secret,
            listeners: RefCell::new(listeners.map_err(|error| Unopened::for_good(error.to_string()))?),
            running: RefCell::new(None),
        };
        keeper.run(outbox, ranks).await?;
        Ok(Some(Rc::new(keeper)))
    }

    async fn run(&self, outbox: OpenOutbox, ranks: &RankKeeper) -> Result<(), Unopened> {
        let Identity { server_name, keys } = self.identity.clone();
        let mut bus_config = BusConfig {
            limits: self.config.limits.clone(),
            results: self.config.results.clone(),
            keys: self.keys.clone(),
            close_patience: self.config.close_patience,
            ..BusConfig::new(server_name.clone())
        };
        let signer = Signer::new(server_name, keys);
        let outbox = outbox.for_bus(&self.place, &mut bus_config)?;
        let bus = SideBus::open(&self.southbridge, outbox, signer, bus_config);
        let unread = |error: OutboxError| {
            let text = format!("{}: {}", self.place.key(), explain(&error));
            Unopened { text, is_passing: matches!(error, OutboxError::Unavailable { .. }) }
        };
        let bus = bus.await.map_err(unread)?;
        ranks.keep_keys(bus.keys());
        let clock = self.southbridge.kernel().clock();
        let served = ServedBus::new(bus.clone(), clock);
        let door = BusDoor::new(served, clock, self.config.door(self.secret.clone()));
        info!(server_name = %self.identity.server_name, outbox = %self.place, "bus open");
        self.running.replace(Some(Running { bus, door, accepting: Vec::new() }));
        Ok(())
    }

    /// Opens the door and lets people in, those first who have been waiting.
    pub fn accept(&self) {
        let mut running = self.running.borrow_mut();
        let Some(running) = running.as_mut() else { return };
        for listener in self.listeners.borrow().iter() {
            let (listener, door) = (Rc::clone(listener), running.door.clone());
            running.accepting.push(tokio::task::spawn_local(async move {
                door.serve(&listener).await;
            }));
        }
    }

    /// Ends the bus: nobody is let in and no transaction begun any more, what is under way may end for a while, and
    /// the outbox is closed. The sockets stay open.
    pub async fn close(&self) {
        self.end_accepting().await;
        let Some(running) = self.running.take() else { return };
        running.door.close();
        running.bus.close().await;
        if tokio::time::timeout(ANSWERING_MAX, running.door.drained()).await.is_err() {
            warn!(left = running.door.snapshot().in_progress, "callers of the bus cut off: they do not read");
        }
    }

    /// Lets nobody in any more, for good: the sockets are let go of.
    pub async fn stop_accepting(&self) {
        self.end_accepting().await;
        self.listeners.borrow_mut().clear();
    }

    async fn end_accepting(&self) {
        let accepting: Vec<_> =
            self.running.borrow_mut().iter_mut().flat_map(|running| running.accepting.drain(..)).collect();
        for accepting in accepting {
            accepting.abort();
            // Aborted tasks end with an error that says so; what matters is that it has let go of its listener.
            let _ = accepting.await;
        }
    }

    /// Opens the bus again, after a hand-over that came to nothing, and the ranks that lie in the same file.
    pub async fn reopen(&self, ranks: &RankKeeper) {
        let reopened = match OpenOutbox::open(&self.place).await {
            Ok(outbox) => {
                ranks.reopen(outbox.in_file());
                self.run(outbox, ranks).await
            }
            Err(unopened) => {
                ranks.reopen(None);
                Err(unopened)
            }
        };
        match reopened {
            Ok(()) => self.accept(),
            Err(Unopened { text: reason, .. }) => {
                error!(reason, "the bus is closed and cannot be opened again; restart Southbridge");
            }
        }
    }

    /// The numbers of the bus and its door.
    pub fn metrics(self: &Rc<Self>) -> MoreMetrics {
        let this = Rc::clone(self);
        Rc::new(move |out| {
            let running = this.running.borrow();
            out.head("southbridge_bus_open", "gauge", "Whether the bus takes and delivers.");
            out.value("southbridge_bus_open", &[], u8::from(running.is_some()));
            out.head("southbridge_outbox_store", "gauge", "Which store the outbox of the bus lies in.");
            out.value("southbridge_outbox_store", &[("store", this.place.store())], 1);
            if let Some(running) = running.as_ref() {
                (running.bus.metrics())(out);
                numbers::expose_bus_door(&running.door.snapshot(), out);
            }
        })
    }

    /// For the admin socket: an operator who wakes a host wakes its queue as well.
    pub fn also_wake(self: &Rc<Self>) -> AlsoWake {
        let this = Rc::clone(self);
        Rc::new(move |host: &ServiceName| {
            this.running.borrow().as_ref().is_some_and(|running| (running.bus.also_wake())(host))
        })
    }
}

/// How long callers may take to read their last answers.
const ANSWERING_MAX: Duration = Duration::from_secs(2);
