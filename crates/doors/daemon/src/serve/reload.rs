//! How serving ends: told to stop, or handed over to a successor.

use tracing::{error, info};

use super::bus::BusKeeper;
use super::keeper::RankKeeper;
use super::load;
use super::signals::{Order, Signals};
use crate::cli::Serve;
use crate::handover::{Invocation, Successor};
use crate::listeners::Listeners;
use crate::notify::Notifier;

/// How serving ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Told to stop.
    Stopped,
    /// A successor serves.
    HandedOver,
}

/// What a hand-over needs.
pub struct Reload<'a> {
    /// How this daemon was asked to serve.
    pub arguments: &'a Serve,
    /// How to start a successor.
    pub invocation: &'a Invocation,
    /// What it is given.
    pub listeners: &'a Listeners,
    /// Who holds the file that it will want.
    pub keeper: &'a RankKeeper,
    /// Who holds the same file for the bus, if there is one.
    pub bus: Option<&'a BusKeeper>,
    /// Whom to tell.
    pub notifier: &'a Notifier,
}

impl Reload<'_> {
    /// Obeys signals until serving ends. A reload that fails changes nothing.
    pub async fn wait_for_the_end(&self, signals: &mut Signals) -> Ending {
        loop {
            match signals.next().await {
                Order::Stop => return Ending::Stopped,
                Order::Reload => match self.hand_over(signals).await {
                    Ok(ending) => return ending,
                    Err(reason) => {
                        self.notifier.reload_failed(&reason);
                        error!("reload failed, the old configuration holds: {reason}");
                    }
                },
            }
        }
    }

    async fn hand_over(&self, signals: &mut Signals) -> Result<Ending, String> {
        self.notifier.reloading();
        load(self.arguments)?;
        // The successor opens the same file, which one process holds at a time.
        if let Some(bus) = self.bus {
            bus.close().await;
        }
        self.keeper.close().await;
        let outcome = match Successor::start(self.invocation, self.listeners) {
            Ok(successor) => self.wait_for(successor, signals).await,
            Err(error) => Err(format!("{} cannot be started: {error}", self.invocation.program().display())),
        };
        match (&outcome, self.bus) {
            (Ok(Ending::HandedOver), _) => {}
            (Err(_), Some(bus)) => bus.reopen(self.keeper).await,
            _ => self.keeper.reopen(None),
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
                    return Ok(Ending::Stopped);
                },
            }
        }
    }
}
