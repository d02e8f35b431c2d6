//! How keys are searched for, and for whom they are good.

use super::world::{DAY, HOUR, MINUTE, SECOND, World, key, name, published, with_old};
use crate::keyring::{Action, FetchFailure, KeyError, Purpose, Trouble};

#[test]
fn a_key_is_fetched_from_its_server_once() {
    let mut world = World::new();
    let a = key("a", 1);
    world.publish("one.example", &[&a], DAY);
    assert_eq!(world.ask_for_request("one.example", "a"), Ok(a.verify_key()));
    assert_eq!(world.ask_for_request("one.example", "a"), Ok(a.verify_key()));
    assert_eq!(world.take_asked(), ["one.example"]);
    assert_eq!(world.keyring.counters().known, 1);
}

/// A hundred requests of one server at once: one fetch, a hundred answers.
#[test]
fn many_who_want_keys_of_one_server_make_one_fetch() {
    let mut world = World::new();
    let (a, b) = (key("a", 1), key("b", 2));
    world.publish("one.example", &[&a, &b], DAY);
    let tickets: Vec<_> =
        (0..100).map(|n| world.want("one.example", ["a", "b"][n % 2], Purpose::Request)).collect();
    let answers = world.settle();
    assert!(tickets.iter().all(|ticket| answers[ticket].is_ok()));
    assert_eq!(world.take_asked(), ["one.example"]);
    assert_eq!(world.keyring.counters().joined, 99);
}

/// What a key is good for depends on when it signed: requests need one that signs now, events one that did then.
#[test]
fn an_old_key_verifies_events_of_its_time_and_no_requests() {
    let mut world = World::new();
    let (new, old) = (key("new", 1), key("old", 2));
    let (long_ago, expired) = (world.wall, world.wall + DAY);
    world.wait(DAY * 30);
    let document = published("one.example", &[&new], world.wall + DAY);
    world.origins.insert("one.example".to_owned(), with_old(document, "one.example", &new, &old, expired));
    let not_valid = Err(KeyError::NotValid { server: name("one.example"), key: old.id().clone() });
    assert_eq!(world.ask_for_request("one.example", "old"), not_valid);
    assert_eq!(world.ask("one.example", "old", Purpose::Event { signed_at: long_ago }), Ok(old.verify_key()));
    assert_eq!(world.ask("one.example", "old", Purpose::Event { signed_at: expired }), Ok(old.verify_key()));
    assert_eq!(world.ask("one.example", "old", Purpose::Event { signed_at: expired + SECOND }), not_valid);
    assert_eq!(world.ask("one.example", "old", Purpose::EventOfOldRoom), Ok(old.verify_key()));
    // The new key verifies what is older than itself: the server says that it is its own until then.
    assert_eq!(world.ask("one.example", "new", Purpose::Event { signed_at: long_ago }), Ok(new.verify_key()));
}

/// A server that calls its key good for a century is believed for a week; then it is asked again.
#[test]
fn no_key_is_believed_for_longer_than_a_week() {
    let mut world = World::new();
    let a = key("a", 1);
    world.publish("one.example", &[&a], DAY * 36_500);
    assert!(world.ask_for_request("one.example", "a").is_ok());
    world.take_asked();
    let late = Purpose::Event { signed_at: world.wall + DAY * 6 };
    assert!(world.ask("one.example", "a", late).is_ok());
    world.wait(DAY * 7 + SECOND);
    assert!(world.ask_for_request("one.example", "a").is_ok());
    assert_eq!(world.take_asked(), ["one.example"]);
}

#[test]
fn an_event_from_the_far_future_makes_nobody_ask() {
    let mut world = World::new();
    world.publish("one.example", &[&key("a", 1)], DAY);
    let signed_at = world.wall + DAY * 8;
    let refused = Err(KeyError::FromTheFuture { server: name("one.example") });
    assert_eq!(world.ask("one.example", "a", Purpose::Event { signed_at }), refused);
    assert!(world.take_asked().is_empty());
}

/// A stranger makes up key ids: the server is asked once a minute, not once for each.
#[test]
fn made_up_key_ids_do_not_make_us_ask_each_time() {
    let mut world = World::new();
    let (a, b) = (key("a", 1), key("b", 2));
    world.publish("one.example", &[&a], DAY);
    for made_up in ["x", "y", "z", "b"] {
        let answer = world.ask_for_request("one.example", made_up);
        assert!(matches!(answer, Err(KeyError::NotListed { .. })), "{answer:?}");
    }
    assert_eq!(world.take_asked(), ["one.example"]);
    // A minute later a key that is new since is found.
    world.publish("one.example", &[&a, &b], DAY);
    world.wait(MINUTE);
    assert_eq!(world.ask_for_request("one.example", "b"), Ok(b.verify_key()));
    assert_eq!(world.take_asked(), ["one.example"]);
}

/// A server that is down is left alone for 10 s, 20 s, 40 s… up to an hour, give or take a tenth.
#[test]
fn a_failing_server_is_asked_less_and_less_often() {
    let mut world = World::new();
    let mut pauses = Vec::new();
    for _ in 0..12 {
        let error = world.ask_for_request("down.example", "a").unwrap_err();
        let KeyError::Unavailable { retry_in, trouble, .. } = error else { panic!("{error:?}") };
        assert_eq!(trouble, Trouble::Fetch(FetchFailure::Unreachable));
        assert_eq!(world.take_asked(), ["down.example"]);
        // Meanwhile nobody is asked.
        world.wait(retry_in - SECOND);
        assert!(world.ask_for_request("down.example", "b").unwrap_err().is_repeatable());
        assert!(world.take_asked().is_empty());
        world.wait(SECOND);
        pauses.push(retry_in);
    }
    assert!((SECOND * 9..SECOND * 11).contains(&pauses[0]), "{pauses:?}");
    assert!((SECOND * 36..SECOND * 44).contains(&pauses[2]), "{pauses:?}");
    assert!((MINUTE * 54..MINUTE * 66).contains(&pauses[11]), "{pauses:?}");
    // Back again, it is believed at once and the count begins anew.
    let a = key("a", 1);
    world.publish("down.example", &[&a], DAY);
    assert_eq!(world.ask_for_request("down.example", "a"), Ok(a.verify_key()));
}

#[test]
fn a_busy_moment_of_ours_is_not_held_against_the_server() {
    let mut world = World::new();
    let ticket = world.want("one.example", "a", Purpose::Request);
    let Some(Action::FetchOrigin { id, .. }) = world.keyring.poll() else { panic!("it asks the origin") };
    world.fetched(id, Err(FetchFailure::Overloaded));
    assert_eq!(world.settle().remove(&ticket), Some(Err(KeyError::Overloaded)));
    world.publish("one.example", &[&key("a", 1)], DAY);
    assert!(world.ask_for_request("one.example", "a").is_ok());
}

/// A fetch nobody answers for ends by its deadline; an answer that comes later changes nothing.
#[test]
fn a_fetch_that_is_never_answered_ends_by_its_deadline() {
    let mut world = World::new();
    let a = key("a", 1);
    world.publish("one.example", &[&a], DAY);
    let ticket = world.want("one.example", "a", Purpose::Request);
    let Some(Action::FetchOrigin { id, .. }) = world.keyring.poll() else { panic!("it asks the origin") };
    let deadline = world.keyring.poll_timeout().unwrap();
    assert_eq!(deadline, world.now + SECOND * 40);
    world.wait(SECOND * 40);
    world.keyring.handle_timeout(world.moment());
    let answer = world.settle().remove(&ticket).unwrap();
    assert!(matches!(
        answer,
        Err(KeyError::Unavailable { trouble: Trouble::Fetch(FetchFailure::TimedOut), .. })
    ));
    assert_eq!(world.keyring.poll_timeout(), None);
    let late = published("one.example", &[&a], world.wall + DAY).to_string();
    world.fetched(id, Ok(late.as_bytes()));
    assert!(world.settle().is_empty());
    assert_eq!(world.keyring.counters().waiting, 0);
}

#[test]
fn who_no_longer_waits_gets_no_answer() {
    let mut world = World::new();
    world.publish("one.example", &[&key("a", 1)], DAY);
    let gone = world.want("one.example", "a", Purpose::Request);
    let stays = world.want("one.example", "a", Purpose::Request);
    world.keyring.handle_cancelled(gone);
    let answers = world.settle();
    assert_eq!(answers.keys().collect::<Vec<_>>(), [&stays]);
    assert_eq!(world.keyring.counters().waiting, 0);
}

/// From the middle of its life on, a key that is used is fetched anew while it still serves; one that nobody uses is
/// not.
#[test]
fn a_key_in_use_is_refreshed_ahead() {
    let mut world = World::new();
    let a = key("a", 1);
    world.publish("one.example", &[&a], DAY);
    world.publish("idle.example", &[&a], DAY);
    assert!(world.ask_for_request("one.example", "a").is_ok());
    assert!(world.ask_for_request("idle.example", "a").is_ok());
    world.take_asked();
    world.wait(HOUR * 10);
    assert!(world.ask_for_request("one.example", "a").is_ok());
    assert!(world.take_asked().is_empty());
    world.publish("one.example", &[&a], DAY);
    world.wait(HOUR * 4);
    assert!(world.ask_for_request("one.example", "a").is_ok());
    assert_eq!(world.take_asked(), ["one.example"]);
    assert_eq!(world.keyring.counters().refreshes, 1);
    // The key outlives what was first said of it.
    world.wait(HOUR * 10 + MINUTE);
    assert!(world.ask_for_request("one.example", "a").is_ok());
    assert!(world.take_asked().is_empty());
}

/// The server is down when its key is to be refreshed: the key serves to the end of its life, and the server is not
/// asked with each request.
#[test]
fn a_refresh_that_fails_leaves_the_key_as_it_is() {
    let mut world = World::new();
    let a = key("a", 1);
    world.publish("one.example", &[&a], DAY);
    assert!(world.ask_for_request("one.example", "a").is_ok());
    world.origins.clear();
    world.take_asked();
    world.wait(HOUR * 14);
    for _ in 0..50 {
        assert_eq!(world.ask_for_request("one.example", "a"), Ok(a.verify_key()));
    }
    assert_eq!(world.take_asked(), ["one.example"]);
    world.wait(HOUR * 10 + SECOND);
    assert!(matches!(world.ask_for_request("one.example", "a"), Err(KeyError::Unavailable { .. })));
}

/// The server moves a key to the old ones: it stops to verify requests as soon as that is known.
#[test]
fn a_server_takes_a_key_back_by_saying_so() {
    let mut world = World::new();
    let (a, b) = (key("a", 1), key("b", 2));
    world.publish("one.example", &[&a], DAY);
    assert!(world.ask_for_request("one.example", "a").is_ok());
    world.wait(HOUR);
    let document = published("one.example", &[&b], world.wall + DAY);
    let taken_back = with_old(document, "one.example", &b, &a, world.wall);
    world.origins.insert("one.example".to_owned(), taken_back);
    assert_eq!(world.ask_for_request("one.example", "b"), Ok(b.verify_key()));
    assert!(matches!(world.ask_for_request("one.example", "a"), Err(KeyError::NotValid { .. })));
}
