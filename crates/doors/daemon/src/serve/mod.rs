//! `serve`: the daemon.
//!
//! The order matters. The configuration is checked as a whole before anything is touched; the sockets are open before
//! anything slow is begun, so that callers wait instead of being refused; the doors open when everything behind them
//! works; and only then are the service manager and a predecessor told.

mod bus;
mod doors;
mod keeper;
mod numbers;
mod outbox;
mod reload;
pub mod setup;
mod signals;
mod statistics;

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use southbridge::Southbridge;
use southbridge_kernel::Declared;
use southbridge_kernel::admin::{Admin, Readiness};
use southbridge_kernel::http::explain;
use southbridge_words::{Secret, ServerName, ServiceName};
use tokio::signal::unix::Signal;
use tokio::task::{JoinHandle, LocalSet};
use tracing::{info, warn};

use crate::activation::{self, Inheritance};
use crate::cli::Serve;
use crate::commands::check_config::at_file;
use crate::commands::{DONE, FAILED, MISCONFIGURED};
use crate::config::secret::{Created, SecretSource};
use crate::config::{Config, Environment};
use crate::descriptors;
use crate::door::Door;
use crate::handover::{Invocation, tell_ready};
use crate::listeners::Listeners;
use crate::logging;
use crate::notify::Notifier;

use bus::BusKeeper;
use doors::Doors;
use keeper::RankKeeper;
use outbox::{OpenOutbox, Unopened};
use reload::{Ending, Reload};
use signals::{Order, Signals};
use statistics::Statistics;

/// Serves until told to stop, or until a successor has taken over.
pub fn run(arguments: &Serve) -> u8 {
    match serve(arguments) {
        Ok(()) => DONE,
        Err(failure) => {
            eprintln!("{}", failure.text);
            failure.code
        }
    }
}

/// Why the daemon ends before it was told to.
struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    fn misconfigured(text: impl Into<String>) -> Self {
        Self { code: MISCONFIGURED, text: text.into() }
    }

    fn running(text: impl Into<String>) -> Self {
        Self { code: FAILED, text: text.into() }
    }
}

/// What is there before the I/O thread begins to turn.
struct Prepared {
    arguments: Serve,
    config: Config,
    listeners: Listeners,
    secret: Secret,
    bus_secret: Secret,
    ready: Option<OwnedFd>,
    invocation: Invocation,
}

fn serve(arguments: &Serve) -> Result<(), Failure> {
    let inheritance = activation::take().map_err(|error| Failure::misconfigured(error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::running(format!("no I/O thread to be had: {error}")))?;
    let hangup = {
        let _inside = runtime.enter();
        signals::hear_hangups().map_err(|error| deaf(&error))?
    };
    let prepared = prepare(arguments, inheritance)?;
    let served = LocalSet::new().block_on(&runtime, prepared.run(hangup));
    // A lookup or a tunnel that will not end must not keep the process.
    runtime.shutdown_timeout(SHUTDOWN_MAX);
    served
}

fn deaf(error: &std::io::Error) -> Failure {
    Failure::running(format!("signals cannot be heard: {error}"))
}

fn prepare(arguments: &Serve, inheritance: Inheritance) -> Result<Prepared, Failure> {
    let mut config = load(arguments).map_err(Failure::misconfigured)?;
    logging::start(&config.log).map_err(Failure::misconfigured)?;
    let mut warnings = config.warnings();
    let shrunk = descriptors::fit(&mut config, descriptors::raise());
    warnings.extend(shrunk.map_err(|reason| Failure::misconfigured(at_file(&config) + &reason))?);
    let listeners = Listeners::open(&config, inheritance.sockets).map_err(|reasons| {
        Failure::running(
            reasons.iter().map(|reason| at_file(&config) + reason).collect::<Vec<_>>().join("\n"),
        )
    })?;
    for warning in warnings.iter().chain(&listeners.warnings) {
        warn!("{warning}");
    }
    let secret = door_secret(&config)?;
    let bus_secret = bus_secret(&config)?;
    let invocation = Invocation::of_process()
        .map_err(|error| Failure::running(format!("this program cannot find itself: {error}")))?;
    Ok(Prepared {
        arguments: arguments.clone(),
        config,
        listeners,
        secret,
        bus_secret,
        ready: inheritance.ready,
        invocation,
    })
}

fn load(arguments: &Serve) -> Result<Config, String> {
    Config::load(arguments.config.config.as_deref(), &Environment::of_process())
        .map_err(|problems| problems.to_string())
}

/// The secret of the door for Synapse; made and stored first where nobody gave one.
fn door_secret(config: &Config) -> Result<Secret, Failure> {
    if config.synapse.listen.is_empty() {
        return Ok(Secret::new([]));
    }
    let (secret, created) = config.synapse.secret.resolve().map_err(Failure::misconfigured)?;
    if let (SecretSource::Made(path), Created::Now) = (&config.synapse.secret, created) {
        info!(path = %path.display(), "secret made; give it to Synapse as worker_replication_secret_path");
    }
    Ok(secret)
}

/// The secret of the bus door; made and stored first where nobody gave one.
fn bus_secret(config: &Config) -> Result<Secret, Failure> {
    if config.bus.listen.is_empty() {
        return Ok(Secret::new([]));
    }
    let (secret, created) = config.bus.secret.resolve().map_err(Failure::misconfigured)?;
    if let (SecretSource::Made(path), Created::Now) = (&config.bus.secret, created) {
        info!(path = %path.display(), "secret made; callers of the bus show it as Authorization: Bearer");
    }
    Ok(secret)
}

impl Prepared {
    async fn run(self, hangup: Signal) -> Result<(), Failure> {
        let mut signals = Signals::listen(hangup).map_err(|error| deaf(&error))?;
        let mut works = Works::start(&self).await?;
        let notifier = Notifier::from_environment();
        notifier.ready();
        let Self { arguments, config, listeners, ready, invocation, .. } = self;
        tell_ready(ready);
        let places = listeners.list.iter();
        places.for_each(|place| info!(door = %place.door, at = %place.listen, "listening"));
        info!(version = env!("CARGO_PKG_VERSION"), "ready");

        let (keeper, bus) = (&works.keeper, works.bus.as_deref());
        let (arguments, invocation, notifier, listeners) = (&arguments, &invocation, &notifier, listeners);
        let reload = Reload { arguments, invocation, listeners: &listeners, keeper, bus, notifier };
        let ending = reload.wait_for_the_end(&mut signals).await;
        works.stop_accepting(ending).await;
        // The doors have let go of the sockets, and now nobody holds them: who comes later is refused at once.
        drop(listeners);
        if ending == Ending::Stopped {
            notifier.stopping();
        }
        works.finish(ending, &mut signals, config.synapse.drain_time).await;
        info!("ended");
        Ok(())
    }
}

/// Everything that works while the daemon serves.
struct Works {
    doors: Doors,
    keeper: Rc<RankKeeper>,
    bus: Option<Rc<BusKeeper>>,
    keeping: JoinHandle<()>,
    readiness: Readiness,
    _declared: Vec<Declared>,
    statistics: Statistics,
}

impl Works {
    /// Sets everything to work; the doors are open at the end.
    async fn start(prepared: &Prepared) -> Result<Self, Failure> {
        let config = &prepared.config;
        let region = statistics::open(&config.statistics);
        let kernel = setup::kernel(config, region.clone());
        let southbridge = Southbridge::new(kernel, setup::federation(config))
            .map_err(|error| Failure::misconfigured(at_file(config) + &explain(&error)))?;
        let at_fault = |reason: String| Failure::misconfigured(at_file(config) + &reason);
        let unopened = |unopened: Unopened| {
            let text = at_file(config) + &unopened.text;
            if unopened.is_passing { Failure::running(text) } else { Failure::misconfigured(text) }
        };
        let outbox = OpenOutbox::of(config).await.map_err(unopened)?;
        let in_file = outbox.as_ref().and_then(OpenOutbox::in_file);
        let keeper = RankKeeper::open(&config.storage, southbridge.kernel().clone(), in_file)
            .map_err(|error| at_fault(format!("storage.path: {}", explain(&error))))?;
        let keeper = Rc::new(keeper);
        let bus_secret = prepared.bus_secret.clone();
        let bus = BusKeeper::start(&southbridge, config, bus_secret, &prepared.listeners, outbox, &keeper);
        let bus = bus.await.map_err(unopened)?;
        let keeping = tokio::task::spawn_local(Rc::clone(&keeper).run());
        let mut doors = Doors::new(&southbridge, config, prepared.secret.clone(), &prepared.listeners)
            .map_err(|error| Failure::running(error.to_string()))?;
        let readiness = Readiness::default();
        let mut metrics = vec![southbridge.metrics(), doors.metrics(), keeper.metrics()];
        metrics.extend(bus.as_ref().map(BusKeeper::metrics));
        let statistics = Statistics::publish(&southbridge, metrics.clone(), &config.statistics, region)
            .map_err(|error| Failure::running(format!("figures cannot be published: {error}")))?;
        let mut admin = Admin::new(southbridge.kernel().clone(), readiness.clone(), metrics);
        if let Some(bus) = &bus {
            admin = admin.also_waking(bus.also_wake());
            bus.accept();
        }
        doors.accept(&match &config.admin.secret {
            Some(secret) => admin.with_secret(secret.clone()),
            None => admin,
        });
        readiness.set(true);
        let declared = declare(&southbridge, config);
        Ok(Self { doors, keeper, bus, keeping, readiness, _declared: declared, statistics })
    }

    async fn stop_accepting(&mut self, ending: Ending) {
        self.readiness.set(false);
        if let Some(bus) = &self.bus {
            bus.stop_accepting().await;
        }
        match ending {
            Ending::Stopped => self.doors.close().await,
            Ending::HandedOver => self.doors.leave_to_successor().await,
        }
    }

    /// Lets what is in flight finish, for as long as it may take, or until somebody insists; then lets go of the store.
    async fn finish(self, ending: Ending, signals: &mut Signals, drain_time: Duration) {
        let doors = &self.doors;
        let insisted = async { while signals.next().await != Order::Stop {} };
        let finished = async {
            tokio::join!(doors.drained(), async {
                if let Some(bus) = &self.bus {
                    bus.close().await;
                }
            });
        };
        tokio::select! {
            () = finished => {}
            () = tokio::time::sleep(drain_time) => {
                warn!(left = doors.in_progress(), ?drain_time, "requests cut off: they took longer than draining may");
            }
            () = insisted => warn!(left = doors.in_progress(), "requests cut off: told to stop again"),
        }
        self.keeping.abort();
        self.statistics.close();
        if ending == Ending::Stopped {
            self.keeper.close().await;
        }
    }
}

/// Connects to the hosts that are to be kept connected.
fn declare(southbridge: &Southbridge, config: &Config) -> Vec<Declared> {
    let kept = config.host.iter().filter(|(_, host)| host.keep_connected);
    let declare =
        |name: &ServerName| southbridge.kernel().declare(ServiceName::from(name), southbridge.matrix());
    kept.map(|(name, _)| declare(name)).collect()
}

/// Whether `door` is one that lets requests in, and so has something to finish.
const fn carries(door: Door) -> bool {
    matches!(door, Door::Synapse | Door::ForwardProxy)
}

const SHUTDOWN_MAX: Duration = Duration::from_secs(1);
