//! Stories of what is taken back, and what is left alone.

use std::time::Duration;

use southbridge_words::{Class, ConnId};

use super::super::*;
use super::world::World;
use super::{limits, shared};

/// One connection, two tickets. Alice overstays; Bob must still be served.
#[test]
fn an_overdue_lease_is_revoked() {
    let mut world = World::new(PoolLimits { exclusive_per_peer_max: 1, ..limits() });
    world.ask(0, Class::Live);
    world.connect(1);
    world.ask(0, Class::Live);
    world.said();
    world.pass(world.limits.lease_max);
    assert_eq!(world.said(), ["revoke c1", "dial c2 to p0"]);
}

/// Alice overstays and nobody minds, until Bob comes.
#[test]
fn a_lease_lasts_on_while_nobody_waits() {
    let mut world = World::new(PoolLimits { exclusive_per_peer_max: 1, ..limits() });
    world.ask(0, Class::Live);
    world.connect(1);
    world.said();
    world.pass(world.limits.lease_max * 3);
    assert_eq!(world.said(), Vec::<String>::new());
    world.ask(0, Class::Live);
    assert_eq!(world.said(), ["revoke c1", "dial c2 to p0"]);
}

/// Three overstay, one waits: one is enough.
#[test]
fn no_more_is_revoked_than_is_needed() {
    let mut world = World::new(PoolLimits { exclusive_per_peer_max: 3, ..limits() });
    for conn in 1..=3 {
        world.ask(0, Class::Live);
        world.connect(conn);
    }
    world.pass(world.limits.lease_max);
    world.said();
    world.ask(0, Class::Live);
    assert_eq!(world.said(), ["revoke c1", "dial c4 to p0"]);
}

/// Another peer waits for a slot among all connections, or in the limited lane: that counts as well.
#[test]
fn the_bounds_of_all_make_pressure_too() {
    let mut world = World::new(PoolLimits { connections_max: 2, limited_connections_max: 1, ..limits() });
    world.ask_limited(0, Class::Live);
    world.connect(1);
    world.ask(1, Class::Live);
    world.connect(2);
    world.pass(world.limits.lease_max);
    world.said();
    world.ask_limited(2, Class::Live);
    assert_eq!(world.said(), ["revoke c1", "dial c3 to p2"], "of the two only c1 is in the limited lane");
    world.ask(3, Class::Live);
    assert_eq!(world.said(), ["revoke c2", "dial c4 to p3"]);
}

/// Two streams, one overdue: the other one's request did nothing wrong. When both are overdue, it ends.
#[test]
fn a_shared_connection_is_revoked_when_all_its_leases_are_overdue() {
    let bounds = PoolLimits { shared_per_peer_max: 1, ..limits() };
    let lease_max = bounds.lease_max;
    let mut world = World::new(bounds);
    world.ask(1, Class::Live);
    world.connect_with(1, shared(2));
    world.pass(lease_max / 2);
    world.ask(1, Class::Live);
    world.ask(1, Class::Live);
    world.said();
    world.pass(lease_max / 2);
    assert_eq!(world.said(), Vec::<String>::new());
    world.pass(lease_max / 2);
    assert_eq!(world.said(), ["revoke c1", "dial c2 to p1"]);
}

/// All slots are taken by idle connections. The one idle for longest makes room, not the newest.
#[test]
fn the_least_recently_used_idle_connection_makes_room() {
    let mut world = World::new(PoolLimits { connections_max: 2, limited_connections_max: 1, ..limits() });
    for (peer, conn) in [(0, 1), (2, 2)] {
        world.ask(peer, Class::Live);
        world.connect(conn);
    }
    world.give_back(2);
    world.give_back(1);
    world.said();
    world.ask(4, Class::Backfill);
    assert_eq!(world.said(), ["close c2", "dial c3 to p4"]);
}

/// Nobody comes for a minute and a half.
#[test]
fn long_idle_connections_are_closed() {
    let mut world = World::new(limits());
    world.ask(0, Class::Live);
    world.connect(1);
    world.give_back(1);
    world.said();
    world.pass(world.limits.idle_max - Duration::from_nanos(1));
    assert_eq!(world.said(), Vec::<String>::new());
    world.pass(Duration::from_nanos(1));
    assert_eq!(world.said(), ["close c1"]);
    assert_eq!(world.pool.poll_timeout(), None);
}

/// What is idle for a while is stowed, once; what is asked for in time is not.
#[test]
fn idle_connections_are_stowed() {
    let mut world = World::new(limits());
    for peer in 0..2 {
        world.ask(peer, Class::Live);
        world.connect(u64::from(peer) + 1);
        world.give_back(u64::from(peer) + 1);
    }
    let stowed = |world: &World| world.lines.values().map(|line| line.stowed).collect::<Vec<_>>();
    world.pass(STOW_AFTER - Duration::from_nanos(1));
    assert_eq!(stowed(&world), [false, false]);
    world.ask(1, Class::Live);
    world.give_back(2);
    world.pass(Duration::from_nanos(1));
    assert_eq!(stowed(&world), [true, false]);
    world.pass(STOW_AFTER);
    assert_eq!(stowed(&world), [true, true]);
    // The one that has been idle for longest is still the first to be closed.
    world.said();
    world.ask(0, Class::Live);
    world.give_back(1);
    assert!(world.exhausted());
    assert_eq!(world.said(), ["lend c1 to t4", "close c2", "close c1"]);
}

/// One that carries many requests at a time has nothing that only a request needs.
#[test]
fn shared_connections_are_not_stowed() {
    let mut world = World::new(limits());
    world.ask(0, Class::Live);
    world.connect_with(1, shared(10));
    world.give_back(1);
    world.pass(STOW_AFTER * 2);
    assert!(world.lines.values().all(|line| !line.stowed));
    assert!(world.pool.poll_timeout().is_some_and(|at| at > world.now + STOW_AFTER));
}

/// A burst is over. What comes back last is kept, the oldest idle ones are closed.
#[test]
fn a_few_idle_connections_are_kept_for_each_peer() {
    let mut world = World::new(PoolLimits { idle_per_peer_max: 2, ..limits() });
    for conn in 1..=4 {
        world.ask(0, Class::Live);
        world.connect(conn);
    }
    world.said();
    (1..=4).for_each(|conn| world.give_back(conn));
    world.pass(SURPLUS_AFTER - Duration::from_nanos(1));
    assert_eq!(closed(&mut world), Vec::<String>::new(), "the next burst may come");
    world.pass(Duration::from_nanos(1));
    assert_eq!(closed(&mut world), ["close c1", "close c2"]);
    assert!(world.lines.contains_key(&ConnId(4)));
    world.pass(world.limits.idle_max);
    assert_eq!(closed(&mut world), ["close c3", "close c4"]);
}

/// Bursts that come again and again find the connections of the first.
#[test]
fn bursts_open_nothing_anew() {
    let mut world = World::new(PoolLimits { idle_per_peer_max: 1, ..limits() });
    let all = 1..=4;
    for burst in 0..20 {
        world.ask_times(4, 0, Class::Live);
        if burst == 0 {
            all.clone().for_each(|conn| world.connect(conn));
        }
        all.clone().for_each(|conn| world.give_back(conn));
        world.pass(SURPLUS_AFTER / 2);
    }
    let said = world.said();
    assert_eq!(said.iter().filter(|word| word.starts_with("dial")).count(), 4);
    assert!(!said.iter().any(|word| word.starts_with("close")));
}

/// Where nothing is to be kept, nothing is, not even for a moment.
#[test]
fn nothing_is_kept_where_none_is_to_be() {
    let mut world = World::new(PoolLimits { idle_per_peer_max: 0, ..limits() });
    world.ask(0, Class::Live);
    world.connect(1);
    world.said();
    world.give_back(1);
    assert_eq!(world.said(), ["close c1"]);
}

fn closed(world: &mut World) -> Vec<String> {
    let mut said = world.said();
    said.retain(|word| word.starts_with("close"));
    said
}

/// The system gives no more descriptors, whatever the limits say: those who hold one for nothing give it up.
#[test]
fn what_is_idle_is_given_up_when_the_system_runs_out() {
    let mut world = World::new(limits());
    for (peer, conn) in (0..6).zip(1..) {
        world.ask(peer, Class::Live);
        world.connect(conn);
    }
    (1..=5).for_each(|conn| world.give_back(conn));
    world.said();
    assert!(world.exhausted());
    assert_eq!(world.said(), ["close c1", "close c2", "close c3", "close c4"]);
    assert!(world.exhausted());
    assert_eq!(world.said(), ["close c5"], "c6 is at work");
    assert!(!world.exhausted());
}
