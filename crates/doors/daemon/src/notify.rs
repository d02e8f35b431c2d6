//! Tells the service manager how we are (`sd_notify(3)`).

use std::env;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The service manager, if one listens.
#[derive(Debug, Default)]
pub struct Notifier {
    manager: Option<(UnixDatagram, SocketAddr)>,
}

impl Notifier {
    /// Finds the manager that `NOTIFY_SOCKET` names. Without one, everything said is said to nobody.
    pub fn from_environment() -> Self {
        let address = env::var_os("NOTIFY_SOCKET").and_then(|path| match path.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
            [b'/', ..] => SocketAddr::from_pathname(&path).ok(),
            _ => None,
        });
        Self { manager: UnixDatagram::unbound().ok().zip(address) }
    }

    /// We work.
    pub fn ready(&self) {
        self.send("READY=1\nSTATUS=serving");
    }

    /// We are about to hand over to a new process with a new configuration.
    pub fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=starting a successor"));
    }

    /// The process `pid` has taken over, and works.
    pub fn handed_over(&self, pid: u32) {
        self.send(&format!("MAINPID={pid}\nREADY=1\nSTATUS=serving"));
    }

    /// The hand-over failed for `reason`, and we go on.
    pub fn reload_failed(&self, reason: &str) {
        let line = reason.lines().next().unwrap_or_default();
        self.send(&format!("READY=1\nSTATUS=serving; the last reload failed: {line}"));
    }

    /// We finish what is in flight and exit.
    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=finishing what is in flight");
    }

    fn send(&self, message: &str) {
        if let Some((socket, manager)) = &self.manager
            && let Err(error) = socket.send_to_addr(message.as_bytes(), manager)
        {
            tracing::warn!(%error, "service manager not told");
        }
    }
}
