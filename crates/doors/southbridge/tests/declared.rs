//! Services that are declared, and services that are found by SRV records.

use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use southbridge_kernel::discovery::{Discover, DnsDiscovery, SrvDiscovery};
use southbridge_kernel::dns::DnsConfig;
use southbridge_kernel::exchange::{Call, Repeat};
use southbridge_kernel::net::AddressPolicy;
use southbridge_kernel::tls::{Alpn, TlsConfig};
use southbridge_kernel::{Kernel, KernelConfig};
use southbridge_policy::ranker::Demand;
use southbridge_testkit::certificates::Authority;
use southbridge_testkit::dns::DnsServer;
use southbridge_testkit::homeserver::Homeservers;
use southbridge_words::{Class, ServiceName};
use tokio::task::LocalSet;

struct Scene {
    kernel: Kernel,
    dns: DnsServer,
    servers: Homeservers,
    _directory: tempfile::TempDir,
}

async fn scene() -> Scene {
    let authority = Arc::new(Authority::new());
    let directory = tempfile::tempdir().expect("a directory");
    let ca = directory.path().join("ca.pem");
    authority.write_ca(&ca).expect("a file");
    let dns = DnsServer::start().await.expect("a DNS server");
    let servers = Homeservers::start(Arc::clone(&authority)).await.expect("a server");
    let kernel = Kernel::new(KernelConfig {
        dns: DnsConfig { servers: vec![dns.address()], ..DnsConfig::default() },
        tls: TlsConfig { ca_files: vec![ca], use_system_roots: false, ..TlsConfig::default() },
        addresses: AddressPolicy::new(["127.0.0.0/8".parse().expect("a network")], []),
        ..KernelConfig::default()
    })
    .expect("a kernel");
    Scene { kernel, dns, servers, _directory: directory }
}

fn version(kernel: &Kernel, service: &str, discovery: &Rc<dyn Discover>) -> Call {
    Call {
        service: ServiceName::new(service),
        discovery: Rc::clone(discovery),
        request: http::Request::get("/_matrix/federation/v1/version")
            .body(Bytes::new())
            .expect("well-formed"),
        class: Class::Interactive,
        demand: Demand::Prompt,
        deadline: kernel.deadline(Duration::from_secs(10)),
        repeat: Repeat::Safe,
        ranked: true,
    }
}

/// A service is declared; before anybody asks for anything there is a connection, and the first request
/// opens none.
#[tokio::test]
async fn a_declared_service_is_connected_before_the_first_request() {
    LocalSet::new()
        .run_until(async {
            let scene = scene().await;
            scene.dns.host("a.test", &[Ipv4Addr::LOCALHOST.into()], 60);
            let discovery: Rc<dyn Discover> =
                Rc::new(DnsDiscovery::https(scene.kernel.dns().clone(), Alpn::Http2OrHttp1));
            let service = format!("a.test:{}", scene.servers.port());
            let _declared = scene.kernel.declare(ServiceName::new(&service), Rc::clone(&discovery));
            tokio::time::timeout(Duration::from_secs(10), async {
                while scene.kernel.pool_usage().idle == 0 {
                    tokio::task::yield_now().await;
                }
            })
            .await
            .expect("it is connected to without a request");
            let dials = scene.kernel.stats().dials.get();
            let response = scene.kernel.exchange(version(&scene.kernel, &service, &discovery)).await;
            assert_eq!(response.expect("an answer").status(), 200);
            assert_eq!(scene.kernel.stats().dials.get(), dials, "the open connection served");
        })
        .await;
}

/// The records of a service name two targets; the better one is gone, and the other answers, under the
/// service's own name.
#[tokio::test]
async fn a_service_is_found_by_its_srv_records() {
    LocalSet::new()
        .run_until(async {
            let scene = scene().await;
            let port = scene.servers.port();
            let gone = southbridge_testkit::black_hole::ClosedPort::reserve().expect("a port");
            scene.dns.srv(
                "_api._tcp.b.test",
                &[(1, 0, gone.address().port(), "t1.test"), (2, 0, port, "t2.test")],
                60,
            );
            for target in ["t1.test", "t2.test"] {
                scene.dns.host(target, &[Ipv4Addr::LOCALHOST.into()], 60);
            }
            let discovery: Rc<dyn Discover> =
                Rc::new(SrvDiscovery::new(scene.kernel.dns().clone(), "_api._tcp", true));
            let response = scene.kernel.exchange(version(&scene.kernel, "b.test", &discovery)).await;
            assert_eq!(response.expect("an answer").status(), 200);
            let received = scene.servers.received_by("b.test");
            assert_eq!(received.len(), 1, "SNI and Host are the service's, not the target's");
        })
        .await;
}
