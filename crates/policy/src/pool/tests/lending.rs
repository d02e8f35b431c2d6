//! Stories of lending and returning.

use std::time::Duration;

use southbridge_words::{Class, ConnId, Instant, PeerId, Ticket};

use super::super::*;
use super::world::{HOUR, World};
use super::{limits, shared};
use crate::lane::Lane;

/// Alice asks and waits for the dial; Bob comes later and finds her connection free.
#[test]
fn what_is_open_is_lent_again() {
    let mut world = World::new(limits());
    world.ask(0, Class::Live);
    world.connect(1);
    assert_eq!(world.said(), ["dial c1 to p0", "handshake c1", "lend c1 to t1"]);
    world.give_back(1);
    world.ask(0, Class::Live);
    assert_eq!(world.said(), ["lend c1 to t2"]);
    assert_eq!(world.lines[&ConnId(1)].leases[0].deadline, world.now + limits().lease_max);
    assert!(world.lines[&ConnId(1)].leases[0].reused);
}

/// Two connections come back, the second one later. It is the one least likely to have been closed.
#[test]
fn the_most_recently_used_is_lent_first() {
    let mut world = World::new(limits());
    world.ask(0, Class::Live);
    world.connect(1);
    world.ask(0, Class::Live);
    world.connect(2);
    world.give_back(1);
    world.give_back(2);
    world.said();
    world.ask(0, Class::Live);
    world.ask(0, Class::Live);
    assert_eq!(world.said(), ["lend c2 to t3", "lend c1 to t4"]);
}

/// One peer may have a single connection and two who wait; its neighbour goes on as usual.
#[test]
fn a_peer_may_have_bounds_of_its_own() {
    let mut world = World::new(limits());
    let own = PeerLimits { connections_max: Some(1), waiting_max: Some(2) };
    world.pool.bound(PeerId(0), Some(own));
    world.ask_times(2, 0, Class::Interactive);
    let want = Want {
        ticket: Ticket(77),
        peer: PeerId(0),
        class: Class::Interactive,
        lane: Lane::Open,
        deadline: Instant::FAR_FUTURE,
        fresh: false,
    };
    let full = world.pool.handle_request(want, world.now).expect_err("two wait already");
    assert_eq!((full.held, full.held_max), (2, 2));
    assert_eq!(world.said(), ["dial c1 to p0"]);
    world.connect(1);
    assert_eq!(world.said(), ["handshake c1", "lend c1 to t1"], "and no second one is dialled for t2");
    world.ask_times(2, 1, Class::Interactive);
    assert_eq!(world.said(), ["dial c2 to p1"]);
    world.connect(2);
    assert_eq!(world.said(), ["handshake c2", "lend c2 to t3", "dial c3 to p1"]);
    world.pool.bound(PeerId(0), None);
    world.ask(0, Class::Interactive);
    assert_eq!(world.said(), ["dial c4 to p0", "dial c5 to p0"], "it may have more again");
}

/// A request met a connection that the peer had just closed. Its retry takes no other old one.
#[test]
fn a_fresh_one_is_opened_for_who_asks_for_it() {
    let mut world = World::new(limits());
    world.ask(0, Class::Live);
    world.connect(1);
    world.give_back(1);
    world.said();
    world.request(0, Class::Live, Lane::Open, HOUR, true);
    assert_eq!(world.said(), ["dial c2 to p0"]);
    world.ask(0, Class::Live);
    assert_eq!(world.said(), ["lend c1 to t3"], "who is not particular need not wait");
    world.connect(2);
    assert_eq!(world.said(), ["handshake c2", "lend c2 to t2"]);
}

/// The peer has all the connections it may have, all used. An idle one makes room for a fresh one.
#[test]
fn a_stale_connection_makes_room_for_a_fresh_one() {
    let mut world = World::new(PoolLimits { exclusive_per_peer_max: 1, ..limits() });
    world.ask(0, Class::Live);
    world.connect(1);
    world.request(0, Class::Live, Lane::Open, HOUR, true);
    world.said();
    world.give_back(1);
    assert_eq!(world.said(), ["close c1", "dial c2 to p0"]);
}

/// An HTTP/2 connection dies with two requests on it. One new connection does for both retries.
#[test]
fn one_new_shared_connection_is_fresh_for_all_who_wait() {
    let mut world = World::new(limits());
    world.ask(1, Class::Live);
    world.connect_with(1, shared(9));
    world.ask(1, Class::Live);
    world.closed(ConnId(1));
    world.said();
    world.request(1, Class::Live, Lane::Open, HOUR, true);
    world.request(1, Class::Live, Lane::Open, HOUR, true);
    world.connect_with(2, shared(9));
    assert_eq!(world.said(), ["dial c2 to p1", "handshake c2", "lend c2 to t3", "lend c2 to t4"]);
}

/// A response ended ambiguously: the connection is closed, and whoever waits gets a new one.
#[test]
fn what_is_spent_is_never_lent_again() {
    let mut world = World::new(PoolLimits { exclusive_per_peer_max: 1, ..limits() });
    world.ask(0, Class::Live);
    world.connect(1);
    world.ask(0, Class::Live);
    world.said();
    world.returned(ConnId(1), 0, Returned::Spent);
    assert_eq!(world.said(), ["close c1", "dial c2 to p0"]);
}

/// GOAWAY with two requests under way: they go on, new ones go elsewhere, the last one closes the door.
#[test]
fn a_draining_connection_is_closed_by_its_last_lease() {
    let mut world = World::new(limits());
    world.ask(1, Class::Live);
    world.connect_with(1, shared(9));
    world.ask(1, Class::Live);
    world.draining(ConnId(1));
    world.said();
    world.ask(1, Class::Live);
    assert_eq!(world.said(), ["dial c2 to p1"]);
    world.give_back(1);
    assert_eq!(world.said(), Vec::<String>::new());
    world.give_back(1);
    assert_eq!(world.said(), ["close c1"]);
}

/// The connection breaks while it is lent. The late return of the lease changes nothing.
#[test]
fn returning_a_void_lease_is_harmless() {
    let mut pool = Pool::new(limits());
    let now = Instant::ZERO + Duration::from_secs(1);
    let lease = Lease { conn: ConnId(7), ticket: Ticket(7), deadline: now, reused: false };
    pool.handle_returned(lease, Returned::Reusable, now);
    assert_eq!((pool.poll(), pool.usage()), (None, PoolUse::default()));
}

/// Three wait for one connection; the first one's time runs out, the second one gives up.
#[test]
fn who_has_expired_or_left_gets_nothing() {
    let mut world = World::new(limits());
    world.request(0, Class::Live, Lane::Open, Duration::from_secs(1), false);
    let second = world.ask(0, Class::Live);
    world.ask(0, Class::Live);
    world.said();
    world.pass(Duration::from_secs(1));
    world.cancel(second);
    assert_eq!(world.said(), ["too late for t1"]);
    world.connect(1);
    assert_eq!(world.said(), ["handshake c1", "lend c1 to t3"]);
    world.request(0, Class::Live, Lane::Open, Duration::ZERO, false);
    assert_eq!(world.said(), ["too late for t4"], "what has expired is never sent, not even at once");
}

/// All who asked have left. The connection that was under way completes and is kept for the next.
#[test]
fn a_dial_that_nobody_waits_for_becomes_idle() {
    let mut world = World::new(limits());
    let ticket = world.ask(0, Class::Live);
    world.cancel(ticket);
    world.connect(1);
    assert_eq!(world.pool.usage(), PoolUse { connections: 1, idle: 1, ..PoolUse::default() });
    world.request(0, Class::Live, Lane::Open, HOUR, true);
    assert_eq!(world.said(), ["dial c1 to p0", "handshake c1", "lend c1 to t2"], "it is as fresh as can be");
}

/// A pool that holds two waiting requests: the third one is told so, with numbers. Backfill is told first.
#[test]
fn a_full_pool_says_so_at_once() {
    let mut pool = Pool::new(PoolLimits { waiting_max: 10, waiting_per_peer_max: 2, ..limits() });
    let mut ask = |number: u64, peer: u32, class| {
        let (ticket, peer, lane) = (Ticket(number), PeerId(peer), Lane::Open);
        let want = Want { ticket, peer, class, lane, deadline: Instant::FAR_FUTURE, fresh: false };
        pool.handle_request(want, Instant::ZERO)
    };
    assert_eq!((ask(1, 0, Class::Live), ask(2, 0, Class::Live)), (Ok(()), Ok(())));
    let full = ask(3, 0, Class::Live).expect_err("two of two");
    assert_eq!(full.to_string(), "2 of 2 requests wait for this peer already");
    for number in 4..9 {
        ask(number, number as u32, Class::Live).expect("room for ten");
    }
    let full = ask(9, 9, Class::Backfill).expect_err("seven of seven, for backfill");
    assert_eq!(full, PoolFull { held: 7, held_max: 7, scope: "a connection" });
    ask(10, 9, Class::Interactive).expect("room for ten");
}
