//! What is remembered, how much of it, and what the clocks have to do with it.

use super::world::{DAY, HOUR, MINUTE, SECOND, World, key, published};
use crate::keyring::{Action, KeyError, KeyringLimits, Purpose, Sources};

/// Row 21: the clock leaps ten years ahead. What it calls expired is asked for, no more often than any failing server;
/// back in its time everything is as it was.
#[test]
fn row_21_a_clock_that_leaps_ahead_makes_no_storm() {
    let mut world = World::new();
    let a = key("a", 1);
    world.publish("one.example", &[&a], DAY);
    assert!(world.ask_for_request("one.example", "a").is_ok());
    world.take_asked();
    world.wait(MINUTE * 2);
    let right = world.wall;
    world.wall = world.wall + DAY * 3_650;
    for _ in 0..1_000 {
        assert!(world.ask_for_request("one.example", "a").is_err());
    }
    assert_eq!(world.take_asked(), ["one.example"]);
    world.wall = right;
    assert_eq!(world.ask_for_request("one.example", "a"), Ok(a.verify_key()));
    assert!(world.take_asked().is_empty());
}

/// Row 21: the clock is set back by a year. A key does not live longer for it than its server said.
#[test]
fn row_21_a_clock_that_is_set_back_prolongs_no_key() {
    let mut world = World::new();
    let a = key("a", 1);
    world.publish("one.example", &[&a], HOUR);
    assert!(world.ask_for_request("one.example", "a").is_ok());
    world.take_asked();
    world.wait(HOUR + SECOND);
    world.wall = world.wall.min(southbridge_words::WallTime::from_unix_millis(1_700_000_000_000));
    world.origins.clear();
    assert!(matches!(world.ask_for_request("one.example", "a"), Err(KeyError::Unavailable { .. })));
    assert_eq!(world.take_asked(), ["one.example"]);
}

fn limited(limits: KeyringLimits) -> World {
    World::with(limits, Sources::default())
}

/// Ten thousand made-up servers are asked about; those that are real stay known.
#[test]
fn made_up_servers_do_not_drive_out_real_ones() {
    let mut world = limited(KeyringLimits { servers_max: 100, ..KeyringLimits::default() });
    let a = key("a", 1);
    for n in 0..70 {
        let server = format!("s{n}.example");
        world.publish(&server, &[&a], DAY);
        assert!(world.ask_for_request(&server, "a").is_ok());
    }
    for n in 0..10_000 {
        assert!(world.ask_for_request(&format!("made-up{n}.example"), "a").is_err());
    }
    assert_eq!(world.keyring.counters().servers, 100);
    world.take_asked();
    for n in 0..70 {
        assert!(world.ask_for_request(&format!("s{n}.example"), "a").is_ok());
    }
    assert!(world.take_asked().is_empty());
    // And a server that failed is remembered for it, though there is no room to spare.
    for n in 70..200 {
        let server = format!("s{n}.example");
        world.publish(&server, &[&a], DAY);
        assert!(world.ask_for_request(&server, "a").is_ok());
    }
    assert!(world.ask_for_request("down.example", "a").is_err());
    world.take_asked();
    assert!(world.ask_for_request("down.example", "a").is_err());
    assert!(world.take_asked().is_empty());
}

/// Who was asked for the longest time ago is forgotten first, by number and by bytes.
#[test]
fn what_is_remembered_has_bounds() {
    let a = key("a", 1);
    for limits in [
        KeyringLimits { servers_max: 10, ..KeyringLimits::default() },
        KeyringLimits { bytes_max: 4_000, ..KeyringLimits::default() },
    ] {
        let (servers_max, bytes_max) = (limits.servers_max, limits.bytes_max);
        let mut world = limited(limits);
        for n in 0..50 {
            let server = format!("s{n}.example");
            world.publish(&server, &[&a], DAY);
            assert!(world.ask_for_request(&server, "a").is_ok());
            assert!(world.ask_for_request("s0.example", "a").is_ok());
            let counters = world.keyring.counters();
            assert!(counters.servers <= servers_max && counters.bytes <= bytes_max);
        }
        world.take_asked();
        assert!(world.ask_for_request("s0.example", "a").is_ok(), "it is in use all the time");
        assert!(world.ask_for_request("s49.example", "a").is_ok());
        assert!(world.take_asked().is_empty());
        assert!(world.ask_for_request("s1.example", "a").is_ok());
        assert_eq!(world.take_asked(), ["s1.example"]);
    }
}

/// A server that changes its key every week for ten years: the latest keys are kept.
#[test]
fn of_one_server_the_latest_keys_are_kept() {
    let mut world = limited(KeyringLimits { keys_per_server_max: 4, ..KeyringLimits::default() });
    for n in 0..100_u8 {
        let key = key(&format!("k{n}"), n);
        world.publish("one.example", &[&key], DAY * 7);
        assert!(world.ask_for_request("one.example", &format!("k{n}")).is_ok());
        world.wait(DAY * 7);
    }
    let old_room =
        |world: &mut World, version: &str| world.ask("one.example", version, Purpose::EventOfOldRoom);
    assert!(old_room(&mut world, "k96").is_ok());
    assert!(old_room(&mut world, "k95").is_err());
    assert!(world.keyring.counters().bytes < 1_500);
}

#[test]
fn no_more_wait_than_may_and_no_more_is_asked_at_once_than_may() {
    let limits = KeyringLimits { waiting_max: 20, origin_fetches_max: 3, ..KeyringLimits::default() };
    let mut world = limited(limits);
    let tickets: Vec<_> =
        (0..25).map(|n| world.want(&format!("s{n}.example"), "a", Purpose::Request)).collect();
    let mut refused = 0;
    let mut fetches = Vec::new();
    while let Some(action) = world.keyring.poll() {
        match action {
            Action::Answer { result, .. } => {
                assert_eq!(result, Err(KeyError::Overloaded));
                refused += 1;
            }
            fetch => fetches.push(fetch),
        }
    }
    assert_eq!((refused, fetches.len(), world.keyring.counters().waiting), (5, 3, 20));
    for fetch in fetches {
        world.perform(fetch);
    }
    assert_eq!(world.settle().len() + refused, tickets.len());
}

#[test]
fn an_operator_may_have_a_server_forgotten() {
    let mut world = World::new();
    let (a, b) = (key("a", 1), key("b", 2));
    assert!(world.ask_for_request("one.example", "a").is_err());
    world.publish("one.example", &[&a], DAY);
    let server = super::world::name("one.example");
    assert!(world.keyring.forget(&server), "it is known to fail");
    assert!(world.ask_for_request("one.example", "a").is_ok());
    world.origins.insert("one.example".to_owned(), published("one.example", &[&b], world.wall + DAY));
    assert!(world.keyring.forget(&server));
    assert!(!world.keyring.forget(&server));
    assert_eq!(world.ask_for_request("one.example", "b"), Ok(b.verify_key()));
    world.wait(MINUTE);
}
