//! Application threads that hand requests in at ports and wait in their own ways.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::time::Duration;

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use southbridge::Southbridge;
use southbridge::client::{Answer, ClientError, Port};
use southbridge::federation::FederationConfig;
use southbridge_kernel::KernelConfig;
use southbridge_kernel::dns::DnsConfig;
use southbridge_kernel::exchange::Repeat;
use southbridge_kernel::net::AddressPolicy;
use southbridge_kernel::port::{KernelThread, PortRequest, SubmitError};
use southbridge_kernel::tls::TlsConfig;
use southbridge_policy::ranker::Demand;
use southbridge_testkit::world::{FederationSpec, Health, World};
use southbridge_words::{Class, ServiceName};

fn start(world: &World) -> KernelThread<Southbridge> {
    let loopback = "127.0.0.0/8".parse().expect("a network");
    let kernel = KernelConfig {
        dns: DnsConfig { servers: vec![world.dns_address()], ..DnsConfig::default() },
        tls: TlsConfig { ca_files: vec![world.ca_path()], use_system_roots: false, ..TlsConfig::default() },
        addresses: AddressPolicy::new([loopback], []),
        ..KernelConfig::default()
    };
    let federation = FederationConfig {
        well_known_port: Some(world.well_known_port()),
        default_port: Some(world.default_port()),
        ..FederationConfig::default()
    };
    Southbridge::start(kernel, federation).expect("the I/O thread starts")
}

fn ask(name: &str) -> PortRequest {
    PortRequest {
        scheme: "matrix",
        service: ServiceName::new(name),
        request: http::Request::get("/_matrix/federation/v1/version")
            .body(Bytes::new())
            .expect("well-formed"),
        class: Class::Interactive,
        demand: Demand::Prompt,
        repeat: Repeat::Safe,
        timeout: Duration::from_secs(20),
        body_bytes_max: 4096,
    }
}

fn is_good(answer: Option<Result<Answer, ClientError>>) -> bool {
    matches!(answer, Some(Ok(Answer::Plain(response))) if response.status() == 200)
}

/// What the next submission failed with.
fn failure(port: &Port) -> String {
    let mut message = String::new();
    port.drain(1, |completion| {
        message = completion.answer().expect("an answer").expect_err("it failed").to_string();
    });
    message
}

/// Waits on the descriptor, as an event loop does, until `count` completions were taken.
fn take(port: &Port, count: usize) -> (usize, usize) {
    let (mut good, mut wakes, mut seen) = (0, 0, HashSet::new());
    while seen.len() < count {
        let drained = port.drain(64, |completion| {
            assert!(seen.insert(completion.ticket), "a ticket completes once");
            good += usize::from(is_good(completion.answer()));
        });
        if drained == 0 && port.arm() {
            let limit = Timespec { tv_sec: 30, tv_nsec: 0 };
            let rung =
                poll(&mut [PollFd::new(&port.as_fd(), PollFlags::IN)], Some(&limit)).expect("a descriptor");
            assert_eq!(rung, 1, "{} of {count} completions came", seen.len());
            port.acknowledge();
            wakes += 1;
        }
    }
    (good, wakes)
}

/// Two threads with a port each hand in two hundred requests; every one completes at the port it was
/// handed in at, and one wake-up drains many.
#[test]
fn every_submission_completes_once_at_its_own_port() {
    let world = World::start(FederationSpec { hosts: 20, ..FederationSpec::default() }).expect("a world");
    let kernel = start(&world);
    let names = world.names();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let port = kernel.attach(256).expect("a descriptor");
            let names = &names;
            scope.spawn(move || {
                for at in 0..200 {
                    port.submit(ask(&names[at % names.len()])).expect("there is room");
                }
                let (good, wakes) = take(&port, 200);
                assert_eq!(good, 200);
                assert!(wakes <= 200, "{wakes} wake-ups for 200 completions");
                assert_eq!(port.held(), 0);
            });
        }
    });
}

/// A port made for four submissions refuses the fifth at once, and takes it once one has completed.
#[test]
fn a_full_port_says_so_at_once() {
    let world = World::start(FederationSpec { hosts: 4, ..FederationSpec::default() }).expect("a world");
    let kernel = start(&world);
    let port = kernel.attach(4).expect("a descriptor");
    let name = world.names().remove(0);
    for _ in 0..4 {
        port.submit(ask(&name)).expect("there is room");
    }
    assert_eq!(port.submit(ask(&name)), Err(SubmitError::QueueFull { held: 4 }));
    take(&port, 4);
    port.submit(ask(&name)).expect("there is room again");
    take(&port, 1);
}

/// A request to a host that never answers is cancelled; its completion says so, and nothing is left held.
#[test]
fn a_cancelled_ticket_completes_as_cancelled() {
    let world = World::start(FederationSpec { hosts: 1, ..FederationSpec::default() }).expect("a world");
    world.set_health(0, Health::BlackHole);
    let kernel = start(&world);
    let port = kernel.attach(4).expect("a descriptor");
    let ticket = port.submit(ask(&world.names()[0])).expect("there is room");
    port.cancel(ticket);
    assert!(port.wait(Duration::from_secs(10)));
    assert_eq!(failure(&port), "cancelled by the application");
}

/// The kernel stops while a request is under way: the application hears of it instead of waiting for ever.
#[test]
fn stopping_the_kernel_fails_what_is_under_way() {
    let world = World::start(FederationSpec { hosts: 1, ..FederationSpec::default() }).expect("a world");
    world.set_health(0, Health::BlackHole);
    let kernel = start(&world);
    let port = kernel.attach(4).expect("a descriptor");
    port.submit(ask(&world.names()[0])).expect("there is room");
    drop(kernel);
    assert!(port.wait(Duration::from_secs(10)));
    assert_eq!(failure(&port), "the kernel has stopped");
    assert_eq!(port.submit(ask(&world.names()[0])), Err(SubmitError::Stopped));
}

/// A scheme nobody knows is refused by name.
#[test]
fn an_unknown_scheme_is_named() {
    let world = World::start(FederationSpec { hosts: 1, ..FederationSpec::default() }).expect("a world");
    let kernel = start(&world);
    let port = kernel.attach(1).expect("a descriptor");
    port.submit(PortRequest { scheme: "gopher", ..ask("a.test") }).expect("there is room");
    assert!(port.wait(Duration::from_secs(10)));
    assert_eq!(failure(&port), "no discovery is called \"gopher\"");
}
