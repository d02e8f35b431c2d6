//! Opens TCP connections: the address policy first, then a race between addresses.
//!
//! A name with several addresses is reached through the first that answers. The next address is tried when the one
//! before has been silent for a step, or at once when it has failed; the losers are dropped and thereby closed.
//!
//! # Source
//! RFC 8305 sections 5 and 8 (the step of 250 ms); decision 10 (the policy judges the final socket address, right
//! before each connect); faults rows 1–3, 13 and 26.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use rustix::io::Errno;
use socket2::{SockRef, TcpKeepalive};
use southbridge_policy::racing::{Addresses, Race, RaceLimits, Try};
use southbridge_words::Instant;
use tokio::net::TcpSocket;
use tokio::time::{sleep_until, timeout};

use super::{AddressPolicy, ConnectError, DeniedRange, Network, Stream};
use crate::{Clock, Surroundings};

/// How to dial.
#[derive(Clone, Debug)]
pub struct DialOptions {
    /// How long an address may be silent before the next one is tried as well. Default 250 ms (RFC 8305).
    pub step: Duration,
    /// How long one address may take. Default 10 s: three retransmissions of a lost SYN.
    pub attempt_max: Duration,
    /// How long all addresses together may take. Default 15 s.
    pub total_max: Duration,
    /// How many addresses of one name are tried. Default 8: a name may have thousands, and each costs a socket.
    pub addresses_max: usize,
    /// Quiet time after which the system asks whether the peer is still there. Default 60 s.
    pub keepalive: Duration,
}

impl Default for DialOptions {
    fn default() -> Self {
        Self {
            step: Duration::from_millis(250),
            attempt_max: Duration::from_secs(10),
            total_max: Duration::from_secs(15),
            addresses_max: 8,
            keepalive: Duration::from_secs(60),
        }
    }
}

/// Connects to the first of `addresses` (in the order they are to be tried) that answers.
///
/// # Errors
/// [`ConnectError::Denied`] when the policy denies every address, [`ConnectError::Exhausted`] when our own side ran
/// out of descriptors, ports or memory, else [`ConnectError::TimedOut`] or [`ConnectError::Unreachable`] with what
/// each address said.
pub async fn dial(
    addresses: &[SocketAddr],
    policy: &AddressPolicy,
    options: &DialOptions,
    around: &Surroundings,
) -> Result<(Stream, SocketAddr), ConnectError> {
    dial_telling(addresses, policy, options, around, |_| ()).await
}

/// As [`dial`], and tells `lost` every address that failed or was overtaken by a later one, for those who remember
/// which addresses are worth trying first.
///
/// # Errors
/// As [`dial`].
pub async fn dial_telling(
    addresses: &[SocketAddr],
    policy: &AddressPolicy,
    options: &DialOptions,
    around: &Surroundings,
    mut lost: impl FnMut(SocketAddr),
) -> Result<(Stream, SocketAddr), ConnectError> {
    let Surroundings { clock, network, .. } = around;
    let mut course = Course { started_at: clock.now(), clock: *clock, failures: Vec::new() };
    let addresses = &addresses[..addresses.len().min(options.addresses_max)];
    // One address is the common case, and needs neither a race nor a step.
    if let [only] = *addresses {
        let bounded = DialOptions { attempt_max: options.attempt_max.min(options.total_max), ..*options };
        return attempt(only, policy, &bounded, network).await.map(|stream| (stream, only)).map_err(
            |failure| {
                lost(only);
                course.failures.push((only, failure));
                course.into_error()
            },
        );
    }
    let limits = RaceLimits { step: options.step, ..RaceLimits::default() };
    let mut machine = Race::new(Addresses::from_slice(addresses), limits);
    let won = race(&mut machine, policy, options, network, &mut course).await;
    let winner = won.as_ref().map(|(_, address)| *address);
    machine
        .tried()
        .iter()
        .filter(|address| is_lost(**address, winner, &machine, &course))
        .for_each(|a| lost(*a));
    won.ok_or_else(|| course.into_error())
}

/// Runs the race; `None` when nobody answered, and `course` then says what happened.
async fn race(
    machine: &mut Race,
    policy: &AddressPolicy,
    options: &DialOptions,
    network: &Network,
    course: &mut Course,
) -> Option<(Stream, SocketAddr)> {
    let clock = course.clock;
    let deadline = clock.to_tokio(course.started_at + options.total_max);
    let mut running = FuturesUnordered::new();
    loop {
        while let Some(Try(address)) = machine.poll(clock.now()) {
            running.push(async move { (address, attempt(address, policy, options, network).await) });
        }
        let step = machine.poll_timeout();
        let step_at = step.map_or(deadline, |at| clock.to_tokio(at));
        tokio::select! {
            biased;
            ended = running.next() => match ended {
                None => return None,
                Some((address, Ok(stream))) => return Some((stream, address)),
                Some((address, Err(failure))) => {
                    machine.handle_failed(address, clock.now());
                    course.failures.push((address, failure));
                }
            },
            () = sleep_until(step_at), if step.is_some() => {}
            () = sleep_until(deadline) => {
                let silent = machine.tried().iter().filter(|address| !course.has_failed(**address));
                let silent: Vec<_> = silent.map(|address| (*address, AttemptError::Silent)).collect();
                course.failures.extend(silent);
                return None;
            }
        }
    }
}

/// Whether `address` did worse than it should: it failed, or a later one answered before it. The last one tried
/// has had no time to show what it can do.
fn is_lost(address: SocketAddr, winner: Option<SocketAddr>, machine: &Race, course: &Course) -> bool {
    course.has_failed(address) || (winner != Some(address) && machine.tried().last() != Some(&address))
}

/// One connect to one address.
async fn attempt(
    address: SocketAddr,
    policy: &AddressPolicy,
    options: &DialOptions,
    network: &Network,
) -> Result<Stream, AttemptError> {
    policy.check(address).map_err(AttemptError::Denied)?;
    match timeout(options.attempt_max, network.connect(address, |socket| prepare(socket, options))).await {
        Ok(connected) => connected.map_err(AttemptError::Io),
        Err(_) => Err(AttemptError::Silent),
    }
}

fn prepare(socket: &TcpSocket, options: &DialOptions) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(options.keepalive)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    SockRef::from(socket).set_tcp_keepalive(&keepalive)
}

/// Why one address did not do.
#[derive(Debug)]
enum AttemptError {
    Denied(DeniedRange),
    Io(io::Error),
    Silent,
}

impl AttemptError {
    fn is_exhaustion(&self, address: SocketAddr) -> bool {
        let Self::Io(error) = self else { return false };
        match Errno::from_io_error(error) {
            Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => true,
            // For IPv4 every local port is taken. For IPv6 it more often means that this machine has no IPv6 at all.
            Some(Errno::ADDRNOTAVAIL) => address.is_ipv4(),
            _ => false,
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Denied(range) => format!("denied ({range})"),
            Self::Silent => "silent".to_owned(),
            Self::Io(error) => describe(error),
        }
    }
}

/// What the system said, in its plainest words.
pub(crate) fn describe(error: &io::Error) -> String {
    // Kinds without a name of their own say nothing; the system's number does.
    let words = error.kind().to_string();
    if words.starts_with("other") || words.starts_with("uncategorized") { error.to_string() } else { words }
}

/// What has happened so far.
struct Course {
    clock: Clock,
    started_at: Instant,
    failures: Vec<(SocketAddr, AttemptError)>,
}

impl Course {
    fn has_failed(&self, address: SocketAddr) -> bool {
        self.failures.iter().any(|(failed, _)| *failed == address)
    }

    fn into_error(self) -> ConnectError {
        let exhausted = self.failures.iter().find(|(address, failure)| failure.is_exhaustion(*address));
        if let Some((_, failure)) = exhausted {
            return ConnectError::Exhausted { reason: failure.describe() };
        }
        let is_denied = |failure: &AttemptError| matches!(failure, AttemptError::Denied(_));
        if self.failures.iter().all(|(_, failure)| is_denied(failure))
            && let Some((address, AttemptError::Denied(range))) = self.failures.first()
        {
            return ConnectError::Denied { address: *address, range: range.to_string() };
        }
        let answered = self.failures.iter().any(|(_, failure)| matches!(failure, AttemptError::Io(_)));
        let attempts: Vec<_> =
            self.failures.iter().map(|(address, failure)| (*address, failure.describe())).collect();
        if answered || attempts.is_empty() {
            return ConnectError::Unreachable { attempts };
        }
        ConnectError::TimedOut { attempts, waited: self.clock.now().saturating_since(self.started_at) }
    }
}

/// Between two questions whether the peer is still there.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Unanswered questions before the connection counts as dead.
const KEEPALIVE_PROBES: u32 = 4;

#[cfg(test)]
#[path = "dial_tests.rs"]
mod tests;
