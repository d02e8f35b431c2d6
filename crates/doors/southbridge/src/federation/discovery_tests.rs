//! Where the resolver and the kernel meet, when one of them does not do as it should.

use southbridge_kernel::KernelConfig;
use southbridge_kernel::dns::DnsConfig;
use southbridge_testkit::dns::{Answer, DnsServer};
use tokio::task::LocalSet;

use super::*;

/// A way of finding web servers that is broken.
struct Broken;

impl Discover for Broken {
    fn discover<'a>(
        &'a self,
        service: &'a ServiceName,
        _deadline: Instant,
    ) -> LocalBoxFuture<'a, Result<Rc<Route>, DiscoveryError>> {
        panic!("as the test wants it: {service}")
    }
}

async fn world() -> (DnsServer, Kernel) {
    let dns = DnsServer::start().await.expect("a port");
    let servers = DnsConfig { servers: vec![dns.address()], ..DnsConfig::default() };
    let kernel = Kernel::new(KernelConfig { dns: servers, ..KernelConfig::default() });
    (dns, kernel.expect("a kernel"))
}

fn name() -> ServerName {
    "a.test".parse().expect("a name")
}

/// The fetch of a document meets a bug. Whoever waits for the name is told at once that it was our own fault, and
/// the turn to fetch is free again.
#[tokio::test]
async fn a_fetch_that_meets_a_bug_fails() {
    let story = async {
        let (_dns, kernel) = world().await;
        let config = FederationConfig { well_known_fetches_max: 1, ..FederationConfig::default() };
        let discovery = FederationDiscovery::with_web(kernel, config, Rc::new(Broken));
        for _ in 0..2 {
            let error = discovery.resolve(&name()).await.unwrap_err();
            assert!(matches!(discovery_error(&name(), &error), DiscoveryError::Overloaded { .. }), "{error}");
        }
        assert_eq!(discovery.inner.fetches.available_permits(), 1);
    };
    LocalSet::new().run_until(story).await;
}

/// The name server never answers. Who has a tenth of a second waits no longer, and leaves nothing behind.
#[tokio::test]
async fn discovery_keeps_its_deadline() {
    let story = async {
        let (dns, kernel) = world().await;
        dns.set_all("a.test", Answer::Silence);
        let discovery = FederationDiscovery::new(kernel.clone(), FederationConfig::default());
        let deadline = kernel.deadline(Duration::from_millis(100));
        let late = discovery.discover(&ServiceName::new("a.test"), deadline).await.unwrap_err();
        assert!(matches!(late, DiscoveryError::DeadlinePassed { name } if name == "a.test"));
        assert!(kernel.clock().now() >= deadline);
        assert!(discovery.inner.desk.is_empty());
    };
    LocalSet::new().run_until(story).await;
}

/// Its timer sleeps for hours when nothing is to be done, and must not keep it meanwhile.
#[tokio::test]
async fn a_discovery_that_nobody_holds_is_gone() {
    let story = async {
        let (_dns, kernel) = world().await;
        let discovery = FederationDiscovery::new(kernel, FederationConfig::default());
        tokio::task::yield_now().await;
        let inner = Rc::downgrade(&discovery.inner);
        drop(discovery);
        assert_eq!(inner.strong_count(), 0);
    };
    LocalSet::new().run_until(story).await;
}
