//! Peers that do what HTTP/1.1 does not allow, or never come to an end: rows 2, 4, 5, 6, 7 and 9.

mod support;

use std::time::{Duration, Instant};

use http::Method;
use southbridge_kernel::exchange::{ExchangeError, Repeat};
use southbridge_kernel::http::Violation;
use southbridge_testkit::cut_proxy::{CutProxy, Mode};
use southbridge_testkit::raw::{RawPeer, Step, faults};
use southbridge_words::Step as At;
use support::{PATIENCE, SOON, on_kernel, on_kernel_with, plain, resident_bytes, until, within};

/// The first connection dies under its second request; what may be repeated is repeated once, on a fresh one.
#[tokio::test]
async fn row_02_an_idempotent_request_is_repeated_on_a_fresh_connection() {
    on_kernel(async |rig| {
        for race in [faults::keep_alive_race(), faults::keep_alive_reset()] {
            for method in [Method::GET, Method::PUT] {
                let peer = RawPeer::plain(vec![race.clone(), faults::well()]).await.unwrap();
                let to = plain(peer.address());
                assert!(rig.is_served(&to).await);
                let answer = rig.ask(rig.call(method.clone(), &to, "{}", PATIENCE)).await;
                assert_eq!(answer.expect("repeated").1, "{}", "{method}");
                assert_eq!(peer.connections(), 2);
            }
        }
        assert!(rig.is_at_rest());
    })
    .await;
}

/// The same race under a POST: the peer may have done the work, so it is asked once and no more.
#[tokio::test]
async fn row_02_a_post_that_may_have_arrived_is_never_repeated() {
    on_kernel(async |rig| {
        for race in [faults::keep_alive_race(), faults::keep_alive_reset()] {
            let peer = RawPeer::plain(vec![race, faults::well()]).await.unwrap();
            let to = plain(peer.address());
            assert!(rig.is_served(&to).await);
            let error = rig.ask(rig.post(&to, PATIENCE)).await.expect_err("not repeated");
            assert!(matches!(error, ExchangeError::Cut { step: At::Response, .. }), "{error:?}");
            assert_eq!(peer.connections(), 1);
            assert!(rig.is_served(&to).await, "the next request gets a fresh connection");
        }
    })
    .await;
}

/// An idle connection that the peer has closed: not a byte of the POST was written, so another one carries it.
#[tokio::test]
async fn row_02_a_post_that_never_left_goes_on_a_fresh_connection() {
    on_kernel(async |rig| {
        let peer = RawPeer::plain(vec![faults::close_when_idle(), faults::well()]).await.unwrap();
        let to = plain(peer.address());
        assert!(rig.is_served(&to).await);
        // At once, while the kernel may not have seen the end yet, and again when it has.
        assert_eq!(rig.ask(rig.post(&to, PATIENCE)).await.expect("sent afresh").1, "{}");
        assert_eq!(rig.ask(rig.post(&to, PATIENCE)).await.expect("on the same").1, "{}");
        assert_eq!(peer.connections(), 2);
        let posts = |number| String::from_utf8_lossy(&peer.received(number)).matches("POST").count();
        assert_eq!((posts(0), posts(1)), (0, 2));
    })
    .await;
}

/// A peer that closes after each answer, and does not say so: no request fails for it, even where the retry budget
/// allows nothing, for nothing was sent twice.
#[tokio::test]
async fn row_02_no_request_fails_because_idle_connections_had_been_closed() {
    on_kernel_with(no_budget, async |rig| {
        let peer = RawPeer::plain(vec![faults::close_when_idle()]).await.unwrap();
        let to = plain(peer.address());
        for _ in 0..300 {
            assert!(rig.is_served(&to).await);
        }
    })
    .await;
}

/// However a body is cut off, the caller is told, and is told at which step.
#[tokio::test]
async fn row_02_a_body_is_never_truncated_silently() {
    on_kernel(async |rig| {
        for (name, script) in faults::cut_off() {
            let peer = RawPeer::plain(vec![script, faults::well()]).await.unwrap();
            let to = plain(peer.address());
            let error = rig.ask(rig.post(&to, PATIENCE)).await.expect_err(name);
            let expected = if name.contains("head") { At::Response } else { At::Body };
            assert_eq!(error.step(), expected, "{name}: {error:?}");
            assert!(rig.is_served(&to).await, "{name}: the next one is served");
            assert!(rig.is_at_rest(), "{name}");
        }
    })
    .await;
}

/// A body that ends with its connection is whole only if the connection was closed in good order.
#[tokio::test]
async fn row_02_a_body_until_close_that_is_reset_or_loses_its_tls_is_not_whole() {
    on_kernel(async |rig| {
        let start = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"half\":";
        let script = |end| vec![vec![Step::ReadRequest, Step::write(start), end]];
        let peer = RawPeer::plain(script(Step::Reset)).await.unwrap();
        assert_eq!(
            rig.ask(rig.get(&plain(peer.address()), PATIENCE)).await.expect_err("RST").step(),
            At::Body
        );
        let alpn = southbridge_testkit::certificates::Alpn::Http1;
        let peer = RawPeer::tls(&rig.authority, alpn, script(Step::Drop)).await.unwrap();
        let to = support::tls("a.test", peer.address());
        assert_eq!(rig.ask(rig.get(&to, PATIENCE)).await.expect_err("truncated").step(), At::Body);
        let peer = RawPeer::tls(&rig.authority, alpn, script(Step::Close)).await.unwrap();
        let to = support::tls("a.test", peer.address());
        assert_eq!(rig.ask(rig.get(&to, PATIENCE)).await.expect("close_notify").1, "{\"half\":");
    })
    .await;
}

/// The way to the peer stops in mid-body: the call ends soon after its deadline, with the connection closed.
#[tokio::test]
async fn row_04_a_wire_that_stutters_is_given_up_at_the_deadline() {
    on_kernel(async |rig| {
        let peer = RawPeer::plain(vec![faults::well()]).await.unwrap();
        let proxy = CutProxy::start(peer.address()).await.unwrap();
        let to = plain(proxy.address());
        assert!(rig.is_served(&to).await);
        proxy.set(Mode::Stutter);
        let started = Instant::now();
        let error = rig.ask(rig.get(&to, SOON)).await.expect_err("nothing comes");
        assert!(matches!(error, ExchangeError::DeadlinePassed { step: At::Response, .. }), "{error:?}");
        assert!(started.elapsed() < SOON * 2);
        until("everything is given back", || rig.is_at_rest()).await;
        assert_eq!(rig.kernel.pool_usage().connections, 0, "a request in mid-air costs the connection");
        proxy.set(Mode::Pass);
        assert!(rig.is_served(&to).await);
    })
    .await;
}

/// One byte at a time: past the deadline, a body below the minimum rate is cut within a second or so.
#[tokio::test]
async fn row_04_a_body_that_drips_is_closed_by_the_minimum_rate() {
    on_kernel(async |rig| {
        let drip = faults::drip(10_000, 1, Duration::from_millis(20));
        let peer = RawPeer::plain(vec![drip]).await.unwrap();
        let started = Instant::now();
        let error = rig.ask(rig.get(&plain(peer.address()), SOON)).await.expect_err("too slow");
        let slow = Violation::TooSlow { rate_min: 1024 };
        assert!(
            matches!(&error, ExchangeError::PeerMisbehaved { violation, .. } if *violation == slow),
            "{error:?}"
        );
        assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
        within(PATIENCE, peer.endings_reach(1)).await;
        until("everything is given back", || rig.is_at_rest()).await;
    })
    .await;
}

/// A body that flows may take longer than the deadline: it is cut by its rate, not by the clock.
#[tokio::test]
async fn row_04_a_body_that_flows_may_outlast_the_deadline() {
    on_kernel(async |rig| {
        let flow = faults::drip(60_000, 1000, Duration::from_millis(10));
        let peer = RawPeer::plain(vec![flow]).await.unwrap();
        let started = Instant::now();
        let (_, body) = rig.ask(rig.get(&plain(peer.address()), SOON)).await.expect("it flows");
        assert_eq!(body.len(), 60_000);
        assert!(started.elapsed() > SOON);
    })
    .await;
}

#[tokio::test]
async fn row_05_slowloris_headers_are_closed_at_the_deadline() {
    on_kernel(async |rig| {
        let peer = RawPeer::plain(vec![faults::drip_head(Duration::from_millis(50))]).await.unwrap();
        let started = Instant::now();
        let error = rig.ask(rig.get(&plain(peer.address()), SOON)).await.expect_err("no head");
        assert!(matches!(error, ExchangeError::DeadlinePassed { step: At::Response, .. }), "{error:?}");
        assert!(started.elapsed() < SOON * 2);
        within(PATIENCE, peer.endings_reach(1)).await;
    })
    .await;
}

/// Heads and framing without end: each is cut after a bounded number of bytes, and the kernel says what it was.
#[tokio::test]
async fn row_05_answers_without_end_are_closed_at_a_cap() {
    on_kernel(async |rig| {
        for (name, script) in faults::endless(64 << 20) {
            let peer = RawPeer::plain(vec![script]).await.unwrap();
            let error = rig.ask(rig.get(&plain(peer.address()), PATIENCE)).await.expect_err(name);
            assert!(matches!(error, ExchangeError::PeerMisbehaved { .. }), "{name}: {error:?}");
            within(PATIENCE, peer.endings_reach(1)).await;
            // What the sockets hold between us counts as written; the kernel's own cap is far lower.
            assert!(peer.written() < 24 << 20, "{name}: {} bytes", peer.written());
        }
        until("everything is given back", || rig.is_at_rest()).await;
    })
    .await;
}

/// Interim responses and header lines without end are known for what they are.
#[tokio::test]
async fn row_06_header_floods_are_too_large() {
    on_kernel(async |rig| {
        for (name, script) in faults::endless(64 << 20).into_iter().take(4) {
            let peer = RawPeer::plain(vec![script]).await.unwrap();
            let error = rig.ask(rig.get(&plain(peer.address()), PATIENCE)).await.expect_err(name);
            let ExchangeError::PeerMisbehaved { violation, .. } = error else { panic!("{name}: {error:?}") };
            assert!(matches!(violation, Violation::TooLarge { what: "head", .. }), "{name}: {violation:?}");
        }
        let lines = "X: y\r\n".repeat(5000);
        let many = faults::answer(&format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 2\r\n\r\n{{}}"));
        let peer = RawPeer::plain(vec![many]).await.unwrap();
        let error = rig.ask(rig.get(&plain(peer.address()), PATIENCE)).await.expect_err("5,000 lines");
        let ExchangeError::PeerMisbehaved { violation, .. } = error else { panic!("{error:?}") };
        assert!(matches!(violation, Violation::TooLarge { what: "head", .. }), "{violation:?}");
    })
    .await;
}

/// A hundred megabytes in one line stream through in flat memory; with a cap they are a typed refusal.
#[tokio::test]
async fn row_06_a_hundred_megabytes_in_one_line_stream_through_flat_memory() {
    const MIB: u64 = 1 << 20;
    on_kernel(async |rig| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 100 * MIB);
        let unit = bytes::Bytes::from_static(b"[[[[\"aaaaaaa\",{\"");
        let body = Step::Endless { unit, bytes_max: 100 * MIB };
        let script = vec![Step::ReadRequest, Step::write(head), body, Step::Again];
        let peer = RawPeer::plain(vec![script]).await.unwrap();
        let to = plain(peer.address());
        let error = rig.ask(rig.get(&to, PATIENCE)).await.expect_err("a MiB at most");
        let ExchangeError::PeerMisbehaved { violation, .. } = error else { panic!("{error:?}") };
        assert_eq!(violation, Violation::TooLarge { what: "body", bytes_max: MIB });
        let before = resident_bytes();
        let mut body = rig.send(rig.get(&to, PATIENCE)).await.expect("a head").into_body();
        let (mut received, mut peak) = (0, 0);
        while let Some(frame) = http_body_util::BodyExt::frame(&mut body).await {
            received += frame.expect("all of it").data_ref().map_or(0, |data| data.len() as u64);
            peak = peak.max(resident_bytes());
        }
        assert_eq!(received, 100 * MIB);
        assert!(peak.saturating_sub(before) < 48 * MIB, "memory grew from {before} to {peak}");
    })
    .await;
}

/// Nobody reads: the peer is held back by the sockets between us, and the kernel holds next to nothing.
#[tokio::test]
async fn row_06_a_reader_that_sleeps_holds_back_the_sender() {
    on_kernel(async |rig| {
        let unit = bytes::Bytes::from_static(b"0123456789abcdef");
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n";
        let body = Step::Endless { unit, bytes_max: 100 << 20 };
        let peer = RawPeer::plain(vec![vec![Step::ReadRequest, Step::write(head), body, Step::Stall]])
            .await
            .unwrap();
        let before = resident_bytes();
        let sleeper = rig.send(rig.get(&plain(peer.address()), PATIENCE)).await.expect("a head");
        let (mut written, mut still) = (0, 0);
        while still < 20_000 {
            still = if peer.written() == written { still + 1 } else { 0 };
            written = peer.written();
            tokio::task::yield_now().await;
        }
        assert!(written < 32 << 20, "{written} bytes are on their way");
        assert!(resident_bytes().saturating_sub(before) < 32 << 20);
        drop(sleeper);
        until("everything is given back", || rig.is_at_rest()).await;
    })
    .await;
}

/// Interim responses, HTTP/1.0 and bodies until close are old, rare, and right.
#[tokio::test]
async fn row_09_what_is_rare_and_right_is_read() {
    on_kernel(async |rig| {
        let interim = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
        let well = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        for response in [
            format!("{interim}{well}"),
            "HTTP/1.0 200 OK\r\n\r\n{}".into(),
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\n{}\r\n0\r\nTrailer: a\r\n\r\n"
                .into(),
        ] {
            let script = vec![Step::ReadRequest, Step::write(&response), Step::Close];
            let peer = RawPeer::plain(vec![script]).await.unwrap();
            assert!(rig.is_served(&plain(peer.address())).await, "{response}");
        }
    })
    .await;
}

/// A peer that announces a petabyte gets no memory for it, and one that announces too little is cut off.
#[tokio::test]
async fn row_06_a_lying_content_length_is_an_error() {
    on_kernel(async |rig| {
        let huge = "HTTP/1.1 200 OK\r\nContent-Length: 1125899906842624\r\n\r\n{}";
        let peer =
            RawPeer::plain(vec![vec![Step::ReadRequest, Step::write(huge), Step::Close]]).await.unwrap();
        let before = resident_bytes();
        let error =
            rig.ask(rig.get(&plain(peer.address()), PATIENCE)).await.expect_err("two bytes of a petabyte");
        assert_eq!(error.step(), At::Body);
        assert!(resident_bytes().saturating_sub(before) < 8 << 20);
    })
    .await;
}

/// We do not offer to unpack what we do not need unpacked, so nobody may send a bomb.
#[tokio::test]
async fn row_07_no_encoding_is_ever_offered() {
    on_kernel(async |rig| {
        let peer = RawPeer::plain(vec![faults::well()]).await.unwrap();
        assert!(rig.is_served(&plain(peer.address())).await);
        let received = String::from_utf8(peer.received(0)).expect("text").to_ascii_lowercase();
        assert!(received.starts_with("get /_matrix/test?a=b http/1.1\r\n"), "{received}");
        assert!(!received.contains("accept-encoding") && !received.contains("te:"), "{received}");
    })
    .await;
}

/// Whatever the first answer on a connection was, the second request gets its own, on another connection.
#[tokio::test]
async fn row_09_after_ambiguous_framing_the_next_request_gets_its_own_answer() {
    on_kernel(async |rig| {
        for (name, script) in faults::misframed() {
            // A small request is out before any answer can come: row_09_a_response_before_the_end… has a large one.
            if name == "response before the end of the request" {
                continue;
            }
            let own = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n\"right\"";
            let well = vec![Step::ReadRequest, Step::write(own), Step::Again];
            let peer = RawPeer::plain(vec![script, well]).await.unwrap();
            let to = plain(peer.address());
            // It may be refused, or read in the one way it can be read.
            let first = rig.ask(rig.post(&to, PATIENCE)).await;
            if let Ok((status, body)) = &first {
                assert!(status.as_u16() != 200 || body == "{}" || body == "\"right\"", "{name}: {body:?}");
            }
            let (_, second) =
                rig.ask(rig.get(&to, PATIENCE)).await.unwrap_or_else(|e| panic!("{name}: {e:?}"));
            assert_eq!(second, "\"right\"", "{name}");
            assert!(rig.is_at_rest(), "{name}");
        }
    })
    .await;
}

/// What two readers could read in two ways is refused, and the refusal says why.
#[tokio::test]
async fn row_09_ambiguous_framing_is_refused() {
    const REFUSED: [&str; 11] = [
        "content-length and chunked",
        "two content-lengths",
        "a list of content-lengths",
        "a signed content-length",
        "bare line feeds",
        "a folded header",
        "a space before the colon",
        "a bad chunk size",
        "a huge chunk size",
        "an unknown coding",
        "no HTTP at all",
    ];
    on_kernel(async |rig| {
        let refused = faults::misframed().into_iter().filter(|(name, _)| REFUSED.contains(name));
        let mut count = 0;
        for (name, script) in refused {
            let peer = RawPeer::plain(vec![script]).await.unwrap();
            let error = rig.ask(rig.get(&plain(peer.address()), PATIENCE)).await.expect_err(name);
            assert!(matches!(error, ExchangeError::PeerMisbehaved { .. }), "{name}: {error:?}");
            within(PATIENCE, peer.endings_reach(1)).await;
            count += 1;
        }
        assert_eq!(count, REFUSED.len());
    })
    .await;
}

/// The peer answers a large upload before it has read it, and reads no further: the answer is handed on, and the
/// connection is closed rather than kept for somebody whose request would never get out.
#[tokio::test]
async fn row_09_a_response_before_the_end_of_the_request_costs_the_connection() {
    on_kernel(async |rig| {
        let early = "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\n{}";
        let script = vec![Step::ReadHead, Step::write(early), Step::Deaf];
        let peer = RawPeer::plain(vec![script, faults::well()]).await.unwrap();
        let to = plain(peer.address());
        let upload = vec![b'x'; 32 << 20];
        let (status, body) = rig.ask(rig.call(Method::PUT, &to, upload, PATIENCE)).await.expect("an answer");
        assert_eq!((status.as_u16(), body.as_ref()), (413, &b"{}"[..]));
        assert!(rig.is_served(&to).await, "on another connection");
        assert_eq!(peer.connections(), 2);
    })
    .await;
}

/// A peer that announces a body where none may be, and sends it late: by then the connection is gone.
#[tokio::test]
async fn row_09_a_late_body_on_304_never_becomes_the_next_answer() {
    on_kernel(async |rig| {
        for status in ["304 Not Modified", "204 No Content"] {
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: 38\r\n\r\n");
            let late = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            let script =
                vec![Step::ReadRequest, Step::write(head), Step::ReadHead, Step::write(late), Step::Stall];
            let peer = RawPeer::plain(vec![script, faults::well()]).await.unwrap();
            let to = plain(peer.address());
            let (_, body) = rig.ask(rig.get(&to, PATIENCE)).await.expect("a head");
            assert!(body.is_empty());
            assert!(rig.is_served(&to).await, "{status}");
            assert_eq!(peer.connections(), 2, "{status}");
        }
    })
    .await;
}

/// The caller goes away: an HTTP/1.1 connection in the middle of something is closed, and all places are given up.
#[tokio::test]
async fn a_cancelled_exchange_closes_its_connection() {
    on_kernel(async |rig| {
        let mute = RawPeer::plain(vec![vec![Step::ReadRequest, Step::Stall]]).await.unwrap();
        let gone = tokio::time::timeout(SOON, rig.ask(rig.get(&plain(mute.address()), PATIENCE))).await;
        assert!(gone.is_err(), "nobody answered");
        within(PATIENCE, mute.endings_reach(1)).await;
        assert!(rig.is_at_rest());
        let long = faults::drip(1 << 20, 1024, Duration::from_millis(1));
        let peer = RawPeer::plain(vec![long]).await.unwrap();
        let response = rig.send(rig.get(&plain(peer.address()), PATIENCE)).await.expect("a head");
        assert!(!rig.is_at_rest());
        drop(response);
        within(PATIENCE, peer.endings_reach(1)).await;
        until("everything is given back", || rig.is_at_rest()).await;
        assert_eq!(rig.kernel.pool_usage().connections, 0);
    })
    .await;
}

/// Retries draw on a budget: when it is spent, the failure is reported as it is.
#[tokio::test]
async fn row_02_retries_stop_when_their_budget_is_spent() {
    on_kernel_with(no_budget, async |rig| {
        let peer = RawPeer::plain(vec![faults::keep_alive_race(), faults::well()]).await.unwrap();
        let to = plain(peer.address());
        assert!(rig.is_served(&to).await);
        let call = rig.get(&to, PATIENCE);
        assert_eq!(call.repeat, Repeat::Safe);
        assert!(matches!(rig.ask(call).await, Err(ExchangeError::Cut { .. })));
        within(PATIENCE, peer.endings_reach(1)).await;
    })
    .await;
}

/// Whatever fails is not tried again.
fn no_budget(config: &mut southbridge_kernel::KernelConfig) {
    config.budget.per_second_min = 0;
    config.budget.share_percent = 0;
}
