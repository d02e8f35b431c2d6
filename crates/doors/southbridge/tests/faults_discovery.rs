//! Names that lead astray: DNS (row 14) and .well-known (row 15), each through the whole stack.

mod support;

use std::time::{Duration, Instant};

use southbridge_kernel::discovery::DiscoveryError;
use southbridge_kernel::exchange::ExchangeError;
use southbridge_testkit::dns::{Answer, Data, RecordType, SrvRecord};
use southbridge_testkit::homeserver::{Canned, WellKnown};
use support::PATIENCE;
use support::federation::{Federation, HOME, PRIVATE, in_federation, is_denied, wait};

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

const DAY: Duration = Duration::from_secs(24 * 3600);
