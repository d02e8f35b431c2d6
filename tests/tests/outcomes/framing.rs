//! Promise: a connection whose framing was ambiguous, early or surplus is never used again.

use std::time::Duration;

use southbridge_testkit::raw::{RawPeer, Step, faults};
use tokio::time::timeout;

use crate::caller::CLAIM;
use crate::house::{House, at_home};

/// Whatever the first answer on a connection was, the next request gets its own, on another connection.
#[tokio::test]
async fn a_connection_with_doubtful_framing_is_never_used_again() {
    at_home(async |house| {
        for (fault, script) in faults::misframed() {
            let (peer, name) = house.peer(vec![script, faults::well()]).await;
            let body = if fault.starts_with("response before") { large_body() } else { "{}".to_owned() };
            let first = timeout(LIMIT, house.ask("POST", &name, CLAIM, &body)).await.expect(fault);
            assert!(first.status != 200 || ["{}", ""].contains(&first.text().as_str()), "{fault}: {first:?}");
            own_answer_elsewhere(&house, &peer, &name, fault).await;
        }
    })
    .await;
}

/// The surplus comes when the first answer has long been handed on, and the connection waits for its next use.
#[tokio::test]
async fn bytes_that_come_unasked_never_answer_the_next_request() {
    at_home(async |house| {
        let forged = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n\"forged\"";
        let script = vec![Step::ReadRequest, Step::write(WELL), Step::write(forged), Step::Stall];
        let (peer, name) = house.peer(vec![script, faults::well()]).await;
        let first = house.ask("POST", &name, CLAIM, "{}").await;
        assert_eq!((first.status, first.text().as_str()), (200, "{}"));
        own_answer_elsewhere(&house, &peer, &name, "unasked bytes").await;
    })
    .await;
}

/// Connections that nothing is wrong with are used again, or the tests above would show little.
#[tokio::test]
async fn a_connection_in_good_order_is_used_again() {
    at_home(async |house| {
        let (peer, name) = house.peer(vec![faults::well()]).await;
        for _ in 0..5 {
            assert_eq!(house.ask("POST", &name, CLAIM, "{}").await.status, 200);
        }
        assert_eq!(peer.connections(), 1);
    })
    .await;
}

async fn own_answer_elsewhere(house: &House, peer: &RawPeer, name: &str, fault: &str) {
    let second = timeout(LIMIT, house.ask("POST", name, CLAIM, "{}")).await.expect(fault);
    assert_eq!((second.status, second.text().as_str(), second.whole), (200, "{}", true), "{fault}");
    assert_eq!(peer.connections(), 2, "{fault}");
    let closed = timeout(LIMIT, peer.endings_reach(1)).await;
    closed.unwrap_or_else(|_| panic!("{fault}: the connection is kept"));
    let received = String::from_utf8_lossy(&peer.received(0)).into_owned();
    assert!(received.matches("HTTP/1.1\r\n").count() <= 1, "{fault}: {received}");
}

/// More than the sockets of both sides hold: a response that does not wait for all of it is early.
fn large_body() -> String {
    format!("\"{}\"", "x".repeat(15 << 20))
}

/// Far more than any of it takes.
const LIMIT: Duration = Duration::from_secs(10);
const WELL: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
