//! The seam to the kernel: what this door takes of the Rust API, under the names that it uses.
//!
//! Everything that crosses to the I/O thread is one of these types, and none of them can hold a Python object.
//!
//! # Source
//! K3, K4, K15.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::Method;
use southbridge::Southbridge;
pub use southbridge::bus_port;
use southbridge::bus_port::{BusId, PeerRequest};
use southbridge::client::{Completion, Downloading, Opened};
use southbridge::federation::FederationConfig;
pub use southbridge_kernel::Clock;
pub use southbridge_kernel::debug::{DebugConfig, MarkId, Marks, StackSource};
pub use southbridge_kernel::http::explain;
pub use southbridge_kernel::net::ListenAddress;
use southbridge_kernel::port::{News, StartError};
use southbridge_kernel::stats::StatsConfig;
pub use southbridge_kernel::stats::publish::{FileConfig, PublishConfig, StatsdConfig, Tags};
pub use southbridge_kernel::stats::{
    Counter, Gauge, Histogram, KeepLimits, Metric, Place, Region, RegionOptions, RegisterError, Unit,
};
use southbridge_kernel::tls::{Reading, TlsConfig};
use southbridge_kernel::{Kernel, KernelConfig};
use southbridge_policy::admission::AdmissionLimits;
use southbridge_policy::pool::PoolLimits;
use southbridge_words::{Step, Ticket, WallTime};
use url::Url;

pub use southbridge::client::{
    Answer, Attempts, Auth, Beginning, Body, BreakerLimits, Client, ClientConfig, ClientError as Failure,
    ClientTls, Content, CookieView, Download, Draw, Drawn, FedForm, Feed, GivenCookie, IntoFile, Multipart,
    OpenFile, Part, Port, Progress, ProxyChoice, ProxyRules, Pushed, Reach, Readiness, Request,
    Response as Incoming, RunningHash, Saved, Service, ServiceDiscovery, ServiceLimits, Timeouts,
    WhichCookies, Wish, declare, push, withdraw,
};

/// Where ports are attached to a kernel that a test moves.
pub type Landing = southbridge_kernel::port::Landing<Southbridge>;

/// What stands behind the ports of a kernel that a test moves: the same as behind all others.
pub fn desk(kernel: &Kernel) -> Southbridge {
    Southbridge::on(kernel.clone(), FederationConfig::default())
}

/// The wall clock at so many milliseconds since 1970.
pub fn wall_time(unix_millis: u64) -> WallTime {
    WallTime::from_unix_millis(unix_millis)
}

/// The kernel's thread.
pub type KernelThread = southbridge_kernel::port::KernelThread<Southbridge>;

/// One request, copied out of the interpreter, and by whose settings it is made.
#[derive(Clone, Debug)]
pub enum Outgoing {
    /// By those of a client.
    Client {
        /// Whose.
        client: Client,
        /// What is asked.
        request: Request,
    },
    /// By those of a bus, of a homeserver.
    Bus {
        /// Whose.
        bus: BusId,
        /// What is asked.
        request: PeerRequest,
    },
}

impl Outgoing {
    /// What is done.
    pub fn method(&self) -> &Method {
        match self {
            Self::Client { request, .. } => &request.method,
            Self::Bus { request, .. } => request.method(),
        }
    }

    /// Where.
    pub fn url(&self) -> &Url {
        match self {
            Self::Client { request, .. } => &request.url,
            Self::Bus { request, .. } => request.url(),
        }
    }
}

/// What an exchange is for.
#[derive(Clone, Debug)]
pub enum Purpose {
    /// The body of the response is drawn.
    Stream,
    /// The body of the request is fed, and the response comes whole.
    Upload,
    /// The body of the response goes into a file.
    Download(Download),
    /// The body of the response goes where the application wishes, once it has seen the head.
    Wish(Arc<Wish>),
}

/// What is asked of the kernel itself.
#[derive(Clone, Debug)]
pub enum Question {
    /// Which services can be asked: as soon as these can, or all where none is named, and after `within` in any case.
    Ready {
        /// Which.
        names: Vec<String>,
        /// For how long at most.
        within: Option<Duration>,
    },
    /// The same, as soon as it is another than the one with this version.
    Changed {
        /// Which is known; none asks for what is known now.
        since: Option<u64>,
    },
}

/// The ends of an exchange that are the application's.
pub struct Ends {
    /// Its number.
    pub ticket: Ticket,
    /// Where the body of the response is drawn; of a download, where something comes when there is progress.
    pub draw: Option<Draw>,
    /// Where the body of the request is fed.
    pub feed: Option<Feed>,
    /// How far a download is.
    pub progress: Option<Arc<Progress>>,
}

/// What a port says of a submission.
pub enum Said {
    /// The answer, or why there is none.
    Answered(Result<Answer, Failure>),
    /// One of its streams can go on.
    GoesOn,
}

/// Starts the kernel of this process, with a debug socket if `debug` says so; where that lies, or why there is none, is
/// told to `opened`. It knows `services` from the start. What it may dial is said by each client: decision 0010.
///
/// # Errors
/// [`StartError`] when there is no thread to be had.
pub fn start(
    region: Region,
    debug: Option<DebugConfig>,
    opened: Arc<OnceLock<Result<PathBuf, String>>>,
    services: Vec<Service>,
) -> Result<KernelThread, StartError> {
    let admission = AdmissionLimits { per_service_max: PER_SERVICE_MAX, ..AdmissionLimits::default() };
    let pool = PoolLimits { waiting_per_peer_max: PER_SERVICE_MAX, ..PoolLimits::default() };
    let stats = StatsConfig { region: Some(region), ..StatsConfig::default() };
    // A program that imports us has not said yet that it will speak TLS, and to clients of their own roots it never does.
    let tls = TlsConfig { reading: Reading::WhenNeeded, ..TlsConfig::default() };
    KernelThread::start(
        KernelConfig { admission, pool, stats, tls, ..KernelConfig::default() },
        move |kernel| {
            if let Some(debug) = debug {
                let told = southbridge_kernel::debug::open(kernel, debug);
                let _first = opened.set(told.map_err(|error| southbridge_kernel::http::explain(&error)));
            }
            let desk = Southbridge::on(kernel.clone(), FederationConfig::default());
            for service in &services {
                // They could be declared before; what has become of a file since, whoever asks for the service is told.
                if let Err(error) = southbridge::client::declare_on(&desk, service) {
                    eprintln!(
                        "southbridge: the service {:?} cannot be declared in this process: {error}",
                        service.name
                    );
                }
            }
            desk
        },
    )
}

/// A program asks as much of one service as it has to; half of all places are left for the others (K14).
const PER_SERVICE_MAX: u32 = 10_000;

/// Has figures published as `config` says; where Prometheus can ask is told to `listening`. Blocks until it is so,
/// which waits for nobody outside.
///
/// # Errors
/// [`Failure`] when the system gives no socket.
pub fn publish(
    port: &Port,
    config: PublishConfig,
    listening: Arc<OnceLock<ListenAddress>>,
) -> Result<(), Failure> {
    southbridge::statistics::publish(port, config, listening)?;
    done(port).map(drop)
}

/// Blocks until the one thing that was handed in at `port` is done.
///
/// # Errors
/// Why it could not be done.
pub fn done(port: &Port) -> Result<Answer, Failure> {
    loop {
        if let Some(result) = taken(port) {
            return result;
        }
        port.wait(Duration::from_millis(100));
    }
}

/// The answer to the one thing that was handed in at `port`, if it is there.
pub fn taken(port: &Port) -> Option<Result<Answer, Failure>> {
    let mut result = None;
    port.drain(1, |completion| result = completion.answer());
    result
}

/// Hands `outgoing` in at `port`. Never blocks.
///
/// # Errors
/// [`Failure`] when it is refused on this side.
pub fn submit(port: &Port, outgoing: Outgoing) -> Result<Ticket, Failure> {
    let Outgoing::Client { client, request } = outgoing else { return Err(only_in_pieces()) };
    #[cfg(feature = "measure")]
    if crate::measure::is_nothing(&request) {
        return crate::measure::submit(port, request);
    }
    waking(|| client.submit(port, request))
}

/// Hands `question` in at `port`. Never blocks.
///
/// # Errors
/// [`Failure`] when it is refused on this side.
pub fn ask(port: &Port, question: &Question) -> Result<Ticket, Failure> {
    match question {
        Question::Ready { names, within } => southbridge::client::wait_ready(port, names.clone(), *within),
        Question::Changed { since } => southbridge::client::ready(port, *since),
    }
}

/// Hands `outgoing` in at `port`, for bodies in pieces. Never blocks.
///
/// # Errors
/// As [`submit`].
pub fn open(port: &Port, outgoing: Outgoing, purpose: &Purpose) -> Result<Ends, Failure> {
    let (client, request) = match outgoing {
        Outgoing::Client { client, request } => (client, request),
        Outgoing::Bus { bus, request } => return waking(|| ask_homeserver(port, bus, request, purpose)),
    };
    waking(|| match purpose {
        Purpose::Stream => {
            let Opened { ticket, draw, feed } = client.open(port, request)?;
            Ok(Ends { ticket, draw: Some(draw), feed, progress: None })
        }
        Purpose::Upload => {
            let (ticket, feed) = client.upload(port, request)?;
            Ok(Ends { ticket, draw: None, feed: Some(feed), progress: None })
        }
        Purpose::Download(download) => {
            let Downloading { ticket, progress, ticks } = client.download(port, request, download.clone())?;
            Ok(Ends { ticket, draw: Some(ticks), feed: None, progress: Some(progress) })
        }
        Purpose::Wish(wish) => {
            let Opened { ticket, draw, feed } = client.open_as_wished(port, request, Arc::clone(wish))?;
            Ok(Ends { ticket, draw: Some(draw), feed, progress: None })
        }
    })
}

fn ask_homeserver(port: &Port, bus: BusId, request: PeerRequest, purpose: &Purpose) -> Result<Ends, Failure> {
    let Opened { ticket, draw, feed } = match purpose {
        Purpose::Stream => bus_port::ask(port, bus, request)?,
        Purpose::Wish(wish) => bus_port::ask_as_wished(port, bus, request, Arc::clone(wish))?,
        Purpose::Upload | Purpose::Download(_) => return Err(only_in_pieces()),
    };
    Ok(Ends { ticket, draw: Some(draw), feed, progress: None })
}

fn only_in_pieces() -> Failure {
    Failure::InvalidRequest { reason: "what a homeserver answers is drawn in pieces".to_owned() }
}

/// Hands something in, for which the I/O thread has to be woken; it cannot be when the descriptor that wakes it has been
/// closed beneath it, and then tokio panics.
fn waking<T>(hand_in: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(hand_in)).unwrap_or_else(|_reported_by_the_hook| {
        Err(Failure::Failed { step: Step::Admission, is_repeatable: false, reason: UNWAKEABLE.to_owned() })
    })
}

const UNWAKEABLE: &str = "the kernel cannot be woken: were all descriptors closed, its own among them? A program does that \
                          before its first request, or in a forked child";

/// Takes at most `completions_max` words.
pub fn drain(port: &Port, completions_max: usize, mut take: impl FnMut(Ticket, Said)) -> usize {
    port.drain(completions_max, |Completion { ticket, news }| match news {
        News::Done(result) => take(ticket, Said::Answered(result)),
        News::Readable | News::Writable => take(ticket, Said::GoesOn),
    })
}

/// The readiness in `answer`.
///
/// # Errors
/// [`Failure::Failed`] when it is the answer to something else.
pub fn readiness(answer: Answer) -> Result<Readiness, Failure> {
    match answer {
        Answer::Readiness(readiness) => Ok(*readiness),
        other => Err(astray("a question for services", &other)),
    }
}

/// The cookies in `answer`.
///
/// # Errors
/// [`Failure::Failed`] when it is the answer to something else.
pub fn cookies(answer: Answer) -> Result<Vec<CookieView>, Failure> {
    match answer {
        Answer::Cookies(cookies) => Ok(cookies),
        other => Err(astray("a question for cookies", &other)),
    }
}

/// The response in `answer`: whole, or its head.
///
/// # Errors
/// [`Failure::Failed`] when it is the answer to something else.
pub fn response(answer: Answer) -> Result<Box<Incoming>, Failure> {
    match answer {
        Answer::Response(response) | Answer::Head(response) => Ok(response),
        other => Err(astray("a request", &other)),
    }
}

fn astray(asked: &str, answer: &Answer) -> Failure {
    Failure::Failed {
        step: Step::Response,
        is_repeatable: false,
        reason: format!("the kernel answered {asked} with {answer:?}"),
    }
}
