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
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep_until, timeout};

use super::{AddressPolicy, ConnectError, DeniedRange};
use crate::Clock;

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
    clock: Clock,
) -> Result<(TcpStream, SocketAddr), ConnectError> {
    dial_telling(addresses, policy, options, clock, |_| ()).await
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
    clock: Clock,
    mut lost: impl FnMut(SocketAddr),
) -> Result<(TcpStream, SocketAddr), ConnectError> {
    let mut course = Course { started_at: clock.now(), clock, failures: Vec::new() };
    let addresses = &addresses[..addresses.len().min(options.addresses_max)];
    // One address is the common case, and needs neither a race nor a step.
    if let [only] = *addresses {
        let bounded = DialOptions { attempt_max: options.attempt_max.min(options.total_max), ..*options };
        return attempt(only, policy, &bounded).await.map(|stream| (stream, only)).map_err(|failure| {
            lost(only);
            course.failures.push((only, failure));
            course.into_error()
        });
    }
    let limits = RaceLimits { step: options.step, ..RaceLimits::default() };
    let mut machine = Race::new(Addresses::from_slice(addresses), limits);
    let won = race(&mut machine, policy, options, &mut course).await;
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
    course: &mut Course,
) -> Option<(TcpStream, SocketAddr)> {
    let clock = course.clock;
    let deadline = clock.to_tokio(course.started_at + options.total_max);
    let mut running = FuturesUnordered::new();
    loop {
        while let Some(Try(address)) = machine.poll(clock.now()) {
            running.push(async move { (address, attempt(address, policy, options).await) });
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
) -> Result<TcpStream, AttemptError> {
    policy.check(address).map_err(AttemptError::Denied)?;
    let socket = open(address, options).map_err(AttemptError::Io)?;
    match timeout(options.attempt_max, socket.connect(address)).await {
        Ok(connected) => connected.map_err(AttemptError::Io),
        Err(_) => Err(AttemptError::Silent),
    }
}

fn open(address: SocketAddr, options: &DialOptions) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(options.keepalive)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    SockRef::from(&socket).set_tcp_keepalive(&keepalive)?;
    Ok(socket)
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
mod tests {
    use super::*;
    use socket2::{Domain, Socket, Type};
    use std::net::TcpListener;

    fn open_policy() -> AddressPolicy {
        AddressPolicy::new(["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()], [])
    }

    fn good() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    fn refused() -> SocketAddr {
        // Bound and never listening: nobody else can take the port meanwhile.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        std::mem::forget(socket);
        address
    }

    /// A listener whose backlog is full drops every further SYN: as silent as an unplugged machine.
    struct BlackHole {
        address: SocketAddr,
        _held: (Socket, Vec<Socket>),
    }

    fn black_hole() -> BlackHole {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let fill = (0..4).map(|_| {
            let filler = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            filler.set_nonblocking(true).unwrap();
            let _ = filler.connect(&address.into());
            filler
        });
        let fill = fill.collect();
        BlackHole { address, _held: (listener, fill) }
    }

    async fn dialled(addresses: &[SocketAddr]) -> Result<SocketAddr, ConnectError> {
        let clock = Clock::start();
        let dialled = dial(addresses, &open_policy(), &DialOptions::default(), clock).await;
        dialled.map(|(stream, address)| {
            assert!(stream.nodelay().unwrap());
            assert!(SockRef::from(&stream).keepalive().unwrap());
            assert_eq!(stream.peer_addr().unwrap(), address);
            address
        })
    }

    /// Faults row 3, "address remembered": what was silent or refused is told, so that the next dial begins with the
    /// address that answered.
    #[tokio::test(start_paused = true)]
    async fn losers_are_told() {
        let hole = black_hole();
        let (_listener, address) = good();
        let refusing = refused();
        let mut lost = Vec::new();
        let addresses = [hole.address, refusing, address];
        let options = DialOptions::default();
        let dialled =
            dial_telling(&addresses, &open_policy(), &options, Clock::start(), |a| lost.push(a)).await;
        assert_eq!(dialled.unwrap().1, address);
        assert_eq!(lost, [hole.address, refusing]);
        lost.clear();
        let dialled =
            dial_telling(&[refusing], &open_policy(), &options, Clock::start(), |a| lost.push(a)).await;
        assert!(dialled.is_err());
        assert_eq!(lost, [refusing]);
    }

    #[tokio::test]
    async fn one_good_address_is_connected_to() {
        let (_listener, address) = good();
        assert_eq!(dialled(&[address]).await.unwrap(), address);
    }

    /// Faults row 3: the first of two addresses is a black hole. It costs one step and no more.
    #[tokio::test(start_paused = true)]
    async fn a_silent_address_costs_one_step() {
        let hole = black_hole();
        let (_listener, address) = good();
        let before = tokio::time::Instant::now();
        assert_eq!(dialled(&[hole.address, address]).await.unwrap(), address);
        let waited = before.elapsed();
        assert!(waited >= Duration::from_millis(250) && waited < Duration::from_millis(300), "{waited:?}");
    }

    /// Faults row 3: the first address refuses. The second is tried at once.
    #[tokio::test(start_paused = true)]
    async fn a_refused_address_costs_nothing() {
        let (_listener, address) = good();
        let before = tokio::time::Instant::now();
        assert_eq!(dialled(&[refused(), address]).await.unwrap(), address);
        assert!(before.elapsed() < Duration::from_millis(250));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_everywhere_ends_at_the_deadline() {
        let (one, two) = (black_hole(), black_hole());
        let error = dialled(&[one.address, two.address]).await.unwrap_err();
        let ConnectError::TimedOut { attempts, waited } = &error else { panic!("{error}") };
        assert_eq!(attempts.len(), 2);
        assert!(*waited >= Duration::from_secs(10) && *waited <= Duration::from_secs(16), "{waited:?}");
        let error = dialled(&[one.address]).await.unwrap_err();
        assert!(matches!(error, ConnectError::TimedOut { .. }), "{error}");
    }

    #[tokio::test]
    async fn refusals_are_listed() {
        let (one, two) = (refused(), refused());
        let error = dialled(&[one, two]).await.unwrap_err().to_string();
        assert_eq!(
            error,
            format!("no address answered: {one}: connection refused; {two}: connection refused")
        );
    }

    #[tokio::test]
    async fn no_address_at_all_is_unreachable() {
        let error = dialled(&[]).await.unwrap_err();
        assert!(matches!(&error, ConnectError::Unreachable { attempts } if attempts.is_empty()), "{error}");
    }

    /// Faults row 13: the listener is there, and must not so much as see a SYN from us.
    #[tokio::test]
    async fn a_denied_address_is_not_connected_to() {
        let (listener, address) = good();
        listener.set_nonblocking(true).unwrap();
        let policy = AddressPolicy::default();
        for addresses in [vec![address], vec![address, address]] {
            let dialled = dial(&addresses, &policy, &DialOptions::default(), Clock::start()).await;
            let error = dialled.unwrap_err();
            assert!(matches!(&error, ConnectError::Denied { address: a, .. } if *a == address), "{error}");
            assert!(error.to_string().contains("loopback"), "{error}");
            assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
    }

    /// One address of a name is in our own network, another one is not: the good one still serves.
    #[tokio::test]
    async fn a_denied_address_does_not_spoil_the_others() {
        let (_listener, address) = good();
        let allowed = AddressPolicy::new(["127.0.0.0/8".parse().unwrap()], []);
        let private = "10.0.0.1:1".parse().unwrap();
        let dialled = dial(&[private, address], &allowed, &DialOptions::default(), Clock::start()).await;
        assert_eq!(dialled.unwrap().1, address);
        let error = dial(&[private, refused()], &allowed, &DialOptions::default(), Clock::start()).await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains("10.0.0.1:1: denied (private") && error.contains("refused"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_addresses_are_tried_than_the_limit() {
        let (_listener, address) = good();
        let mut addresses: Vec<_> = (0..8).map(|_| refused()).collect();
        addresses.push(address);
        let error = dialled(&addresses).await.unwrap_err();
        assert!(matches!(&error, ConnectError::Unreachable { attempts } if attempts.len() == 8), "{error}");
    }

    #[test]
    fn running_out_of_descriptors_is_our_own_fault() {
        let v4: SocketAddr = "192.0.2.1:1".parse().unwrap();
        let v6: SocketAddr = "[2001:db8::1]:1".parse().unwrap();
        let failed = |errno: Errno| AttemptError::Io(errno.into());
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::ADDRNOTAVAIL] {
            assert!(failed(errno).is_exhaustion(v4), "{errno}");
        }
        assert!(!failed(Errno::ADDRNOTAVAIL).is_exhaustion(v6));
        assert!(!failed(Errno::CONNREFUSED).is_exhaustion(v4));
        let course = Course {
            clock: Clock::start(),
            started_at: Instant::ZERO,
            failures: vec![(v6, failed(Errno::NETUNREACH)), (v4, failed(Errno::MFILE))],
        };
        assert!(matches!(course.into_error(), ConnectError::Exhausted { .. }));
    }
}
