//! Promise: every call ends with an answer within the request timeout, unless its body keeps flowing.

use std::time::{Duration, Instant};

use southbridge_testkit::black_hole::BlackHole;
use southbridge_testkit::dns::{Answer as Records, RecordType};
use southbridge_testkit::homeserver::{Behaviour, WellKnown};
use southbridge_testkit::raw::{Step, faults};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::caller::{CLAIM, SECRET, VERSION, ask_on, knock, request};
use crate::house::{House, Wishes, at_home, in_house, until};

const TIMEOUT: Duration = Duration::from_secs(3);
/// A busy machine may be late with an answer that was in time.
const MARGIN: Duration = Duration::from_millis(700);
const SHORT: Wishes = Wishes {
    synapse: "request_timeout = \"3s\"",
    forward_proxy: "",
    addresses: "allow = [\"127.0.0.0/8\"]",
    tables: "",
};

/// Nothing that a host does with a request keeps Synapse waiting for longer than it was told.
#[tokio::test]
async fn every_call_to_a_host_that_hangs_is_answered_in_time() {
    in_house(SHORT, async |house| {
        let hole = BlackHole::open().unwrap();
        let (_drip, dripping) = house.peer(vec![faults::drip_head(Duration::from_millis(100))]).await;
        house.set("a.test", |script| script.behaviour = Behaviour::HangAfterAccept);
        house.set("b.test", |script| script.behaviour = Behaviour::HangAfterTls);
        house.set("c.test", |script| script.behaviour = Behaviour::HangAfterRequest);
        house.set("d.test", |script| script.well_known = WellKnown::Hang);
        for kind in [RecordType::A, RecordType::AAAA, RecordType::SRV] {
            house.dns.set("mute.test", kind, Records::Silence);
        }
        let names = [
            format!("127.0.0.1:{}", hole.address().port()),
            house.name("a.test"),
            house.name("b.test"),
            house.name("c.test"),
            dripping,
            house.name("mute.test"),
        ];
        let mut calls = JoinSet::new();
        for name in names {
            for (method, path) in
                [("GET", VERSION), ("PUT", "/_matrix/federation/v1/send/1"), ("POST", CLAIM)]
            {
                let body = if method == "GET" { "" } else { "{}" };
                let (unix, request) = (house.unix(), request(method, &name, path, body));
                let what = format!("{method} {name}");
                calls.spawn(async move {
                    let asked_at = Instant::now();
                    let answer = ask_on(&mut knock(&unix).await, request).await;
                    (what, asked_at.elapsed(), answer)
                });
            }
        }
        for (what, took, answer) in calls.join_all().await {
            assert!(took < TIMEOUT + MARGIN, "{what} took {took:?}");
            assert!(matches!(answer.status, 502 | 504), "{what}: {} {}", answer.status, answer.text());
            assert!(answer.whole && !answer.step().is_empty(), "{what}: {}", answer.text());
            assert_eq!(answer.field("content-type"), Some("application/json"), "{what}");
        }
        // A web server that hangs only costs the time that is set aside for it.
        let asked_at = Instant::now();
        let answer = house.get("d.test", VERSION).await;
        assert!(asked_at.elapsed() < TIMEOUT + MARGIN && matches!(answer.status, 200 | 504), "{answer:?}");
    })
    .await;
}

/// One byte at a time: the head was in time, the body never ends. Synapse must not take what came for all of it.
#[tokio::test]
async fn a_body_that_drips_ends_as_a_cut_connection() {
    in_house(SHORT, async |house| {
        let pause = Duration::from_millis(50);
        let large: Vec<u8> =
            [b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n".to_vec(), vec![b'x'; 200_000]].concat();
        let bytes = vec![b'x'; 1000].into();
        let starts_well =
            vec![Step::ReadRequest, Step::write(large), Step::WriteSlowly { bytes, piece: 1, pause }];
        let (_small, drips) = house.peer(vec![faults::drip(10_000, 1, pause)]).await;
        let (_large, begins) = house.peer(vec![starts_well]).await;
        let call = async |name: &str| {
            let asked_at = Instant::now();
            (house.ask("POST", name, CLAIM, "{}").await, asked_at.elapsed())
        };
        let (small, large) = tokio::join!(call(&drips), call(&begins));
        for (answer, took) in [small, large] {
            assert!(took < TIMEOUT + Duration::from_secs(2), "{took:?}");
            assert!(answer.status >= 500 || !answer.whole, "{} {}", answer.status, answer.head);
        }
    })
    .await;
}

/// A slow download is not a stuck one.
#[tokio::test]
async fn a_body_that_flows_may_outlast_the_timeout_and_arrives_whole() {
    in_house(SHORT, async |house| {
        let (_peer, name) = house.peer(vec![faults::drip(160_000, 8_000, Duration::from_millis(220))]).await;
        let asked_at = Instant::now();
        let answer = house.get(&name, VERSION).await;
        assert!(asked_at.elapsed() > TIMEOUT, "it flows too fast to show anything");
        assert_eq!((answer.status, answer.body.len(), answer.whole), (200, 160_000, true));
    })
    .await;
}

/// Synapse's own timer fires: it resets its connection, and nothing must go on for nobody.
#[tokio::test]
async fn a_caller_that_goes_away_cancels_its_request() {
    at_home(async |house| {
        let mute = vec![Step::ReadHead, Step::Stall];
        let (peer, name) = house.peer(vec![mute]).await;
        let ask = request("GET", &name, VERSION, "");
        let mut ended = 0;
        for way in ["close of unix", "close of TCP", "reset of TCP"] {
            let connected = peer.connections();
            leave(&house, way, &ask, async || {
                until(LIMIT, way, || peer.connections() > connected && !peer.received(connected).is_empty())
                    .await;
            })
            .await;
            ended += 1;
            tokio::time::timeout(LIMIT, peer.endings_reach(ended)).await.expect(way);
        }
    })
    .await;
}

async fn leave(house: &House, way: &str, ask: &str, arrived: impl AsyncFnOnce()) {
    if way == "close of unix" {
        let mut stream = knock(&house.unix()).await;
        stream.write_all(ask.as_bytes()).await.unwrap();
        arrived().await;
        return;
    }
    let mut stream = house.knock_by_tcp().await;
    stream.write_all(ask.as_bytes()).await.unwrap();
    arrived().await;
    if way == "reset of TCP" {
        let linger = Some(Duration::ZERO);
        rustix::net::sockopt::set_socket_linger(&stream, linger).unwrap();
    }
}

/// It had read a part of a large response, and then it was gone.
#[tokio::test]
async fn a_caller_that_goes_away_within_a_body_cancels_the_rest() {
    at_home(async |house| {
        let unit = bytes::Bytes::from(vec![b'x'; 16 << 10]);
        let bytes_max = 1 << 30;
        let head = Step::write(format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes_max}\r\n\r\n"));
        let script = vec![Step::ReadRequest, head, Step::Endless { unit, bytes_max }];
        let (peer, name) = house.peer(vec![script]).await;
        let mut stream = house.knock_by_tcp().await;
        stream.write_all(request("GET", &name, VERSION, "").as_bytes()).await.unwrap();
        stream.read_exact(&mut [0; 100_000]).await.unwrap();
        drop(stream);
        tokio::time::timeout(LIMIT, peer.endings_reach(1)).await.expect("the peer is left alone");
    })
    .await;
}

/// The head of a request that never ends holds a place for a while only.
#[tokio::test]
async fn a_caller_that_never_finishes_its_head_is_let_go() {
    let wishes = Wishes { synapse: "head_timeout = \"500ms\"", ..Wishes::default() };
    in_house(wishes, async |house| {
        let mut stream = house.knock_by_tcp().await;
        let start =
            format!("GET matrix-federation://a.test/ HTTP/1.1\r\nProxy-Authorization: Bearer {SECRET}\r\n");
        stream.write_all(start.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        tokio::time::timeout(LIMIT, stream.read_to_end(&mut rest)).await.expect("it is let go").ok();
        assert_eq!(house.servers.counts().accepted, 0);
    })
    .await;
}

/// Far more than it takes, far less than any timeout.
const LIMIT: Duration = Duration::from_secs(3);
