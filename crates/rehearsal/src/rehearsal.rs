//! The kernel, the network, the names and the clock, put together.

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use southbridge_kernel::discovery::{Discover, DnsDiscovery};
use southbridge_kernel::net::{AddressPolicy, MemoryNetwork};
use southbridge_kernel::port::{Desk, Landing};
use southbridge_kernel::{Call, ExchangeError, Kernel, KernelConfig, KernelError, Repeat, Surroundings};
use southbridge_policy::ranker::Demand;
use southbridge_testkit::certificates::{Alpn, Authority, CertificatesByName};
use southbridge_testkit::dns::DnsScript;
use southbridge_words::{Class, ServiceName, Step, WallTime};
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::Instant;

use crate::clerk;
use crate::log::Log;
use crate::peer::Peer;

/// How a rehearsal is set up.
#[derive(Clone, Debug)]
pub struct RehearsalConfig {
    /// What decides everything that is left to chance, in the kernel and in the network. Default 1.
    pub seed: u64,
    /// What the wall clock shows at the start. Default 2026-01-01, 00:00 UTC.
    pub wall: WallTime,
    /// The kernel's own configuration. Its seed, its name servers and its roots are the rehearsal's. Default: the kernel's,
    /// and every address may be dialled.
    pub kernel: KernelConfig,
}

impl Default for RehearsalConfig {
    fn default() -> Self {
        let all = [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from([0_u16; 8])];
        let all = all.map(|ip| format!("{ip}/0").parse().expect("it is a range of addresses"));
        let kernel = KernelConfig { addresses: AddressPolicy::new(all, []), ..KernelConfig::default() };
        Self { seed: 1, wall: WallTime::from_unix_millis(NEW_YEAR_2026), kernel }
    }
}

/// What a peer speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// HTTP/1.1.
    Http1,
    /// HTTP/1.1 over TLS.
    Http1OverTls,
    /// Over TLS HTTP/2, or HTTP/1.1 with whoever does not know that.
    Http2OverTls,
}

/// Why a rehearsal cannot begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RehearsalError {
    /// The system gave no runtime, or no file for the certificates.
    #[error("a rehearsal cannot be set up")]
    System(#[from] io::Error),
    /// The kernel's configuration does not work.
    #[error("the kernel cannot be set up")]
    Kernel(#[from] KernelError),
}

/// Why a URL cannot be asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{url:?} cannot be asked for: {reason}; write http://host/path or https://host/path")]
pub struct AskError {
    /// The URL.
    pub url: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A kernel, and all that is around it. See the [crate](crate).
pub struct Rehearsal {
    network: MemoryNetwork,
    dns: DnsScript,
    certificates: Arc<CertificatesByName>,
    log: Log,
    start: Instant,
    asked: u64,
    /// Rung when it is the turn of somebody outside.
    attention: Arc<Notify>,
    serving: Vec<JoinHandle<()>>,
    // What the kernel's end needs must outlive it.
    kernel: Option<Kernel>,
    local: LocalSet,
    runtime: Runtime,
}

impl Rehearsal {
    /// Sets everything up. Nothing has happened yet.
    ///
    /// # Errors
    /// [`RehearsalError`] when the system has no room for it or the kernel's configuration does not work.
    pub fn new(config: RehearsalConfig) -> Result<Self, RehearsalError> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
        let local = LocalSet::new();
        let authority = Authority::new();
        let roots = tempfile::NamedTempFile::new()?;
        authority.write_ca(roots.path())?;
        let mut kernel = config.kernel;
        kernel.seed = config.seed;
        kernel.dns.servers = vec![NAME_SERVER];
        kernel.tls.use_system_roots = false;
        kernel.tls.ca_files.push(roots.path().to_owned());
        let network = MemoryNetwork::new(config.seed);
        let dns = DnsScript::default();
        let setting_up = async {
            let start = Instant::now();
            let log = Log::new(start);
            let watching = log.clone();
            network.watch(move |event| watching.network(event));
            clerk::serve(&network, NAME_SERVER, &dns)?;
            let around = Surroundings::in_memory(network.clone(), config.wall);
            Ok::<_, RehearsalError>((start, log, Kernel::amid(around, kernel)?))
        };
        let (start, log, kernel) = runtime.block_on(local.run_until(setting_up))?;
        let certificates = CertificatesByName::new(authority);
        let (attention, serving) = (Arc::default(), Vec::new());
        let kernel = Some(kernel);
        Ok(Self {
            network,
            dns,
            certificates,
            log,
            start,
            asked: 0,
            attention,
            serving,
            kernel,
            local,
            runtime,
        })
    }

    /// The kernel.
    pub fn kernel(&self) -> &Kernel {
        self.kernel.as_ref().expect("it is there until the end")
    }

    /// The network that the kernel dials through.
    pub fn network(&self) -> &MemoryNetwork {
        &self.network
    }

    /// What names mean. A name that nothing is said about does not exist.
    pub fn dns(&self) -> &DnsScript {
        &self.dns
    }

    /// The certificates of peers: good ones for every name, unless said otherwise.
    pub fn certificates(&self) -> &Arc<CertificatesByName> {
        &self.certificates
    }

    /// What has happened.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Adds a line of the test's own to the log.
    pub fn note(&self, what: impl fmt::Display) {
        let _within = self.runtime.enter();
        self.log.note(what);
    }

    /// How much time has passed since the start.
    pub fn elapsed(&self) -> Duration {
        let _within = self.runtime.enter();
        Instant::now().saturating_duration_since(self.start)
    }

    /// A peer at `address`. It speaks TLS on ports 443 and 8448, and plain HTTP on all others.
    ///
    /// # Errors
    /// When there is one already.
    pub fn peer(&self, address: SocketAddr) -> io::Result<Peer> {
        let is_secure = TLS_PORTS.contains(&address.port());
        self.peer_that_speaks(address, if is_secure { Speech::Http1OverTls } else { Speech::Http1 })
    }

    /// A peer at `address`, whatever the port.
    ///
    /// # Errors
    /// When there is one already.
    pub fn peer_that_speaks(&self, address: SocketAddr, speech: Speech) -> io::Result<Peer> {
        let tls = match speech {
            Speech::Http1 => None,
            Speech::Http1OverTls => Some(self.certificates.server_config(Alpn::Http1)),
            Speech::Http2OverTls => Some(self.certificates.server_config(Alpn::Http2)),
        };
        let listener = self.network.listen(address)?;
        let (_runtime, _local) = (self.runtime.enter(), self.local.enter());
        Ok(Peer::start(listener, tls, self.log.clone(), self.start, Arc::clone(&self.attention)))
    }

    /// Has ports served, by the desk that `desk` makes. What a program does at its ports happens when time moves, or with
    /// [`Rehearsal::settle`] and [`Rehearsal::step`].
    pub fn serve_ports<D: Desk>(&mut self, desk: impl FnOnce(&Kernel) -> D) -> Landing<D> {
        let (_runtime, _local) = (self.runtime.enter(), self.local.enter());
        let desk = Rc::new(desk(self.kernel()));
        let (landing, side) = Landing::new(Some(Arc::clone(&self.attention)));
        self.serving.push(tokio::task::spawn_local(async move { side.serve(&desk).await }));
        landing
    }

    /// Asks for `url` by GET, as a caller with so much patience. It sets out when time moves, or with [`Rehearsal::settle`].
    ///
    /// # Errors
    /// [`AskError`] when it is no URL of a kind that can be asked for.
    pub fn get(&mut self, url: &str, timeout: Duration) -> Result<Asked, AskError> {
        let failed = |reason: String| AskError { url: url.to_owned(), reason };
        let call = self
            .call(Request::get(url).body(Bytes::new()).map_err(|error| failed(error.to_string()))?, timeout);
        Ok(self.ask(call?, timeout))
    }

    /// A call for `request`, whose URI is whole. What may be repeated is what HTTP calls idempotent.
    ///
    /// # Errors
    /// [`AskError`] when its URI is of no kind that can be asked for.
    pub fn call(&self, mut request: Request<Bytes>, timeout: Duration) -> Result<Call, AskError> {
        let uri = request.uri().clone();
        let failed = |reason: &str| AskError { url: uri.to_string(), reason: reason.to_owned() };
        let authority = uri.authority().ok_or_else(|| failed("it names no host"))?;
        let dns = self.kernel().dns().clone();
        let discovery: Rc<dyn Discover> = match uri.scheme_str() {
            Some("https") => Rc::new(DnsDiscovery::https(dns, southbridge_kernel::tls::Alpn::Http1)),
            Some("http") => Rc::new(DnsDiscovery::http(dns)),
            _ => return Err(failed("its scheme is neither http nor https")),
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = path.parse().map_err(|_| failed("its path is none"))?;
        let repeat = if request.method().is_idempotent() { Repeat::Safe } else { Repeat::Never };
        let _within = self.runtime.enter();
        Ok(Call {
            service: ServiceName::new(authority.as_str()),
            discovery,
            request,
            class: Class::Interactive,
            demand: Demand::Prompt,
            deadline: self.kernel().deadline(timeout),
            repeat,
            ranked: true,
        })
    }

    /// Hands `call` in, and has all of its body read, which may take as long as `timeout` from now. It sets out when time
    /// moves, or with [`Rehearsal::settle`].
    pub fn ask(&mut self, call: Call, timeout: Duration) -> Asked {
        self.asked += 1;
        let number = self.asked;
        let outcome = Rc::<RefCell<Option<Outcome>>>::default();
        let (told, log, kernel) = (Rc::clone(&outcome), self.log.clone(), self.kernel().clone());
        let (_runtime, _local) = (self.runtime.enter(), self.local.enter());
        log.note(format_args!(
            "request {number}: {} {}{}",
            call.request.method(),
            call.service,
            call.request.uri()
        ));
        let task = tokio::task::spawn_local(async move {
            let result = carry(&kernel, call, timeout).await;
            match &result {
                Ok(response) => {
                    log.note(format_args!(
                        "request {number}: {}, {} bytes",
                        response.status(),
                        response.body().len()
                    ));
                }
                Err(error) => log.note(format_args!("request {number}: {error}")),
            }
            *told.borrow_mut() = Some(result);
        });
        Asked { number, outcome, task: task.abort_handle() }
    }

    /// Lets `span` pass, and everything happen that falls into it.
    pub fn advance(&mut self, span: Duration) {
        self.runtime.block_on(self.local.run_until(async { tokio::time::sleep(span).await }));
        self.settle();
    }

    /// Lets everything happen that can without time passing.
    ///
    /// # Panics
    /// When that never ends: something wakes itself for ever.
    pub fn settle(&mut self) {
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        let local = &mut self.local;
        self.runtime.block_on(poll_fn(|_| {
            for _ in 0..TURNS_MAX {
                bell.0.store(false, Ordering::Relaxed);
                let _all_tasks_ended = Pin::new(&mut *local).poll(&mut Context::from_waker(&waker));
                if !bell.0.load(Ordering::Relaxed) {
                    return Poll::Ready(());
                }
            }
            panic!("something wakes itself for ever, and no time passes")
        }));
    }

    /// Lets everything happen that can happen now, and then at most `span` pass: no more than until it is the turn of somebody
    /// outside, because a port has something to tell, or a request is [held](crate::Reply::held). Whether that is so.
    pub fn step(&mut self, span: Duration) -> bool {
        self.settle();
        let attention = Arc::clone(&self.attention);
        let passing = async move {
            tokio::select! {
                biased;
                () = attention.notified() => true,
                () = pass(span) => false,
            }
        };
        let is_called = self.runtime.block_on(self.local.run_until(passing));
        self.settle();
        is_called
    }

    /// Runs `story` within the rehearsal, with as much time passing as it takes.
    ///
    /// # Panics
    /// When it has not ended within thirty days of the rehearsal's time.
    pub fn run<T>(&mut self, story: impl Future<Output = T>) -> T {
        let bounded = async { tokio::time::timeout(RUN_MAX, story).await };
        self.runtime.block_on(self.local.run_until(bounded)).expect("a story ends within thirty days")
    }
}

impl Drop for Rehearsal {
    /// The kernel ends where it lived.
    fn drop(&mut self) {
        self.serving.iter().for_each(JoinHandle::abort);
        self.settle();
        let kernel = self.kernel.take();
        self.runtime.block_on(self.local.run_until(async move { drop(kernel) }));
    }
}

async fn pass(span: Duration) {
    if !span.is_zero() {
        tokio::time::sleep(span).await;
    }
}

async fn carry(kernel: &Kernel, call: Call, timeout: Duration) -> Outcome {
    let (service, deadline) = (call.service.clone(), kernel.deadline(timeout));
    let (parts, body) = kernel.exchange(call).await?.into_parts();
    let whole = tokio::time::timeout_at(kernel.clock().to_tokio(deadline), body.collect_all(BODY_MAX)).await;
    let overdue = ExchangeError::DeadlinePassed { service, step: Step::Body, waited: timeout };
    Ok(Response::from_parts(parts, whole.unwrap_or(Err(overdue))?))
}

type Outcome = Result<Response<Bytes>, ExchangeError>;

/// A request that was handed in.
#[derive(Debug)]
pub struct Asked {
    number: u64,
    outcome: Rc<RefCell<Option<Outcome>>>,
    task: tokio::task::AbortHandle,
}

impl Asked {
    /// The number it has in the log.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What came of it, when something has.
    pub fn result(&self) -> Option<Outcome> {
        self.outcome.borrow().clone()
    }

    /// Nobody waits for it any more. What has come of it by now stays.
    pub fn cancel(&self) {
        self.task.abort();
    }
}

/// Tells whether anybody was woken.
#[derive(Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl fmt::Debug for Rehearsal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rehearsal").field("network", &self.network).finish_non_exhaustive()
    }
}

const NEW_YEAR_2026: u64 = 1_767_225_600_000;
const NAME_SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 53)), 53);
const TLS_PORTS: [u16; 2] = [443, 8448];
const TURNS_MAX: u32 = 1_000_000;
const RUN_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
const BODY_MAX: u64 = 64 << 20;
