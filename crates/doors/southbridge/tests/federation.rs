//! The kernel with the Federation Resolver on it, against a fake federation.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use southbridge::federation::{FederationConfig, FederationDiscovery};
use southbridge_kernel::dns::DnsConfig;
use southbridge_kernel::exchange::{Call, Repeat};
use southbridge_kernel::net::AddressPolicy;
use southbridge_kernel::tls::TlsConfig;
use southbridge_kernel::{Kernel, KernelConfig};
use southbridge_policy::ranker::Demand;
use southbridge_testkit::world::{FederationSpec, World};
use southbridge_words::{Class, ServiceName};
use tokio::task::LocalSet;

fn kernel_for(world: &World) -> Kernel {
    let loopback = "127.0.0.0/8".parse().expect("a network");
    Kernel::new(KernelConfig {
        dns: DnsConfig { servers: vec![world.dns_address()], ..DnsConfig::default() },
        tls: TlsConfig { ca_files: vec![world.ca_path()], use_system_roots: false, ..TlsConfig::default() },
        addresses: AddressPolicy::new([loopback], []),
        ..KernelConfig::default()
    })
    .expect("the world's settings work")
}

fn discovery_for(world: &World, kernel: &Kernel) -> FederationDiscovery {
    FederationDiscovery::new(
        kernel.clone(),
        FederationConfig {
            well_known_port: Some(world.well_known_port()),
            default_port: Some(world.default_port()),
            ..FederationConfig::default()
        },
    )
}

fn version_of(kernel: &Kernel, discovery: &Rc<FederationDiscovery>, name: &str) -> Call {
    Call {
        service: ServiceName::new(name),
        discovery: Rc::<FederationDiscovery>::clone(discovery),
        request: http::Request::get("/_matrix/federation/v1/version")
            .body(Bytes::new())
            .expect("well-formed"),
        class: Class::Interactive,
        demand: Demand::Prompt,
        deadline: kernel.deadline(Duration::from_secs(20)),
        repeat: Repeat::Safe,
        ranked: true,
    }
}

/// Forty hosts of every kind of discovery are asked twice each; the second round opens nothing new.
#[tokio::test]
async fn every_kind_of_host_is_reached_and_connections_are_kept() {
    let world = World::start(FederationSpec { hosts: 40, ..FederationSpec::default() }).expect("a world");
    LocalSet::new()
        .run_until(async {
            let kernel = kernel_for(&world);
            let discovery = Rc::new(discovery_for(&world, &kernel));
            for round in 0..2 {
                let dials_before = kernel.stats().dials.get();
                for name in world.names() {
                    let response = kernel.exchange(version_of(&kernel, &discovery, &name)).await;
                    let response = response.unwrap_or_else(|error| panic!("{name}: {error:?}"));
                    assert_eq!(response.status(), 200, "{name}");
                    let body = response.into_body().collect_all(4096).await.expect("a whole body");
                    assert!(!body.is_empty());
                }
                if round == 1 {
                    assert_eq!(kernel.stats().dials.get(), dials_before, "warm connections are used again");
                }
            }
            assert_eq!(kernel.requests_count(), 0);
            assert_eq!(kernel.pool_usage().leases, 0);
        })
        .await;
}
