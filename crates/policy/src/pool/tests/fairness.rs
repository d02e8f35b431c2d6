//! Stories of who goes first, and that everybody goes.

use std::time::Duration;

use southbridge_words::{Class, ConnId};

use super::super::*;
use super::world::World;
use super::{limits, shared};

/// The numbers of the peers that were dialled, in order.
fn dialled(world: &mut World) -> Vec<u32> {
    let said = world.said();
    let peers = said.iter().filter_map(|word| word.strip_prefix("dial ")?.split_once(" to p"));
    peers.map(|(_, peer)| peer.parse().expect("a number")).collect()
}

/// Peers with backfill and peers with interactive requests wait for dials, one at a time. Of seventeen
/// dials one is for backfill, as the weights say.
#[test]
fn classes_share_what_is_scarce_by_weight() {
    let mut world = World::new(PoolLimits { dials_max: 1, limited_dials_max: 1, ..limits() });
    for peer in 0..40 {
        world.ask(100 + peer, Class::Backfill);
        world.ask(200 + peer, Class::Interactive);
    }
    let mut order = Vec::new();
    for conn in 1..=39 {
        order.extend(dialled(&mut world));
        world.dialled(ConnId(conn));
    }
    let backfill = order[1..].iter().filter(|peer| **peer < 200).count();
    assert_eq!((order[0], backfill), (100, 2), "{order:?}");
}

/// One peer has a hundred waiting requests, another has one. The one does not wait for the hundred.
#[test]
fn peers_take_turns() {
    let mut world = World::new(PoolLimits { dials_max: 1, limited_dials_max: 1, ..limits() });
    world.ask(0, Class::Live);
    world.connect(1);
    world.ask_times(100, 0, Class::Live);
    world.ask(2, Class::Live);
    (2..=5).for_each(|conn| world.dialled(ConnId(conn)));
    assert_eq!(dialled(&mut world), [0, 0, 0, 2, 0, 0]);
}

/// Requests of two classes wait for one exclusive connection: its uses are shared by weight, in the order
/// they came within a class.
#[test]
fn classes_share_a_connection_by_weight() {
    let mut world = World::new(PoolLimits { exclusive_per_peer_max: 1, ..limits() });
    world.ask(0, Class::Live);
    world.connect(1);
    world.ask_times(20, 0, Class::Media);
    world.ask_times(20, 0, Class::Live);
    world.said();
    (0..11).for_each(|_| world.give_back(1));
    let said = world.said();
    let tickets: Vec<u64> =
        said.iter().map(|word| word["lend c1 to t".len()..].parse().expect("one")).collect();
    let (live, media): (Vec<u64>, Vec<u64>) = tickets.into_iter().partition(|ticket| *ticket > 21);
    assert_eq!((live.len(), media.len()), (8, 3));
    assert!(live.is_sorted() && media.is_sorted());
}

/// There is one connection in all, and its peer has always somebody waiting. Another peer gets its turn.
#[test]
fn a_busy_peer_does_not_keep_the_last_slot() {
    let one = PoolLimits { connections_max: 1, ..limits() };
    let mut world = World::new(one);
    world.ask(0, Class::Interactive);
    world.connect(1);
    world.ask_times(200, 0, Class::Interactive);
    let other = world.ask(2, Class::Backfill);
    let mut uses = 0;
    while world.lines.contains_key(&ConnId(1)) {
        world.give_back(1);
        uses += 1;
    }
    assert!(uses < 200, "{uses}");
    world.connect(2);
    assert!(world.lent.contains_key(&other));
}

/// The same with HTTP/2, which is never free of requests. It rests when its time is over, and only then.
#[test]
fn a_shared_connection_does_not_keep_the_last_slot_by_never_pausing() {
    let mut world = World::new(PoolLimits { connections_max: 1, ..limits() });
    let lease_max = world.limits.lease_max;
    world.ask(1, Class::Live);
    world.connect_with(1, shared(9));
    let other = world.ask(0, Class::Backfill);
    world.said();
    for _ in 0..3 {
        world.pass(lease_max / 4);
        world.ask(1, Class::Live);
        world.give_back(1);
    }
    assert_eq!(world.said(), ["lend c1 to t3", "lend c1 to t4", "lend c1 to t5"]);
    world.pass(lease_max / 4);
    world.ask(1, Class::Live);
    assert_eq!(world.said(), Vec::<String>::new(), "it rests");
    world.give_back(1);
    assert_eq!(world.said(), ["close c1", "dial c2 to p0"]);
    world.connect(2);
    assert!(world.lent.contains_key(&other));
}

/// As before, but the other peer's request is withdrawn: the rest is over at once.
#[test]
fn nobody_rests_for_nobody() {
    let mut world = World::new(PoolLimits { connections_max: 1, ..limits() });
    world.ask(1, Class::Live);
    world.connect_with(1, shared(9));
    world.pass(world.limits.lease_max - Duration::from_secs(1));
    world.ask(1, Class::Live);
    world.give_back(1);
    let other = world.ask(0, Class::Backfill);
    world.pass(Duration::from_secs(1));
    world.ask(1, Class::Live);
    world.said();
    world.cancel(other);
    assert_eq!(world.said(), ["lend c1 to t4"]);
}

/// Hosts that do not answer hold all the dials that the limited lane may have. Healthy hosts do not notice.
#[test]
fn limited_requests_never_block_open_ones() {
    let bounds = PoolLimits {
        connections_max: 6,
        dials_max: 4,
        limited_dials_max: 2,
        limited_connections_max: 3,
        handshakes_max: 2,
        limited_handshakes_max: 1,
        ..limits()
    };
    let mut world = World::new(bounds);
    for peer in 10..30 {
        world.ask_limited(peer, Class::Interactive);
    }
    assert_eq!(dialled(&mut world), [10, 11]);
    world.dialled(ConnId(1));
    world.dialled(ConnId(2));
    assert_eq!(world.said(), ["handshake c1", "dial c3 to p12"], "c2 waits for c1, and makes dials wait");
    world.dialled(ConnId(3));
    world.ask(0, Class::Backfill);
    world.dialled(ConnId(4));
    assert_eq!(world.said(), ["dial c4 to p0", "handshake c4"]);
}

/// An idle connection is there, but the limited lane has no room. The open lane may have it.
#[test]
fn an_idle_connection_is_lent_to_the_limited_lane_within_its_bounds() {
    let mut world = World::new(PoolLimits { limited_connections_max: 1, ..limits() });
    world.ask(0, Class::Live);
    world.connect(1);
    world.give_back(1);
    world.ask_limited(2, Class::Live);
    world.connect(2);
    world.said();
    world.ask_limited(0, Class::Interactive);
    assert_eq!(world.said(), Vec::<String>::new());
    world.ask(0, Class::Backfill);
    assert_eq!(world.said(), ["lend c1 to t4"]);
    world.give_back(1);
    world.give_back(2);
    assert_eq!(world.said(), ["lend c1 to t3"], "there is room now");
}

/// A dial for a limited request turns out to be awaited by an open one: it leaves the limited lane.
#[test]
fn a_connection_is_in_the_best_lane_of_those_who_wait_for_it() {
    let mut world = World::new(limits());
    world.ask_limited(0, Class::Live);
    assert_eq!(world.pool.usage().limited_dials, 1);
    world.ask(0, Class::Live);
    assert_eq!((world.pool.usage().dials, world.pool.usage().limited_dials), (1, 0));
}
