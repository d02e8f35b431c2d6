//! Stories of attempts that take long, and of who waits for their places.

use std::time::Duration;

use southbridge_words::{Class, ConnId, PeerId};

use super::super::*;
use super::world::World;
use super::{limits, shared};

fn few_dials(dials_max: u32, limited_dials_max: u32) -> World {
    World::new(PoolLimits { dials_max, limited_dials_max, ..limits() })
}

fn moment() -> Duration {
    Duration::from_millis(100)
}

/// The only dial leads into a black hole, and somebody waits for its place. After three seconds it is his.
#[test]
fn a_silent_dial_gives_way() {
    let mut world = few_dials(1, 1);
    world.ask(0, Class::Live);
    world.ask(1, Class::Backfill);
    world.pass(world.limits.dial_patience - Duration::from_nanos(1));
    assert_eq!(world.said(), ["dial c1 to p0"]);
    world.pass(Duration::from_nanos(1));
    assert_eq!(world.said(), ["give up c1", "c1 failed t1", "dial c2 to p1"]);
    assert!(world.pool.is_unused(PeerId(0)));
}

/// The same, but nobody comes for a while. Only then the dial is given up, and at once.
#[test]
fn a_dial_lasts_on_while_nobody_waits_for_its_place() {
    let mut world = few_dials(1, 1);
    world.ask(0, Class::Live);
    world.said();
    world.pass(world.limits.dial_patience * 3);
    assert_eq!(world.said(), Vec::<String>::new());
    world.ask(1, Class::Live);
    assert_eq!(world.said(), ["give up c1", "c1 failed t1", "dial c2 to p1"]);
}

/// Three dials are silent, two of them for the limited lane. One who waits takes the place of one: the older of
/// those two, although the one of the open lane is older still. The last to go is that one.
#[test]
fn limited_dials_are_given_up_first_and_no_more_than_needed() {
    let mut world = few_dials(3, 2);
    world.ask(0, Class::Live);
    for peer in [1, 2] {
        world.pass(moment());
        world.ask_limited(peer, Class::Interactive);
    }
    world.pass(world.limits.dial_patience);
    assert_eq!(world.said(), ["dial c1 to p0", "dial c2 to p1", "dial c3 to p2"]);
    for (peer, said) in [
        (3, ["give up c2", "c2 failed t2", "dial c4 to p3"]),
        (4, ["give up c3", "c3 failed t3", "dial c5 to p4"]),
        (5, ["give up c1", "c1 failed t1", "dial c6 to p5"]),
    ] {
        world.ask(peer, Class::Backfill);
        assert_eq!(world.said(), said);
    }
}

/// The limited lane has all its dials in black holes, and there is room in the open one. Who waits in the limited
/// lane needs a place of that lane: the open lane's dial is left alone.
#[test]
fn the_limited_lane_waits_for_its_own_places() {
    let mut world = few_dials(3, 1);
    world.ask(0, Class::Live);
    world.pass(moment());
    world.ask_limited(1, Class::Live);
    world.ask_limited(2, Class::Live);
    world.said();
    world.pass(world.limits.dial_patience - moment());
    assert_eq!(world.said(), Vec::<String>::new(), "the dial of the open lane would be of no help");
    world.pass(moment());
    assert_eq!(world.said(), ["give up c2", "c2 failed t2", "dial c3 to p2"]);
}

/// A dial for the limited lane is wanted in the open one later. It keeps its age.
#[test]
fn a_dial_that_changes_lanes_keeps_its_age() {
    let mut world = few_dials(2, 2);
    world.ask_limited(0, Class::Live);
    world.pass(moment());
    world.ask(1, Class::Live);
    world.pass(moment());
    world.ask(0, Class::Live);
    world.ask(2, Class::Live);
    world.said();
    world.pass(world.limits.dial_patience - moment() * 2);
    assert_eq!(world.said(), ["give up c1", "c1 failed t3", "c1 failed t1", "dial c3 to p2"]);
}

/// The peer itself would like a second dial and there is no place. To give up the first for that would be to
/// try the same again.
#[test]
fn nothing_is_given_up_for_the_same_peer() {
    let mut world = few_dials(1, 1);
    world.ask_times(2, 0, Class::Live);
    world.said();
    world.pass(world.limits.dial_patience * 3);
    assert_eq!(world.said(), Vec::<String>::new());
    world.ask(1, Class::Live);
    assert_eq!(world.said(), ["give up c1", "c1 failed t1", "c1 failed t2", "dial c2 to p1"]);
}

/// A second dial of a peer is given up. Its first connection is busy, but will serve: nobody is refused.
#[test]
fn who_can_be_served_otherwise_is_not_refused() {
    let mut world = few_dials(1, 1);
    world.ask(0, Class::Live);
    world.connect(1);
    world.ask(0, Class::Live);
    world.pass(world.limits.dial_patience);
    world.said();
    world.ask(1, Class::Live);
    assert_eq!(world.said(), ["give up c2", "dial c3 to p1"]);
    world.give_back(1);
    assert_eq!(world.said(), ["lend c1 to t2"]);
}

/// The peer accepts TCP and says nothing. Another one has TCP up and waits for the TLS slot.
#[test]
fn a_stalled_handshake_gives_way() {
    let mut world = World::new(PoolLimits { handshakes_max: 1, limited_handshakes_max: 1, ..limits() });
    world.ask(0, Class::Live);
    world.pass(Duration::from_secs(2));
    world.dialled(ConnId(1));
    world.ask_limited(1, Class::Live);
    world.dialled(ConnId(2));
    world.said();
    world.pass(world.limits.handshake_patience - Duration::from_nanos(1));
    assert_eq!(world.said(), Vec::<String>::new(), "the time of its dial does not count");
    world.pass(Duration::from_nanos(1));
    assert_eq!(world.said(), ["give up c1", "c1 failed t1", "handshake c2"]);
    world.connected(ConnId(2), shared(9));
    world.pass(world.limits.handshake_patience * 2);
    assert_eq!(world.said(), ["lend c2 to t2"]);
}

/// Who waits for a TLS slot of ours is not silent, however long it takes.
#[test]
fn our_own_queue_tries_nobodys_patience() {
    let mut world =
        World::new(PoolLimits { handshakes_max: 1, limited_handshakes_max: 1, dials_max: 2, ..limits() });
    world.ask(0, Class::Live);
    world.dialled(ConnId(1));
    world.pass(moment());
    world.ask(1, Class::Live);
    world.dialled(ConnId(2));
    world.pass(world.limits.handshake_patience - moment() * 2);
    world.said();
    world.connected(ConnId(1), Capacity::Exclusive);
    assert_eq!(world.said(), ["lend c1 to t1", "handshake c2"]);
    world.ask(2, Class::Live);
    world.dialled(ConnId(3));
    world.pass(world.limits.handshake_patience - moment());
    assert_eq!(world.said(), ["dial c3 to p2"]);
    world.pass(moment());
    assert_eq!(world.said(), ["give up c2", "c2 failed t2", "handshake c3"]);
}

/// There is room to dial, but none for one more connection. A handshake that stalls holds one as well.
#[test]
fn places_among_all_connections_and_in_the_limited_lane_count() {
    let mut world = World::new(PoolLimits { connections_max: 2, limited_connections_max: 1, ..limits() });
    world.ask_limited(0, Class::Live);
    world.dialled(ConnId(1));
    world.ask(1, Class::Live);
    world.pass(world.limits.dial_patience);
    world.said();
    world.ask_limited(2, Class::Live);
    assert_eq!(world.said(), ["give up c1", "c1 failed t1", "dial c3 to p2"]);
    world.ask(3, Class::Live);
    assert_eq!(world.said(), ["give up c2", "c2 failed t2", "dial c4 to p3"]);
}

/// A round of connections waits for TLS already, so nobody may dial. To give up a dial would help nobody.
#[test]
fn nothing_is_given_up_in_vain() {
    let bounds = PoolLimits {
        handshakes_max: 1,
        limited_handshakes_max: 1,
        dials_max: 1,
        limited_dials_max: 1,
        ..limits()
    };
    let patience = bounds.dial_patience;
    let mut world = World::new(PoolLimits { handshake_patience: patience * 9, ..bounds });
    for peer in [0, 1] {
        world.ask(peer, Class::Live);
        world.dialled(ConnId(u64::from(peer) + 1));
    }
    world.ask_limited(2, Class::Live);
    world.ask(3, Class::Live);
    world.said();
    world.pass(patience * 2);
    assert_eq!(world.said(), Vec::<String>::new());
    world.connected(ConnId(1), Capacity::Exclusive);
    assert_eq!(
        world.said(),
        ["lend c1 to t1", "handshake c2", "give up c3", "c3 failed t3", "dial c4 to p3"]
    );
}

/// The route of a peer has changed: the next request is served on a new connection, and one under way goes on.
#[test]
fn what_is_retired_is_lent_no_more() {
    let mut world = World::new(limits());
    world.ask(0, Class::Live);
    world.connect(1);
    world.said();
    world.retired(ConnId(1));
    world.ask(0, Class::Live);
    assert_eq!(world.said(), ["dial c2 to p0"]);
    world.connect(2);
    world.give_back(2);
    world.said();
    world.retired(ConnId(2));
    assert_eq!(world.said(), ["close c2"]);
    world.give_back(1);
    assert_eq!(world.said(), ["close c1"]);
}
