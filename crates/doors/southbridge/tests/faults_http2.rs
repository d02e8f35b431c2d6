//! Peers that break HTTP/2, or use it against us: row 8.

mod support;

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::{Method, StatusCode};
use southbridge_kernel::exchange::ExchangeError;
use southbridge_testkit::certificates::Alpn;
use southbridge_testkit::homeserver::{Behaviour, Canned, Homeservers, HostScript};
use southbridge_testkit::raw::http2::{Http2Fault, Http2Peer};
use southbridge_words::Step as At;
use support::{PATIENCE, Rig, SOON, cpu_time, on_kernel, resident_bytes, tls, until};

const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;
const HTTP_1_1_REQUIRED: u32 = 13;

/// Floods of every kind end after a bounded number of bytes, within the deadline; the peer is then spoken to in
/// HTTP/1.1, where this one behaves.
#[tokio::test]
async fn row_08_floods_are_closed_at_a_cap() {
    for fault in [
        Http2Fault::ContinuationFlood,
        Http2Fault::SettingsFlood,
        Http2Fault::PingFlood,
        Http2Fault::EmptyDataFlood,
        Http2Fault::ResetFlood,
    ] {
        on_kernel(async |rig| {
            let peer = Http2Peer::start(&rig.authority, fault).await.unwrap();
            let to = tls("a.test", peer.address());
            let (started, cpu) = (Instant::now(), cpu_time());
            let answer = rig.ask(rig.post(&to, PATIENCE)).await;
            let cpu = cpu_time() - cpu;
            match answer {
                Err(ExchangeError::PeerMisbehaved { .. } | ExchangeError::Cut { .. }) => {}
                // Its first word was that the stream is refused: by then another attempt may go by HTTP/1.1.
                Ok(_) if fault == Http2Fault::ResetFlood => {}
                other => panic!("{fault:?}: {other:?}"),
            }
            until("everything is given back", || rig.is_at_rest()).await;
            until("the connection is closed", || rig.kernel.pool_usage().connections == 0).await;
            // What the sockets hold between us counts too; the kernel's own cap is 2 MiB.
            assert!(peer.flood_bytes() < 24 << 20, "{fault:?}: {} bytes", peer.flood_bytes());
            assert!(started.elapsed() < PATIENCE && cpu < Duration::from_secs(4), "{fault:?}: {cpu:?}");
            // Refusing stream after stream is no reason to leave HTTP/2; a flood is.
            assert!(fault == Http2Fault::ResetFlood || rig.is_served(&to).await, "{fault:?}: by HTTP/1.1");
        })
        .await;
    }
}

/// Four kilobytes that unfold to sixty-four megabytes of headers: they are refused, and memory stays flat.
#[tokio::test]
async fn row_08_a_header_bomb_does_not_go_off() {
    on_kernel(async |rig| {
        let peer = Http2Peer::start(&rig.authority, Http2Fault::HeaderBomb).await.unwrap();
        let to = tls("a.test", peer.address());
        let before = resident_bytes();
        let error = rig.ask(rig.get(&to, PATIENCE)).await.expect_err("a bomb");
        assert!(matches!(error, ExchangeError::PeerMisbehaved { .. }), "{error:?}");
        assert!(resident_bytes().saturating_sub(before) < 8 << 20);
        until("everything is given back", || rig.is_at_rest()).await;
    })
    .await;
}

/// REFUSED_STREAM says that nothing was done: even a POST is asked again, a bounded number of times.
#[tokio::test]
async fn row_08_a_refused_stream_is_asked_again_even_for_a_post() {
    on_kernel(async |rig| {
        let peer = Http2Peer::start(&rig.authority, Http2Fault::ResetEach(REFUSED_STREAM)).await.unwrap();
        let error = rig.ask(rig.post(&tls("a.test", peer.address()), PATIENCE)).await.expect_err("refused");
        assert!(matches!(error, ExchangeError::Cut { step: At::Response, .. }), "{error:?}");
        assert_eq!(peer.requests(), 3, "the first and two more");
    })
    .await;
}

/// Any other reset may come after the work was done.
#[tokio::test]
async fn row_08_a_stream_reset_for_another_reason_is_not_asked_again_for_a_post() {
    for code in [CANCEL, ENHANCE_YOUR_CALM] {
        on_kernel(async |rig| {
            let peer = Http2Peer::start(&rig.authority, Http2Fault::ResetEach(code)).await.unwrap();
            rig.ask(rig.post(&tls("a.test", peer.address()), PATIENCE)).await.expect_err("reset");
            assert_eq!(peer.requests(), 1);
        })
        .await;
    }
}

/// A hundred resets at once, again and again: nothing piles up, and nobody else is served later for it.
#[tokio::test]
async fn row_08_rapid_resets_pile_up_nothing() {
    on_kernel(async |rig| {
        let peer = Http2Peer::start(&rig.authority, Http2Fault::ResetEach(CANCEL)).await.unwrap();
        let bad = tls("bad.test", peer.address());
        let good = Http2Peer::start(&rig.authority, Http2Fault::None).await.unwrap();
        let good = tls("good.test", good.address());
        for _ in 0..3 {
            let (bad, good) = (
                join_all((0..100).map(|_| rig.ask(rig.get(&bad, PATIENCE)))),
                join_all((0..20).map(|_| rig.is_served(&good))),
            );
            let (bad, good) = tokio::join!(bad, good);
            assert!(bad.iter().all(Result::is_err));
            assert!(good.iter().all(|served| *served));
        }
        assert!(rig.is_at_rest());
        assert!(rig.kernel.pool_usage().connections <= 8);
    })
    .await;
}

/// Every connection takes one request and says goodbye: what it did not look at goes to the next one, POSTs too.
#[tokio::test]
async fn row_08_requests_that_a_goaway_left_out_are_sent_elsewhere() {
    on_kernel(async |rig| {
        let peer = Http2Peer::start(&rig.authority, Http2Fault::GoAwayAfter(1)).await.unwrap();
        let to = tls("a.test", peer.address());
        for _ in 0..5 {
            let (status, body) = rig.ask(rig.post(&to, PATIENCE)).await.expect("on a connection of its own");
            assert_eq!((status, body.as_ref()), (StatusCode::OK, &b"{}"[..]));
        }
        let both = tokio::join!(rig.ask(rig.post(&to, PATIENCE)), rig.ask(rig.post(&to, PATIENCE)));
        assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");
        until("all are closed", || rig.kernel.pool_usage().connections == 0).await;
        assert!(rig.is_at_rest());
    })
    .await;
}

/// A peer that says goodbye before anything else, every time: a few attempts, then an error, and no loop.
#[tokio::test]
async fn row_08_goaway_loops_end() {
    on_kernel(async |rig| {
        let peer = Http2Peer::start(&rig.authority, Http2Fault::GoAwayAfter(0)).await.unwrap();
        let to = tls("a.test", peer.address());
        let started = Instant::now();
        rig.ask(rig.post(&to, PATIENCE)).await.expect_err("it never takes a request");
        assert!(started.elapsed() < PATIENCE);
        assert!(peer.connections() <= 6, "{} connections", peer.connections());
        until("everything is given back", || rig.is_at_rest()).await;
    })
    .await;
}

/// A window that never opens: the upload ends at its deadline, and the connection goes on serving the others.
#[tokio::test]
async fn row_08_a_window_that_never_opens_ends_at_the_deadline() {
    on_kernel(async |rig| {
        let peer = Http2Peer::start(&rig.authority, Http2Fault::WindowZero).await.unwrap();
        let to = tls("a.test", peer.address());
        assert!(rig.is_served(&to).await, "without a body there is nothing to wait for");
        let started = Instant::now();
        let upload = rig.call(Method::PUT, &to, vec![b'x'; 1 << 20], SOON);
        let error = rig.ask(upload).await.expect_err("it cannot be sent");
        assert!(matches!(error, ExchangeError::DeadlinePassed { .. }), "{error:?}");
        assert!(started.elapsed() < SOON * 2);
        assert!(rig.is_served(&to).await);
        assert_eq!(peer.connections(), 1, "the stream was reset, the connection lives");
        assert!(rig.is_at_rest());
    })
    .await;
}

/// A peer that allows no stream holds nobody past the deadline.
#[tokio::test]
async fn row_08_no_streams_at_all_end_at_the_deadline() {
    on_kernel(async |rig| {
        let peer = Http2Peer::start(&rig.authority, Http2Fault::StreamsMax(0)).await.unwrap();
        let to = tls("a.test", peer.address());
        // The first request is out before the peer has said that it wants none.
        assert!(rig.is_served(&to).await);
        let started = Instant::now();
        let all = join_all((0..10).map(|_| rig.ask(rig.get(&to, SOON)))).await;
        let is_overdue =
            |one: &Result<_, ExchangeError>| matches!(one, Err(ExchangeError::DeadlinePassed { .. }));
        assert!(all.iter().all(is_overdue), "{all:?}");
        assert!(started.elapsed() < SOON * 2);
        until("everything is given back", || rig.is_at_rest()).await;
    })
    .await;
}

/// A peer that allows one stream is sent one request after the other, and all are served.
#[tokio::test]
async fn row_08_one_stream_at_a_time_serves_all_in_turn() {
    on_kernel(async |rig| {
        let peer = Http2Peer::start(&rig.authority, Http2Fault::StreamsMax(1)).await.unwrap();
        let to = tls("a.test", peer.address());
        let all = join_all((0..20).map(|_| rig.is_served(&to))).await;
        assert!(all.iter().all(|served| *served));
        assert!(peer.connections() <= 2, "{} connections", peer.connections());
    })
    .await;
}

/// A peer that agrees on HTTP/2 and never says a word ends the call at its deadline.
#[tokio::test]
async fn row_08_a_mute_peer_ends_at_the_deadline() {
    on_kernel(async |rig| {
        let peer = Http2Peer::start(&rig.authority, Http2Fault::Mute).await.unwrap();
        let started = Instant::now();
        let error = rig.ask(rig.get(&tls("a.test", peer.address()), SOON)).await.expect_err("mute");
        assert!(matches!(error, ExchangeError::DeadlinePassed { step: At::Response, .. }), "{error:?}");
        assert!(started.elapsed() < SOON * 2);
        assert!(rig.is_at_rest());
    })
    .await;
}

/// A stream that the peer resets, before its answer or within it, takes nothing else with it.
#[tokio::test]
async fn row_08_a_reset_stream_leaves_its_connection_to_the_others() {
    on_kernel(async |rig| {
        let peer = Http2Peer::start(&rig.authority, Http2Fault::ResetEach(CANCEL)).await.unwrap();
        let to = tls("a.test", peer.address());
        for _ in 0..10 {
            rig.ask(rig.post(&to, PATIENCE)).await.expect_err("reset");
        }
        assert_eq!(peer.connections(), 1);
    })
    .await;
}

/// HTTP_1_1_REQUIRED: the same request arrives by HTTP/1.1, a POST too, and all later ones as well.
#[tokio::test]
async fn row_08_a_peer_that_requires_http1_is_spoken_to_in_it_from_then_on() {
    on_kernel(async |rig| {
        let peer = Http2Peer::start(&rig.authority, Http2Fault::ResetEach(HTTP_1_1_REQUIRED)).await.unwrap();
        let to = tls("a.test", peer.address());
        for _ in 0..3 {
            let (status, body) = rig.ask(rig.post(&to, PATIENCE)).await.expect("by HTTP/1.1");
            assert_eq!((status, body.as_ref()), (StatusCode::OK, &b"{}"[..]));
        }
        assert_eq!(peer.connections(), 2, "one of each kind");
        assert!(rig.is_at_rest());
    })
    .await;
}

/// The caller goes away: its stream is reset, the connection lives, and the other streams on it go on.
#[tokio::test]
async fn a_cancelled_stream_is_reset_and_its_connection_lives() {
    on_kernel(async |rig| {
        let servers = Homeservers::start(rig.authority.clone()).await.unwrap();
        servers.set("a.test", HostScript { alpn: Alpn::Http2, ..HostScript::default() });
        let to = tls("a.test", servers.address());
        let version = |rig: &Rig| path(rig, &to, "/_matrix/federation/v1/version");
        assert!(rig.ask(version(&rig)).await.is_ok());
        servers.behave("a.test", Behaviour::HangAfterRequest);
        assert!(tokio::time::timeout(SOON, rig.ask(version(&rig))).await.is_err());
        assert!(rig.is_at_rest(), "the response was given up");
        servers.behave("a.test", Behaviour::Healthy);
        for _ in 0..30 {
            let response = rig.send(path(&rig, &to, "/blob/10000000")).await.expect("a head");
            drop(response);
        }
        assert!(rig.is_at_rest(), "the bodies were given up");
        let whole = rig.ask(path(&rig, &to, "/blob/100000")).await.expect("the connection lives");
        assert_eq!(whole.1.len(), 100_000);
        assert_eq!(servers.counts().handshakes, 1);
    })
    .await;
}

/// A connection leads nowhere any more, and nobody has said so: callers with little patience try it for a few
/// seconds altogether, and then the next one gets another.
#[tokio::test]
async fn row_04_a_silent_connection_is_not_lent_for_ever() {
    use southbridge_testkit::cut_proxy::{CutProxy, Mode};
    on_kernel(async |rig| {
        let peer = Http2Peer::start(&rig.authority, Http2Fault::None).await.unwrap();
        let proxy = CutProxy::start(peer.address()).await.unwrap();
        let to = tls("a.test", proxy.address());
        assert!(rig.is_served(&to).await);
        proxy.set(Mode::Stutter);
        let started = Instant::now();
        let is_lent = || rig.kernel.peers().iter().any(|peer| !peer.connections.is_empty());
        while is_lent() {
            assert!(started.elapsed() < Duration::from_secs(6), "it is lent still");
            rig.ask(rig.get(&to, SOON * 2)).await.expect_err("nothing comes");
            rig.kernel.wake(&to.service);
        }
        proxy.set(Mode::Pass);
        assert!(rig.is_served(&to).await);
        assert_eq!(peer.connections(), 2);
    })
    .await;
}

/// A long answer over HTTP/2 that is cut off, by any means, is never taken for a whole one.
#[tokio::test]
async fn row_02_a_cut_off_answer_over_http2_is_an_error() {
    use southbridge_testkit::cut_proxy::{CutProxy, Direction, Mode};
    on_kernel(async |rig| {
        let servers = Homeservers::start(rig.authority.clone()).await.unwrap();
        let lie = Canned::json(200, "{}").with("content-length", "2");
        let canned = vec![("/_matrix/test".to_owned(), lie)];
        servers.set("a.test", HostScript { alpn: Alpn::Http2, canned, ..HostScript::default() });
        let proxy = CutProxy::start(servers.address()).await.unwrap();
        let to = tls("a.test", proxy.address());
        assert!(rig.is_served(&to).await);
        proxy.set(Mode::CutAfter { direction: Direction::ToClient, bytes: 200_000 });
        let error = rig.ask(path(&rig, &to, "/blob/900000")).await.expect_err("cut off");
        assert_eq!(error.step(), At::Body, "{error:?}");
        proxy.set(Mode::Pass);
        assert!(rig.is_served(&to).await);
    })
    .await;
}

fn path(rig: &Rig, to: &support::Target, path: &str) -> southbridge_kernel::exchange::Call {
    let mut call = rig.get(to, PATIENCE);
    *call.request.uri_mut() = path.parse().expect("a path");
    call
}
