//! Promise: a restart, however rough, refuses nobody, and what is under way is finished.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use crate::caller::{VERSION, ask_on, knock, request};
use crate::house::{House, Wishes, at_home, in_house, send_signal, until};

/// The daemon is killed. Synapse connects and asks all the same: the sockets are the service manager's, and the
/// next daemon answers.
#[tokio::test]
async fn a_caller_that_comes_after_a_kill_waits_and_is_answered() {
    at_home(async |mut house| {
        let name = house.name("a.test");
        assert_eq!(house.get(&name, VERSION).await.status, 200);
        for _ in 0..2 {
            house.kill();
            let mut parked = JoinSet::new();
            for _ in 0..20 {
                let ask = request("GET", &name, VERSION, "");
                let (mut by_unix, mut by_tcp) = (knock(&house.unix()).await, house.knock_by_tcp().await);
                by_unix.write_all(ask.as_bytes()).await.unwrap();
                by_tcp.write_all(ask.as_bytes()).await.unwrap();
                parked.spawn(async move {
                    [ask_on(&mut by_unix, "").await.status, ask_on(&mut by_tcp, "").await.status]
                });
            }
            house.start().await;
            assert!(parked.join_all().await.iter().all(|answers| *answers == [200, 200]));
        }
    })
    .await;
}

/// What was asked before the daemon was told to stop is answered, and then it stops.
#[tokio::test]
async fn what_is_under_way_is_finished_before_the_daemon_stops() {
    at_home(async |mut house| {
        house.set("a.test", |script| script.latency = Duration::from_secs(1));
        let name = house.name("a.test");
        let (unix, ask) = (house.unix(), request("PUT", &name, "/_matrix/federation/v1/send/1", "{}"));
        let call = tokio::spawn(async move { ask_on(&mut knock(&unix).await, ask).await });
        let servers = &house.servers;
        until(Duration::from_secs(5), "the request is under way", || servers.counts().requests == 1).await;
        house.signal(Signal::TERM);
        house.wait_for("STOPPING=1").await;
        let answer = call.await.unwrap();
        assert_eq!((answer.status, answer.whole), (200, true));
        assert_eq!(house.ended().await.code(), Some(0), "{}", house.log());
    })
    .await;
}

/// A host that never answers must not keep a daemon from stopping for longer than was said.
#[tokio::test]
async fn a_stop_takes_no_longer_than_it_may() {
    let wishes = Wishes { synapse: "drain_time = \"500ms\"", ..Wishes::default() };
    in_house(wishes, async |mut house| {
        house.set("a.test", |script| script.latency = Duration::from_secs(30));
        let (unix, ask) = (house.unix(), request("GET", &house.name("a.test"), VERSION, ""));
        let call = tokio::spawn(async move {
            let mut stream = knock(&unix).await;
            stream.write_all(ask.as_bytes()).await.unwrap();
            let mut rest = Vec::new();
            let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest).await;
            rest
        });
        let servers = &house.servers;
        until(Duration::from_secs(5), "the request is under way", || servers.counts().requests == 1).await;
        house.signal(Signal::TERM);
        let ended = tokio::time::timeout(Duration::from_secs(5), house.ended()).await.expect("it stops");
        assert_eq!(ended.code(), Some(0), "{}", house.log());
        assert!(!String::from_utf8_lossy(&call.await.unwrap()).starts_with("HTTP/1.1 2"));
    })
    .await;
}

/// Requests come all the time, by both doors and over the same warm connections, while one daemon takes over from
/// the other, twice.
#[tokio::test]
async fn no_request_fails_during_a_hand_over() {
    at_home(async |mut house| {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let callers = callers(&house, &stop, &answered);
        let more = async |house: &House| {
            let enough = answered.load(Ordering::Relaxed) + 20;
            let what = format!("callers are answered; the log has:\n{}", house.log());
            until(Duration::from_secs(10), &what, || answered.load(Ordering::Relaxed) >= enough).await;
        };
        more(&house).await;
        let mut pid = house.pid();
        for _ in 0..2 {
            send_signal(pid, Signal::HUP);
            let said = house.wait_for("MAINPID=").await;
            pid = said.lines().find_map(|line| line.strip_prefix("MAINPID=")).unwrap().parse().unwrap();
            more(&house).await;
        }
        stop.store(true, Ordering::Relaxed);
        for statuses in callers.join_all().await {
            assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
        }
        assert_eq!(house.ended().await.code(), Some(0), "{}", house.log());
        send_signal(pid, Signal::TERM);
        house.wait_for("STOPPING=1").await;
    })
    .await;
}

fn callers(house: &House, stop: &Arc<AtomicBool>, answered: &Arc<AtomicU32>) -> JoinSet<Vec<u16>> {
    let mut callers = JoinSet::new();
    for number in 0..4 {
        let (unix, tcp) = (house.unix(), house.tcp);
        let ask =
            request("PUT", &house.name("a.test"), &format!("/_matrix/federation/v1/send/{number}"), "{}");
        let (stop, answered) = (Arc::clone(stop), Arc::clone(answered));
        callers.spawn(async move {
            let mut statuses = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let answer = match number % 2 {
                    0 => ask_on(&mut knock(&unix).await, &ask).await,
                    _ => crate::caller::ask_tcp(tcp, &ask).await,
                };
                statuses.push(answer.status);
                answered.fetch_add(1, Ordering::Relaxed);
            }
            statuses
        });
    }
    callers
}
