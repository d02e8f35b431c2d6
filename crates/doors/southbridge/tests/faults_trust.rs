//! Peers that must not be trusted: bad certificates (row 11), redirects (row 12) and addresses within (row 13), each
//! through the whole stack.

mod support;

use std::time::{Duration, Instant};

use southbridge_kernel::KernelConfig;
use southbridge_kernel::exchange::ExchangeError;
use southbridge_kernel::net::{AddressPolicy, ConnectError};
use southbridge_testkit::certificates::CertificateKind;
use southbridge_testkit::homeserver::{Canned, HostScript, WellKnown};
use southbridge_testkit::raw::{RawPeer, faults};
use support::SOON;
use support::federation::{HOME, PRIVATE, in_federation, in_federation_with, is_denied, wait};

/// A certificate that is not good for the name costs the step it was shown at: not a byte of a request is sent,
/// and nothing less strict is tried.
#[tokio::test]
async fn row_11_no_byte_is_sent_to_whom_the_certificate_does_not_name() {
    in_federation(async |world| {
        for (kind, n) in CertificateKind::BAD.into_iter().zip(0..) {
            let name = format!("deep.a{n}.test");
            world.host(&name);
            world.matrix.set(&name, HostScript { certificate: kind, ..HostScript::default() });
            let error = world.ask(&name).await.expect_err("refused");
            assert!(is_handshake(&error), "{kind:?}: {error:?}");
            assert!(world.matrix.received_by(&name).is_empty(), "{kind:?}");
        }
        assert_eq!(world.matrix.counts().requests, 0);
    })
    .await;
}

/// Literals are verified by address: a certificate for another name does not do.
#[tokio::test]
async fn row_11_a_literal_needs_a_certificate_for_its_address() {
    in_federation(async |world| {
        let name = format!("127.0.0.1:{}", world.matrix.port());
        world.matrix.set(
            "127.0.0.1",
            HostScript { certificate: CertificateKind::WrongName, ..HostScript::default() },
        );
        assert!(is_handshake(&world.ask(&name).await.expect_err("refused")));
        assert_eq!(world.matrix.counts().requests, 0);
        let name = format!("127.0.0.1:{}", world.matrix.port());
        world.matrix.set("127.0.0.1", HostScript::default());
        world.rig.kernel.wake(&world.find(&name).service);
        world.ask(&name).await.expect("a certificate for 127.0.0.1");
    })
    .await;
}

/// The web server's certificate is bad: .well-known is as good as absent, and step 4 goes on.
#[tokio::test]
async fn row_11_a_well_known_with_a_bad_certificate_is_as_good_as_absent() {
    in_federation(async |world| {
        for (kind, n) in CertificateKind::BAD.into_iter().zip(0..) {
            let name = format!("deep.a{n}.test");
            world.host(&name);
            let well_known = world.delegation("evil.test");
            world.web.set(&name, HostScript { certificate: kind, well_known, ..HostScript::default() });
            assert_eq!(world.who_answers(&name).await.expect("step 4"), name, "{kind:?}");
        }
        assert_eq!(world.web.counts().requests, 0);
    })
    .await;
}

/// Redirects of .well-known that lead nowhere good are given up; the name is then found without.
#[tokio::test]
async fn row_12_bad_redirects_of_well_known_are_given_up() {
    in_federation_with(only_home, async |world| {
        let private = RawPeer::plain_at(([127, 0, 0, 9], 0).into(), vec![faults::well()]).await.unwrap();
        let (port, private_port) = (world.web.port(), private.address().port());
        world.dns.host("inner.test", &[PRIVATE], 300);
        let cases = [
            format!("http://a0.test:{port}/x"),
            "file:///etc/passwd".into(),
            format!("https://127.0.0.9:{private_port}/x"),
            format!("https://inner.test:{private_port}/x"),
            format!("https://user:secret@a4.test:{port}/x"),
            "ftp://a5.test/".into(),
            "//".into(),
            "https://a7.test:0/".into(),
            "https:// /".into(),
        ];
        for (location, n) in cases.iter().zip(0..) {
            let name = format!("a{n}.test");
            world.host(&name);
            world.well_known(&name, WellKnown::RedirectTo(location.clone()));
            assert_eq!(world.who_answers(&name).await.expect("step 4"), name, "{location}");
        }
        assert_eq!(private.connections(), 0);
    })
    .await;
}

/// Five hops are followed, six are not, and neither is a circle.
#[tokio::test]
async fn row_12_redirects_of_well_known_are_bounded() {
    in_federation(async |world| {
        for name in ["a.test", "b.test", "c.test", "m.test"] {
            world.host(name);
        }
        let delegate = format!("m.test:{}", world.matrix.port());
        world.well_known("a.test", WellKnown::Redirects { hops: 5, delegate: delegate.clone() });
        assert_eq!(world.who_answers("a.test").await.expect("five hops"), "m.test");
        world.well_known("b.test", WellKnown::Redirects { hops: 6, delegate });
        assert_eq!(world.who_answers("b.test").await.expect("step 4"), "b.test");
        let circle = format!("https://c.test:{}/.well-known/matrix/server", world.web.port());
        world.well_known("c.test", WellKnown::RedirectTo(circle));
        let before = world.web.counts().requests;
        assert_eq!(world.who_answers("c.test").await.expect("step 4"), "c.test");
        assert!(world.web.counts().requests - before <= 6);
    })
    .await;
}

/// A redirect to another origin is followed, and carries nothing that was meant for the first.
#[tokio::test]
async fn row_12_a_redirect_to_another_origin_is_followed_bare() {
    in_federation(async |world| {
        for name in ["a.test", "b.test", "m.test"] {
            world.host(name);
        }
        world.well_known("a.test", WellKnown::RedirectTo(format!("https://b.test:{}/doc", world.web.port())));
        let body = format!(r#"{{"m.server":"m.test:{}"}}"#, world.matrix.port());
        let canned = vec![("/doc".to_owned(), Canned::json(200, &body))];
        world.web.set("b.test", HostScript { canned, ..HostScript::default() });
        assert_eq!(world.who_answers("a.test").await.expect("delegated"), "m.test");
        let followed = world.web.received_by("b.test").pop().expect("followed");
        let names: Vec<&str> = followed.headers.keys().map(http::HeaderName::as_str).collect();
        assert!(names.iter().all(|name| ["host", "user-agent"].contains(name)), "{names:?}");
    })
    .await;
}

/// Addresses of every class that is not the public Internet's, as literals: denied before a socket is made.
#[tokio::test]
async fn row_13_literals_of_every_private_class_are_denied() {
    in_federation_with(nowhere_excepted, async |world| {
        let (port, started) = (world.matrix.port(), Instant::now());
        for address in FORBIDDEN {
            let name = if address.contains(':') {
                format!("[{address}]:{port}")
            } else {
                format!("{address}:{port}")
            };
            let error = world.ask(&name).await.expect_err("denied");
            assert!(is_denied(&error), "{address}: {error:?}");
        }
        assert!(started.elapsed() < SOON * 2, "nobody was waited for");
        assert_eq!(world.matrix.counts().accepted, 0);
    })
    .await;
}

/// The same addresses by A and AAAA, behind an explicit port.
#[tokio::test]
async fn row_13_names_with_private_addresses_are_denied() {
    in_federation_with(nowhere_excepted, async |world| {
        for (address, n) in FORBIDDEN.iter().zip(0..) {
            let name = format!("a{n}.test");
            world.dns.host(&name, &[address.parse().expect("an address")], 300);
            let error = world.ask(&format!("{name}:{}", world.matrix.port())).await.expect_err("denied");
            assert!(is_denied(&error), "{address}: {error:?}");
        }
        assert_eq!(world.matrix.counts().accepted, 0);
    })
    .await;
}

/// By SRV, by .well-known to a name and to literals in several spellings: a listener within hears nothing.
#[tokio::test]
async fn row_13_no_way_leads_to_a_private_address() {
    in_federation_with(only_home, async |world| {
        let private = RawPeer::plain_at(([127, 0, 0, 9], 0).into(), vec![faults::well()]).await.unwrap();
        let port = private.address().port();
        world.dns.host("inner.test", &[PRIVATE], 300);
        world.host("srv.test");
        world.dns.srv("_matrix-fed._tcp.srv.test", &[(1, 1, port, "inner.test")], 300);
        assert!(is_denied(&world.ask("srv.test").await.expect_err("SRV")));
        let delegates = [
            format!("inner.test:{port}"),
            format!("127.0.0.9:{port}"),
            format!("[::ffff:127.0.0.9]:{port}"),
            format!("[64:ff9b::7f00:9]:{port}"),
            format!("[2002:7f00:9::]:{port}"),
            format!("[::127.0.0.9]:{port}"),
        ];
        for (delegate, n) in delegates.iter().zip(0..) {
            let name = format!("a{n}.test");
            world.host(&name);
            world.well_known(&name, WellKnown::Delegate(delegate.clone()));
            let error = world.ask(&name).await.expect_err("denied");
            assert!(is_denied(&error), "{delegate}: {error:?}");
        }
        let tunnel = world.rig.kernel.open("inner.test", port).await.expect_err("denied");
        assert!(tunnel.to_string().contains("denied"), "{tunnel}");
        assert_eq!(private.connections(), 0);
    })
    .await;
}

/// The name leads home when it is looked up first, and within when it is looked up again.
#[tokio::test]
async fn row_13_a_name_that_is_rebound_leads_nowhere() {
    in_federation_with(only_home, async |world| {
        let private =
            RawPeer::plain_at(([127, 0, 0, 9], world.matrix.port()).into(), vec![faults::well()]).await;
        let private = private.unwrap();
        let name = format!("a.test:{}", world.matrix.port());
        world.dns.host("a.test", &[HOME], 1);
        world.ask(&name).await.expect("it leads home");
        world.dns.host("a.test", &[PRIVATE], 1);
        // Past the record, and past what may stand in for it while it is looked up again.
        for _ in 0..3 {
            wait(Duration::from_secs(120)).await;
            let _either_way = world.ask(&name).await;
        }
        assert!(is_denied(&world.ask(&name).await.expect_err("denied")));
        world.dns.host("a.test", &[PRIVATE, HOME], 1);
        wait(Duration::from_secs(120)).await;
        world.rig.kernel.wake(&world.find(&name).service);
        let _either_way = world.ask(&name).await;
        assert_eq!(private.connections(), 0);
    })
    .await;
}

fn is_handshake(error: &ExchangeError) -> bool {
    matches!(error, ExchangeError::Connect { source, .. } if matches!(**source, ConnectError::Handshake { .. }))
}

/// Of all private addresses, only that of the test's own world.
fn only_home(config: &mut KernelConfig) {
    config.addresses = AddressPolicy::new(["127.0.0.1/32".parse().expect("a network")], []);
}

/// The policy as it is by default.
fn nowhere_excepted(config: &mut KernelConfig) {
    config.addresses = AddressPolicy::default();
}

const FORBIDDEN: [&str; 28] = [
    "127.0.0.1",
    "127.1.2.3",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::",
    "2001:0:7f00:1::",
    "fe80::1",
    "fd00::1",
    "ff02::1",
    "fd00:ec2::254",
];
