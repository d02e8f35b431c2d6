//! Stories of who needs a connection and a slot of the limited lane, and never finds both free.

use std::time::Duration;

use southbridge_words::{Class, ConnId, Ticket};

use super::super::*;
use super::limits;
use super::world::World;

/// There is one slot in the limited lane, and peer 2 has it, on c2. Peer 0 may have `conns` connections. Its open
/// lane uses c1 again and again, while the request that is returned waits in its limited lane.
fn passed_over(times: u32, conns: u32) -> (World, Ticket) {
    let bounds = PoolLimits { limited_connections_max: 1, exclusive_per_peer_max: conns, ..limits() };
    let mut world = World::new(bounds);
    world.ask(0, Class::Live);
    world.connect(1);
    world.ask_limited(2, Class::Live);
    world.connect(2);
    let patient = world.ask_limited(0, Class::Backfill);
    world.ask_times(times + 1, 0, Class::Live);
    (0..times).for_each(|_| world.give_back(1));
    world.said();
    (world, patient)
}

/// Nobody has been passed over for long: the slot goes to whoever asks for it.
#[test]
fn a_slot_is_not_kept_for_who_merely_waits() {
    let (mut world, patient) = passed_over(15, 1);
    world.give_back(2);
    let other = world.ask_limited(2, Class::Live);
    assert_eq!(world.said(), [format!("lend c2 to {other}")]);
    assert!(world.waiting.contains_key(&patient));
}

/// After sixteen times the slot is kept, until the connection comes back. Then it is anybody's again.
#[test]
fn a_slot_is_kept_for_who_was_passed_over() {
    let (mut world, patient) = passed_over(16, 1);
    world.give_back(2);
    let other = world.ask_limited(2, Class::Interactive);
    assert_eq!(world.said(), Vec::<String>::new(), "c2 is idle, and the slot is kept");
    world.give_back(1);
    assert_eq!(world.said(), [format!("lend c1 to {patient}")]);
    world.give_back(1);
    assert!(world.said().contains(&format!("lend c2 to {other}")));
}

/// The request that was passed over is withdrawn, or its connection closes: the slot is free at once.
#[test]
fn a_slot_is_not_kept_in_vain() {
    let (mut world, patient) = passed_over(16, 1);
    world.give_back(2);
    let other = world.ask_limited(2, Class::Live);
    world.cancel(patient);
    assert_eq!(world.said(), [format!("lend c2 to {other}")]);

    let (mut world, _) = passed_over(16, 1);
    world.give_back(2);
    let other = world.ask_limited(2, Class::Live);
    world.closed(ConnId(1));
    assert!(world.said().contains(&format!("lend c2 to {other}")));
}

/// Peer 0 falls silent: its connection does not come back. It is revoked when its lease ends, and the slot is used.
#[test]
fn a_slot_is_not_kept_for_who_has_lost_its_connection() {
    let (mut world, _) = passed_over(16, 1);
    world.give_back(2);
    world.ask_limited(2, Class::Live);
    world.pass(world.limits.lease_max - Duration::from_nanos(1));
    assert_eq!(world.said(), Vec::<String>::new());
    assert!(world.pool.promise.is_some());
    world.pass(Duration::from_nanos(1));
    assert_eq!(world.said()[0], "revoke c1");
    assert!(world.pool.promise.is_none());
    assert_eq!(world.pool.usage().limited_connections, 1);
}

/// The same, but a dial of peer 0 is on its way, so that nothing is revoked. It does not end. The promise does.
#[test]
fn a_slot_is_not_kept_for_ever() {
    let (mut world, _) = passed_over(16, 2);
    let last = *world.waiting.keys().last().expect("one of the open lane");
    world.cancel(last);
    world.give_back(2);
    let other = world.ask_limited(2, Class::Live);
    world.pass(world.limits.lease_max - Duration::from_nanos(1));
    assert_eq!(world.said(), Vec::<String>::new());
    world.pass(Duration::from_nanos(1));
    assert_eq!(world.said(), [format!("lend c2 to {other}")]);
}
