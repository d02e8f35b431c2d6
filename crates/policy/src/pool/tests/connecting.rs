//! Stories of dialling: how many, when, and what if it fails.

use std::time::Duration;

use southbridge_words::{Class, ConnId};

use super::super::*;
use super::world::{HOUR, World};
use super::{limits, shared};
use crate::lane::Lane;

/// Nobody knows yet what the peer speaks. One connection may be enough for all three.
#[test]
fn a_stranger_is_dialled_once() {
    let mut world = World::new(limits());
    world.ask_times(3, 1, Class::Live);
    assert_eq!(world.said(), ["dial c1 to p1"]);
    world.connect_with(1, shared(9));
    assert_eq!(world.said(), ["handshake c1", "lend c1 to t1", "lend c1 to t2", "lend c1 to t3"]);
}

/// It turns out that the stranger takes one request at a time: each waiting request gets a connection.
#[test]
fn an_exclusive_peer_gets_a_connection_for_each_request() {
    let mut world = World::new(PoolLimits { exclusive_per_peer_max: 3, ..limits() });
    world.ask_times(5, 0, Class::Live);
    world.said();
    world.connect(1);
    assert_eq!(world.said(), ["handshake c1", "lend c1 to t1", "dial c2 to p0", "dial c3 to p0"]);
}

/// The first dial of a stranger hangs. After a while a second one is tried, and no third.
#[test]
fn patience_with_a_stranger_ends() {
    let mut world = World::new(limits());
    world.ask_times(3, 0, Class::Live);
    world.pass(PATIENCE);
    assert_eq!(world.said(), ["dial c1 to p0", "dial c2 to p0"]);
    world.pass(PATIENCE * 4);
    assert_eq!(world.said(), Vec::<String>::new());
}

/// Two streams are taken, and a third request comes: a second connection. There is no third connection.
#[test]
fn a_shared_peer_gets_a_second_connection_when_the_first_is_exhausted() {
    let mut world = World::new(limits());
    world.ask(1, Class::Live);
    world.connect_with(1, shared(2));
    world.ask(1, Class::Live);
    assert_eq!(world.said(), ["dial c1 to p1", "handshake c1", "lend c1 to t1", "lend c1 to t2"]);
    world.ask_times(6, 1, Class::Live);
    assert_eq!(world.said(), ["dial c2 to p1"]);
    world.connect_with(2, shared(2));
    assert_eq!(world.said(), ["handshake c2", "lend c2 to t3", "lend c2 to t4"]);
    world.capacity(ConnId(1), 4);
    assert_eq!(world.said(), ["lend c1 to t5", "lend c1 to t6"], "the peer allows more now");
}

/// The last connection is gone for long. What the peer speaks is still known: two dials at once.
#[test]
fn what_a_peer_speaks_is_remembered() {
    let mut world = World::new(limits());
    world.ask(0, Class::Live);
    world.connect(1);
    world.give_back(1);
    world.pass(HOUR);
    assert!(world.pool.is_unused(PeerId(0)));
    world.said();
    world.ask_times(2, 0, Class::Live);
    assert_eq!(world.said(), ["dial c2 to p0", "dial c3 to p0"]);
    world.failed(ConnId(2));
    world.failed(ConnId(3));
    world.pool.forget(PeerId(0));
    world.said();
    world.ask_times(2, 0, Class::Live);
    assert_eq!(world.said(), ["dial c4 to p0"]);
}

/// Three dials for a peer that spoke HTTP/1.1; it speaks HTTP/2 now. What is too much is closed.
#[test]
fn connections_beyond_those_that_a_shared_peer_may_have_are_closed() {
    let mut world = World::new(PoolLimits { shared_per_peer_max: 1, ..limits() });
    world.ask(1, Class::Live);
    world.connect(1);
    world.ask_times(2, 1, Class::Live);
    world.connect_with(2, shared(9));
    world.said();
    world.connect_with(3, shared(9));
    assert_eq!(world.said(), ["handshake c3", "close c3"]);
}

/// The peer's certificate is not good. All who wait learn it, by the name of the attempt.
#[test]
fn a_failed_handshake_is_reported_to_everyone_who_waits() {
    let mut world = World::new(limits());
    world.ask(0, Class::Live);
    world.ask_limited(0, Class::Backfill);
    world.dialled(ConnId(1));
    world.said();
    world.failed(ConnId(1));
    assert_eq!(world.said(), ["c1 failed t1", "c1 failed t2"]);
    assert!(world.pool.is_unused(PeerId(0)));
}

/// One of two connections fails. The other one serves both who wait, and the peer is not pestered.
#[test]
fn who_can_still_be_served_waits_on() {
    let mut world = World::new(limits());
    world.ask(0, Class::Live);
    world.connect(1);
    world.ask_times(2, 0, Class::Live);
    world.said();
    world.failed(ConnId(2));
    world.failed(ConnId(3));
    assert_eq!(world.said(), Vec::<String>::new());
    world.give_back(1);
    assert_eq!(world.said(), ["lend c1 to t2"]);
    world.pass(PAUSE);
    assert_eq!(world.said(), ["dial c4 to p0"]);
}

/// The only open connection is an old one. Who wants a fresh one has nothing to hope for when the dial fails.
#[test]
fn who_wants_a_fresh_one_is_told_that_there_is_none() {
    let mut world = World::new(limits());
    world.ask(0, Class::Live);
    world.connect(1);
    world.request(0, Class::Live, Lane::Open, HOUR, true);
    world.said();
    world.failed(ConnId(2));
    assert_eq!(world.said(), ["c2 failed t2"]);
}

/// HTTP/2, no streams allowed, and GOAWAY at once. That is a failure, or it would go on for ever.
#[test]
fn a_connection_that_closes_unused_has_failed() {
    let mut world = World::new(PoolLimits { shared_per_peer_max: 1, ..limits() });
    world.ask(1, Class::Live);
    world.connect_with(1, shared(0));
    world.said();
    world.draining(ConnId(1));
    assert_eq!(world.said(), ["close c1", "c1 failed t1"]);
}

/// The same with a second connection under way each time. The peer is dialled once a second, no more.
#[test]
fn connections_that_allow_nothing_are_not_opened_in_a_hurry() {
    let mut world = World::new(limits());
    world.ask(1, Class::Live);
    world.connect_with(1, shared(0));
    assert_eq!(world.said(), ["dial c1 to p1", "handshake c1", "dial c2 to p1"]);
    world.draining(ConnId(1));
    world.connect_with(2, shared(0));
    assert_eq!(world.said(), ["close c1", "handshake c2"]);
    world.pass(PAUSE);
    assert_eq!(world.said(), ["dial c3 to p1"]);
}

/// Something connects of which the pool knows nothing. It must not be left lying about.
#[test]
fn an_unknown_connection_is_closed() {
    let mut pool = Pool::new(limits());
    pool.handle_connected(ConnId(9), Capacity::Exclusive, Instant::ZERO);
    assert_eq!(pool.poll(), Some(Action::Close { conn: ConnId(9) }));
    assert_eq!(pool.poll(), None);
}

/// One handshake at a time. TCP is up for two more, one of them for a person: that one goes first, although
/// it was opened for backfill.
#[test]
fn handshakes_go_by_the_most_urgent_who_waits() {
    let mut world = World::new(PoolLimits { handshakes_max: 1, dials_max: 9, ..limits() });
    world.ask(0, Class::Live);
    world.dialled(ConnId(1));
    world.ask(1, Class::Repair);
    world.dialled(ConnId(2));
    world.said();
    world.ask(2, Class::Backfill);
    assert_eq!(world.said(), Vec::<String>::new(), "a round of handshakes waits already: no dial");
    world.connected(ConnId(1), Capacity::Exclusive);
    assert_eq!(world.said(), ["lend c1 to t1", "handshake c2", "dial c3 to p2"]);
    world.dialled(ConnId(3));
    world.ask(2, Class::Interactive);
    world.connected(ConnId(2), Capacity::Exclusive);
    assert_eq!(world.said(), ["lend c2 to t2", "handshake c3"]);
}

/// Ten thousand peers are met once. When their connections are closed, nothing is left of them.
#[test]
fn forgotten_peers_cost_nothing() {
    let mut pool = Pool::new(limits());
    for number in 0..10_000 {
        let now = Instant::ZERO + Duration::from_millis(number);
        let (peer, ticket) = (PeerId(number as u32), southbridge_words::Ticket(number));
        let (class, lane, fresh, deadline) = (Class::Live, Lane::Open, false, now + HOUR);
        pool.handle_request(Want { ticket, peer, class, lane, deadline, fresh }, now).expect("room");
        let conn = ConnId(number + 1);
        pool.handle_dialled(conn, now);
        pool.handle_connected(conn, Capacity::Exclusive, now);
        pool.handle_cancelled(ticket, now);
        while let Some(action) = pool.poll() {
            if let Action::Lend { lease, .. } = action {
                pool.handle_returned(lease, Returned::Reusable, now);
            }
        }
    }
    assert_eq!(pool.usage().connections, limits().connections_max);
    pool.handle_timeout(Instant::ZERO + HOUR);
    assert_eq!(pool.usage(), PoolUse::default());
    assert!((0..10_000).all(|number| pool.is_unused(PeerId(number))));
    assert!(pool.peers.is_empty() && pool.conns.is_empty() && pool.looks.is_empty());
}
