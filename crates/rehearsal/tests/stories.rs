//! The kernel that ships, on a clock that the test moves.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use southbridge_kernel::ExchangeError;
use southbridge_rehearsal::{
    Answer, Asked, CertificateKind, Path, Peer, RecordType, Rehearsal, RehearsalConfig, RehearsalThread,
    Reply, Syn,
};
use southbridge_words::{HostState, ServiceName, Step};

const SECOND: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(20);

fn rehearsal(seed: u64) -> Rehearsal {
    Rehearsal::new(RehearsalConfig { seed, ..RehearsalConfig::default() }).expect("it can be set up")
}

/// A host `name` at `203.0.113.<last>`, and the peer on its port 443.
fn host(rehearsal: &Rehearsal, name: &str, last: u8) -> Peer {
    let ip = IpAddr::from([203, 0, 113, last]);
    rehearsal.dns().host(name, &[ip], 60);
    rehearsal.peer(SocketAddr::new(ip, 443)).expect("nobody is there yet")
}

fn status(asked: &Asked) -> u16 {
    asked.result().expect("it has ended").expect("it was answered").status().as_u16()
}

fn error(asked: &Asked) -> ExchangeError {
    asked.result().expect("it has ended").expect_err("it has failed")
}

/// A whole exchange over TLS takes the time that its path takes, to the millisecond: two trips for the name, two for TCP,
/// two for TLS 1.3, two for the request.
#[test]
fn an_exchange_takes_the_time_of_its_trips() {
    let mut rehearsal = rehearsal(1);
    let peer = host(&rehearsal, "a.test", 1);
    rehearsal
        .network()
        .set_path(peer.address().ip(), Path { latency: Duration::from_millis(50), ..Path::default() });
    let asked = rehearsal.get("https://a.test/one", TIMEOUT).unwrap();
    rehearsal.advance(Duration::from_millis(299));
    assert!(asked.result().is_none(), "{:#?}", rehearsal.log().lines());
    rehearsal.advance(Duration::from_millis(1));
    assert_eq!(status(&asked), 200);
    let seen = peer.seen();
    assert_eq!((seen.len(), &*seen[0].method, &*seen[0].target), (1, "GET", "/one"));
    assert!(seen[0].head.to_ascii_lowercase().contains("\r\nhost: a.test\r\n"), "{}", seen[0].head);
}

/// Plain HTTP needs no certificate, and a connection serves again.
#[test]
fn a_connection_is_kept() {
    let mut rehearsal = rehearsal(1);
    rehearsal.dns().host("a.test", &["203.0.113.1".parse().unwrap()], 60);
    let peer = rehearsal.peer("203.0.113.1:8080".parse().unwrap()).unwrap();
    for _ in 0..3 {
        let asked = rehearsal.get("http://a.test:8080/", TIMEOUT).unwrap();
        rehearsal.settle();
        assert_eq!(status(&asked), 200);
    }
    assert!(peer.seen().iter().all(|seen| seen.conn == 1));
    assert_eq!(rehearsal.elapsed(), Duration::ZERO);
}

/// Between two requests it is stowed, for it is idle for longer than a moment; nobody can tell.
#[test]
fn a_connection_that_was_idle_serves_again() {
    let mut rehearsal = rehearsal(1);
    let peer = host(&rehearsal, "a.test", 1);
    for _ in 0..3 {
        let asked = rehearsal.get("https://a.test/", TIMEOUT).unwrap();
        rehearsal.advance(10 * SECOND);
        assert_eq!(status(&asked), 200);
    }
    assert_eq!(peer.seen().iter().map(|seen| seen.conn).collect::<Vec<_>>(), [1, 1, 1]);
}

/// A peer that never answers costs its caller the deadline, and not a millisecond more.
#[test]
fn a_deadline_is_kept_to_the_millisecond() {
    let mut rehearsal = rehearsal(1);
    let peer = host(&rehearsal, "a.test", 1);
    peer.otherwise(Reply::never());
    let asked = rehearsal.get("https://a.test/", 7 * SECOND).unwrap();
    rehearsal.advance(Duration::from_millis(6_999));
    assert!(asked.result().is_none());
    rehearsal.advance(Duration::from_millis(1));
    assert!(matches!(error(&asked), ExchangeError::DeadlinePassed { .. }), "{}", error(&asked));
}

/// A body that drips is given up by the deadline, too; one that comes in time is whole.
#[test]
fn a_body_may_drip_for_as_long_as_its_deadline_says() {
    let mut rehearsal = rehearsal(1);
    let peer = host(&rehearsal, "a.test", 1);
    peer.on("/short", Reply::drip("twelve bytes", 1, SECOND));
    peer.on("/long", Reply::drip("and a body that takes longer", 1, SECOND));
    let (short, long) =
        (rehearsal.get("https://a.test/short", TIMEOUT), rehearsal.get("https://a.test/long", TIMEOUT));
    let (short, long) = (short.unwrap(), long.unwrap());
    rehearsal.advance(TIMEOUT);
    assert_eq!(short.result().unwrap().unwrap().body(), "twelve bytes");
    assert!(matches!(error(&long), ExchangeError::PeerMisbehaved { .. }), "{}", error(&long));
}

/// The keep-alive race (faults row 2): the peer closes an idle connection while the next request is on its way. What may be
/// repeated is, on a fresh connection; what may not is a failure that says how far it had come.
#[test]
fn the_keep_alive_race_is_won_by_what_may_be_repeated() {
    let mut rehearsal = rehearsal(1);
    let peer = host(&rehearsal, "a.test", 1);
    rehearsal
        .network()
        .set_path(peer.address().ip(), Path { latency: Duration::from_millis(40), ..Path::default() });
    for (is_repeatable, expected) in [(true, Some(200)), (false, None)] {
        peer.next(Reply::json(200, "{}"));
        peer.next(Reply::close());
        let before = peer.seen().len();
        let first = rehearsal.get("https://a.test/", TIMEOUT).unwrap();
        rehearsal.advance(SECOND);
        assert_eq!(status(&first), 200);
        let mut request = http::Request::get("https://a.test/again").body(bytes::Bytes::new()).unwrap();
        if !is_repeatable {
            *request.method_mut() = http::Method::POST;
        }
        let call = rehearsal.call(request, TIMEOUT).unwrap();
        let second = rehearsal.ask(call, TIMEOUT);
        rehearsal.advance(SECOND);
        match expected {
            Some(expected) => assert_eq!(status(&second), expected),
            None => assert!(matches!(error(&second), ExchangeError::Cut { .. }), "{}", error(&second)),
        }
        let conns: Vec<u64> = peer.seen()[before..].iter().map(|seen| seen.conn).collect();
        assert_eq!(conns.len(), if is_repeatable { 3 } else { 2 }, "{conns:?}");
        rehearsal.advance(60 * SECOND);
    }
}

/// A reset is an end, and says how far it had come; the next request finds another connection.
#[test]
fn a_reset_costs_one_connection() {
    let mut rehearsal = rehearsal(1);
    let peer = host(&rehearsal, "a.test", 1);
    peer.next(Reply::reset());
    let first = rehearsal.get("https://a.test/", TIMEOUT).unwrap();
    rehearsal.advance(SECOND);
    assert!(matches!(error(&first), ExchangeError::Cut { .. }), "{}", error(&first));
    let second = rehearsal.get("https://a.test/", TIMEOUT).unwrap();
    rehearsal.advance(SECOND);
    assert_eq!(status(&second), 200);
    assert_eq!(peer.seen().iter().map(|seen| seen.conn).collect::<Vec<_>>(), [1, 2]);
    let log = rehearsal.log().lines().join("\n");
    assert!(log.contains("connection 1 reset by the peer"), "{log}");
}

/// The host moves. For as long as its record says, it is looked for where it was; then it is found where it is.
#[test]
fn a_name_is_believed_for_its_time() {
    let mut rehearsal = rehearsal(1);
    let old = host(&rehearsal, "a.test", 1);
    old.otherwise(Reply::json(200, "{}").then_close());
    let new = {
        let first = rehearsal.get("https://a.test/", TIMEOUT).unwrap();
        rehearsal.advance(SECOND);
        assert_eq!(status(&first), 200);
        host(&rehearsal, "a.test", 2)
    };
    for (wait, old_seen, new_seen) in [(50, 2, 0), (15, 2, 1)] {
        rehearsal.advance(wait * SECOND);
        let asked = rehearsal.get("https://a.test/", TIMEOUT).unwrap();
        rehearsal.advance(SECOND);
        assert_eq!(status(&asked), 200);
        assert_eq!(
            (old.seen().len(), new.seen().len()),
            (old_seen, new_seen),
            "{:#?}",
            rehearsal.log().lines()
        );
    }
}

/// SERVFAIL is no answer (faults row 14): what is known stands in, and who is not known fails by the name of its step.
#[test]
fn a_name_server_that_fails_takes_nothing_away() {
    let mut rehearsal = rehearsal(1);
    let _peer = host(&rehearsal, "a.test", 1);
    let first = rehearsal.get("https://a.test/", TIMEOUT).unwrap();
    rehearsal.advance(SECOND);
    assert_eq!(status(&first), 200);
    for name in ["a.test", "b.test"] {
        rehearsal.dns().set(name, RecordType::A, Answer::ServFail);
        rehearsal.dns().set(name, RecordType::AAAA, Answer::Silence);
    }
    rehearsal.advance(120 * SECOND);
    let (known, unknown) =
        (rehearsal.get("https://a.test/", TIMEOUT), rehearsal.get("https://b.test/", TIMEOUT));
    rehearsal.advance(TIMEOUT);
    assert_eq!(status(&known.unwrap()), 200);
    assert_eq!(error(&unknown.unwrap()).step(), Step::Discovery);
}

/// A certificate for somebody else: no byte of the request goes out (faults row 11).
#[test]
fn a_bad_certificate_gets_no_byte() {
    let mut rehearsal = rehearsal(1);
    let peer = host(&rehearsal, "a.test", 1);
    rehearsal.certificates().set("a.test", CertificateKind::WrongName);
    let asked = rehearsal.get("https://a.test/", TIMEOUT).unwrap();
    rehearsal.advance(TIMEOUT);
    assert_eq!(error(&asked).step(), Step::Handshake, "{}", error(&asked));
    assert!(peer.seen().is_empty());
}

/// A cut of one direction is silence, and not an end: what was sent meanwhile arrives when it is mended.
#[test]
fn a_partition_of_one_way_heals_if_it_is_waited_for() {
    let mut rehearsal = rehearsal(1);
    let peer = host(&rehearsal, "a.test", 1);
    let first = rehearsal.get("https://a.test/", TIMEOUT).unwrap();
    rehearsal.advance(SECOND);
    assert_eq!(status(&first), 200);
    rehearsal.network().set_path(peer.address().ip(), Path { is_cut_back: true, ..Path::default() });
    let second = rehearsal.get("https://a.test/", TIMEOUT).unwrap();
    rehearsal.advance(5 * SECOND);
    assert_eq!((peer.seen().len(), second.result().is_none()), (2, true));
    rehearsal.network().set_path(peer.address().ip(), Path::default());
    rehearsal.settle();
    assert_eq!(status(&second), 200);
}

/// A request waits for as long as the test wants it to.
#[test]
fn a_held_request_is_answered_when_it_is_released() {
    let mut rehearsal = rehearsal(1);
    let peer = host(&rehearsal, "a.test", 1);
    peer.otherwise(Reply::held());
    let asked = rehearsal.get("https://a.test/", TIMEOUT).unwrap();
    rehearsal.advance(3 * SECOND);
    assert_eq!((peer.held(), asked.result().is_none()), (vec![1], true));
    assert!(peer.release(1, Reply::json(418, "{}")));
    rehearsal.settle();
    assert_eq!(status(&asked), 418);
    assert!(!peer.release(1, Reply::json(418, "{}")));
}

/// I5 and faults row 1, with the kernel that ships: two hundred hosts that swallow every SYN, and one that is well does not
/// notice.
#[test]
fn a_healthy_host_does_not_notice_black_holes() {
    let latency = |holes: u8| {
        let mut rehearsal = rehearsal(5);
        let peer = host(&rehearsal, "well.test", 1);
        let path = Path { latency: Duration::from_millis(20), ..Path::default() };
        rehearsal.network().set_path(peer.address().ip(), path);
        let holes: Vec<String> = (0..holes).map(|n| format!("hole{n}.test")).collect();
        for (n, name) in (0_u8..).zip(&holes) {
            let ip = IpAddr::from([198, 51, 100, n]);
            rehearsal.dns().host(name, &[ip], 60);
            rehearsal.network().set_path(ip, Path { syn: Syn::Lost, ..Path::default() });
        }
        let mut slowest = Duration::ZERO;
        for round in 0..20 {
            for name in &holes {
                drop(rehearsal.get(&format!("https://{name}/{round}"), TIMEOUT).unwrap());
            }
            let asked = rehearsal.get("https://well.test/", TIMEOUT).unwrap();
            let since = rehearsal.elapsed();
            while asked.result().is_none() {
                rehearsal.advance(Duration::from_millis(1));
            }
            assert_eq!(status(&asked), 200);
            slowest = slowest.max(rehearsal.elapsed() - since);
            rehearsal.advance(2 * SECOND);
        }
        let state = |name: &str| rehearsal.kernel().host(&ServiceName::new(name)).map(|view| view.state);
        assert!(
            holes.is_empty() || state("hole0.test") == Some(HostState::Down),
            "{:?}",
            state("hole0.test")
        );
        slowest
    };
    let (calm, storm) = (latency(0), latency(200));
    assert!(storm <= calm * 2, "{calm:?} in calm, {storm:?} with black holes");
}

/// A crowd of hosts on bad paths, told by its seed.
fn crowd(seed: u64) -> (Vec<String>, u64) {
    let mut rehearsal = rehearsal(seed);
    let peers: Vec<Peer> = (1..=12).map(|n| host(&rehearsal, &format!("h{n}.test"), n)).collect();
    for (n, peer) in (0_u32..).zip(&peers) {
        let path = Path {
            latency: Duration::from_millis(10),
            jitter: Duration::from_millis(80),
            lost_permille: 200,
            twice_permille: 100,
            syn: if n % 5 == 4 { Syn::Lost } else { Syn::Answered },
            ..Path::default()
        };
        rehearsal.network().set_path(peer.address().ip(), path);
        rehearsal.network().set_path(IpAddr::from([192, 0, 2, 53]), path_of_names());
        peer.next(Reply::reset());
        peer.otherwise(Reply::json(200, "{}").after(u32::from(n % 3 == 0) * 30 * SECOND));
    }
    for round in 0..6 {
        for n in 1..=12 {
            let url = format!("https://h{n}.test/{round}");
            drop(rehearsal.get(&url, TIMEOUT).expect("it is a URL"));
        }
        rehearsal.advance(15 * SECOND);
    }
    (rehearsal.log().lines(), rehearsal.log().fingerprint())
}

fn path_of_names() -> Path {
    Path {
        latency: Duration::from_millis(5),
        jitter: Duration::from_millis(20),
        lost_permille: 300,
        ..Path::default()
    }
}

/// T4: the same seed gives the same run, to the letter; another seed gives another.
#[test]
fn one_seed_tells_one_story() {
    let (one, again, other) = (crowd(7), crowd(7), crowd(8));
    let difference = one.0.iter().zip(&again.0).find(|(one, again)| one != again);
    assert_eq!(difference, None);
    assert_eq!(one, again);
    assert_ne!(one.1, other.1);
    assert!(one.0.len() > 300, "{} lines", one.0.len());
}

/// It may live on a thread of its own, and tell what came of it from there.
#[test]
fn a_rehearsal_on_a_thread_does_what_it_is_told() {
    let thread = RehearsalThread::start(RehearsalConfig::default()).unwrap();
    let status = thread.with(|rehearsal| {
        let _peer = host(rehearsal, "a.test", 1);
        let asked = rehearsal.get("https://a.test/", TIMEOUT).unwrap();
        rehearsal.advance(SECOND);
        status(&asked)
    });
    assert_eq!(status, Ok(200));
    assert!(thread.with(|_| panic!("as the test wants it")).is_err());
    assert!(thread.with(|_| ()).is_err());
}
