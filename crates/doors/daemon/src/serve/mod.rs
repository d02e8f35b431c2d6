//! `serve`: the daemon.
//!
//! The order matters. The configuration is checked as a whole before anything is touched; the sockets are open before
//! anything slow is begun, so that callers wait instead of being refused; the doors open when everything behind them
//! works; and only then are the service manager and a predecessor told.

mod doors;
mod keeper;
mod numbers;
pub mod setup;
mod signals;

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use southbridge::Southbridge;
use southbridge_kernel::admin::{Admin, Readiness};
use southbridge_words::Secret;
use tokio::task::LocalSet;
use tracing::{error, info, warn};

use crate::activation;
use crate::cli::Serve;
use crate::commands::check_config::at_file;
use crate::commands::{DONE, FAILED, MISCONFIGURED};
use crate::config::secret::{Created, SecretSource};
use crate::config::{Config, Environment};
use crate::descriptors;
use crate::door::Door;
use crate::handover::{Invocation, Successor, tell_ready};
use crate::listeners::Listeners;
use crate::logging;
use crate::notify::Notifier;

use doors::Doors;
use keeper::RankKeeper;
use signals::{Order, Signals};

/// Serves until told to stop, or until a successor has taken over.
pub fn run(arguments: &Serve) -> u8 {
    match prepare(arguments).and_then(Prepared::serve) {
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
    fn misconfigured(text: impl ToString) -> Self {
        Self { code: MISCONFIGURED, text: text.to_string() }
    }

    fn running(text: impl ToString) -> Self {
        Self { code: FAILED, text: text.to_string() }
    }
}

/// What is there before the I/O thread begins to turn.
struct Prepared {
    arguments: Serve,
    config: Config,
    listeners: Listeners,
    secret: Secret,
    ready: Option<OwnedFd>,
    invocation: Invocation,
}

fn prepare(arguments: &Serve) -> Result<Prepared, Failure> {
    let inheritance = activation::take().map_err(Failure::misconfigured)?;
    let mut config = load(arguments).map_err(Failure::misconfigured)?;
    let mut warnings = config.warnings();
    let shrunk = descriptors::fit(&mut config, descriptors::raise());
    warnings.extend(shrunk.map_err(|reason| Failure::misconfigured(at_file(&config) + &reason))?);
    let listeners = Listeners::open(&config, inheritance.sockets).map_err(|reasons| {
        Failure::running(
            reasons.iter().map(|reason| at_file(&config) + reason).collect::<Vec<_>>().join("\n"),
        )
    })?;
    logging::start(&config.log);
    for warning in warnings.iter().chain(&listeners.warnings) {
        warn!("{warning}");
    }
    let secret = door_secret(&config)?;
    let invocation = Invocation::of_process()
        .map_err(|error| Failure::running(format!("this program cannot find itself: {error}")))?;
    Ok(Prepared {
        arguments: arguments.clone(),
        config,
        listeners,
        secret,
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

impl Prepared {
    fn serve(self) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime =
            runtime.map_err(|error| Failure::running(format!("no I/O thread to be had: {error}")))?;
        let served = LocalSet::new().block_on(&runtime, self.run());
        // A lookup or a tunnel that will not end must not keep the process.
        runtime.shutdown_timeout(SHUTDOWN_MAX);
        served
    }

    async fn run(self) -> Result<(), Failure> {
        let mut signals = Signals::listen()
            .map_err(|error| Failure::running(format!("signals cannot be heard: {error}")))?;
        let config = &self.config;
        let southbridge = Southbridge::new(setup::kernel(config), setup::federation(config))
            .map_err(|error| Failure::misconfigured(at_file(config) + &setup::whole(&error)))?;
        let keeper = RankKeeper::open(&config.storage, southbridge.kernel().clone()).map_err(|error| {
            Failure::misconfigured(at_file(config) + "storage.path: " + &setup::whole(&error))
        })?;
        let keeper = Rc::new(keeper);
        let keeping = tokio::task::spawn_local(Rc::clone(&keeper).run());
        let mut doors = Doors::new(&southbridge, config, self.secret.clone(), &self.listeners)
            .map_err(|error| Failure::running(error.to_string()))?;
        let readiness = Readiness::default();
        let metrics = vec![southbridge.metrics(), doors.metrics(), keeper.metrics()];
        let admin = Admin::new(southbridge.kernel().clone(), readiness.clone(), metrics);
        doors.accept(&match &config.admin.secret {
            Some(secret) => admin.with_secret(secret.clone()),
            None => admin,
        });
        let notifier = Notifier::from_environment();
        readiness.set(true);
        notifier.ready();
        tell_ready(self.ready);
        self.listeners
            .list
            .iter()
            .for_each(|listener| info!(door = %listener.door, at = %listener.listen, "listening"));
        info!(version = env!("CARGO_PKG_VERSION"), "ready");

        let reload = Reload {
            arguments: &self.arguments,
            invocation: &self.invocation,
            listeners: &self.listeners,
            keeper: &keeper,
            notifier: &notifier,
        };
        let ending = wait_for_the_end(&mut signals, &reload).await;
        readiness.set(false);
        match ending {
            Ending::Stopped => {
                notifier.stopping();
                doors.close().await;
            }
            Ending::HandedOver => doors.leave_to_successor(),
        }
        drain(&doors, &mut signals, config.synapse.drain_time).await;
        keeping.abort();
        if let Ending::Stopped = ending {
            keeper.close().await;
        }
        info!("ended");
        Ok(())
    }
}

/// How serving ends.
#[derive(Clone, Copy)]
enum Ending {
    /// Told to stop.
    Stopped,
    /// A successor serves.
    HandedOver,
}

async fn wait_for_the_end(signals: &mut Signals, reload: &Reload<'_>) -> Ending {
    loop {
        match signals.next().await {
            Order::Stop => return Ending::Stopped,
            Order::Reload => match reload.hand_over(signals).await {
                Ok(ending) => return ending,
                Err(reason) => {
                    reload.notifier.reload_failed(&reason);
                    error!("reload failed, the old configuration holds: {reason}");
                }
            },
        }
    }
}

/// What a hand-over needs.
struct Reload<'a> {
    arguments: &'a Serve,
    invocation: &'a Invocation,
    listeners: &'a Listeners,
    keeper: &'a RankKeeper,
    notifier: &'a Notifier,
}

impl Reload<'_> {
    async fn hand_over(&self, signals: &mut Signals) -> Result<Ending, String> {
        self.notifier.reloading();
        load(self.arguments)?;
        // The successor opens the same file, which one process holds at a time.
        self.keeper.close().await;
        let started = Successor::start(self.invocation, self.listeners);
        let outcome = match started {
            Ok(successor) => self.wait_for(successor, signals).await,
            Err(error) => Err(format!("{} cannot be started: {error}", self.invocation.program().display())),
        };
        if outcome.is_err() {
            self.keeper.reopen();
        }
        outcome
    }

    async fn wait_for(&self, mut successor: Successor, signals: &mut Signals) -> Result<Ending, String> {
        let pid = successor.pid();
        info!(pid, "successor started");
        loop {
            tokio::select! {
                ready = successor.ready() => {
                    ready?;
                    self.notifier.handed_over(pid);
                    info!(pid, "successor serves");
                    return Ok(Ending::HandedOver);
                }
                order = signals.next() => if order == Order::Stop {
                    successor.end();
                    self.keeper.reopen();
                    return Ok(Ending::Stopped);
                },
            }
        }
    }
}

/// Lets what is in flight finish, for as long as it may take, or until somebody insists.
async fn drain(doors: &Doors, signals: &mut Signals, drain_time: Duration) {
    let insisted = async { while signals.next().await != Order::Stop {} };
    tokio::select! {
        () = doors.drained() => {}
        () = tokio::time::sleep(drain_time) => {
            warn!(left = doors.in_progress(), ?drain_time, "requests cut off: they took longer than draining may");
        }
        () = insisted => warn!(left = doors.in_progress(), "requests cut off: told to stop again"),
    }
}

/// Whether `door` is one that lets requests in, and so has something to finish.
const fn carries(door: Door) -> bool {
    matches!(door, Door::Synapse | Door::ForwardProxy)
}

const SHUTDOWN_MAX: Duration = Duration::from_secs(1);
