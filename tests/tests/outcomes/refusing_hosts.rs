//! Promise: a host that has just refused eight times in a row is answered for within half a second, and one that
//! has come back is served again.

use std::time::{Duration, Instant};

use southbridge_testkit::black_hole::{BlackHole, ClosedPort};
use southbridge_testkit::homeserver::Homeservers;
use southbridge_testkit::raw::{RawPeer, Step};

use crate::caller::VERSION;
use crate::house::{House, TICK, Wishes, at_home, in_house};

/// What callers are promised.
const AT_ONCE: Duration = Duration::from_millis(500);

async fn answered_at_once(house: &House, name: &str) {
    let asked_at = Instant::now();
    let answer = house.get(name, VERSION).await;
    let took = asked_at.elapsed();
    assert!(took < AT_ONCE, "{took:?}");
    assert!(matches!(answer.status, 502 | 504), "{}", answer.text());
    assert_eq!(answer.json()["errcode"], "M_UNKNOWN", "{}", answer.text());
}

/// The port is closed, and then somebody listens there again. Synapse must not hear of the past for long.
#[tokio::test]
async fn a_host_that_refused_is_answered_for_at_once_and_served_when_it_is_back() {
    at_home(async |house| {
        let closed = ClosedPort::reserve().unwrap();
        let address = closed.address();
        let name = format!("a.test:{}", address.port());
        for _ in 0..8 {
            assert_eq!(house.get(&name, VERSION).await.status, 502);
        }
        for _ in 0..5 {
            answered_at_once(&house, &name).await;
        }
        drop(closed);
        let _back = Homeservers::start_at(address, house.authority.clone()).await.unwrap();
        let back_at = Instant::now();
        while house.get(&name, VERSION).await.status != 200 {
            assert!(back_at.elapsed() < Duration::from_secs(8), "it is back, and nobody asks it");
            tokio::time::sleep(TICK).await;
        }
        // Once it has answered, it is one of us again.
        for _ in 0..5 {
            assert_eq!(house.get(&name, VERSION).await.status, 200);
        }
    })
    .await;
}

/// Silence is dearer than a refusal: the first callers wait for all of their time, and those after them do not.
#[tokio::test]
async fn a_black_hole_is_answered_for_at_once_when_eight_have_met_it() {
    let wishes = Wishes { synapse: "request_timeout = \"1s\"", ..Wishes::default() };
    in_house(wishes, async |house| {
        let hole = BlackHole::open().unwrap();
        let name = format!("127.0.0.1:{}", hole.address().port());
        for _ in 0..8 {
            let answer = house.get(&name, VERSION).await;
            assert!(matches!(answer.status, 502 | 504), "{}", answer.text());
        }
        answered_at_once(&house, &name).await;
    })
    .await;
}

/// When a transaction finally fails, Synapse drops receipts, typing and presence. A host that has been failing for
/// seconds only is still tried for it.
#[tokio::test]
async fn a_transaction_is_not_refused_early_for_a_host_that_has_failed_for_seconds() {
    at_home(async |house| {
        let peer = RawPeer::plain(vec![vec![Step::Reset]]).await.unwrap();
        let name = format!("127.0.0.1:{}", peer.address().port());
        for _ in 0..10 {
            assert_eq!(house.get(&name, VERSION).await.status, 502);
        }
        for number in 0..3 {
            let tried = peer.connections();
            let answer =
                house.ask("PUT", &name, &format!("/_matrix/federation/v1/send/{number}"), "{}").await;
            assert_eq!(answer.status, 502, "{}", answer.text());
            assert!(peer.connections() > tried, "nobody was asked: {}", answer.text());
        }
    })
    .await;
}
