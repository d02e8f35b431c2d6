//! What becomes of those who wait when a connection's task meets a bug.

use std::net::{SocketAddr, TcpListener};

use southbridge_policy::lane::Lane;
use southbridge_policy::pool::PoolUse;
use southbridge_words::{CertificateName, Class, ServiceName};
use tokio::task::LocalSet;

use super::*;
use crate::discovery::{Discover, Route, StaticDiscovery};
use crate::dns::DnsConfig;
use crate::kernel::{Kernel, KernelConfig, Shared};
use crate::net::AddressPolicy;
use crate::pool::{Lent, Need};

/// A kernel, and a peer of which nothing is heard.
struct Rig {
    shared: Rc<Shared>,
    peer: TcpListener,
}

impl Rig {
    fn start() -> Self {
        let config = KernelConfig {
            dns: DnsConfig { servers: vec!["127.0.0.1:9".parse().unwrap()], ..DnsConfig::default() },
            addresses: AddressPolicy::new(["127.0.0.0/8".parse().unwrap()], []),
            ..KernelConfig::default()
        };
        let kernel = Kernel::new(config).expect("a kernel");
        Self { shared: kernel.shared(), peer: TcpListener::bind("127.0.0.1:0").expect("a port") }
    }

    fn address(&self) -> SocketAddr {
        self.peer.local_addr().expect("an address")
    }

    async fn borrow(&self, certificate: Option<CertificateName>) -> Result<Lent, LendError> {
        let service = ServiceName::new("a.test");
        let now = self.shared.clock.now();
        let deadline = now + std::time::Duration::from_secs(30);
        let discovery = StaticDiscovery::new("a.test", self.address(), certificate);
        let route: Rc<Route> = discovery.discover(&service, deadline).await.expect("it is written down");
        let mark = self.shared.underway.enter(&service, Class::Live, now);
        let need =
            Need { ticket: mark.ticket(), class: Class::Live, lane: Lane::Open, deadline, fresh: false };
        self.shared.lending.borrow(&route, need, &mark).await
    }

    /// Has the task of the only connection end as by a bug.
    async fn meet_a_bug(&self) {
        let inner = &self.shared.lending.inner;
        while inner.state.borrow().connections.is_empty() {
            tokio::task::yield_now().await;
        }
        let conn = *inner.state.borrow().connections.keys().next().expect("there is one");
        Rc::clone(inner).outlive(conn, async { panic!("as the test wants it") }).await;
    }
}

/// TLS with a silent peer is under way when it happens. Whoever waits is told that it was our own fault, and
/// nothing is left of the attempt.
#[tokio::test]
async fn an_attempt_that_meets_a_bug_gives_its_place_back() {
    let story = async {
        let rig = Rig::start();
        let certificate = CertificateName::Dns("a.test".into());
        let (borrowed, ()) = tokio::join!(rig.borrow(Some(certificate)), rig.meet_a_bug());
        let Err(LendError::Failed(why)) = borrowed else { panic!("nothing was there to be lent") };
        assert!(matches!(*why, ConnectError::Broken) && why.is_ours(), "{why}");
        assert_eq!(rig.shared.lending.usage(), PoolUse::default());
    };
    LocalSet::new().run_until(story).await;
}

/// The connection is lent when it happens. Its place is free as soon as it has been given back.
#[tokio::test]
async fn an_open_connection_that_meets_a_bug_gives_its_place_back() {
    let story = async {
        let rig = Rig::start();
        let lent = rig.borrow(None).await.unwrap_or_else(|error| panic!("{error:?}"));
        rig.meet_a_bug().await;
        drop(lent);
        assert_eq!(rig.shared.lending.usage(), PoolUse::default());
    };
    LocalSet::new().run_until(story).await;
}
