//! When notaries are asked, how, and what that is worth.

use serde_json::{Value, json};

use super::world::{DAY, HOUR, SECOND, World, key, name, published, with_old};
use crate::keyring::{
    Action, FetchFailure, First, KeyError, KeyringLimits, Notary, Purpose, Sources, Trouble,
};

const NOTARIES: [&str; 3] = ["n1.example", "n2.example", "n3.example"];

/// The server is down, the first notary is down, too, the second does not know it: the third does.
#[test]
fn notaries_are_asked_one_after_the_other_when_the_server_does_not_answer() {
    let mut world = World::with_notaries(&NOTARIES, &Sources::default());
    let a = key("a", 1);
    world.store("n2.example", "other.example", json!({}));
    world.store("n3.example", "one.example", published("one.example", &[&a], world.wall + DAY));
    assert_eq!(world.ask_for_request("one.example", "a"), Ok(a.verify_key()));
    let asked =
        ["one.example", "n1.example: one.example", "n2.example: one.example", "n3.example: one.example"];
    assert_eq!(world.take_asked(), asked);
    // The first is known to fail now, and is left alone for a while.
    assert!(world.ask_for_request("two.example", "a").is_err());
    assert_eq!(world.take_asked(), ["two.example", "n2.example: two.example", "n3.example: two.example"]);
}

#[test]
fn a_server_that_answers_is_believed_without_notaries() {
    let mut world = World::with_notaries(&NOTARIES, &Sources::default());
    world.publish("one.example", &[&key("a", 1)], DAY);
    assert!(world.ask_for_request("one.example", "a").is_ok());
    assert!(matches!(world.ask_for_request("one.example", "b"), Err(KeyError::NotListed { .. })));
    assert_eq!(world.take_asked(), ["one.example"]);
}

/// The server has forgotten a key it signed with years ago; a notary has not.
#[test]
fn an_old_key_that_its_server_forgot_is_found_at_a_notary() {
    let mut world = World::with_notaries(&NOTARIES[..1], &Sources::default());
    let (new, old) = (key("new", 1), key("old", 2));
    let then = world.wall;
    world.wait(DAY * 365);
    world.publish("one.example", &[&new], DAY);
    let document = published("one.example", &[&new], world.wall + DAY);
    world.store("n1.example", "one.example", with_old(document, "one.example", &new, &old, then + DAY));
    let event = Purpose::Event { signed_at: then };
    assert_eq!(world.ask("one.example", "old", event), Ok(old.verify_key()));
    assert_eq!(world.take_asked(), ["one.example", "n1.example: one.example"]);
    // One that nobody knows is searched for everywhere, and not again within the minute.
    let unknown = Err(KeyError::NotListed { server: name("one.example"), key: key("x", 3).id().clone() });
    world.wait(SECOND * 61);
    assert_eq!(world.ask("one.example", "x", event), unknown);
    assert_eq!(world.take_asked(), ["one.example", "n1.example: one.example"]);
    assert_eq!(world.ask("one.example", "x", event), unknown);
    assert!(world.take_asked().is_empty());
}

#[test]
fn notaries_are_asked_first_where_that_is_wished() {
    let sources = Sources { first: First::Notaries, ..Sources::default() };
    let mut world = World::with_notaries(&NOTARIES[..1], &sources);
    let (a, b) = (key("a", 1), key("b", 2));
    world.store("n1.example", "one.example", published("one.example", &[&a], world.wall + DAY));
    world.publish("one.example", &[&a, &b], DAY);
    assert!(world.ask_for_request("one.example", "a").is_ok());
    assert_eq!(world.take_asked(), ["n1.example: one.example"]);
    // A key that is too new for the notary: the server itself has the last word.
    world.wait(SECOND * 61);
    assert_eq!(world.ask_for_request("one.example", "b"), Ok(b.verify_key()));
    assert_eq!(world.take_asked(), ["n1.example: one.example", "one.example"]);
}

/// A room of a thousand servers is joined: a few dozen queries, not a thousand.
#[test]
fn the_keys_of_many_servers_make_few_queries() {
    let sources = Sources { first: First::Notaries, ..Sources::default() };
    let mut world = World::with_notaries(&NOTARIES[..1], &sources);
    let a = key("a", 1);
    for n in 0..1_000 {
        let server = format!("s{n}.example");
        world.store("n1.example", &server, published(&server, &[&a], world.wall + DAY));
    }
    let tickets: Vec<_> =
        (0..1_000).map(|n| world.want(&format!("s{n}.example"), "a", Purpose::Request)).collect();
    let answers = world.settle();
    assert!(tickets.iter().all(|ticket| answers[ticket] == Ok(a.verify_key())));
    let asked = world.take_asked();
    assert!(asked.len() <= 4 + 1_000 / 32 + 1, "{} queries", asked.len());
    let most = asked.iter().map(|asked| asked.split(' ').count() - 1).max();
    assert_eq!(most, Some(KeyringLimits::default().batch_max));
}

#[test]
fn a_query_says_which_key_is_wanted_and_until_when_it_must_be_valid() {
    let sources = Sources { first: First::Notaries, ..Sources::default() };
    let mut world = World::with_notaries(&NOTARIES[..1], &sources);
    // The first four go out at once; what follows is gathered until one of them is answered.
    for server in ["s1", "s2", "s3", "s4"] {
        world.want(server, "a", Purpose::Request);
    }
    let signed_at = world.wall + HOUR;
    world.want("one.example", "a", Purpose::Request);
    world.want("one.example", "a", Purpose::Event { signed_at });
    world.want("one.example", "b", Purpose::EventOfOldRoom);
    let Some(Action::FetchNotary { id, body, .. }) = world.keyring.poll() else { panic!("it asks") };
    let first: Value = serde_json::from_slice(&body).unwrap();
    let now = world.wall.unix_millis();
    assert_eq!(first, json!({"server_keys": {"s1": {"ed25519:a": {"minimum_valid_until_ts": now}}}}));
    world.fetched(id, Err(FetchFailure::Overloaded));
    let gathered = std::iter::from_fn(|| world.keyring.poll()).find_map(|action| match action {
        Action::FetchNotary { body, .. } if body.windows(11).any(|part| part == b"one.example") => Some(body),
        _ => None,
    });
    let gathered: Value = serde_json::from_slice(&gathered.unwrap()).unwrap();
    let expected = json!({"server_keys": {"one.example": {
        "ed25519:a": {"minimum_valid_until_ts": signed_at.unix_millis()},
        "ed25519:b": {"minimum_valid_until_ts": 0},
    }}});
    assert_eq!(gathered, expected);
}

fn unpinned(notaries: &[&str]) -> World {
    let notary = |server: &&str| Notary { server: name(server), keys: Vec::new() };
    let sources = Sources { notaries: notaries.iter().map(notary).collect(), ..Sources::default() };
    World::with(KeyringLimits::default(), sources)
}

/// The operator named a notary and not its key: it is fetched from the notary itself, once, before anything else.
#[test]
fn the_key_of_a_notary_is_fetched_from_itself() {
    let mut world = unpinned(&["n1.example"]);
    let (a, n) = (key("a", 1), key("n", 50));
    world.publish("n1.example", &[&n], DAY);
    world.notary_signs_with("n1.example", n);
    for server in ["one.example", "two.example"] {
        world.store("n1.example", server, published(server, &[&a], world.wall + DAY));
    }
    let tickets =
        [world.want("one.example", "a", Purpose::Request), world.want("two.example", "a", Purpose::Request)];
    let answers = world.settle();
    assert!(tickets.iter().all(|ticket| answers[ticket] == Ok(a.verify_key())));
    let asked = world.take_asked();
    assert_eq!(asked.iter().filter(|asked| *asked == "n1.example").count(), 1, "{asked:?}");
}

/// Two notaries without known keys, both down: nobody waits for ever, and neither vouches for the other.
#[test]
fn notaries_do_not_vouch_for_one_another() {
    let mut world = unpinned(&["n1.example", "n2.example"]);
    let error = world.ask_for_request("one.example", "a").unwrap_err();
    assert!(
        matches!(error, KeyError::Unavailable { trouble: Trouble::Fetch(FetchFailure::Unreachable), .. }),
        "the server's own trouble is told: {error:?}"
    );
    assert_eq!(world.take_asked(), ["one.example", "n1.example", "n2.example"]);
    assert!(world.ask_for_request("n1.example", "a").is_err());
    assert!(world.take_asked().is_empty(), "it has just failed");
    assert_eq!(world.keyring.counters().waiting, 0);
}

/// Two of three must say the same: one that lies is outvoted, and alone it achieves nothing.
#[test]
fn what_one_notary_says_is_not_enough_where_two_must_agree() {
    let sources = Sources { agreement_min: 2, ..Sources::default() };
    let mut world = World::with_notaries(&NOTARIES, &sources);
    let a = key("a", 1);
    world.store("n1.example", "one.example", published("one.example", &[&key("a", 66)], world.wall + DAY));
    world.store("n2.example", "one.example", published("one.example", &[&a], world.wall + DAY));
    world.store("n3.example", "one.example", published("one.example", &[&a], world.wall + HOUR));
    assert_eq!(world.ask_for_request("one.example", "a"), Ok(a.verify_key()));
    world.store("n1.example", "two.example", published("two.example", &[&key("a", 66)], world.wall + DAY));
    let error = world.ask_for_request("two.example", "a").unwrap_err();
    assert!(matches!(error, KeyError::Unavailable { .. }), "{error:?}");
    assert_eq!(world.keyring.counters().not_believed, 3);
}

/// A server changed its key and is down; the notary has the new one, signed with both.
#[test]
fn a_notary_brings_a_new_key_that_the_known_one_signed() {
    let mut world = World::with_notaries(&NOTARIES[..1], &Sources::default());
    let (a, b) = (key("a", 1), key("b", 2));
    world.publish("one.example", &[&a], DAY);
    assert!(world.ask_for_request("one.example", "a").is_ok());
    world.origins.clear();
    world.wait(HOUR);
    world.store("n1.example", "one.example", published("one.example", &[&a, &b], world.wall + DAY));
    assert_eq!(world.ask_for_request("one.example", "b"), Ok(b.verify_key()));
}
