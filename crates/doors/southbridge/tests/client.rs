//! A program's requests, from its own thread to a peer and back.

mod programs;

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use programs::{Program, answering, received, settings, url};
use southbridge::client::{
    self, Answer, Auth, Body, ClientConfig, ClientError, Patience, ProxyChoice, ProxyRules, Request, Service,
    ServiceDiscovery, Timeouts,
};
use southbridge_testkit::black_hole::ClosedPort;
use southbridge_testkit::certificates::Alpn;
use southbridge_testkit::raw::{RawPeer, Step};
use southbridge_words::Secret;

/// A GET by the name of its host: the response is whole, the connection is used again.
#[test]
fn a_request_is_answered_and_its_connection_used_again() {
    let mut program = Program::start();
    let peer = program.peer(vec![answering("200 OK\r\nX-Kind: test", "hello")]);
    let at = format!("http://a.test:{}/x", peer.address().port());
    for _ in 0..3 {
        let response = program.get(&at).expect("an answer");
        assert_eq!((response.status, &response.body[..]), (StatusCode::OK, &b"hello"[..]));
        assert_eq!(response.headers["x-kind"], "test");
        assert_eq!(response.url.as_str(), at);
        assert!(response.timing.head <= response.timing.total);
    }
    assert_eq!(peer.connections(), 1);
    assert!(
        received(&peer, 0)
            .starts_with(&format!("GET /x HTTP/1.1\r\nhost: a.test:{}\r\n", peer.address().port()))
            || received(&peer, 0)
                .to_ascii_lowercase()
                .contains(&format!("host: a.test:{}\r\n", peer.address().port()))
    );
    assert_eq!(program.port.held(), 0);
}

#[test]
fn redirects_are_followed_with_the_cookies_they_set() {
    let mut program = Program::start();
    let last = program.peer(vec![answering("200 OK", "there")]);
    let first = program.peer(vec![vec![
        Step::ReadRequest,
        Step::write(
            "HTTP/1.1 302 Found\r\nLocation: /two\r\nSet-Cookie: a=1\r\nContent-Length: 4\r\n\r\nmove",
        ),
        Step::ReadRequest,
        Step::write(format!(
            "HTTP/1.1 303 See Other\r\nLocation: http://b.test:{}/three\r\nContent-Length: 0\r\n\r\n",
            last.address().port()
        )),
    ]]);
    let mut request =
        Request::new(Method::POST, &format!("http://a.test:{}/one", first.address().port())).unwrap();
    request.body = Body::Json("{}".into());
    request.auth = Some(Auth::Bearer(Secret::new(*b"token")));
    let response = program.fetch(request).expect("an answer");
    assert_eq!(response.body, "there");
    assert_eq!(response.url.path(), "/three");
    assert_eq!(response.history.iter().map(|hop| hop.status.as_u16()).collect::<Vec<_>>(), [302, 303]);
    let asked = received(&first, 0);
    assert!(asked.starts_with("POST /one") && asked.contains("\r\n\r\n{}GET /two"), "{asked}");
    assert!(
        asked.contains("cookie: a=1") && asked.matches("authorization: Bearer token").count() == 2,
        "{asked}"
    );
    let asked = received(&last, 0);
    assert!(
        asked.starts_with("GET /three") && !asked.contains("token") && !asked.contains("cookie"),
        "{asked}"
    );
}

/// Faults row 12: redirects without end, and to where nobody should be led.
#[test]
fn redirects_end() {
    let mut program = Program::start();
    let peer = program.peer(vec![answering("302 Found\r\nLocation: /again", "")]);
    let error = program.get(&url(peer.address(), "/")).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("more than 20 redirects, the last to {}", url(peer.address(), "/again"))
    );
    assert_eq!(received(&peer, 0).matches("GET ").count(), 21);
    let peer = program.peer(vec![answering("302 Found\r\nLocation: file:///etc/passwd", "")]);
    assert_eq!(program.get(&url(peer.address(), "/")).unwrap_err().name(), "RedirectRefused");
    let request =
        Request { redirects_max: Some(0), ..Request::new(Method::GET, &url(peer.address(), "/")).unwrap() };
    assert_eq!(program.fetch(request).unwrap().status, StatusCode::FOUND);
}

/// Faults row 7: what comes of a small body is bounded, and what is broken is not taken for whole.
#[test]
fn encoded_bodies_are_decoded_within_bounds() {
    let mut program = Program::start();
    let hello = [
        0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 7, 0, 0x86, 0xa6, 0x10, 0x36, 5, 0,
        0, 0,
    ];
    let peer = program.peer(vec![answering("200 OK\r\nContent-Encoding: gzip", hello)]);
    let response = program.get(&url(peer.address(), "/")).expect("an answer");
    assert!(response.decoded && response.body == "hello");
    assert!(received(&peer, 0).contains("accept-encoding: gzip, deflate, br, zstd"));
    let request =
        Request { decompress: Some(false), ..Request::new(Method::GET, &url(peer.address(), "/")).unwrap() };
    assert_eq!(program.fetch(request).expect("an answer").body, hello[..]);
    for (head, body) in [
        ("200 OK\r\nContent-Encoding: gzip", &hello[..20]),
        ("200 OK\r\nContent-Encoding: gzip", b"not gzip at all"),
        ("200 OK\r\nContent-Encoding: gzip, gzip", &hello),
    ] {
        let peer = program.peer(vec![answering(head, body)]);
        assert_eq!(program.get(&url(peer.address(), "/")).unwrap_err().name(), "DecodeFailed", "{head}");
    }
}

/// Faults row 5: a body without end, and one that says how long it will be.
#[test]
fn a_body_past_its_bound_is_given_up() {
    let mut program = Program::start();
    for head in ["Connection: close", "Content-Length: 1000000000"] {
        let endless = vec![
            Step::ReadRequest,
            Step::write(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n")),
            Step::Endless { unit: Bytes::from(vec![b'x'; 4096]), bytes_max: 1 << 30 },
        ];
        let peer = program.peer(vec![endless]);
        let mut request = Request::new(Method::GET, &url(peer.address(), "/")).unwrap();
        request.body_bytes_max = Some(1 << 20);
        let error = program.fetch(request).unwrap_err();
        assert!(matches!(error, ClientError::TooLarge { bytes_max: 1_048_576, .. }), "{error}");
        assert!(peer.written() < 64 << 20);
    }
}

/// Each bound on time, met where it is due.
#[test]
fn each_timeout_names_itself() {
    let mut program = Program::start();
    let soon = Some(Duration::from_millis(200));
    let none = Timeouts { connect: None, read: None, total: None };
    let mute = program.peer(vec![vec![Step::ReadRequest, Step::Stall]]);
    let half = program.peer(vec![vec![
        Step::ReadRequest,
        Step::write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"),
        Step::Stall,
    ]]);
    let cases = [
        (&mute, Timeouts { read: soon, ..none }, Patience::Read, "response"),
        (&mute, Timeouts { total: soon, ..none }, Patience::Total, "response"),
        (&half, Timeouts { read: soon, ..none }, Patience::Read, "body"),
        (&half, Timeouts { total: soon, ..none }, Patience::Total, "body"),
    ];
    for (peer, timeouts, expected, at) in cases {
        let mut request = Request::new(Method::GET, &url(peer.address(), "/")).unwrap();
        request.timeouts = Some(timeouts);
        match program.fetch(request).unwrap_err() {
            ClientError::TimedOut { patience, step, .. } => {
                assert_eq!((patience, step.name()), (expected, at));
            }
            other => panic!("{other}"),
        }
    }
    let hole = southbridge_testkit::black_hole::BlackHole::open().expect("a hole");
    let mut request = Request::new(Method::GET, &url(hole.address(), "/")).unwrap();
    request.timeouts = Some(Timeouts { connect: soon, ..none });
    let error = program.fetch(request).unwrap_err();
    assert!(matches!(error, ClientError::TimedOut { patience: Patience::Connect, .. }), "{error}");
    assert!(error.is_repeatable());
}

#[test]
fn what_cannot_be_reached_is_named_and_repeatable() {
    let mut program = Program::start();
    let closed = ClosedPort::reserve().expect("a port");
    let error = program.get(&url(closed.address(), "/")).unwrap_err();
    assert!(matches!(error, ClientError::ConnectFailed { .. }) && error.is_repeatable(), "{error}");
    let error = program.get("http://nowhere.test/").unwrap_err();
    assert!(matches!(error, ClientError::NameNotFound { .. }) && error.is_repeatable(), "{error}");
    let cut = program.peer(vec![vec![Step::ReadRequest, Step::Reset]]);
    let error = program.get(&url(cut.address(), "/")).unwrap_err();
    assert!(matches!(error, ClientError::Cut { .. }) && !error.is_repeatable(), "{error}");
}

/// A stream comes as the peer sends it, trailers and all.
#[test]
fn a_response_is_drawn_in_pieces() {
    let mut program = Program::start();
    let peer = program.peer(vec![vec![
        Step::ReadRequest,
        Step::write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\none\r\n"),
        Step::Pause(Duration::from_millis(50)),
        Step::write("3\r\ntwo\r\n0\r\nX-Sum: 6\r\n\r\n"),
        Step::Again,
    ]]);
    let request = Request::new(Method::GET, &url(peer.address(), "/")).unwrap();
    let mut opened = program.client.open(&program.port, request).unwrap();
    assert_eq!(program.head(&opened).expect("a head").status, StatusCode::OK);
    assert_eq!(program.draw(&mut opened.draw).unwrap().unwrap(), "one");
    assert_eq!(program.draw(&mut opened.draw).unwrap().unwrap(), "two");
    let trailers = program.pump_until(|_| match opened.draw.take() {
        southbridge::client::Drawn::End(trailers) => Some(trailers),
        southbridge::client::Drawn::Pending => None,
        other => panic!("{other:?}"),
    });
    assert_eq!(trailers.expect("trailers")["x-sum"], "6");
    drop(opened);
    program.pump_until(|program| (program.port.held() == 0).then_some(()));
}

/// The application feeds a body, in pieces, and the peer gets it in chunks.
#[test]
fn a_request_is_fed_in_pieces() {
    let mut program = Program::start();
    let peer = program.peer(vec![answering("200 OK", "thanks")]);
    let mut request = Request::new(Method::PUT, &url(peer.address(), "/")).unwrap();
    request.body = Body::Stream { bytes: None };
    let mut opened = program.client.open(&program.port, request).unwrap();
    let mut feed = opened.feed.take().expect("it is fed");
    for _ in 0..100 {
        let mut piece = Some(Bytes::from(vec![b'x'; 5000]));
        program.pump_until(|_| match feed.push(piece.take().expect("not taken yet")) {
            client::Pushed::Taken => Some(()),
            client::Pushed::Full(bytes) => {
                piece = Some(bytes);
                None
            }
            client::Pushed::Closed => panic!("the peer reads"),
        });
    }
    feed.finish();
    assert_eq!(program.head(&opened).expect("a head").status, StatusCode::OK);
    assert_eq!(program.draw_all(&mut opened.draw).unwrap(), b"thanks");
    let got = received(&peer, 0);
    assert!(
        got.contains("transfer-encoding: chunked") && got.matches('x').count() >= 500_000,
        "{}",
        got.len()
    );
}

/// A form with a file, whose length is known before it is read.
#[test]
fn a_form_with_a_file_is_sent() {
    let mut program = Program::start();
    let peer = program.peer(vec![answering("200 OK", "thanks")]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![b'y'; 200_000]).unwrap();
    let mut form = client::Multipart::default();
    form.push(client::Part {
        name: "f".to_owned(),
        file_name: Some("y.bin".to_owned()),
        content_type: None,
        content: client::Content::File(file.path().to_owned()),
    });
    let mut request = Request::new(Method::POST, &url(peer.address(), "/")).unwrap();
    request.body = Body::Multipart(form);
    assert_eq!(program.fetch(request).expect("an answer").body, "thanks");
    let got = received(&peer, 0);
    assert!(got.contains("content-length: 2001") && got.matches('y').count() >= 200_000);
    let mut request = Request::new(Method::POST, &url(peer.address(), "/")).unwrap();
    request.body = Body::File("/nowhere/at/all".into());
    let error = program.fetch(request).unwrap_err();
    assert!(matches!(error, ClientError::FileFailed { .. }) && error.is_repeatable(), "{error}");
}

/// Through a proxy: http in absolute form, https through a tunnel.
#[test]
fn a_proxy_stands_between() {
    let plain = answering("200 OK", "by proxy");
    let scene = Program::start();
    let proxy = scene.peer(vec![plain]);
    let address = format!("http://user:pass@{}", proxy.address());
    let rules = ProxyRules::new(Some(&address), Some(&address), "").unwrap();
    let mut program = Program::with(ClientConfig { proxy: ProxyChoice::Rules(rules), ..settings() });
    assert_eq!(program.get("http://far.test/x?y").expect("an answer").body, "by proxy");
    let got = received(&proxy, 0);
    assert!(got.starts_with("GET http://far.test/x?y HTTP/1.1\r\n"), "{got}");
    assert!(got.contains("proxy-authorization: Basic dXNlcjpwYXNz"), "{got}");
    let refusing =
        scene.peer(vec![vec![Step::ReadHead, Step::write("HTTP/1.1 403 No\r\n\r\n"), Step::Close]]);
    let rules = ProxyRules::new(None, Some(&refusing.address().to_string()), "").unwrap();
    let mut program = Program::with(ClientConfig { proxy: ProxyChoice::Rules(rules), ..settings() });
    let error = program.get("https://far.test/").unwrap_err();
    assert!(error.to_string().contains("opens no tunnel: it answered \"403 No\""), "{error}");
    assert!(received(&refusing, 0).starts_with("CONNECT far.test:443 HTTP/1.1\r\n"));
}

#[test]
fn https_is_verified_and_speaks_http2_where_it_can() {
    let mut program = Program::start();
    let authority = std::sync::Arc::clone(&program.authority);
    let servers = program
        .world
        .block_on(southbridge_testkit::homeserver::Homeservers::start(authority))
        .expect("a server");
    let at = format!("https://a.test:{}/_matrix/federation/v1/version", servers.port());
    let response = program.get(&at).expect("an answer");
    assert_eq!((response.status, response.version), (StatusCode::OK, http::Version::HTTP_2));
    let peer = program
        .world
        .block_on(RawPeer::tls(
            &southbridge_testkit::certificates::Authority::new(),
            Alpn::Http1,
            vec![answering("200 OK", "")],
        ))
        .expect("a port");
    let error = program.get(&format!("https://a.test:{}/", peer.address().port())).unwrap_err();
    assert!(matches!(error, ClientError::TlsFailed { .. }) && error.is_repeatable(), "{error}");
}

/// A declared service is asked by its name, is ready before it is asked, and moves when it is told to.
#[test]
fn a_service_is_asked_by_its_name() {
    let mut program = Program::start();
    let one = program.peer(vec![answering("200 OK", "one")]);
    let two = program.peer(vec![answering("200 OK", "two")]);
    let service = Service::new("orders", ServiceDiscovery::Addresses(vec![one.address()]));
    let ticket = client::declare(&program.port, service).unwrap();
    assert!(matches!(program.answer(ticket), Ok(Answer::Done)));
    let mut since = None;
    loop {
        let ticket = client::ready(&program.port, since).unwrap();
        let Ok(Answer::Readiness(readiness)) = program.answer(ticket) else { panic!("readiness") };
        if readiness.all_ready() {
            break;
        }
        since = Some(readiness.version);
    }
    // It is connected before it is asked; its own thread may be a moment late to see it.
    program.pump_until(|_| (one.connections() == 1).then_some(()));
    let response = program.get("http://orders/x").expect("an answer");
    assert_eq!(response.body, "one");
    assert!(received(&one, 0).contains("host: orders\r\n"));
    assert_eq!(one.connections(), 1);
    let ticket = client::push(&program.port, "orders", vec![two.address()]).unwrap();
    assert!(matches!(program.answer(ticket), Ok(Answer::Done)));
    assert_eq!(program.get("http://orders/x").expect("an answer").body, "two");
    let ticket = client::withdraw(&program.port, "orders").unwrap();
    assert!(matches!(program.answer(ticket), Ok(Answer::Done)));
    assert!(program.get("http://orders/x").is_err());
}
