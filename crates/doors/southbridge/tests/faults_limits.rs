//! What we ourselves run out of: row 26. And what we write: row 10.

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use southbridge_kernel::KernelConfig;
use southbridge_kernel::exchange::ExchangeError;
use southbridge_kernel::net::ConnectError;
use southbridge_testkit::black_hole::BlackHole;
use southbridge_testkit::certificates::Alpn;
use southbridge_testkit::homeserver::{Homeservers, HostScript};
use southbridge_testkit::raw::{RawPeer, faults};
use southbridge_words::{HostState, Outcome, ServiceName};
use support::{PATIENCE, SOON, Target, named, on_kernel, on_kernel_with, plain, tls, until};

/// Sixty services want a connection each, and eight may be open: all are served, and never are there nine.
#[tokio::test]
async fn row_26_connections_never_exceed_their_limit() {
    on_kernel_with(few_connections, async |rig| {
        let peer = RawPeer::plain(vec![faults::well()]).await.unwrap();
        let all: Vec<Target> = (0..60).map(|n| named(&format!("a{n}.test"), peer.address())).collect();
        let (mut most, mut done) = (0, false);
        let asked = async {
            let served = join_all(all.iter().map(|to| rig.is_served(to))).await;
            done = true;
            served
        };
        tokio::pin!(asked);
        let served = std::future::poll_fn(|cx| {
            most = most.max(rig.kernel.pool_usage().connections);
            asked.as_mut().poll(cx)
        })
        .await;
        assert!(served.iter().all(|served| *served));
        assert!((1..=8).contains(&most), "{most} at once");
        assert!(rig.is_at_rest());
    })
    .await;
}

/// More than may wait at once: the surplus is told so at once, and those in the queue are served.
#[tokio::test]
async fn row_26_a_full_queue_answers_at_once() {
    let narrow = |config: &mut KernelConfig| {
        few_connections(config);
        config.admission.per_service_max = 50;
    };
    on_kernel_with(narrow, async |rig| {
        let peer = RawPeer::plain(vec![faults::well()]).await.unwrap();
        let to = plain(peer.address());
        let answers = join_all((0..200).map(|_| rig.ask(rig.get(&to, PATIENCE)))).await;
        let shed = answers.iter().filter(|one| matches!(one, Err(ExchangeError::Overloaded { .. }))).count();
        let served = answers.iter().filter(|one| one.is_ok()).count();
        assert_eq!((served, shed), (50, 150));
        assert_eq!(rig.state(&to), Some(HostState::Healthy), "our queue is not the host's fault");
    })
    .await;
}

/// A process that may open a dozen descriptors more is asked for a hundred connections. It says what it lacks,
/// blames nobody, goes on with what it has, and serves again whoever asks when others are done.
#[tokio::test]
async fn row_26_a_process_without_descriptors_sheds_survives_and_recovers() {
    let hold = vec![faults::well(); 1];
    let peer = RawPeer::plain(hold).await.unwrap();
    let program = std::env::current_exe().expect("this program");
    let child = tokio::task::spawn_blocking(move || {
        Command::new(program)
            .args(["--exact", "the_process_without_descriptors", "--nocapture"])
            .env(PEER, peer.address().to_string())
            .output()
            .expect("it starts")
    });
    let output = support::within(PATIENCE * 2, child).await.expect("it ran");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{out}\n{err}");
    assert!(out.contains("shed"), "it was that process: {out}");
}

/// The process of the test above; by itself it has nothing to do.
#[tokio::test]
async fn the_process_without_descriptors() {
    let Ok(peer) = std::env::var(PEER) else { return };
    let peer = peer.parse().expect("an address");
    on_kernel(async |rig| {
        let open = std::fs::read_dir("/proc/self/fd").expect("Linux").count() as u64;
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(open + 12), ..limit }).expect("lower is allowed");
        let all: Vec<Target> = (0..100).map(|n| named(&format!("a{n}.test"), peer)).collect();
        let answers = join_all(all.iter().map(|to| rig.ask(rig.get(to, PATIENCE)))).await;
        let served = answers.iter().filter(|answer| answer.is_ok()).count();
        assert!(served >= 8, "{served} were served");
        assert!(answers.iter().filter_map(|answer| answer.as_ref().err()).all(is_exhausted), "{answers:?}");
        println!("shed {} of 100", 100 - served);
        let blamed = rig.kernel.hosts().iter().filter(|(_, view)| view.failures > 0).count();
        assert_eq!(blamed, 0);
        // One after the other, everybody is served: idle connections are given up for them.
        for to in &all {
            assert!(rig.is_served(to).await, "{}", to.service);
        }
        assert!(rig.is_at_rest());
    })
    .await;
}

/// A machine that has a dozen ports left to call from is asked for a hundred connections to one address. It says
/// what it lacks, blames nobody, goes on to take calls, and serves everybody as soon as there are ports again.
#[tokio::test]
#[ignore = "needs a network namespace: cargo xtask test"]
async fn row_26_a_machine_without_ports_sheds_survives_and_recovers() {
    let mut unshare = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    let program = std::env::current_exe().expect("this program");
    unshare.args(["--net", "sh", "-c", r#"ip link set lo up && exec "$0" "$@""#]).arg(program);
    unshare.args(["--exact", "the_machine_without_ports", "--nocapture"]).env(PORTS, FEW_PORTS);
    let child = tokio::task::spawn_blocking(move || unshare.output().expect("it starts"));
    let output = support::within(PATIENCE * 4, child).await.expect("it ran");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{out}\n{err}");
    assert!(out.contains("shed"), "it was that machine: {out}");
}

/// The machine of the test above; by itself it has nothing to do.
#[tokio::test]
async fn the_machine_without_ports() {
    let Ok(few) = std::env::var(PORTS) else { return };
    on_kernel(async |rig| {
        let peer = RawPeer::plain(vec![faults::well()]).await.unwrap();
        let many = std::fs::read_to_string(PORT_RANGE).expect("Linux");
        std::fs::write(PORT_RANGE, few).expect("the network is ours");
        let all: Vec<Target> = (0..100).map(|n| named(&format!("a{n}.test"), peer.address())).collect();
        let answers = join_all(all.iter().map(|to| rig.ask(rig.get(to, PATIENCE)))).await;
        let served = answers.iter().filter(|answer| answer.is_ok()).count();
        assert!((8..100).contains(&served), "{served} were served");
        for error in answers.iter().filter_map(|answer| answer.as_ref().err()) {
            assert!(is_exhausted(error), "{error:?}");
            assert_eq!(error.outcome(), Outcome::Abandoned);
        }
        println!("shed {} of 100", 100 - served);
        let blamed = rig.kernel.hosts().iter().filter(|(_, view)| view.failures > 0).count();
        assert_eq!(blamed, 0);
        // What comes in needs no port of its own.
        let door = std::net::TcpListener::bind(("127.0.0.2", 9101)).expect("a port of our choice");
        let caller = std::net::TcpStream::connect(door.local_addr().unwrap()).expect("another address");
        assert!(door.accept().is_ok());
        drop(caller);
        std::fs::write(PORT_RANGE, many).expect("the network is ours");
        for to in &all {
            assert!(rig.is_served(to).await, "{}", to.service);
        }
        assert!(rig.is_at_rest());
    })
    .await;
}

/// A reader sleeps on a long answer, and another request waits for its place: when the lease is overdue the place
/// is taken back, and the sleeper finds an error, never a shorter answer.
#[tokio::test]
async fn row_04_an_overdue_lease_is_taken_back_when_somebody_waits() {
    use http_body_util::BodyExt;
    for alpn in [Alpn::Http1, Alpn::Http2] {
        on_kernel_with(one_connection, async |rig| {
            let servers = Homeservers::start(rig.authority.clone()).await.unwrap();
            servers.set("a.test", HostScript { alpn, ..HostScript::default() });
            let mut call = rig.get(&tls("a.test", servers.address()), PATIENCE);
            *call.request.uri_mut() = "/blob/50000000".parse().unwrap();
            let mut sleeper = rig.send(call).await.expect("a head").into_body();
            let peer = RawPeer::plain(vec![faults::well()]).await.unwrap();
            let started = Instant::now();
            let served = rig.ask(rig.get(&plain(peer.address()), PATIENCE)).await;
            assert!(served.is_ok(), "{alpn:?}: {served:?}");
            assert!(started.elapsed() < PATIENCE, "{alpn:?}");
            let (mut read, mut end) = (0, None);
            while let Some(frame) = sleeper.frame().await {
                match frame {
                    Ok(frame) => read += frame.data_ref().map_or(0, bytes::Bytes::len),
                    Err(error) => end = Some(error),
                }
            }
            assert!(read < 50_000_000 && end.is_some(), "{alpn:?}: {read} bytes, then {end:?}");
            until("the socket is closed", || servers.counts().open == 0).await;
            assert!(rig.is_at_rest());
        })
        .await;
    }
}

/// The caller goes away while its request waits: in the queue, and while the connection is being opened.
#[tokio::test]
async fn a_request_that_is_cancelled_while_it_waits_leaves_no_trace() {
    on_kernel_with(one_connection, async |rig| {
        let hole = BlackHole::open().unwrap();
        let (first, second) = (named("a.test", hole.address()), named("b.test", hole.address()));
        let both =
            async { tokio::join!(rig.ask(rig.get(&first, PATIENCE)), rig.ask(rig.get(&second, PATIENCE))) };
        assert!(tokio::time::timeout(SOON, both).await.is_err());
        assert!(rig.is_at_rest());
        for to in [first, second] {
            assert_eq!(rig.kernel.host(&to.service).map(|view| view.failures), Some(0), "{}", to.service);
        }
    })
    .await;
}

/// A request whose time is up before it begins is never sent, not even on a connection that is open and free.
#[tokio::test]
async fn what_has_expired_is_never_sent() {
    on_kernel(async |rig| {
        let peer = RawPeer::plain(vec![faults::well()]).await.unwrap();
        let to = plain(peer.address());
        assert!(rig.is_served(&to).await);
        let before = peer.received(0).len();
        let error = rig.ask(rig.get(&to, Duration::ZERO)).await.expect_err("too late");
        assert!(matches!(error, ExchangeError::DeadlinePassed { .. }), "{error:?}");
        assert!(rig.is_served(&to).await);
        assert_eq!(peer.received(0).len(), 2 * before, "two requests, not three");
    })
    .await;
}

/// Every fault there is, all at once, some of the callers leaving early: no panic, nothing left behind, and a good
/// host is served all the while.
#[tokio::test]
async fn all_faults_at_once_leave_nothing_behind() {
    use southbridge_testkit::raw::http2::{Http2Fault, Http2Peer};
    on_kernel(async |rig| {
        let scripts =
            faults::misframed().into_iter().chain(faults::cut_off()).chain(faults::endless(1 << 20));
        let mut targets = Vec::new();
        let mut peers = Vec::new();
        for (_, script) in scripts.filter(|(name, _)| *name != "chunks of one byte") {
            let peer = RawPeer::plain(vec![script]).await.unwrap();
            targets.push(plain(peer.address()));
            peers.push(peer);
        }
        let mut http2 = Vec::new();
        for fault in [
            Http2Fault::ResetEach(7),
            Http2Fault::ResetEach(8),
            Http2Fault::ResetEach(13),
            Http2Fault::StreamsMax(0),
            Http2Fault::StreamsMax(1),
            Http2Fault::WindowZero,
            Http2Fault::GoAwayAfter(0),
            Http2Fault::GoAwayAfter(1),
            Http2Fault::HeaderBomb,
            Http2Fault::Mute,
        ] {
            let peer = Http2Peer::start(&rig.authority, fault).await.unwrap();
            targets.push(tls("h2.test", peer.address()));
            http2.push(peer);
        }
        let good = RawPeer::plain(vec![faults::well()]).await.unwrap();
        let good = plain(good.address());
        let storm =
            (0..6).flat_map(|round| targets.iter().map(move |to| (round, to))).map(async |(round, to)| {
                let call = if round % 2 == 0 { rig.get(to, SOON) } else { rig.post(to, SOON) };
                // Some leave at once, some in the middle, some stay to the end.
                let _any_end = tokio::time::timeout(Duration::from_millis(40 * round), rig.ask(call)).await;
            });
        let served = async {
            for _ in 0..50 {
                assert!(rig.is_served(&good).await);
            }
        };
        tokio::join!(join_all(storm), served);
        until("everything is given back", || rig.is_at_rest()).await;
        assert!(rig.is_served(&good).await);
        until("nothing is being opened", || {
            let usage = rig.kernel.pool_usage();
            usage.dials + usage.handshakes == 0 && usage.connections == usage.idle
        })
        .await;
    })
    .await;
}

/// What would end a line, or begin another request, is refused before anybody is asked for anything.
#[tokio::test]
async fn row_10_what_could_split_a_request_is_never_written() {
    use southbridge::federation::{FederationConfig, FederationDiscovery};
    on_kernel(async |rig| {
        let discovery =
            std::rc::Rc::new(FederationDiscovery::new(rig.kernel.clone(), FederationConfig::default()));
        for name in [
            "a.test\r\nX: y",
            "a.test\n",
            "a.test\0",
            "a test",
            " a.test",
            "a.test ",
            "user@a.test",
            "a.test/path",
            "a.test?q",
            "a.test#f",
            "a.test:0",
            "a.test:123456",
            "a.test:8448:1",
            "[::1",
            "",
            ":8448",
            "a.test:8448\r\n",
        ] {
            let to = Target { service: ServiceName::new(name), discovery: discovery.clone() };
            let started = Instant::now();
            let error = rig.ask(rig.get(&to, SOON)).await.expect_err(name);
            assert!(matches!(error, ExchangeError::Discovery(_)), "{name:?}: {error:?}");
            assert!(started.elapsed() < Duration::from_millis(100), "{name:?}");
        }
        assert_eq!(rig.kernel.stats().dials.get(), 0);
        assert_eq!(rig.kernel.dns().counters().queries, 0);
        for value in ["a\r\nb", "a\nb", "a\0b"] {
            assert!(http::HeaderValue::from_str(value).is_err(), "{value:?} cannot even be said");
        }
        for path in ["/a b", "/a\r\nb", "/a\0b"] {
            assert!(path.parse::<http::Uri>().is_err(), "{path:?} cannot even be said");
        }
        let call = rig.call(http::Method::CONNECT, &named("a.test", ([127, 0, 0, 1], 9).into()), "", SOON);
        assert!(matches!(rig.ask(call).await, Err(ExchangeError::BadRequest { .. })));
        assert_eq!(rig.kernel.stats().dials.get(), 0);
    })
    .await;
}

/// The caller's framing and connection headers never go out: the kernel's own are the only ones.
#[tokio::test]
async fn row_10_framing_headers_of_the_caller_are_replaced() {
    on_kernel(async |rig| {
        let peer = RawPeer::plain(vec![faults::well()]).await.unwrap();
        let mut call = rig.post(&plain(peer.address()), PATIENCE);
        for (name, value) in [
            ("host", "evil.test"),
            ("content-length", "99"),
            ("transfer-encoding", "chunked"),
            ("connection", "close, x-secret"),
            ("upgrade", "h2c"),
            ("keep-alive", "timeout=1"),
        ] {
            call.request.headers_mut().append(name, value.parse().unwrap());
        }
        assert_eq!(rig.ask(call).await.expect("served").1, "{}");
        until("the request has been seen", || !peer.received(0).is_empty()).await;
        let received = String::from_utf8(peer.received(0)).expect("text").to_ascii_lowercase();
        let address = peer.address().port();
        let expected = format!("content-length: 2\r\nhost: plain.test:{address}\r\n\r\n{{}}");
        let mut lines: Vec<&str> = received.split("\r\n").collect();
        lines[1..].sort_unstable();
        for line in expected.split("\r\n").filter(|line| !line.is_empty()) {
            assert!(received.contains(line), "{received}");
        }
        assert_eq!(lines.len(), 5, "a request line, two headers, an empty line, the body: {received}");
    })
    .await;
}

fn is_exhausted(error: &ExchangeError) -> bool {
    matches!(error, ExchangeError::Connect { source, .. } if matches!(**source, ConnectError::Exhausted { .. }))
}

fn few_connections(config: &mut KernelConfig) {
    config.pool.connections_max = 8;
    config.pool.dials_max = 4;
    config.pool.handshakes_max = 4;
    config.pool.limited_dials_max = 4;
    config.pool.limited_handshakes_max = 4;
    config.pool.limited_connections_max = 8;
    config.pool.exclusive_per_peer_max = 4;
}

/// One connection for all, taken back from whoever keeps it.
fn one_connection(config: &mut KernelConfig) {
    few_connections(config);
    for limit in [
        &mut config.pool.connections_max,
        &mut config.pool.dials_max,
        &mut config.pool.handshakes_max,
        &mut config.pool.limited_dials_max,
        &mut config.pool.limited_handshakes_max,
        &mut config.pool.limited_connections_max,
    ] {
        *limit = 1;
    }
    config.pool.lease_max = LEASE_MAX;
}

const LEASE_MAX: Duration = Duration::from_millis(300);
const PEER: &str = "SOUTHBRIDGE_TEST_PEER";
const PORTS: &str = "SOUTHBRIDGE_TEST_PORTS";
const FEW_PORTS: &str = "40000 40011";
const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
