//! Promises about names: one lookup for all who want it at once, failures that are told from absence, delegations
//! that outlive a bad day, and names that are none.

use std::time::{Duration, Instant};

use southbridge_testkit::dns::{Answer as Records, RecordType};
use southbridge_testkit::homeserver::{Canned, WellKnown};
use tokio::task::JoinSet;

use crate::caller::{VERSION, ask_on, knock, request};
use crate::house::{House, TICK, Wishes, at_home, in_house};

/// Fifty requests for a name that nobody has asked for before.
#[tokio::test]
async fn concurrent_lookups_of_one_name_are_one_lookup() {
    at_home(async |house| {
        let slow = |records| Records::Late(Duration::from_millis(200), Box::new(records));
        let loopback = Records::addresses(&["127.0.0.1".parse().unwrap()], 60);
        house.dns.set("cold.test", RecordType::A, slow(loopback));
        house.dns.set("cold.test", RecordType::AAAA, slow(Records::NoData { ttl: Some(60) }));
        house.set("cold.test", |script| script.latency = Duration::from_millis(100));
        let mut calls = JoinSet::new();
        for number in 0..50 {
            let path = format!("/_matrix/federation/v1/event/{number}");
            let (unix, request) = (house.unix(), request("GET", "cold.test", &path, ""));
            calls.spawn(async move { ask_on(&mut knock(&unix).await, request).await.status });
        }
        // 404 from the homeserver itself: it was found, and has no such events.
        assert!(calls.join_all().await.iter().all(|status| *status == 404));
        let asked = |name: &str, kind| house.dns.queries(name, kind);
        let counted = [
            asked("cold.test", RecordType::A),
            asked("cold.test", RecordType::AAAA),
            asked("_matrix-fed._tcp.cold.test", RecordType::SRV),
            asked("_matrix._tcp.cold.test", RecordType::SRV),
            well_known_fetches(&house, "cold.test"),
        ];
        assert_eq!(counted, [1; 5]);
        assert_eq!(house.servers.received_by("cold.test").len(), 51);
    })
    .await;
}

fn well_known_fetches(house: &House, host: &str) -> u64 {
    let requests = house.servers.received_by(host);
    requests.iter().filter(|request| request.target.starts_with("/.well-known/")).count() as u64
}

fn reached(house: &House, host: &str) -> bool {
    house.servers.received_by(host).iter().any(|request| request.target == VERSION)
}

/// A server that cannot say whether there are records has not said that there are none.
#[tokio::test]
async fn a_servfail_for_srv_is_an_error_and_never_no_srv() {
    at_home(async |house| {
        for (host, fails, answer) in [
            ("a.test", "_matrix-fed._tcp.a.test", Records::ServFail),
            ("b.test", "_matrix._tcp.b.test", Records::ServFail),
            ("c.test", "_matrix-fed._tcp.c.test", Records::Refused),
        ] {
            house.dns.set(fails, RecordType::SRV, answer);
            let answer = house.get(host, VERSION).await;
            assert_eq!(
                (answer.status, answer.step().as_str()),
                (502, "discovery"),
                "{host}: {}",
                answer.text()
            );
            assert!(answer.text().contains(fails), "{}", answer.text());
            assert!(!reached(&house, host), "{host} was asked at the default port");
        }
    })
    .await;
}

/// The same server fails after it had answered: what it had said is used.
#[tokio::test]
async fn a_servfail_for_srv_is_covered_by_a_stale_record() {
    let wishes = Wishes { tables: "[dns]\nttl_min = \"0ms\"\nfailure_first = \"10ms\"", ..Wishes::default() };
    in_house(wishes, async |house| {
        let (srv, elsewhere) = ("_matrix-fed._tcp.a.test", "127.8.8.8:0".parse().unwrap());
        let there = house.servers.listen_also(elsewhere).await.unwrap();
        house.dns.host("there.test", &[there.ip()], 60);
        house.dns.srv(srv, &[(10, 5, there.port(), "there.test")], 1);
        assert_eq!(house.get("a.test", VERSION).await.status, 200);
        house.dns.set(srv, RecordType::SRV, Records::ServFail);
        let asked = house.dns.queries(srv, RecordType::SRV);
        ask_until(&house, "a.test", || house.dns.queries(srv, RecordType::SRV) > asked).await;
        let requests = house.servers.received_by("a.test");
        let astray = requests.iter().filter(|request| request.target == VERSION);
        let astray = astray.filter(|request| request.connection.local != there).count();
        assert_eq!(astray, 0, "requests went to the default port");
    })
    .await;
}

/// Asks for `name` until `looked_up` and a little longer; every answer is a good one.
async fn ask_until(house: &House, name: &str, mut looked_up: impl FnMut() -> bool) {
    let started = Instant::now();
    let mut more = 5;
    while more > 0 {
        let answer = house.get(name, VERSION).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        more -= u32::from(looked_up());
        assert!(started.elapsed() < Duration::from_secs(10), "{name} is not looked up again");
        tokio::time::sleep(TICK).await;
    }
}

/// Four hosts had said where their homeserver is. Now one fails, one speaks HTML, one hangs and one has gone dark.
#[tokio::test]
async fn a_delegation_outlives_a_bad_day_of_its_web_server() {
    let wishes = Wishes { tables: BRIEF, ..Wishes::default() };
    in_house(wishes, async |house| {
        let hosts = ["a.test", "b.test", "c.test"];
        for host in hosts {
            delegate(&house, host);
            assert_eq!(house.get(host, VERSION).await.status, 200);
            assert!(reached(&house, "d.test") && !reached(&house, host), "{host} delegates");
        }
        let error = WellKnown::Canned(Canned::json(500, "{}"));
        let html =
            Canned { headers: vec![("content-type".into(), "text/html".into())], ..Canned::json(200, "<p>") };
        let bad_days = [error, WellKnown::Canned(html), WellKnown::Hang];
        for (host, well_known) in hosts.into_iter().zip(bad_days) {
            house.set(host, |script| script.well_known = well_known);
        }
        for host in hosts {
            let fetched = well_known_fetches(&house, host);
            ask_until(&house, host, || well_known_fetches(&house, host) > fetched).await;
            assert!(!reached(&house, host), "{host} was asked although it delegates");
        }
    })
    .await;
}

/// A host that says clearly, for days, that there is no delegation any more.
#[tokio::test]
async fn a_delegation_is_given_up_after_a_time_of_clean_404() {
    let wishes = Wishes { tables: BRIEF, ..Wishes::default() };
    in_house(wishes, async |house| {
        delegate(&house, "a.test");
        assert_eq!(house.get("a.test", VERSION).await.status, 200);
        house.set("a.test", |_| {});
        let fetched = well_known_fetches(&house, "a.test");
        ask_until(&house, "a.test", || well_known_fetches(&house, "a.test") > fetched).await;
        assert!(!reached(&house, "a.test"), "one 404 is not the end of it");
        ask_until(&house, "a.test", || reached(&house, "a.test")).await;
    })
    .await;
}

fn delegate(house: &House, host: &str) {
    let to = format!("{{\"m.server\":\"{}\"}}", house.name("d.test"));
    let canned = Canned::json(200, &to).with("cache-control", "max-age=1");
    house.set(host, |script| script.well_known = WellKnown::Canned(canned));
}

const BRIEF: &str =
    "[well_known]\nfresh_min = \"0ms\"\ntimeout = \"1s\"\nfailure_first = \"1s\"\nabsent_max = \"4s\"";

/// Nothing is looked up and nothing dialled for what is no server name.
#[tokio::test]
async fn an_invalid_server_name_is_answered_at_once_and_dialled_never() {
    at_home(async |house| {
        let label = format!("{}.test", "a".repeat(64));
        let long = format!("{}test", "abcdefg.".repeat(32));
        let port = house.servers.port();
        for name in [
            "user@a.test",
            "user:pw@a.test",
            &format!("a.test@127.0.0.1:{port}"),
            "a.test:0",
            "a.test:00",
            "a.test:123456",
            "a.test:99999",
            "a.test:",
            "a.test:+80",
            "a.test: 80",
            "a.test:8448:8448",
            &label,
            &long,
            "",
            ":8448",
            ".",
            "a..test",
            ".a.test",
            "1.2.3",
            "1.2.3.4.5",
            "256.1.1.1",
            "0x7f.0.0.1",
            "[::1",
            "[::g]",
            "[]",
            "[1.2.3.4]",
            "[::1]x",
            "[::1%25lo]",
            "::1",
            "a test",
            " a.test",
            "a.test ",
            "a%2etest",
            "a\\test",
            "a.test?",
            "a.test#",
            "a_b*.test",
            "a\u{e9}.test",
        ] {
            let asked_at = Instant::now();
            let answer = house.get(name, VERSION).await;
            assert!(asked_at.elapsed() < Duration::from_millis(500), "{name:?}");
            assert_eq!(answer.status, 400, "{name:?}: {}", answer.text());
            assert_eq!(answer.field("content-type"), Some("application/json"), "{name:?}");
            assert!(answer.json()["errcode"].is_string() && answer.json()["error"].is_string(), "{name:?}");
        }
        assert_eq!(
            (house.servers.counts().accepted, house.dns.queries_total()),
            (0, 0),
            "somebody was bothered"
        );
    })
    .await;
}
