//! What survives a restart, and looking at the keys of a server.

use southbridge_words::{KeyRecord, KeyStanding, Ticket, WallTime};

use super::world::{DAY, HOUR, MINUTE, SECOND, World, key, name, published, with_old};
use crate::keyring::{Action, KeyError, Keyring, KeyringLimits, Purpose, Sources};

/// The same world after a restart: another keyring, which is given what was kept.
fn restarted(world: &mut World) -> Vec<KeyRecord> {
    let kept = world.keyring.take_changed(100, world.wall);
    world.keyring = Keyring::new(KeyringLimits::default(), Sources::default(), 8);
    world.keyring.handle_restored(kept.clone(), world.moment());
    world.take_asked();
    kept
}

/// A server with a key that signs and one that did; both are known after a restart, each for what it is good for, and
/// nobody is asked.
#[test]
fn a_restart_remembers_keys_for_what_they_are_good_for() {
    let mut world = World::new();
    let (new, old) = (key("new", 1), key("old", 2));
    let expired = world.wall;
    world.wait(HOUR);
    let document = published("one.example", &[&new], world.wall + DAY);
    world.origins.insert("one.example".to_owned(), with_old(document, "one.example", &new, &old, expired));
    world.ask_for_request("one.example", "new").unwrap();
    let kept = restarted(&mut world);
    assert_eq!((kept.len(), kept[0].keys.len()), (1, 2));
    assert_eq!(world.ask_for_request("one.example", "new"), Ok(new.verify_key()));
    assert_eq!(world.ask("one.example", "old", Purpose::Event { signed_at: expired }), Ok(old.verify_key()));
    assert!(world.take_asked().is_empty());
    assert!(world.ask_for_request("one.example", "old").is_err(), "it signs no longer");
}

/// Kept for a year: what the key signed in its time is still verified, and for today the server is asked anew.
#[test]
fn a_key_that_was_kept_is_good_for_no_longer_than_it_was() {
    let mut world = World::new();
    let a = key("a", 1);
    world.publish("one.example", &[&a], DAY * 30);
    let made = world.wall;
    world.ask_for_request("one.example", "a").unwrap();
    let kept = world.keyring.take_changed(100, world.wall);
    assert_eq!(kept[0].keys[0].until, world.wall + DAY * 7, "the specification's cap");
    world.wait(DAY * 365);
    world.origins.clear();
    world.keyring = Keyring::new(KeyringLimits::default(), Sources::default(), 8);
    world.keyring.handle_restored(kept, world.moment());
    assert_eq!(world.ask("one.example", "a", Purpose::Event { signed_at: made }), Ok(a.verify_key()));
    assert!(matches!(world.ask_for_request("one.example", "a"), Err(KeyError::Unavailable { .. })));
}

/// Row 21: between two runs the clock is set back by a year. What was kept does not live longer for it.
#[test]
fn row_21_a_clock_set_back_between_two_runs_prolongs_no_key() {
    let mut world = World::new();
    let a = key("a", 1);
    world.publish("one.example", &[&a], DAY);
    world.ask_for_request("one.example", "a").unwrap();
    let kept = world.keyring.take_changed(100, world.wall);
    world.wall = WallTime::from_unix_millis(world.wall.unix_millis() - 365 * 24 * 3_600_000);
    world.keyring = Keyring::new(KeyringLimits::default(), Sources::default(), 8);
    world.keyring.handle_restored(kept, world.moment());
    world.take_asked();
    world.publish("one.example", &[&a], DAY);
    assert_eq!(world.ask_for_request("one.example", "a"), Ok(a.verify_key()));
    assert_eq!(world.take_asked(), ["one.example"]);
}

/// What an operator has forgotten is forgotten on the disk as well; what merely had no room is not.
#[test]
fn only_what_changed_is_written() {
    let mut world = World::new();
    world.publish("one.example", &[&key("a", 1)], DAY);
    world.ask_for_request("one.example", "a").unwrap();
    assert_eq!(world.keyring.take_changed(100, world.wall).len(), 1);
    world.ask_for_request("one.example", "a").unwrap();
    world.ask_for_request("none.example", "a").unwrap_err();
    assert_eq!(world.keyring.take_changed(100, world.wall), []);
    world.keyring.forget(&name("one.example"));
    let forgotten = world.keyring.take_changed(100, world.wall);
    assert!(forgotten.len() == 1 && forgotten[0].keys.is_empty(), "{forgotten:?}");
}

fn look(world: &mut World, server: &str) -> Result<(), KeyError> {
    let ticket = Ticket(u64::MAX);
    world.keyring.handle_search(ticket, &name(server), world.moment());
    loop {
        match world.keyring.poll().expect("every search ends") {
            Action::Searched { ticket: found, result } if found == ticket => return result,
            action => world.perform(action),
        }
    }
}

/// Somebody looks at a server that nobody has asked about: it is asked, once.
#[test]
fn who_looks_at_a_server_sees_its_keys() {
    let mut world = World::new();
    let a = key("a", 1);
    world.publish("one.example", &[&a], DAY);
    assert!(world.keyring.view(&name("one.example"), world.moment()).is_empty());
    look(&mut world, "one.example").unwrap();
    look(&mut world, "one.example").unwrap();
    assert_eq!(world.take_asked(), ["one.example"]);
    let views = world.keyring.view(&name("one.example"), world.moment());
    assert_eq!(views.len(), 1);
    let seen = (views[0].key, views[0].standing, views[0].good_now);
    assert_eq!(seen, (a.verify_key(), KeyStanding::Signing, true));
    world.wait(DAY + SECOND);
    assert!(!world.keyring.view(&name("one.example"), world.moment())[0].good_now);
}

/// A dead server is looked at: the one who looks is told, and it is not asked each time.
#[test]
fn who_looks_at_a_dead_server_is_told_so() {
    let mut world = World::new();
    assert!(matches!(look(&mut world, "one.example"), Err(KeyError::Unavailable { .. })));
    assert!(matches!(look(&mut world, "one.example"), Err(KeyError::Unavailable { .. })));
    assert_eq!(world.take_asked(), ["one.example"]);
    world.wait(MINUTE);
    world.publish("one.example", &[&key("a", 1)], DAY);
    look(&mut world, "one.example").unwrap();
}
