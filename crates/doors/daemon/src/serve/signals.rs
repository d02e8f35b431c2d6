//! What the operator and the service manager say by signals.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that are heard.
#[derive(Debug)]
pub struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// SIGHUP: take up the configuration anew.
    Reload,
    /// SIGTERM, SIGINT: finish and end. Said twice: end.
    Stop,
}

/// From now on SIGHUP does not end the process. Whoever reloads does not know how far the start has come.
///
/// # Errors
/// When the system refuses a handler.
pub fn hear_hangups() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}

impl Signals {
    /// Begins to listen; from now on no signal ends the process by itself. What `hangup` has heard since it was made
    /// is an order like any other.
    ///
    /// # Errors
    /// When the system refuses a handler.
    pub fn listen(hangup: Signal) -> io::Result<Self> {
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Self { hangup, terminate, interrupt })
    }

    /// The next order. May be dropped without losing one.
    pub async fn next(&mut self) -> Order {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Order::Stop,
            _ = self.interrupt.recv() => Order::Stop,
            _ = self.hangup.recv() => Order::Reload,
        }
    }
}
