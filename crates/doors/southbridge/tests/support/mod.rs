//! What the tests of the fault list have in common: a kernel on one thread, and calls to single peers.

#![allow(dead_code, reason = "each file of tests uses its part")]

pub mod bus;
pub mod federation;

use std::cell::RefCell;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use http::{Method, Response, StatusCode};
use southbridge_kernel::discovery::{Discover, DiscoveryError, Route, Security};
use southbridge_kernel::exchange::{Call, ExchangeError, Repeat};
use southbridge_kernel::http::ResponseBody;
use southbridge_kernel::net::AddressPolicy;
use southbridge_kernel::tls::{Alpn, TlsConfig, TlsProfile};
use southbridge_kernel::{Kernel, KernelConfig};
use southbridge_policy::ranker::Demand;
use southbridge_testkit::certificates::Authority;
use southbridge_words::{CertificateName, Class, Endpoint, HostState, ServiceName};
use tempfile::TempDir;
use tokio::task::LocalSet;

/// A kernel, and who signs the certificates it trusts.
pub struct Rig {
    pub kernel: Kernel,
    pub authority: Arc<Authority>,
    _directory: TempDir,
}

/// Whom to call, and how to get there.
#[derive(Clone)]
pub struct Target {
    pub service: ServiceName,
    pub discovery: Rc<dyn Discover>,
}

/// A route that is known beforehand, and may change.
#[derive(Clone)]
pub struct Known(Rc<RefCell<Rc<Route>>>);

impl Known {
    /// From now on the service is at `address`.
    pub fn lead_to(&self, address: SocketAddr) {
        let endpoints = [Endpoint::new(address)].into();
        let moved = Route { endpoints, ..(**self.0.borrow()).clone() };
        self.0.replace(Rc::new(moved));
    }
}

impl Discover for Known {
    fn discover<'a>(
        &'a self,
        _service: &'a ServiceName,
        _deadline: southbridge_words::Instant,
    ) -> LocalBoxFuture<'a, Result<Rc<Route>, DiscoveryError>> {
        let route = Rc::clone(&self.0.borrow());
        Box::pin(std::future::ready(Ok(route)))
    }
}

/// Runs `story` on a kernel that may dial loopback, and gives it half a minute.
pub async fn on_kernel(story: impl AsyncFnOnce(Rig)) {
    on_kernel_with(|_| (), story).await;
}

/// The same with another configuration.
pub async fn on_kernel_with(change: impl FnOnce(&mut KernelConfig), story: impl AsyncFnOnce(Rig)) {
    LocalSet::new()
        .run_until(async {
            let rig = Rig::new(change);
            within(Duration::from_secs(30), story(rig)).await;
        })
        .await;
}

/// Fails when `work` takes longer than `limit`.
pub async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| panic!("it took longer than {limit:?}"))
}

/// Waits until `holds` does, for at most three seconds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(3);
    while !holds() {
        assert!(Instant::now() < deadline, "it never came about that {what}");
        tokio::task::yield_now().await;
    }
}

impl Rig {
    pub fn new(change: impl FnOnce(&mut KernelConfig)) -> Self {
        Self::trusting(Authority::new(), change)
    }

    pub fn trusting(authority: Arc<Authority>, change: impl FnOnce(&mut KernelConfig)) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let ca = directory.path().join("ca.pem");
        authority.write_ca(&ca).expect("room for a file");
        let mut config = KernelConfig {
            tls: TlsConfig { ca_files: vec![ca], use_system_roots: false, ..TlsConfig::default() },
            addresses: loopback_allowed(),
            seed: 1,
            ..KernelConfig::default()
        };
        change(&mut config);
        let kernel = Kernel::new(config).expect("the settings of a test work");
        Self { kernel, authority, _directory: directory }
    }

    /// A GET with a deadline in `deadline`.
    pub fn get(&self, to: &Target, deadline: Duration) -> Call {
        self.call(Method::GET, to, "", deadline)
    }

    /// A POST, which must never be sent twice.
    pub fn post(&self, to: &Target, deadline: Duration) -> Call {
        self.call(Method::POST, to, "{}", deadline)
    }

    pub fn call(&self, method: Method, to: &Target, body: impl Into<Bytes>, deadline: Duration) -> Call {
        let repeat = if method == Method::POST { Repeat::Never } else { Repeat::Safe };
        let request = http::Request::builder().method(method).uri("/_matrix/test?a=b").body(body.into());
        Call {
            service: to.service.clone(),
            discovery: Rc::clone(&to.discovery),
            request: request.expect("well-formed"),
            class: Class::Interactive,
            demand: Demand::Prompt,
            deadline: self.kernel.deadline(deadline),
            repeat,
            ranked: true,
        }
    }

    /// The head of the response; the body is the caller's.
    pub async fn send(&self, call: Call) -> Result<Response<ResponseBody>, ExchangeError> {
        self.kernel.exchange(call).await
    }

    /// The response with its body, of at most a MiB.
    pub async fn ask(&self, call: Call) -> Result<(StatusCode, Bytes), ExchangeError> {
        let response = self.kernel.exchange(call).await?;
        let status = response.status();
        Ok((status, response.into_body().collect_all(1 << 20).await?))
    }

    /// [`Rig::ask`] with a GET, of which a healthy peer makes `{}`.
    pub async fn is_served(&self, to: &Target) -> bool {
        match self.ask(self.get(to, PATIENCE)).await {
            Ok((status, body)) => status == StatusCode::OK && body == "{}",
            Err(_) => false,
        }
    }

    /// The rank of `to`, if it is known.
    pub fn state(&self, to: &Target) -> Option<HostState> {
        self.kernel.host(&to.service).map(|view| view.state)
    }

    /// Nothing is under way, and nothing is held for anybody but idle connections.
    pub fn is_at_rest(&self) -> bool {
        let usage = self.kernel.pool_usage();
        let in_flight: u32 = self.kernel.hosts().iter().map(|(_, view)| view.in_flight).sum();
        self.kernel.requests_count() == 0 && usage.leases == 0 && usage.waiting == 0 && in_flight == 0
    }
}

/// Plain HTTP/1.1 with `address`.
pub fn plain(address: SocketAddr) -> Target {
    route("plain.test", vec![address], Security::Plain, Alpn::Http1)
}

/// TLS with `address` in the name of `host`; HTTP/2 where the peer offers it.
pub fn tls(host: &str, address: SocketAddr) -> Target {
    let name = CertificateName::Dns(host.into());
    route(host, vec![address], Security::Tls(name), Alpn::Http2OrHttp1)
}

/// The same for a service of its own, which shares nothing with others at `address`.
pub fn named(host: &str, address: SocketAddr) -> Target {
    route(host, vec![address], Security::Plain, Alpn::Http1)
}

/// Any of `addresses`, the first first.
pub fn any_of(addresses: Vec<SocketAddr>) -> Target {
    route("several.test", addresses, Security::Plain, Alpn::Http1)
}

/// A service that is at `address` until it is led elsewhere.
pub fn switching(host: &str, address: SocketAddr) -> (Target, Known) {
    let known = known(host, vec![address], Security::Plain, Alpn::Http1);
    let discovery = Rc::new(known.clone());
    (Target { service: ServiceName::new(host), discovery }, known)
}

fn route(host: &str, addresses: Vec<SocketAddr>, security: Security, alpn: Alpn) -> Target {
    let service = ServiceName::new(&format!("{host}:{}", addresses[0].port()));
    Target { service, discovery: Rc::new(known(host, addresses, security, alpn)) }
}

fn known(host: &str, addresses: Vec<SocketAddr>, security: Security, alpn: Alpn) -> Known {
    let service = format!("{host}:{}", addresses[0].port());
    let route = Route {
        peer_key: service.as_str().into(),
        security,
        authority: service.as_str().into(),
        endpoints: addresses.into_iter().zip(0..).map(endpoint).collect(),
        profile: TlsProfile::Modern,
        alpn,
        way: None,
    };
    Known(Rc::new(RefCell::new(Rc::new(route))))
}

fn endpoint((address, priority): (SocketAddr, u16)) -> Endpoint {
    Endpoint { priority, ..Endpoint::new(address) }
}

/// The policy of all test worlds: nothing but loopback is excepted.
pub fn loopback_allowed() -> AddressPolicy {
    let v4 = "127.0.0.0/8".parse().expect("a network");
    let v6 = "::1/128".parse().expect("a network");
    AddressPolicy::new([v4, v6], [])
}

/// A deadline that no healthy peer comes near.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// A deadline that a test can wait for.
pub const SOON: Duration = Duration::from_millis(300);

/// What this process holds in memory.
pub fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it says so");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib * 1024
}

/// The processor time that this thread has used: kernel and peers both run on it.
pub fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
