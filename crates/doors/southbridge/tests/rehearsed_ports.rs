//! A program's requests at a port, on a clock that the test moves.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::Method;
use southbridge::Southbridge;
use southbridge::client::{Answer, Client, ClientConfig, ClientError, Patience, Port, ProxyChoice, Timeouts};
use southbridge::federation::FederationConfig;
use southbridge_rehearsal::{Deed, Ending, Head, Peer, Rehearsal, RehearsalConfig, Reply, Speech};
use southbridge_words::Step;

const HOUR: Duration = Duration::from_secs(3600);

struct Stage {
    port: Port,
    client: Client,
    rehearsal: Rehearsal,
}

fn stage() -> Stage {
    let mut rehearsal = Rehearsal::new(RehearsalConfig::default()).expect("it can be set up");
    let landing =
        rehearsal.serve_ports(|kernel| Southbridge::on(kernel.clone(), FederationConfig::default()));
    let port = landing.attach(16).expect("there is a descriptor");
    let config = ClientConfig {
        proxy: ProxyChoice::Direct,
        timeouts: Timeouts { connect: Some(10 * HOUR), read: Some(10 * HOUR), total: None },
        ..ClientConfig::default()
    };
    Stage { port, client: Client::new(config).expect("the settings work"), rehearsal }
}

impl Stage {
    fn peer(&self, name: &str, last: u8, port: u16, speech: Speech) -> Peer {
        let ip = IpAddr::from([203, 0, 113, last]);
        self.rehearsal.dns().host(name, &[ip], 60);
        self.rehearsal.peer_that_speaks(SocketAddr::new(ip, port), speech).expect("nobody is there yet")
    }

    fn ask(&self, url: &str) {
        let request = self.client.request(Method::GET, url).expect("it is a URL");
        self.client.submit(&self.port, request).expect("the port has room");
    }

    fn answer(&self) -> Option<Result<Answer, ClientError>> {
        let mut answer = None;
        self.port.drain(1, |completion| answer = completion.answer());
        answer
    }
}

fn status(answer: Option<Result<Answer, ClientError>>) -> (u16, http::Version) {
    match answer {
        Some(Ok(Answer::Response(response))) => (response.status.as_u16(), response.version),
        other => panic!("{other:?}"),
    }
}

/// A client asks over either version of HTTP, the test decides what becomes of it, and the clock stands still for that.
#[test]
fn a_client_at_a_port_waits_for_what_the_test_says() {
    let mut stage = stage();
    let plain = stage.peer("plain.test", 1, 80, Speech::Http1);
    let secure = stage.peer("secure.test", 2, 443, Speech::Http2OverTls);
    for (peer, url, version) in [
        (&plain, "http://plain.test/a", http::Version::HTTP_11),
        (&secure, "https://secure.test/a", http::Version::HTTP_2),
    ] {
        let before = stage.rehearsal.elapsed();
        peer.otherwise(Reply::held());
        stage.ask(url);
        assert!(stage.rehearsal.step(HOUR), "a request is held");
        assert_eq!((stage.rehearsal.elapsed(), peer.held()), (before, vec![1]));
        assert!(peer.release(1, Reply::json(200, "{}").after(3 * HOUR)));
        assert!(!stage.rehearsal.step(HOUR), "nothing happens for an hour");
        assert!(stage.answer().is_none());
        assert!(stage.rehearsal.step(5 * HOUR));
        assert_eq!(stage.rehearsal.elapsed(), before + 3 * HOUR, "no later than there is something to tell");
        assert_eq!(status(stage.answer()), (200, version));
    }
}

/// Over HTTP/2 as well a peer may reset, hang up in the middle, and drip.
#[test]
fn streams_of_http2_end_as_they_are_told() {
    let mut stage = stage();
    let peer = stage.peer("a.test", 1, 443, Speech::Http2OverTls);
    let head = || Some(Head { status: 200, headers: vec![("content-length".to_owned(), b"9".to_vec())] });
    let piece = |text: &'static str| (Duration::from_secs(1), bytes::Bytes::from_static(text.as_bytes()));
    let deed = |ending| {
        let pieces = vec![piece("abc"), piece("def"), piece("ghi")];
        let pieces = if ending == Ending::Whole { pieces } else { pieces[..2].to_vec() };
        Reply::from(Deed { after: Duration::ZERO, head: head(), pieces, ending })
    };
    for (target, reply) in [
        ("/whole", deed(Ending::Whole)),
        ("/cut", deed(Ending::Cut)),
        ("/reset", deed(Ending::Reset)),
        ("/never", deed(Ending::Never)),
    ] {
        peer.on(target, reply);
    }
    stage.ask("https://a.test/whole");
    assert!(stage.rehearsal.step(HOUR));
    assert_eq!((status(stage.answer()).0, stage.rehearsal.elapsed()), (200, Duration::from_secs(3)));
    for target in ["/cut", "/reset"] {
        stage.ask(&format!("https://a.test{target}"));
        assert!(stage.rehearsal.step(HOUR));
        let error = stage.answer().expect("it has ended").expect_err("it was broken off");
        assert!(matches!(error, ClientError::Cut { .. }), "{target}: {error:?}");
    }
    stage.ask("https://a.test/never");
    while stage.rehearsal.elapsed() < 20 * HOUR {
        stage.rehearsal.step(HOUR);
    }
    let error = stage.answer().expect("it has ended").expect_err("nothing more came");
    let patience = matches!(error, ClientError::TimedOut { patience: Patience::Read, step: Step::Body, .. });
    assert!(patience || matches!(error, ClientError::PeerMisbehaved { .. }), "{error:?}");
}

/// When the rehearsal ends, whoever waits at a port is told so.
#[test]
fn nobody_waits_for_a_rehearsal_that_has_ended() {
    let mut stage = stage();
    let peer = stage.peer("a.test", 1, 80, Speech::Http1);
    peer.otherwise(Reply::never());
    stage.ask("http://a.test/");
    stage.rehearsal.step(Duration::from_secs(1));
    let Stage { port, rehearsal, .. } = stage;
    drop(rehearsal);
    let mut told = None;
    port.drain(1, |completion| told = completion.answer());
    assert!(matches!(told, Some(Err(ClientError::Stopped))), "{told:?}");
}
