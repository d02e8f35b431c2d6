//! Streams that are not read, and requests that are given up: nothing grows, and nothing is left held.

mod programs;

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use programs::{Program, answering, url};
use southbridge::client::{Body, ClientError, Drawn, Pushed, Request};
use southbridge_testkit::raw::Step;

fn get(at: &str) -> Request {
    Request::new(Method::GET, at).expect("a URL")
}

/// A reader that sleeps: the peer is held back, and no more is taken than fits the buffers on the way.
#[test]
fn a_sleeping_reader_holds_back_the_peer() {
    let mut program = Program::start();
    let endless = vec![
        Step::ReadRequest,
        Step::write("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"),
        Step::Endless { unit: Bytes::from(vec![b'x'; 64 * 1024]), bytes_max: 1 << 30 },
    ];
    let peer = program.peer(vec![endless]);
    let mut opened =
        program.client.open(&program.port, get(&url(peer.address(), "/"))).expect("there is room");
    program.head(&opened).expect("a head");
    // The system's own buffers take some MiB; after that nothing moves any more.
    let mut before = (0, 0);
    program.pump_until(|_| {
        let written = peer.written();
        before = if written > 0 && written == before.0 { (written, before.1 + 1) } else { (written, 0) };
        std::thread::park_timeout(Duration::from_millis(20));
        (before.1 >= 10).then_some(())
    });
    assert!(before.0 < 32 << 20, "{} bytes were taken of a reader that sleeps", before.0);
    let mut drawn = 0;
    while drawn < 64 << 20 {
        drawn += program.draw(&mut opened.draw).expect("it flows").expect("it has no end").len();
    }
    drop(opened);
    program.pump_until(|program| (program.port.held() == 0).then_some(()));
    program.world.block_on(peer.endings_reach(1));
}

/// A peer that does not read: the application is told that there is no room, and what it hands in stays bounded.
#[test]
fn a_deaf_peer_holds_back_the_application() {
    let mut program = Program::start();
    let peer = program.peer(vec![vec![Step::ReadHead, Step::Deaf]]);
    let mut request = Request::new(Method::PUT, &url(peer.address(), "/")).expect("a URL");
    request.body = Body::Stream { bytes: None };
    let mut opened = program.client.open(&program.port, request).expect("there is room");
    let mut feed = opened.feed.take().expect("it is fed");
    let (mut taken, mut full) = (0_usize, 0);
    while full < 20 {
        match feed.push(Bytes::from_static(&[b'x'; 16 * 1024])) {
            Pushed::Taken => (taken, full) = (taken + 16 * 1024, 0),
            Pushed::Full(_) => {
                full += 1;
                program.port.wait(Duration::from_millis(20));
                program.port.drain(64, |_| ());
            }
            Pushed::Closed => panic!("it is still being sent"),
        }
    }
    assert!(taken < 32 << 20, "{taken} bytes were taken for a peer that does not read");
    program.port.cancel(opened.ticket);
    assert!(matches!(program.head(&opened), Err(ClientError::Cancelled)));
    program.pump_until(|_| matches!(feed.push(Bytes::from_static(b"x")), Pushed::Closed).then_some(()));
    drop((feed, opened));
    program.pump_until(|program| (program.port.held() == 0).then_some(()));
}

/// An application that gives up feeding: the peer never takes half a body for a whole one.
#[test]
fn a_body_that_is_not_finished_is_aborted() {
    let mut program = Program::start();
    let peer = program.peer(vec![answering("200 OK", "")]);
    let mut request = Request::new(Method::PUT, &url(peer.address(), "/")).expect("a URL");
    request.body = Body::Stream { bytes: None };
    let mut opened = program.client.open(&program.port, request).expect("there is room");
    let mut feed = opened.feed.take().expect("it is fed");
    assert_eq!(feed.push(Bytes::from_static(b"half")), Pushed::Taken);
    drop(feed);
    let error = program.head(&opened).expect_err("it was aborted");
    assert!(matches!(error, ClientError::BodyStopped { .. }), "{error}");
    program.world.block_on(peer.endings_reach(1));
    assert!(!peer.received(0).ends_with(b"0\r\n\r\n"));
}

/// A thousand requests, each given up at its own moment and in its own way: every place comes back.
#[test]
fn a_thousand_cancellations_leave_nothing_held() {
    let mut program = Program::start();
    let peers = [
        program.peer(vec![answering("200 OK", vec![b'x'; 100_000])]),
        program.peer(vec![vec![Step::ReadRequest, Step::Stall]]),
        program.peer(vec![vec![
            Step::ReadRequest,
            Step::write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"),
            Step::Stall,
        ]]),
        program.peer(vec![vec![Step::ReadRequest, Step::Reset]]),
    ];
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let mut open = Vec::new();
    for _ in 0..1000 {
        let peer = &peers[usize::try_from(random(4)).expect("small")];
        let request = get(&url(peer.address(), "/"));
        let patience = Duration::from_micros(random(3000));
        match random(3) {
            0 => {
                let ticket = program.client.submit(&program.port, request).expect("there is room");
                program.port.wait(patience);
                program.port.cancel(ticket);
            }
            1 => {
                let opened = program.client.open(&program.port, request).expect("there is room");
                program.port.wait(patience);
                drop(opened);
            }
            _ => {
                let mut opened = program.client.open(&program.port, request).expect("there is room");
                program.port.wait(patience);
                program.port.cancel(opened.ticket);
                let _whatever = opened.draw.take();
                open.push(opened);
            }
        }
        program.port.drain(64, |_| ());
    }
    for mut opened in open {
        program.pump_until(|_| matches!(opened.draw.take(), Drawn::End(_) | Drawn::Failed(_)).then_some(()));
    }
    program.pump_until(|program| (program.port.held() == 0).then_some(()));
    let at = url(peers[0].address(), "/");
    assert_eq!(program.get(&at).expect("an answer").body.len(), 100_000, "and the next one is served");
}
