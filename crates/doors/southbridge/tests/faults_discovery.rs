//! Names that lead astray: certificates (row 11), redirects (row 12), addresses (row 13), DNS (row 14) and
//! .well-known (row 15), each through the whole stack.

mod support;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use southbridge_kernel::KernelConfig;
use southbridge_kernel::discovery::DiscoveryError;
use southbridge_kernel::exchange::ExchangeError;
use southbridge_kernel::net::{AddressPolicy, ConnectError};
use southbridge_testkit::certificates::CertificateKind;
use southbridge_testkit::dns::{Answer, Data, RecordType, SrvRecord};
use southbridge_testkit::homeserver::{Canned, HostScript, WellKnown};
use southbridge_testkit::raw::{RawPeer, faults};
use support::federation::{Federation, HOME, in_federation, in_federation_with, wait};
use support::{PATIENCE, SOON};

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

/// There is no such name: that is an answer, and asked for once.
#[tokio::test]
async fn row_14_a_name_that_is_not_there_is_an_answer() {
    in_federation(async |world| {
        let error = world.ask("a.test").await.expect_err("no such name");
        assert!(matches!(error, ExchangeError::Discovery(DiscoveryError::NotFound { .. })), "{error:?}");
        let queries = world.dns.queries_total();
        world.ask("a.test").await.expect_err("no such name");
        assert_eq!(world.dns.queries_total(), queries, "it is remembered");
    })
    .await;
}

/// SERVFAIL, REFUSED or silence for SRV may hide a record: an error, and never port 8448.
#[tokio::test]
async fn row_14_a_failure_to_look_up_srv_is_never_no_srv() {
    in_federation(async |world| {
        let failures = [("a", Answer::ServFail), ("b", Answer::Refused), ("c", Answer::Silence)];
        for (name, failure) in failures {
            let name = format!("{name}.test");
            world.host(&name);
            world.dns.set(&format!("_matrix-fed._tcp.{name}"), RecordType::SRV, failure.clone());
            let error = world.ask(&name).await.expect_err("it may be elsewhere");
            assert!(
                matches!(error, ExchangeError::Discovery(DiscoveryError::Failed { .. })),
                "{failure:?}: {error:?}"
            );
        }
        assert_eq!(world.matrix.counts().accepted, 0);
    })
    .await;
}

/// What was good stands in for what fails: the SRV record of an hour ago, and the addresses it led to.
#[tokio::test]
async fn row_14_what_was_known_stands_in_for_what_fails() {
    for failure in [Answer::ServFail, Answer::Silence] {
        in_federation(async |world| {
            world.host("m.test");
            world.dns.srv("_matrix-fed._tcp.a.test", &[(1, 1, world.matrix.port(), "m.test")], 60);
            world.dns.host("a.test", &[], 60);
            world.ask("a.test").await.expect("by SRV");
            for name in ["a.test", "m.test", "_matrix-fed._tcp.a.test", "_matrix._tcp.a.test"] {
                world.dns.unset(name);
                world.dns.set_all(name, failure.clone());
            }
            wait(Duration::from_secs(3600)).await;
            for _ in 0..3 {
                world.ask("a.test").await.expect("by what was known");
                wait(Duration::from_secs(600)).await;
            }
            let srv = world.dns.queries("_matrix-fed._tcp.a.test", RecordType::SRV);
            assert!((2..20).contains(&srv), "it is asked again, in moderation: {srv}");
        })
        .await;
    }
}

/// Everything that a record can say without being one that leads anywhere.
#[tokio::test]
async fn row_14_records_that_lead_nowhere_are_not_followed() {
    in_federation(async |world| {
        world.host("dot.test");
        world.dns.srv("_matrix-fed._tcp.dot.test", &[(0, 0, 0, ".")], 300);
        world.dns.cname("circle.test", "around.test", 300);
        world.dns.cname("around.test", "circle.test", 300);
        world.dns.set_all("garbage.test", Answer::Garbage(vec![0xff; 40]));
        for name in ["dot.test", "circle.test", "garbage.test"] {
            let started = Instant::now();
            let error = world.ask(name).await.expect_err(name);
            let by_discovery = matches!(error, ExchangeError::Discovery(_)) || is_denied(&error);
            assert!(by_discovery, "{name}: {error:?}");
            assert!(started.elapsed() < PATIENCE, "{name}");
        }
        assert_eq!(world.matrix.counts().accepted, 0);
        // Port 0 is no port: such a record is as good as none, and the name is found without.
        world.host("zero.test");
        world.dns.srv("_matrix-fed._tcp.zero.test", &[(0, 0, 0, "zero.test")], 300);
        world.ask("zero.test").await.expect("on the default port");
    })
    .await;
}

/// Answers that are strange and true: over TCP, behind forgeries, with absurd lifetimes, behind aliases, in thousands.
#[tokio::test]
async fn row_14_strange_answers_that_are_true_are_followed() {
    in_federation(async |world| {
        let port = world.matrix.port();
        let home = |ttl| Answer::addresses(&[HOME], ttl);
        let srv = |target: &str, ttl| Answer::srv(1, 1, port, target, ttl);
        let cases = [
            ("truncated", Answer::Truncated(Box::new(home(300)))),
            (
                "spoofed",
                Answer::Spoofed { forged: vec![Data::Address(PRIVATE)], genuine: Box::new(home(300)) },
            ),
            (
                "poisoned",
                Answer::Poisoned { extra: vec![("a.test".into(), PRIVATE)], genuine: Box::new(home(300)) },
            ),
            ("never", home(0)),
            ("forever", home(1 << 31)),
            ("late", Answer::Late(Duration::from_millis(50), Box::new(home(300)))),
        ];
        for (name, answer) in cases {
            let name = format!("{name}.test");
            world.dns.set(&name, RecordType::A, answer);
            for _ in 0..2 {
                world.ask(&name).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
            }
        }
        world.host("m.test");
        world.dns.cname("alias.test", "m.test", 300);
        world.dns.set("_matrix-fed._tcp.b.test", RecordType::SRV, srv("alias.test", 300));
        world.dns.host("b.test", &[], 300);
        world.ask("b.test").await.expect("an alias as a target");
        let record = |n| Data::Srv(SrvRecord { priority: n, weight: 0, port, target: format!("m{n}.test") });
        let many = Answer::Records { data: (0..10_000).map(record).collect(), ttl: 300 };
        (0..10_000).for_each(|n| world.host(&format!("m{n}.test")));
        world.dns.set("_matrix-fed._tcp.c.test", RecordType::SRV, Answer::Truncated(Box::new(many)));
        let queries = world.dns.queries_total();
        world.ask("c.test").await.expect("one of thousands");
        let asked = world.dns.queries_total() - queries;
        assert!(asked < 50, "{asked} lookups for one name");
    })
    .await;
}

/// Both SRV names: the new one counts, and the old one only where the new one is not there.
#[tokio::test]
async fn row_14_the_new_srv_name_goes_before_the_old() {
    in_federation(async |world| {
        let port = world.matrix.port();
        world.host("m.test");
        for name in ["a.test", "b.test"] {
            world.dns.host(name, &[], 300);
            world.dns.srv(&format!("_matrix._tcp.{name}"), &[(1, 1, port, "m.test")], 300);
        }
        world.dns.srv("_matrix-fed._tcp.a.test", &[(1, 1, 1, "nowhere.test")], 300);
        world.ask("b.test").await.expect("by the old name");
        world.ask("a.test").await.expect_err("by the new name, which leads nowhere");
    })
    .await;
}

/// A delegation that was good stands in while its host fails in every way, for days; the first good answer counts.
#[tokio::test]
async fn row_15_a_good_well_known_stands_in_for_a_bad_one() {
    for failure in failures() {
        in_federation(async |world| {
            delegate(&world).await;
            world.well_known("a.test", failure.clone());
            for _ in 0..3 {
                wait(DAY).await;
                assert_eq!(world.who_answers("a.test").await.expect("as before"), "m.test", "{failure:?}");
            }
            world.host("n.test");
            world.well_known("a.test", world.delegation("n.test"));
            let mut answered = String::new();
            for _ in 0..8 {
                wait(Duration::from_secs(900)).await;
                answered = world.who_answers("a.test").await.expect("either");
            }
            assert_eq!(answered, "n.test", "{failure:?}: within two hours of being well again");
        })
        .await;
    }
}

/// A name whose .well-known was bad when it was first asked for is found without; as soon as it is good, it counts:
/// within minutes, and not after a day.
#[tokio::test]
async fn row_15_a_bad_well_known_poisons_a_name_for_minutes_only() {
    for failure in failures() {
        in_federation(async |world| {
            world.host("a.test");
            world.host("m.test");
            world.well_known("a.test", failure.clone());
            assert_eq!(world.who_answers("a.test").await.expect("step 4"), "a.test", "{failure:?}");
            world.well_known("a.test", world.delegation("m.test"));
            for _ in 0..2 {
                wait(Duration::from_secs(150)).await;
                let _either = world.who_answers("a.test").await;
            }
            assert_eq!(world.who_answers("a.test").await.expect("delegated"), "m.test", "{failure:?}");
        })
        .await;
    }
}

/// Days of clean 404: the delegation has been withdrawn.
#[tokio::test]
async fn row_15_days_of_clean_404_end_a_delegation() {
    in_federation(async |world| {
        delegate(&world).await;
        world.well_known("a.test", WellKnown::Absent);
        for hour in 0..96 {
            wait(Duration::from_secs(3600)).await;
            let answered = world.who_answers("a.test").await.expect("either");
            assert!(hour >= 40 || answered == "m.test", "given up after {hour} hours");
        }
        assert_eq!(world.who_answers("a.test").await.expect("step 4"), "a.test");
    })
    .await;
}

/// `a.test` delegates to `m.test`, which is known from now on.
async fn delegate(world: &Federation) {
    world.host("a.test");
    world.host("m.test");
    world.well_known("a.test", world.delegation("m.test"));
    assert_eq!(world.who_answers("a.test").await.expect("delegated"), "m.test");
}

/// What web servers say when they are not well.
fn failures() -> Vec<WellKnown> {
    let page = |status, body: &str| {
        let canned = Canned::json(status, body).with("cache-control", "max-age=86400");
        WellKnown::Canned(canned)
    };
    vec![
        page(500, "{}"),
        page(429, "{}"),
        page(200, "<html>Sign in to the wireless network</html>"),
        page(200, r#"{"m.server":"evil:1:2"}"#),
        page(200, r#"{"m.server":17}"#),
        page(200, &format!(r#"{{"m.server":"evil.test","x":"{}"}}"#, "x".repeat(60_000))),
        WellKnown::Hang,
    ]
}

fn is_handshake(error: &ExchangeError) -> bool {
    matches!(error, ExchangeError::Connect { source, .. } if matches!(**source, ConnectError::Handshake { .. }))
}

fn is_denied(error: &ExchangeError) -> bool {
    matches!(error, ExchangeError::Connect { source, .. } if matches!(**source, ConnectError::Denied { .. }))
}

/// Of all private addresses, only that of the test's own world.
fn only_home(config: &mut KernelConfig) {
    config.addresses = AddressPolicy::new(["127.0.0.1/32".parse().expect("a network")], []);
}

/// The policy as it is by default.
fn nowhere_excepted(config: &mut KernelConfig) {
    config.addresses = AddressPolicy::default();
}

/// An address within, where tests put a listener that must hear nothing.
const PRIVATE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 9));
const DAY: Duration = Duration::from_secs(24 * 3600);

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
